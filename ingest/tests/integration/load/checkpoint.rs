use std::sync::Arc;
use std::time::Duration;

use fake_domain::{Fault, Times};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::sync::Notify;
use trailgate_testkit::gzip;

use super::{Rig, assert_ran, assert_says, end, record, records};
use crate::rig::with_timeout;

#[tokio::test]
async fn failed_run_resumes_at_the_checkpoint() {
    let rig = Rig::new().await;
    rig.write("logs/a.json", records(&[record("1", "2026-01-30")]));
    rig.write("logs/b.json.gz", &gzip(&records(&[record("2", "2026-01-30")]))[..20]);
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 1, "1 events in 1 files, 1 indexed, 1 failed");
    assert!(ran.stdout.contains(&format!("failed: {}:1: ", rig.path("logs/b.json.gz"))), "{}", ran.stdout);

    rig.write("logs/b.json.gz", gzip(&records(&[record("2", "2026-01-30")])));
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "1 events in 1 files, 1 indexed");
    assert_says(&ran, &format!("1 files skipped: done before ({})", rig.path("logs/a.json")));
    assert_eq!(rig.sent(), ["1", "2"]);
}

#[tokio::test]
async fn payload_with_failed_events_is_loaded_again() {
    let rig = Rig::new().await;
    let message = record("x", "2026-01-30").to_string();
    rig.write(
        "a.json",
        format!(r#"{{"logStream":"s","logEvents":[{{"id":"1","timestamp":1,"message":{message:?}}}]}}"#),
    );
    rig.domain().judge_requests(|seen| seen.target.starts_with("/_bulk").then(|| Fault::status(403, "{}")));
    let ran = rig.load(&[&rig.path("a.json")], b"").await;
    assert_ran(&ran, 1, "1 events in 1 files, 0 indexed, 1 failed");

    rig.domain().clear_faults();
    let ran = rig.load(&[&rig.path("a.json")], b"").await;
    assert_ran(&ran, 0, "1 events in 1 files, 1 indexed");
    assert_eq!(rig.indexed().await.into_iter().collect::<Vec<_>>(), ["x"]);
}

/// Returns a rig whose checkpoint has `logs/a.json` as done, and whose other file is still to be loaded.
async fn unfinished() -> Rig {
    let rig = Rig::new().await;
    rig.write("logs/a.json", records(&[record("1", "2026-01-30")]));
    rig.write("logs/b.json", "{broken");
    assert_ran(&rig.load(&[&rig.path("logs")], b"").await, 1, "1 events in 1 files, 1 indexed, 1 failed");
    rig.write("logs/b.json", records(&[record("2", "2026-01-30")]));
    rig
}

#[tokio::test]
async fn checkpoint_of_another_domain_is_ignored() {
    let (rig, other) = (unfinished().await, Rig::new().await);
    let ran = rig.load_into(&other.domain().url(), &[&rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "2 events in 2 files, 2 indexed");
    assert_eq!(other.indexed().await.len(), 2);
    // What was known of the first domain is still known.
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "1 events in 1 files, 1 indexed");
}

#[tokio::test]
async fn checkpoint_of_another_prefix_is_ignored() {
    let rig = unfinished().await;
    let ran = rig.load(&["--index-prefix", "trail-", &rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "2 events in 2 files, 2 indexed");
}

#[tokio::test]
async fn checkpoint_of_another_period_is_ignored() {
    let rig = unfinished().await;
    let ran = rig.load(&["--from", "2026-01-01", &rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "2 events in 2 files, 2 indexed");
}

#[tokio::test]
async fn second_run_with_the_same_checkpoint_is_rejected() {
    let rig = Rig::new().await;
    rig.write("a.json", records(&[record("1", "2026-01-30")]));
    let first = rig.start(&rig.domain().url(), &["-"]);
    with_timeout(rig.domain().wait_for_requests(1)).await;
    let ran = rig.load(&[&rig.path("a.json")], b"").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("another run uses this checkpoint; wait for it to end"), "{}", ran.stderr);
    drop(first);
}

/// Files with 80 events, which go in ten requests.
fn write_large(rig: &Rig) {
    let large = |file: usize| {
        let event = |id: usize| {
            let mut record = record(&format!("{file}-{id}"), "2026-01-30");
            record["requestParameters"] = "x".repeat(250_000).into();
            record
        };
        records(&(0..20).map(event).collect::<Vec<_>>())
    };
    (0..4).for_each(|file| rig.write(&format!("logs/{file}.json"), large(file)));
}

/// Starts a run, and returns it with four bulk requests in flight: their documents are in the index, and their answers
/// come when the second value is notified.
async fn start_and_hold(rig: &Rig) -> (tokio::process::Child, Arc<Notify>) {
    let release = Arc::new(Notify::new());
    rig.domain().fault(Fault::HoldBody(Arc::clone(&release)), Times::UntilCleared);
    let child = rig.start(&rig.domain().url(), &[&rig.path("logs")]);
    with_timeout(async {
        let (mut bulks, mut released) = (0, 0);
        while bulks < 4 {
            let seen = rig.domain().seen();
            bulks = seen.iter().filter(|seen| seen.target.starts_with("/_bulk")).count();
            // Those that set up the domain are not what is held.
            if seen.len() - bulks > released {
                release.notify_one();
                released += 1;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    (child, release)
}

/// Clears the domain's faults and returns the number of documents in the index.
async fn count(rig: &Rig) -> u64 {
    rig.domain().clear_faults();
    rig.signed.get("/cwl-*/_count").await["count"].as_u64().unwrap()
}

#[tokio::test]
async fn interrupted_run_resumes_at_the_checkpoint() {
    run_resumes_after("-INT").await;
}

/// As a container and a unit are stopped.
#[tokio::test]
async fn terminated_run_resumes_at_the_checkpoint() {
    run_resumes_after("-TERM").await;
}

async fn run_resumes_after(signal: &str) {
    let rig = Rig::new().await;
    write_large(&rig);
    let (mut child, release) = start_and_hold(&rig).await;
    let pid = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([signal, &pid]).status().await.unwrap().success());
    let (stderr, mut said) = (child.stderr.as_mut().unwrap(), Vec::new());
    while !said.ends_with(b"finishing requests in flight") {
        said.push(with_timeout(stderr.read_u8()).await.unwrap());
    }
    rig.domain().clear_faults();
    release.notify_waiters();
    let ran = end(child).await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("interrupted; run the same command again to resume"), "{}", ran.stderr);

    assert!(count(&rig).await < 80);
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("files skipped: done before"), "{}", ran.stdout);
    assert_eq!(count(&rig).await, 80);
}

#[tokio::test]
async fn killed_run_is_repeated_without_loss_or_duplicates() {
    let rig = Rig::new().await;
    write_large(&rig);
    let (mut child, _held) = start_and_hold(&rig).await;
    child.kill().await.unwrap();
    rig.domain().clear_faults();
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(count(&rig).await, 80);
}

#[tokio::test]
async fn concurrent_runs_create_no_duplicates() {
    let rig = Rig::new().await;
    write_large(&rig);
    let (logs, other) = (rig.path("logs"), rig.path("other"));
    let first = [logs.as_str()];
    let second = ["--done", other.as_str(), logs.as_str()];
    let (first, second) = tokio::join!(rig.load(&first, b""), rig.load(&second, b""));
    assert_eq!((first.code, second.code), (Some(0), Some(0)), "{}{}", first.stderr, second.stderr);
    assert_eq!(count(&rig).await, 80);
}

#[tokio::test]
async fn checkpoint_of_another_access_log_setting_is_ignored() {
    let mut rig = unfinished().await;
    rig.access_log = "index";
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "2 events in 2 files, 2 indexed");
}

/// The end of a run removes the checkpoint: a log file that is named by mistake would be gone.
#[tokio::test]
async fn file_that_is_no_checkpoint_is_kept() {
    let rig = Rig::new().await;
    let events = records(&[record("1", "2026-01-30")]);
    for content in [events.clone(), record("1", "2026-01-30").to_string() + "\n", "\n".to_owned()] {
        rig.write("a.json", &events);
        rig.write("b.json", &content);
        let ran = rig.load(&["--done", &rig.path("b.json"), &rig.path("a.json")], b"").await;
        assert_eq!(ran.code, Some(1));
        let advice = format!("--done {}: is not a checkpoint; name a file that does not exist yet", rig.path("b.json"));
        assert!(ran.stderr.contains(&advice), "{}", ran.stderr);
        assert_eq!(std::fs::read_to_string(rig.path("b.json")).unwrap(), content);
    }
    let ran = rig.load(&["--done", "/dev/null", &rig.path("a.json")], b"").await;
    assert!(ran.stderr.contains("--done /dev/null: is not a regular file"), "{}", ran.stderr);
}
