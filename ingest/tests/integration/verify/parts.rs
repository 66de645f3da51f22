//! A verification that pauses after each file has the verdict of one that does not.

use fake_domain::{Fault, Times};
use jiff::civil::Date;
use serde_json::{Value, json};
use trailgate_ingest::document::{DocumentId, DocumentOptions};
use trailgate_ingest::load::checkpoint::Checkpoint;
use trailgate_ingest::verify::report::Report;
use trailgate_ingest::verify::{ComparedDomain, Evidence, Part, Period, RunState, verify, verify_part};
use trailgate_testkit::gzip;
use trailgate_testkit::trail::{TrailBucket, log_key};

use super::bucket::inflate;
use super::domain::Filled;
use super::evidence::{evidence, no_progress};
use crate::rig::Rig;

/// Verifies in parts that pause as soon as they may, each from the bytes of the state before it. Returns the number of
/// parts.
async fn verify_in_parts(evidence: &Evidence, domain: &ComparedDomain) -> (usize, Report) {
    let (mut parts, mut state) = (1, None);
    loop {
        match verify_part(evidence, domain, state, || true).await.unwrap() {
            Part::Done(report) => return (parts, report),
            Part::Paused(paused) => state = Some(RunState::parse(&paused.to_bytes().unwrap()).unwrap()),
        }
        parts += 1;
    }
}

async fn verify_at_once(evidence: &Evidence, domain: &ComparedDomain) -> Report {
    verify(evidence, domain, &mut Checkpoint::in_memory(), &no_progress()).await.unwrap()
}

/// Returns the days, the findings and the verdict: parts need more requests.
fn without_requests(report: &Report) -> Vec<Value> {
    let mut lines: Vec<Value> =
        report.json_lines(None).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    lines.last_mut().unwrap()["requests"] = Value::Null;
    lines
}

fn days(from: i8, to: i8) -> Period {
    Period { from: Date::constant(2026, 1, from), to: Date::constant(2026, 1, to) }
}

/// Files of the day before, of which events are read too, are one part each; the last part closes the day.
#[tokio::test]
async fn each_part_reads_a_file() {
    let month = TrailBucket::write();
    let added = log_key(Date::constant(2026, 1, 15), 7);
    month.put(&added, &gzip(&inflate(&month, &log_key(Date::constant(2026, 1, 15), 0))));
    let rig = Rig::new().await;
    let empty = r#"{"_shards":{"failed":0},"hits":{"hits":[]},"count":0}"#;
    rig.stand_in.fault(Fault::status(200, empty), Times::UntilCleared);
    let domain = ComparedDomain { domain: rig.domain.clone(), options: DocumentOptions::default() };
    let evidence = evidence(&month, days(15, 15)).await;
    let (parts, report) = verify_in_parts(&evidence, &domain).await;
    assert_eq!(parts, 5, "two files of the day, two of the next, and none");
    let events = month.events_of(Date::constant(2026, 1, 15)).count();
    let last = without_requests(&report).pop().unwrap();
    assert_eq!(last["counts"], json!({ "extra_file": 1, "missing_event": events }));
    assert_eq!(without_requests(&report), without_requests(&verify_at_once(&evidence, &domain).await));
}

/// Differences of every kind, at a day's edges too, over days that close in different parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn parts_find_what_one_run_finds() {
    let filled = Filled::new("opensearch-2.19", DocumentId::EventId).await;
    let event = |day: i8, nth: usize| filled.month.event_id(Date::constant(2026, 1, day), nth);
    let (index, id, mut source) = filled.document(&event(15, 0)).await;
    filled.delete(&index, &id).await;
    source["eventID"] = json!("11111111-2222-3333-4444-555555555555");
    filled.put("cwl-2026.01.16", "added", &source).await;
    let (index, id, mut source) = filled.document(&event(15, 1)).await;
    filled.put(&index, "second", &source).await;
    source["awsRegion"] = json!("eu-west-3");
    filled.put(&index, &id, &source).await;
    let (index, id, source) = filled.document(&event(16, 3)).await;
    filled.delete(&index, &id).await;
    filled.put("cwl-2026.01.15", &id, &source).await;
    filled.refresh().await;

    let domain = ComparedDomain { domain: filled.server.rig.domain.clone(), options: filled.options.clone() };
    for (period, kinds) in [(days(14, 17), 4), (days(15, 15), 4), (days(16, 16), 2), (days(20, 20), 0)] {
        let evidence = evidence(&filled.month, period).await;
        let whole = verify_at_once(&evidence, &domain).await;
        let (_, report) = verify_in_parts(&evidence, &domain).await;
        assert_eq!(without_requests(&report), without_requests(&whole), "{period:?}");
        assert_eq!(report.counts().len(), kinds, "{period:?}: {report}");
    }
}
