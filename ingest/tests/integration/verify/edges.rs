//! Events at the edges of the period, late deliveries, and degraded documents.

use jiff::civil::{Date, DateTime};
use serde_json::{Value, json};
use trailgate_ingest::document::{DocumentId, build_degraded};
use trailgate_ingest::payload::{LogBatch, LogEvent};
use trailgate_ingest::verify::report::{Kind, Verdict};

use super::domain::Filled;
use trailgate_testkit::trail::{TrailBucket, TrailShape, digest_key, log_key, milliseconds, sample_month};

const ENGINE: &str = "opensearch-2.19";

/// Returns a month with late deliveries: the first event of the 10th is in a file of the 20th, and the last of the 31st
/// in one of the next day. Other events are in the last second before the period, in its first and last second, and
/// after it.
fn late_month() -> TrailBucket {
    let mut events = sample_month();
    let edges = ["2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z", "2026-01-31T23:59:59Z", "2026-02-01T00:00:00Z"];
    for (number, time) in edges.iter().enumerate() {
        let mut event = events[0].clone();
        event["eventID"] = json!(format!("00000000-0000-0000-0000-00000000000{number}"));
        event["eventTime"] = json!(time);
        events.push(event);
    }
    let write = |month: &TrailBucket, hour: DateTime| {
        let of_day = |day: i8| month.events_of(Date::constant(2026, 1, day));
        let late = of_day(10).next().unwrap();
        if hour == DateTime::constant(2026, 2, 1, 0, 0, 0, 0) {
            let key = log_key(hour.date(), 0).replace("T1235Z", "T0005Z");
            let events: Vec<&Value> = month.events[month.events.len() - 2..].iter().collect();
            return vec![month.write_log(&key, &events)];
        }
        if hour.hour() != 12 {
            return Vec::new();
        }
        let mut events: Vec<&Value> = of_day(hour.day()).filter(|event| *event != late).collect();
        match hour.day() {
            1 => events.push(&month.events[month.events.len() - 4]),
            20 => events.push(late),
            31 => events.retain(|event| event["eventTime"] != "2026-01-31T23:59:59Z"),
            _ => {}
        }
        vec![month.write_log(&log_key(hour.date(), 0), &events)]
    };
    TrailBucket::with_logs(events, TrailShape::default(), write)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn late_and_edge_events_are_compared_once() {
    let filled = Filled::with(ENGINE, DocumentId::EventId, late_month()).await;
    // The function of a domain without INDEX_DAY=event_time: a late event is in the index of its delivery.
    let id = "00000000-0000-0000-0000-000000000000";
    let (index, old, mut source) = filled.document(id).await;
    assert_eq!(index, "cwl-2025.12.31");
    filled.delete(&index, &old).await;
    source["@timestamp"] = json!("2026-01-01T00:01:30.000Z");
    filled.put("cwl-2026.01.01", id, &source).await;

    let report = filled.verify().await;
    assert_eq!((report.verdict(), report.findings().count()), (Verdict::Proven, 0), "{report}");
    let days: Vec<_> = report.days().collect();
    let counts = |day: usize| (days[day].1.in_bucket, days[day].1.in_domain, days[day].1.not_compared);
    assert_eq!((days.len(), counts(0), counts(9), counts(30)), (31, (34, 34, 1), (32, 32, 0), (33, 33, 0)), "{report}");
}

/// A document whose file came after the days that were read is extra, and the finding says how to decide it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn document_of_a_file_after_the_period_is_explained() {
    let filled = Filled::new(ENGINE, DocumentId::EventId).await;
    let event = filled.month.events_of(Date::constant(2026, 1, 31)).next().unwrap();
    let (index, _, mut source) = filled.document(event["eventID"].as_str().unwrap()).await;
    source["eventID"] = json!("late");
    source["@timestamp"] = json!("2026-02-04T10:00:00.000Z");
    filled.put(&index, "late", &source).await;
    let report = filled.verify().await;
    let [finding] = report.findings().collect::<Vec<_>>()[..] else { panic!("{report}") };
    assert_eq!((finding.kind, finding.subject.as_str()), (Kind::ExtraDocument, "cwl-2026.01.31/late"));
    assert!(finding.reason.ends_with("verify with --to 2026-02-04, which reads the files of that day"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn degraded_document_is_compared_by_its_message() {
    let filled = Filled::new(ENGINE, DocumentId::EventId).await;
    let event = filled.month.events_of(Date::constant(2026, 1, 15)).next().unwrap();
    let id = event["eventID"].as_str().unwrap();
    let batch =
        LogBatch { owner: String::new(), log_group: String::new(), log_stream: String::new(), events: Vec::new() };
    let timestamp = milliseconds(event);
    let message = event.to_string();
    let log_event = LogEvent { id: id.to_owned(), timestamp, message, extracted_fields: Vec::new() };
    let document = build_degraded(&batch, &log_event, &filled.options, "400 mapper_parsing_exception");
    let mut source: Value = serde_json::from_slice(&document.source).unwrap();
    filled.put("cwl-2026.01.15", id, &source).await;
    filled.expect("degraded", Verdict::Proven, &[]).await;

    source["@message"] = json!(event.to_string().replacen("eventVersion", "eventversion", 1));
    filled.put("cwl-2026.01.15", id, &source).await;
    filled.expect("altered", Verdict::Differences, &[(Kind::AlteredEvent, id)]).await;
}

/// A file of the day after the period that digests cover, removed: its events may be of the period.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn removed_file_after_the_period_is_named() {
    let filled = Filled::with(ENGINE, DocumentId::EventId, late_month()).await;
    let key = log_key(Date::constant(2026, 2, 1), 0).replace("T1235Z", "T0005Z");
    filled.month.remove(&key);
    filled.expect("removed", Verdict::Differences, &[(Kind::MissingFile, &key)]).await;
    assert!(filled.month.path(&digest_key(DateTime::constant(2026, 2, 1, 1, 0, 0, 0))).exists());
}
