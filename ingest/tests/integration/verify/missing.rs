//! `--load-missing` loads what is missing, replaces nothing, and verifies again.

use jiff::civil::Date;
use serde_json::{Value, json};
use trailgate_ingest::document::DocumentId;

use super::domain::Filled;

const JANUARY: [&str; 5] = ["--from", "2026-01-01", "--to", "2026-01-31", "--load-missing"];

/// Asserts that, of two removed events, an altered and an added document, the events are loaded and the documents stay
/// and are named.
async fn missing_events_are_loaded_and_no_document_is_replaced(engine: &str, id: DocumentId) {
    let filled = Filled::new(engine, id).await;
    let events: Vec<Value> = filled.month.events_of(Date::constant(2026, 1, 15)).take(3).cloned().collect();
    let ids: Vec<&str> = events.iter().map(|event| event["eventID"].as_str().unwrap()).collect();
    for event in &ids[..2] {
        let (index, id, _) = filled.document(event).await;
        filled.delete(&index, &id).await;
    }
    let (index, id, mut altered) = filled.document(ids[2]).await;
    altered["sourceIPAddress"] = json!("192.0.2.7");
    filled.put(&index, &id, &altered).await;
    let mut added = altered.clone();
    added["eventID"] = json!("11111111-2222-3333-4444-555555555555");
    filled.put(&index, "added", &added).await;

    let (code, lines) = filled.run_lines(&JANUARY).await;
    let reports: Vec<&Value> = lines.iter().filter(|line| line["verdict"].is_string()).collect();
    let [before, after] = reports[..] else { panic!("{lines:?}") };
    assert_eq!(before["stage"], "before_loading");
    assert_eq!(before["counts"], json!({ "missing_event": 2, "altered_event": 1, "extra_document": 1 }), "{before}");
    assert_eq!((&before["loaded"], &after["loaded"]), (&json!(2), &json!(0)));
    assert_eq!(after["stage"], "after_loading");
    assert_eq!((code, &after["counts"]), (Some(1), &json!({ "altered_event": 1, "extra_document": 1 })), "{after}");
    let places: Vec<&str> = after["findings"].as_array().unwrap().iter().map(place).collect();
    let expected = [format!("{index}/{id} differs in sourceIPAddress"), format!("{index}/added")];
    assert_eq!(places, expected);
    filled.refresh().await;
    assert_eq!(filled.document(ids[2]).await.2, altered);
    assert_eq!(filled.document(ids[0]).await.0, "cwl-2026.01.15");
}

/// Returns the index and id that a finding names: the reason for an altered document, the subject for an added one.
fn place(finding: &Value) -> &str {
    let key = if finding["kind"] == "altered_event" { "reason" } else { "subject" };
    finding[key].as_str().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn missing_events_are_loaded_on_opensearch_2() {
    missing_events_are_loaded_and_no_document_is_replaced("opensearch-2.19", DocumentId::EventId).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn missing_events_are_loaded_on_elasticsearch_5() {
    missing_events_are_loaded_and_no_document_is_replaced("elasticsearch-5.6", DocumentId::LogEvent).await;
}

/// Unproven files are not loaded: one that was changed, and one that no digest covers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn events_of_unproven_files_are_not_loaded() {
    let filled = Filled::new("opensearch-2.19", DocumentId::EventId).await;
    filled.month.remove_last_digests();
    let event = filled.month.events_of(Date::constant(2026, 1, 31)).next().unwrap();
    let (index, id, _) = filled.document(event["eventID"].as_str().unwrap()).await;
    filled.delete(&index, &id).await;
    let (code, lines) = filled.run_lines(&JANUARY).await;
    let last = lines.last().unwrap();
    assert_eq!(
        (code, &lines[31]["loaded"], &last["counts"]["missing_event"]),
        (Some(1), &json!(0), &json!(1)),
        "{last}"
    );
}
