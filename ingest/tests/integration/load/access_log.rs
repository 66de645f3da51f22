use super::{Rig, assert_ran, record, records};
use crate::access_log::access_line;

const EVENT: &str =
    r#"{"timestamp":"2026-11-29T12:00:00Z","level":"INFO","message":"reloaded","target":"trailgate::ops"}"#;

#[tokio::test]
async fn access_lines_of_a_file_are_indexed_once_on_request() {
    let mut rig = Rig::new().await;
    rig.access_log = "index";
    let lines = [access_line(1, "/"), EVENT.to_owned(), access_line(2, "/a\n{}"), r#"{"lost_lines":3}"#.to_owned()];
    rig.write("gate.log", lines.join("\n"));
    for done in ["first", "second"] {
        let ran = rig.load(&["--done", &rig.path(done), &rig.path("gate.log")], b"").await;
        assert_ran(&ran, 0, "2 events in 1 files, 2 indexed");
    }
    assert_eq!(rig.signed.get("/gate-2026.11.29/_count").await["count"], 2);
}

#[tokio::test]
async fn access_lines_of_a_file_are_skipped_by_default() {
    let rig = Rig::new().await;
    rig.write("a.json", records(&[record("1", "2026-01-30")]) + "\n" + &access_line(1, "/"));
    let ran = rig.load(&[&rig.path("a.json")], b"").await;
    assert_ran(&ran, 0, "1 events in 1 files, 1 indexed");
    assert!(ran.stdout.contains("access lines of trailgate"), "{}", ran.stdout);
}
