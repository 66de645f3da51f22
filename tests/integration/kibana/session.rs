//! A browser that takes one step after the other.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use trailgate_testkit::repository;

/// One of the scripts in `tests/browser`: it writes a line for each step, and waits for one.
pub(super) struct Script {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
}

impl Script {
    pub(super) async fn start(name: &str, arguments: &[&str]) -> Self {
        let folder = repository("tests/browser");
        let installed = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).status();
        assert!(installed.await.unwrap().success());
        let mut browser = Command::new("node");
        browser.arg(folder.join(name)).args(arguments);
        let mut child = browser.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { _child: child, stdin, stdout: BufReader::new(stdout).lines() }
    }

    /// Returns the result of the next step.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> T {
        let line = timeout(STEP, self.stdout.next_line()).await.expect("the browser is stuck").unwrap();
        serde_json::from_str(&line.expect("the browser has ended")).unwrap()
    }

    /// Lets the browser go on.
    pub(super) async fn proceed(&mut self) {
        self.stdin.write_all(b"\n").await.unwrap();
    }
}

/// An analyst's session.
pub(super) struct Session {
    script: Script,
    /// The requests that fail without the proxy as well.
    usual: BTreeSet<String>,
}

impl Session {
    /// Opens the page at `url`.
    pub(super) async fn open(url: &str, usual: BTreeSet<String>) -> Self {
        let screenshots = std::env::var("SCREENSHOTS");
        let arguments: Vec<_> = std::iter::once(url).chain(screenshots.as_deref()).collect();
        Self { script: Script::start("kibana.mjs", &arguments).await, usual }
    }

    /// Returns the requests that fail in a session without the proxy, which opens the page at `url`.
    pub(super) async fn failures(url: &str) -> BTreeSet<String> {
        let mut session = Self::open(url, BTreeSet::new()).await;
        let mut failures = failed(&session.step(STEPS[0]).await);
        for step in &STEPS[1..] {
            session.proceed().await;
            failures.append(&mut failed(&session.step(step).await));
        }
        failures
    }

    /// Returns the page's content after the next step, which has this name.
    pub(super) async fn step(&mut self, name: &str) -> Value {
        let (step, shown): (String, Value) = self.script.next().await;
        assert_eq!(step, name, "{shown}");
        shown
    }

    pub(super) async fn proceed(&mut self) {
        self.script.proceed().await;
    }

    /// Does the same, for a step in which nothing fails that succeeds without the proxy.
    pub(super) async fn checked_step(&mut self, name: &str) -> Value {
        let shown = self.step(name).await;
        let failed = failed(&shown);
        let caused: Vec<_> = failed.difference(&self.usual).collect();
        assert!(caused.is_empty(), "{name}: {caused:?}");
        shown
    }

    /// Does the same, and lets the browser continue.
    pub(super) async fn next_step(&mut self, name: &str) -> Value {
        let shown = self.checked_step(name).await;
        self.proceed().await;
        shown
    }

    /// Asserts that the proxy rejects a call from the console, and that the page shows the reason.
    pub(super) async fn is_rejected(&mut self, name: &str, call: &str) {
        let shown = self.step(name).await;
        let output = words(&shown["output"]);
        assert_eq!(shown["status"], 403, "{shown}");
        assert!(output.contains(&format!("\"reason\": \"{call} writes, or is not known to read")), "{output}");
        self.proceed().await;
    }
}

/// Returns the error responses, the requests without a response, and the errors of the page's scripts.
fn failed(shown: &Value) -> BTreeSet<String> {
    serde_json::from_value(shown["failures"].clone()).unwrap()
}

/// Returns a text with its line breaks normalised.
pub(super) fn words(text: &Value) -> String {
    text.as_str().unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The steps before the first that would write without a proxy.
const STEPS: [&str; 10] = [
    "opened",
    "third-parties",
    "account",
    "security",
    "pipeline",
    "who-looked",
    "filtered",
    "searched",
    "saved",
    "query",
];

/// The upper bound of a step, above the browser's own timeout.
pub(super) const STEP: Duration = Duration::from_mins(3);
