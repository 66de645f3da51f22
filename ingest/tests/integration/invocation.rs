use std::sync::Arc;
use std::time::Duration;

use fake_domain::{Fault, ItemRefusal, Times};
use serde_json::{Value, json};
use tokio::time::Instant;
use trailgate_ingest::function::{Function, InvocationOutcome};
use trailgate_testkit::pack_log_data;

use crate::payloads::{log_data, subscription};
use crate::rig::{LIMITS, Rig, with_timeout};

/// Starts a domain in memory, and the function in front of it.
async fn start() -> (Rig, Function) {
    let rig = Rig::new().await;
    let function = Function::new(&rig.settings, Arc::clone(&rig.domain), LIMITS);
    (rig, function)
}

async fn invoke(function: &Function, payload: &Value) -> InvocationOutcome {
    // A twentieth of it is the time to set up the domain.
    invoke_within(function, payload, Duration::from_mins(3)).await
}

async fn invoke_within(function: &Function, payload: &Value, time: Duration) -> InvocationOutcome {
    let now = "2026-01-31T12:05:00Z".parse().unwrap();
    with_timeout(function.invoke(payload.to_string().as_bytes(), Instant::now() + time, now)).await
}

/// Clears the domain's faults and returns the number of documents.
async fn count(rig: &Rig) -> u64 {
    rig.stand_in.clear_faults();
    rig.get("/cwl-*/_count").await["count"].as_u64().unwrap()
}

fn kinesis(records: &[(&str, String)]) -> Value {
    let records = records.iter().map(
        |(number, data)| json!({ "eventSource": "aws:kinesis", "kinesis": { "sequenceNumber": number, "data": data } }),
    );
    json!({ "Records": records.collect::<Vec<_>>() })
}

#[track_caller]
fn failures(outcome: &InvocationOutcome) -> Vec<&str> {
    let answer = outcome.response.as_ref().unwrap();
    answer.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect()
}

#[tokio::test]
async fn subscription_events_are_in_the_index_of_their_day() {
    let (rig, function) = start().await;
    let outcome = invoke(&function, &subscription(0..50)).await;
    assert!(failures(&outcome).is_empty());
    assert_eq!((outcome.metrics.received, outcome.metrics.indexed, outcome.metrics.failed), (50, 50, 0));
    assert_eq!(outcome.metrics.lag_ms, Some(7 * 60 * 1000));
    let document = rig.get("/cwl-2026.01.31/_doc/7").await;
    assert_eq!(document["_source"]["eventID"], "event-7");
    assert_eq!(document["_source"]["@timestamp"], "2026-01-31T12:00:00.000Z");
    assert!(rig.get("/_template/trailgate-cwl").await["trailgate-cwl"].is_object());

    // The template is looked after once.
    let before = rig.stand_in.seen().len();
    invoke(&function, &subscription(50..100)).await;
    let since: Vec<_> = rig.stand_in.seen().into_iter().skip(before).map(|request| request.method).collect();
    assert!(since.iter().all(|method| method == "POST"), "{since:?}");
    assert_eq!(count(&rig).await, 100);
}

#[tokio::test]
async fn repeated_invocation_creates_no_duplicate() {
    let (rig, function) = start().await;
    invoke(&function, &subscription(0..50)).await;
    invoke(&function, &subscription(0..50)).await;
    assert_eq!(count(&rig).await, 50);
}

#[tokio::test]
async fn failed_event_fails_the_subscription_without_a_quote() {
    let (rig, function) = start().await;
    rig.stand_in.judge_items(|_, source| {
        (source["@id"] == "3").then_some(ItemRefusal { status: 400, kind: "mapper_parsing_exception" })
    });
    let outcome = invoke(&function, &subscription(0..10)).await;
    let error = outcome.response.unwrap_err().to_string();
    assert_eq!(error, "1 of 10 events not indexed; first reason: 400 mapper_parsing_exception");
    assert_eq!((outcome.metrics.indexed, outcome.metrics.failed), (9, 1));
    assert_eq!(count(&rig).await, 9);
}

#[tokio::test]
async fn event_that_does_not_fit_is_indexed_degraded() {
    let (rig, function) = start().await;
    rig.stand_in.judge_items(|_, source| {
        let does_not_fit = source["@id"] == "3" && source.get("secret").is_some();
        does_not_fit.then_some(ItemRefusal { status: 400, kind: "mapper_parsing_exception" })
    });
    let outcome = invoke(&function, &subscription(0..10)).await;
    assert!(failures(&outcome).is_empty());
    assert_eq!((outcome.metrics.indexed, outcome.metrics.degraded), (9, 1));
    let document = rig.get("/cwl-2026.01.31/_doc/3").await;
    assert!(document["_source"]["@message"].as_str().unwrap().contains("hunter2"));
    assert!(document["_source"]["@degraded"].as_str().unwrap().starts_with("400 mapper_parsing_exception"));
}

