mod access_log;
mod attack;
mod install;
mod load;
mod session;

use fake_domain::{FakeDomain, Options};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::timeout;
use trailgate_testkit::{KibanaStack, fill};

use self::access_log::{index_own_lines, others};
use self::session::{STEP, Session, words};
use crate::program::{Program, command, path};
use crate::support::allow;

/// Returns true if a panel shows events, bars or a text.
fn has_content(panel: &Value) -> bool {
    let text = panel["text"].as_str().unwrap().trim();
    panel["bars"].as_u64().unwrap() > 0 || !(text.is_empty() || text == "No results found")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven, Node and Chromium"]
async fn analyst_reads_in_kibana_and_changes_no_evidence() {
    let stack = KibanaStack::start(|_| ()).await.unwrap();
    let domain = FakeDomain::start(Options { backend: stack.backend(), ..Options::default() }).await.unwrap();
    let installed = fill(&domain.url(), Timestamp::now()).await.unwrap();
    assert!(installed.ends_with("set the index pattern as the default\n"), "{installed}");
    let mut program = Program::detecting_engine(&domain).await;
    put_allowlist(&mut program, &analyst()).await;

    let without_proxy = open_domain(&stack).await;
    let usual = Session::failures(&format!("{}{KIBANA}", without_proxy.url())).await;
    let mut session = Session::open(&format!("http://{}/", program.address), usual).await;
    let opened = session.next_step("opened").await;
    let kibana = format!("http://{}{KIBANA}", program.address);
    assert!(opened["url"].as_str().unwrap().starts_with(&kibana), "{opened}");

    for dashboard in ["third-parties", "account", "security", "pipeline", "who-looked"] {
        let shown = session.checked_step(dashboard).await;
        assert_eq!(shown["toasts"], serde_json::json!([]), "{dashboard}");
        let panels = shown["panels"].as_array().unwrap();
        let empty: Vec<_> = panels.iter().filter(|panel| !has_content(panel)).collect();
        assert!(panels.len() > 5 && empty.is_empty(), "{dashboard}: {empty:?}");
        match dashboard {
            "pipeline" => assert!(index_own_lines(&mut program, &domain, &without_proxy).await > 50),
            "who-looked" => {
                let text: Vec<_> = panels.iter().map(|panel| words(&panel["text"])).collect();
                let text = text.join(" ");
                for shown in ["auditor", "Head office", "Contractor", "client_not_allowed", "read_only_grant"] {
                    assert!(text.contains(shown), "{shown}: {text}");
                }
            }
            _ => {}
        }
        session.proceed().await;
    }

    let filtered = session.next_step("filtered").await;
    assert_eq!(filtered["filter"].as_str().unwrap().trim(), format!("ct.principal: \"{BENJAMIN}\""));
    let principals = filtered["text"].as_str().unwrap();
    assert!(principals.contains(BENJAMIN) && !principals.contains("bert-jan"), "{principals}");
    assert_eq!(session.next_step("searched").await["hits"], "38");
    session.next_step("saved").await;

    let counted = session.next_step("query").await;
    assert!(words(&counted["output"]).contains("\"count\": 1000"), "{counted}");
    session.is_rejected("delete", "DELETE /cwl-*").await;
    session.is_rejected("delete by query", "POST /cwl-*/_delete_by_query").await;

    session.checked_step("before the grant is gone").await;
    put_allowlist(&mut program, "allow = []\n").await;
    session.proceed().await;
    let refused = session.step("grant gone").await;
    assert_eq!(refused["status"], 403, "{refused}");
    let toast = refused["toasts"][0].as_str().unwrap();
    assert!(toast.contains("Your address 127.0.0.1 is not on the allowlist"), "{toast}");
    put_allowlist(&mut program, &analyst()).await;
    session.proceed().await;

    session.step("proxy stopped").await;
    program = restart(program).await;
    session.proceed().await;
    assert_eq!(session.next_step("proxy started").await["status"], 200);
    assert!(domain.seen().iter().all(|seen| seen.refusal.is_none()));
    drop(program);
}

/// Starts the same servers without a proxy, open to every client.
async fn open_domain(stack: &KibanaStack) -> FakeDomain {
    FakeDomain::start(Options { is_open: true, backend: stack.backend(), ..Options::default() }).await.unwrap()
}

/// Returns an allowlist by which the browser may read.
fn reader() -> String {
    allow("127.0.0.1").replace("full", "read")
}

/// Returns an allowlist by which the browser may read events and the access log.
fn analyst() -> String {
    reader() + "access_log = true\n" + &others()
}

/// Replaces the allowlist, and waits until it is in effect.
async fn put_allowlist(program: &mut Program, allowlist: &str) {
    program.replace_allowlist(allowlist);
    program.event("allowlist reloaded").await;
}

/// Ends a program, and starts another one with its files at its address.
async fn restart(mut program: Program) -> Program {
    program.signal("-TERM").await;
    timeout(STEP, program.child.wait()).await.unwrap().unwrap();
    let file = program.file("trailgate.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let listen = format!("[listen]\naddress = \"{}\"", program.address);
    std::fs::write(&file, config.replacen("[listen]\naddress = \"127.0.0.1:0\"", &listen, 1)).unwrap();
    let folder: TempDir = program.folder;
    let run = command(&["run", "--config", &path(&folder, "trailgate.toml")]);
    Program::of(run, folder).await
}

const BENJAMIN: &str = "user/benjamin";

/// The path of Kibana, which is a single-page application.
const KIBANA: &str = "/_plugin/kibana/app/kibana";
