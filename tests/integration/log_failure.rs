//! An access log that cannot be written: what is lost is counted, and nothing is served without it where that is set.

use fake_domain::{FakeDomain, Options};
use hyper::StatusCode;
use tempfile::TempDir;

use crate::admin::ask;
use crate::admin::metrics::{metrics, reaches};
use crate::program::{Program, command_of, files, path, program_path};
use crate::support::{Connection, allow, get, json};

/// Starts a program whose standard output is a full device.
async fn on_full_disk(domain: &FakeDomain, config: &str) -> Program {
    let folder: TempDir = files(&domain.url(), &allow("127.0.0.1"));
    let file = path(&folder, "trailgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}{config}")).unwrap();
    let script = "exec \"$@\" >/dev/full";
    let arguments = ["-c", script, "sh", &program_path(), "run", "--config", &file];
    Program::of(command_of("/bin/sh", &arguments), folder).await
}

#[tokio::test]
async fn full_disk_loses_no_line_uncounted_and_is_reported() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = on_full_disk(&domain, "").await;
    let mut connection = Connection::open(program.address).await;
    for _ in 0..3 {
        assert_eq!(connection.send(get("/")).await.status(), StatusCode::OK);
    }
    let event = program.event("the access log cannot be written").await;
    assert_eq!((&event["level"], &event["reason"]), (&"ERROR".into(), &"No space left on device (os error 28)".into()));
    reaches(&program, "trailgate_log_lines_dropped_total{log=\"access\"}", "3").await;
    reaches(&program, "trailgate_log_writable{log=\"access\"}", "0").await;
    let ready = ask(program.admin, "/readyz").await;
    assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = String::from_utf8_lossy(ready.body());
    assert!(text.contains("access log: it cannot be written: No space left on device"), "{text}");
    assert!(metrics(&program).await.contains("trailgate_log_writable{log=\"events\"} 1\n"));
    program.signal("-TERM").await;
    let event = program.event("the access log could not be written to its end").await;
    assert_eq!(event["lost_lines"], 3);
}

#[tokio::test]
async fn requests_are_rejected_without_the_required_access_log() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = on_full_disk(&domain, "[log]\non_failure = \"refuse\"\n").await;
    // The failure shows only when there is a line to write.
    assert_eq!(program.status().await, StatusCode::OK);
    program.event("the access log cannot be written").await;
    let before = domain.seen().len();
    let refused = Connection::open(program.address).await.send(get("/")).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(&refused)["error"]["type"], "log_unwritable");
    assert_eq!(refused.headers()["retry-after"], "5");
    assert_eq!(domain.seen().len(), before);
}
