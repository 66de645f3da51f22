use fake_domain::ItemRefusal;
use tokio::process::Command;
use trailgate_testkit::ReservedPort;

use super::{Rig, assert_ran, assert_says, record, records};

#[tokio::test]
async fn missing_path_is_reported() {
    let rig = Rig::new().await;
    let ran = rig.load(&[&rig.path("nowhere")], b"").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(&format!("trailgate-ingest: {}: No such file", rig.path("nowhere"))), "{}", ran.stderr);
}

#[tokio::test]
async fn period_that_ends_before_it_begins_is_rejected() {
    let rig = Rig::new().await;
    let ran = rig.load(&["--from", "2026-02-01", "--to", "2026-01-31", "-"], b"").await;
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("--from 2026-02-01 is after --to 2026-01-31; write the first day in --from"),
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn degraded_events_count_as_indexed() {
    let rig = Rig::new().await;
    rig.write("a.json", records(&(0..10).map(|id| record(&id.to_string(), "2026-01-30")).collect::<Vec<_>>()));
    rig.domain()
        .judge_items(|number, _| (number < 4).then_some(ItemRefusal { status: 400, kind: "mapper_parsing_exception" }));
    let ran = rig.load(&[&rig.path("a.json")], b"").await;
    assert_ran(&ran, 0, "10 events in 1 files, 10 indexed");
    assert_says(&ran, "4 of them degraded; find them with _exists_:@degraded");
}

/// Runs the program with these arguments and nothing in its environment.
async fn ingest(arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.json"), records(&[record("1", "2026-01-30")])).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_trailgate-ingest"))
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output();
    let output = output.await.unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn missing_settings_are_reported_by_their_flags() {
    let (code, stderr) = ingest(&["load", "--endpoint", "https://es.example.com", "a.json"]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("--region: is not set, and --endpoint does not name a region"), "{stderr}");
}

#[tokio::test]
async fn connection_error_has_its_cause_and_no_credentials() {
    let port = ReservedPort::bind().unwrap();
    let (code, stderr) = ingest(&["load", "--unsigned", "--endpoint", &port.url(), "a.json"]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("Connection refused"), "{stderr}");
    assert!(!stderr.contains("credentials found"), "{stderr}");
}

#[tokio::test]
async fn plain_endpoint_without_credentials_hints_at_unsigned() {
    let rig = Rig::new().await;
    let connection = ["--endpoint", &rig.domain().url(), "--region", "eu-west-1", "--service", "es"];
    let arguments = [&["load"][..], &connection[..], &["a.json"][..]].concat();
    let (code, stderr) = ingest(&arguments).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("add --unsigned"), "{stderr}");
}

/// A client that writes to the bucket chooses the names.
#[tokio::test]
async fn control_characters_in_names_are_escaped() {
    let rig = Rig::new().await;
    rig.write("logs/\u{1b}]0;x\u{7}.json", "text");
    rig.write("logs/\n2 events.json", "text");
    rig.write("logs/\u{1b}.txt", "text");
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 1, "0 events in 0 files, 0 indexed, 2 failed");
    assert_eq!(ran.stdout.lines().count(), 4, "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}') && ran.stdout.contains(r"\u{1b}]0;x\u{7}.json"), "{}", ran.stdout);
}

#[tokio::test]
async fn failed_start_leaves_no_file_of_failures() {
    let rig = Rig::new().await;
    rig.write("a.json", records(&[record("1", "2026-01-30")]));
    let port = ReservedPort::bind().unwrap();
    let arguments = ["--failures", &rig.path("failures"), &rig.path("a.json")];
    assert_eq!(rig.load_into(&port.url(), &arguments, b"").await.code, Some(1));
    assert_ran(&rig.load(&arguments, b"").await, 0, "1 events in 1 files, 1 indexed");
}
