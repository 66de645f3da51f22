mod stack;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use trailgate_domain::{Domain, Options};

use self::stack::Stack;
use crate::program::{Program, command, path};
use crate::support::{allow, signing_key};

/// A browser that takes one step after the other.
struct Session {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Session {
    /// Opens the gate's home page.
    async fn open(gate: &Program) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
        let installed = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).status();
        assert!(installed.await.unwrap().success());
        let mut browser = Command::new("node");
        browser.arg(folder.join("kibana.mjs")).arg(format!("http://{}/", gate.address));
        browser.args(std::env::var_os("SCREENSHOTS"));
        let mut child = browser.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, stdin, stdout: BufReader::new(stdout).lines() }
    }

    /// What the page shows after the next step, which has this name.
    async fn step(&mut self, name: &str) -> Value {
        let line = timeout(STEP, self.stdout.next_line()).await.expect("the browser is stuck").unwrap();
        let mut step: Value = serde_json::from_str(&line.expect("the browser has ended")).unwrap();
        assert_eq!(step[0], name, "{step}");
        step[1].take()
    }

    /// Lets the browser go on.
    async fn go_on(&mut self) {
        self.stdin.write_all(b"\n").await.unwrap();
    }

    /// A step that nothing may fail in.
    async fn goes_well(&mut self, name: &str) -> Value {
        let shown = self.step(name).await;
        assert_eq!(shown["failures"], serde_json::json!([]), "{name}");
        self.go_on().await;
        shown
    }

    /// A call from the console that the gate refuses, with a reason that the page shows.
    async fn is_refused(&mut self, name: &str, call: &str) {
        let shown = self.step(name).await;
        let output = words(&shown["output"]);
        assert_eq!(shown["status"], 403, "{shown}");
        assert!(output.contains(&format!("\"reason\": \"{call} writes, or is not known to read")), "{output}");
        self.go_on().await;
    }
}

/// A text however it is broken into lines.
fn words(text: &Value) -> String {
    text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a panel shows something: events, bars, or a text.
fn shows_something(panel: &Value) -> bool {
    let text = panel["text"].as_str().unwrap().trim();
    panel["bars"].as_u64().unwrap() > 0 || !(text.is_empty() || text == "No results found")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven, Node and Chromium"]
async fn an_analyst_reads_in_kibana_what_others_did_and_changes_no_evidence() {
    let stack = Stack::start(|_| ()).await.unwrap();
    let domain = Domain::start(Options { backend: stack.backend(), ..Options::default() }).await.unwrap();
    let installed = stack::fill(&domain.url(), signing_key(None), Timestamp::now()).await.unwrap();
    assert!(installed.is_default && installed.objects.len() > 50, "{installed}");
    let mut gate = Program::start(&domain).await;
    let reader = allow("127.0.0.1").replace("full", "read");
    let_in(&mut gate, &reader).await;

    let mut session = Session::open(&gate).await;
    let opened = session.goes_well("opened").await;
    let kibana = format!("http://{}/_plugin/kibana/app/kibana", gate.address);
    assert!(opened["url"].as_str().unwrap().starts_with(&kibana), "{opened}");

    for dashboard in ["third-parties", "account", "security", "pipeline"] {
        let shown = session.goes_well(dashboard).await;
        assert_eq!(shown["toasts"], serde_json::json!([]), "{dashboard}");
        let panels = shown["panels"].as_array().unwrap();
        let empty: Vec<_> = panels.iter().filter(|panel| !shows_something(panel)).collect();
        assert!(panels.len() > 5 && empty.is_empty(), "{dashboard}: {empty:?}");
    }

    let filtered = session.goes_well("filtered").await;
    assert_eq!(filtered["filter"].as_str().unwrap().trim(), format!("userIdentity.arn: \"{BENJAMIN}\""));
    let principals = filtered["text"].as_str().unwrap();
    assert!(principals.contains(BENJAMIN) && !principals.contains("bert-jan"), "{principals}");
    assert_eq!(session.goes_well("searched").await["hits"], "38");
    session.goes_well("saved").await;

    let counted = session.goes_well("query").await;
    assert!(words(&counted["output"]).contains("\"count\": 1000"), "{counted}");
    session.is_refused("delete", "DELETE /cwl-*").await;
    session.is_refused("delete by query", "POST /cwl-*/_delete_by_query").await;

    session.step("before the grant is gone").await;
    let_in(&mut gate, "").await;
    session.go_on().await;
    let refused = session.step("grant gone").await;
    assert_eq!(refused["status"], 403, "{refused}");
    assert_ne!(refused["toasts"], serde_json::json!([]));
    let_in(&mut gate, &reader).await;
    session.go_on().await;

    session.step("gate stopped").await;
    gate = started_anew(gate).await;
    session.go_on().await;
    assert_eq!(session.goes_well("gate started").await["status"], 200);
    assert!(domain.seen().iter().all(|seen| seen.refusal.is_none()));
    drop(gate);
}

/// Replaces the allowlist, and waits until it is in force.
async fn let_in(gate: &mut Program, allowlist: &str) {
    gate.replace_allowlist(allowlist);
    gate.event("allowlist reloaded").await;
}

/// Ends a gate, and starts another one with its files at its address.
async fn started_anew(mut gate: Program) -> Program {
    gate.signal("-TERM").await;
    timeout(STEP, gate.child.wait()).await.unwrap().unwrap();
    let file = gate.file("trailgate.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let listen = format!("[listen]\naddress = \"{}\"", gate.address);
    std::fs::write(&file, config.replacen("[listen]\naddress = \"127.0.0.1:0\"", &listen, 1)).unwrap();
    let folder: TempDir = gate.folder;
    let run = command(&["run", "--config", &path(&folder, "trailgate.toml")]);
    Program::of(run, folder).await
}

const BENJAMIN: &str = "arn:aws:iam::210987654321:user/benjamin";

/// The browser gives up before this.
const STEP: Duration = Duration::from_mins(3);