#[tokio::test]
async fn only_failed_stream_records_are_reported() {
    let (rig, function) = start().await;
    rig.stand_in.judge_items(|_, source| {
        (source["@id"] == "15").then_some(ItemRefusal { status: 404, kind: "index_not_found_exception" })
    });
    let outcome = invoke(
        &function,
        &kinesis(&[
            ("a", log_data(0..10)),
            ("b", log_data(10..20)),
            ("c", "bm90IGd6aXA=".to_owned()),
            ("d", log_data(20..30)),
        ]),
    )
    .await;
    assert_eq!(failures(&outcome), ["b", "c"]);
    let metrics = &outcome.metrics;
    assert_eq!((metrics.received, metrics.indexed, metrics.failed, metrics.undecodable), (30, 29, 1, 1));
    assert_eq!(count(&rig).await, 29);
}

#[tokio::test]
async fn record_behind_many_small_events_fails_by_itself() {
    let (rig, function) = start().await;
    rig.stand_in.judge_items(|_, source| {
        (source["@id"] == "40005").then_some(ItemRefusal { status: 404, kind: "index_not_found_exception" })
    });
    let outcome = invoke(&function, &kinesis(&[("a", log_data(0..40_000)), ("b", log_data(40_000..40_010))])).await;
    assert_eq!(failures(&outcome), ["b"]);
    assert_eq!((outcome.metrics.received, outcome.metrics.indexed), (40_010, 40_009));
}

#[tokio::test]
async fn failed_queue_message_is_reported_once() {
    let (rig, function) = start().await;
    rig.stand_in.judge_items(|_, source| {
        let is_refused = source["@id"].as_str()?.parse::<usize>().ok()? < 20;
        is_refused.then_some(ItemRefusal { status: 404, kind: "index_not_found_exception" })
    });
    let message = |id: &str, payload: &Value| {
        let body = json!({ "version": "1.0", "requestPayload": payload }).to_string();
        json!({ "messageId": id, "eventSource": "aws:sqs", "body": body })
    };
    let stream = kinesis(&[("a", log_data(0..10)), ("b", log_data(10..20))]);
    let outcome =
        invoke(&function, &json!({ "Records": [message("one", &stream), message("two", &subscription(20..30))] }))
            .await;
    assert_eq!(failures(&outcome), ["one"]);
    assert_eq!(count(&rig).await, 10);
}

#[tokio::test]
async fn unreadable_payload_fails_the_invocation() {
    let (rig, function) = start().await;
    for payload in [json!({}), json!({ "awslogs": { "data": "bm90IGd6aXA=" } }), json!([1])] {
        let outcome = invoke(&function, &payload).await;
        assert_eq!(outcome.response.unwrap_err().error_type(), "Payload", "{payload}");
        assert_eq!(outcome.metrics.undecodable, 1);
    }
    assert!(rig.stand_in.seen().is_empty());
}

#[tokio::test]
async fn control_message_needs_no_domain() {
    let (rig, function) = start().await;
    let batch = json!({
        "messageType": "CONTROL_MESSAGE", "owner": "CloudwatchLogs", "logGroup": "", "logStream": "",
        "subscriptionFilters": [], "logEvents": [{ "id": "", "timestamp": 1, "message": "CWL CONTROL MESSAGE" }],
    });
    let outcome = invoke(&function, &json!({ "awslogs": { "data": pack_log_data(&batch) } })).await;
    assert!(failures(&outcome).is_empty());
    assert_eq!(outcome.metrics.lag_ms, None);
    assert!(rig.stand_in.seen().is_empty());
}

#[tokio::test]
async fn unresponsive_domain_fails_the_invocation_in_time() {
    let (rig, function) = start().await;
    rig.stand_in.fault(Fault::Hang, Times::UntilCleared);
    let outcome = invoke_within(&function, &subscription(0..10), Duration::from_millis(500)).await;
    let error = outcome.response.unwrap_err().to_string();
    assert!(error.starts_with("10 of 10 events not indexed"), "{error}");
    assert_eq!(count(&rig).await, 0);
}

#[tokio::test]
async fn events_are_indexed_without_template_permission() {
    let (rig, function) = start().await;
    rig.stand_in.judge_requests(|seen| {
        (seen.method != "POST").then(|| Fault::status(403, r#"{"Message":"User: x is not authorized"}"#))
    });
    let outcome = invoke(&function, &subscription(0..10)).await;
    assert!(failures(&outcome).is_empty());
    assert_eq!(count(&rig).await, 10);
}
