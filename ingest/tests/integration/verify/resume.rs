//! A run that is killed resumes, and comes to the same verdict.

use std::time::Duration;

use fake_domain::{Fault, Times};
use jiff::civil::Date;
use serde_json::{Value, json};
use tokio::time::sleep;
use trailgate_ingest::document::DocumentId;

use super::domain::Filled;
use crate::rig::with_timeout;

const JANUARY: [&str; 4] = ["--from", "2026-01-01", "--to", "2026-01-31"];
/// The request of the scan at which the run is killed.
const HELD: &str = "/cwl-2026.01.20/_count";

/// Before that day an event was removed and a document added, and after it a document was altered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn killed_run_resumes_with_the_same_verdict() {
    let filled = Filled::new("opensearch-2.19", DocumentId::EventId).await;
    let event = |day: i8, nth: usize| filled.month.event_id(Date::constant(2026, 1, day), nth);
    let (index, id, mut source) = filled.document(&event(10, 0)).await;
    filled.delete(&index, &id).await;
    source["eventID"] = json!("11111111-2222-3333-4444-555555555555");
    filled.put("cwl-2026.01.11", "added", &source).await;
    let (index, id, mut source) = filled.document(&event(25, 1)).await;
    source["awsRegion"] = json!("eu-west-3");
    filled.put(&index, &id, &source).await;

    let (code, whole) = filled.run_lines(&JANUARY).await;
    let counts = json!({ "missing_event": 1, "altered_event": 1, "extra_document": 1 });
    assert_eq!((code, &whole.last().unwrap()["counts"]), (Some(1), &counts));

    filled.server.rig.stand_in.judge_requests(|seen| seen.target.starts_with(HELD).then_some(Fault::Hang));
    let mut child = filled.command(&JANUARY).spawn().unwrap();
    let is_held = async {
        while !filled.has_seen(HELD, 2) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    with_timeout(is_held).await;
    child.kill().await.unwrap();
    filled.server.rig.stand_in.clear_faults();
    let days = std::fs::read_to_string(filled.month.path("done")).unwrap().lines().count();
    assert_eq!(days, 19);

    let (code, resumed) = filled.run_lines(&JANUARY).await;
    assert_eq!((code, without_requests(resumed)), (Some(1), without_requests(whole)));
    assert!(filled.has_seen(HELD, 3));
    assert!(!filled.has_seen("/cwl-2026.01.19/_count", 3), "a closed day is not compared again");
    assert!(!filled.month.path("done").exists());
}

fn without_requests(mut lines: Vec<Value>) -> Vec<Value> {
    lines.last_mut().unwrap()["requests"] = Value::Null;
    lines
}

/// A domain that is busy now and then costs time, and no verdict.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn busy_domain_is_asked_again() {
    let filled = Filled::new("opensearch-2.19", DocumentId::EventId).await;
    filled.refresh().await;
    let shards = r#"{"_shards":{"total":2,"failed":1},"hits":{"hits":[]}}"#;
    filled.server.rig.stand_in.fault(Fault::status(429, "{}"), Times::Next(2));
    filled.server.rig.stand_in.fault(Fault::status(200, shards), Times::Next(2));
    let (code, lines) = filled.run_now(&["--from", "2026-01-14", "--to", "2026-01-15"]).await;
    assert_eq!((code, &lines.last().unwrap()["verdict"]), (Some(0), &json!("proven")));
}
