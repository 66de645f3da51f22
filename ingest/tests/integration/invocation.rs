use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;
use trailgate_domain::{Fault, ItemRefusal, Options, Times};
use trailgate_ingest::delivery::Limits;
use trailgate_ingest::domain::{Body, Domain};
use trailgate_ingest::invocation::{Function, Outcome};

use crate::events;
use crate::rig::{LIMITS, patiently, settings, signing_key};
use crate::support::Engine as RealServer;

struct Rig {
    stand_in: trailgate_domain::Domain,
    domain: Arc<Domain>,
    function: Function,
}

impl Rig {
    async fn new() -> Self {
        let stand_in = trailgate_domain::Domain::start(Options::default()).await.unwrap();
        let settings = settings(&[("ENDPOINT", &stand_in.url()), ("REGION", "eu-west-1"), ("SERVICE", "es")]);
        let domain = Arc::new(Domain::connect(&settings, signing_key()).unwrap());
        let function = Function::new(&settings, Arc::clone(&domain), LIMITS);
        Self { stand_in, domain, function }
    }

    async fn invoke(&self, payload: &Value) -> Outcome {
        self.invoke_within(payload, Duration::from_secs(20)).await
    }

    async fn invoke_within(&self, payload: &Value, time: Duration) -> Outcome {
        let now = "2026-01-31T12:05:00Z".parse().unwrap();
        patiently(self.function.invoke(payload.to_string().as_bytes(), Instant::now() + time, now)).await
    }

    async fn get(&self, path: &str) -> Value {
        let reply = self.domain.send(Method::GET, path, Body::default(), Duration::from_secs(10)).await.unwrap();
        serde_json::from_slice(&reply.body).unwrap()
    }

    async fn count(&self) -> u64 {
        self.stand_in.clear_faults();
        self.get("/cwl-*/_count").await["count"].as_u64().unwrap()
    }
}

/// Log data as CloudWatch packs it, with events of these numbers.
pub(crate) fn log_data(numbers: std::ops::Range<usize>) -> String {
    let messages = numbers.clone().map(|number| {
        json!({
            "eventVersion": "1.08", "eventTime": "2026-01-31T11:58:00Z", "eventName": "AssumeRole",
            "eventID": format!("event-{number}"), "secret": "hunter2",
        })
    });
    log_data_of(numbers.start, &messages.collect::<Vec<_>>())
}

/// Log data with these messages, whose events are numbered from `first`.
fn log_data_of(first: usize, messages: &[Value]) -> String {
    let noon: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
    let events = messages.iter().enumerate().map(|(number, message)| {
        let (id, timestamp) = ((first + number).to_string(), noon.as_millisecond());
        json!({ "id": id, "timestamp": timestamp, "message": message.to_string() })
    });
    pack(&json!({
        "messageType": "DATA_MESSAGE", "owner": "123456789012", "logGroup": "trail", "logStream": "stream",
        "subscriptionFilters": ["all"], "logEvents": events.collect::<Vec<_>>(),
    }))
}

fn pack(batch: &Value) -> String {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(batch.to_string().as_bytes()).unwrap();
    BASE64_STANDARD.encode(encoder.finish().unwrap())
}

pub(crate) fn subscription(numbers: std::ops::Range<usize>) -> Value {
    json!({ "awslogs": { "data": log_data(numbers) } })
}

fn kinesis(records: &[(&str, String)]) -> Value {
    let records = records.iter().map(
        |(number, data)| json!({ "eventSource": "aws:kinesis", "kinesis": { "sequenceNumber": number, "data": data } }),
    );
    json!({ "Records": records.collect::<Vec<_>>() })
}

#[track_caller]
fn failures(outcome: &Outcome) -> Vec<&str> {
    let answer = outcome.answer.as_ref().unwrap();
    answer.batch_item_failures.iter().map(|failure| failure.item_identifier.as_str()).collect()
}

#[tokio::test]
async fn the_events_of_a_subscription_are_in_the_index_of_their_day_under_a_template() {
    let rig = Rig::new().await;
    let outcome = rig.invoke(&subscription(0..50)).await;
    assert!(failures(&outcome).is_empty());
    assert_eq!((outcome.measures.received, outcome.measures.indexed, outcome.measures.failed), (50, 50, 0));
    assert_eq!(outcome.measures.lag_ms, Some(7 * 60 * 1000));
    let document = rig.get("/cwl-2026.01.31/_doc/7").await;
    assert_eq!(document["_source"]["eventID"], "event-7");
    assert_eq!(document["_source"]["@timestamp"], "2026-01-31T12:00:00.000Z");
    assert!(rig.get("/_template/trailgate-cwl").await["trailgate-cwl"].is_object());

    // The template is looked after once.
    let before = rig.stand_in.seen().len();
    rig.invoke(&subscription(50..100)).await;
    let since: Vec<_> = rig.stand_in.seen().into_iter().skip(before).map(|request| request.method).collect();
    assert!(since.iter().all(|method| method == "POST"), "{since:?}");
    assert_eq!(rig.count().await, 100);
}

#[tokio::test]
async fn an_invocation_that_is_repeated_makes_no_event_twice() {
    let rig = Rig::new().await;
    rig.invoke(&subscription(0..50)).await;
    rig.invoke(&subscription(0..50)).await;
    assert_eq!(rig.count().await, 50);
}

#[tokio::test]
async fn a_subscription_fails_when_one_event_does_and_quotes_none() {
    let rig = Rig::new().await;
    rig.stand_in.judge_items(|_, source| {
        (source["@id"] == "3").then_some(ItemRefusal { status: 400, kind: "mapper_parsing_exception" })
    });
    let outcome = rig.invoke(&subscription(0..10)).await;
    let error = outcome.answer.unwrap_err().to_string();
    assert_eq!(error, "1 of 10 events are not in the index; the first of them: 400 mapper_parsing_exception");
    assert_eq!((outcome.measures.indexed, outcome.measures.failed), (9, 1));
    assert_eq!(rig.count().await, 9);
}

#[tokio::test]
async fn an_event_that_does_not_fit_is_there_in_degraded_form() {
    let rig = Rig::new().await;
    rig.stand_in.judge_items(|_, source| {
        let does_not_fit = source["@id"] == "3" && source.get("secret").is_some();
        does_not_fit.then_some(ItemRefusal { status: 400, kind: "mapper_parsing_exception" })
    });
    let outcome = rig.invoke(&subscription(0..10)).await;
    assert!(failures(&outcome).is_empty());
    assert_eq!((outcome.measures.indexed, outcome.measures.degraded), (9, 1));
    let document = rig.get("/cwl-2026.01.31/_doc/3").await;
    assert!(document["_source"]["@message"].as_str().unwrap().contains("hunter2"));
    assert!(document["_source"]["@degraded"].as_str().unwrap().starts_with("400 mapper_parsing_exception"));
}

#[tokio::test]
async fn only_the_records_of_a_stream_that_failed_are_named() {
    let rig = Rig::new().await;
    rig.stand_in.judge_items(|_, source| {
        (source["@id"] == "15").then_some(ItemRefusal { status: 404, kind: "index_not_found_exception" })
    });
    let outcome = rig
        .invoke(&kinesis(&[
            ("a", log_data(0..10)),
            ("b", log_data(10..20)),
            ("c", "bm90IGd6aXA=".to_owned()),
            ("d", log_data(20..30)),
        ]))
        .await;
    assert_eq!(failures(&outcome), ["b", "c"]);
    let measures = &outcome.measures;
    assert_eq!((measures.received, measures.indexed, measures.failed, measures.undecodable), (30, 29, 1, 1));
    assert_eq!(rig.count().await, 29);
}

#[tokio::test]
async fn a_message_of_the_queue_that_failed_is_named_once() {
    let rig = Rig::new().await;
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
        rig.invoke(&json!({ "Records": [message("one", &stream), message("two", &subscription(20..30))] })).await;
    assert_eq!(failures(&outcome), ["one"]);
    assert_eq!(rig.count().await, 10);
}

#[tokio::test]
async fn a_payload_that_cannot_be_read_fails_the_invocation() {
    let rig = Rig::new().await;
    for payload in [json!({}), json!({ "awslogs": { "data": "bm90IGd6aXA=" } }), json!([1])] {
        let outcome = rig.invoke(&payload).await;
        assert_eq!(outcome.answer.unwrap_err().kind(), "Payload", "{payload}");
        assert_eq!(outcome.measures.undecodable, 1);
    }
    assert!(rig.stand_in.seen().is_empty());
}

#[tokio::test]
async fn a_control_message_needs_no_domain() {
    let rig = Rig::new().await;
    let batch = json!({
        "messageType": "CONTROL_MESSAGE", "owner": "CloudwatchLogs", "logGroup": "", "logStream": "",
        "subscriptionFilters": [], "logEvents": [{ "id": "", "timestamp": 1, "message": "CWL CONTROL MESSAGE" }],
    });
    let outcome = rig.invoke(&json!({ "awslogs": { "data": pack(&batch) } })).await;
    assert!(failures(&outcome).is_empty());
    assert_eq!(outcome.measures.lag_ms, None);
    assert!(rig.stand_in.seen().is_empty());
}

#[tokio::test]
async fn a_domain_that_never_answers_fails_the_invocation_in_time() {
    let rig = Rig::new().await;
    rig.stand_in.fault(Fault::Hang, Times::UntilCleared);
    let outcome = rig.invoke_within(&subscription(0..10), Duration::from_millis(500)).await;
    let error = outcome.answer.unwrap_err().to_string();
    assert!(error.starts_with("10 of 10 events are not in the index"), "{error}");
    assert_eq!(rig.count().await, 0);
}

#[tokio::test]
async fn events_are_indexed_without_a_template_where_there_may_be_none() {
    let rig = Rig::new().await;
    rig.stand_in.judge_requests(|seen| {
        (seen.method != "POST").then(|| Fault::status(403, r#"{"Message":"User: x is not authorized"}"#))
    });
    let outcome = rig.invoke(&subscription(0..10)).await;
    assert!(failures(&outcome).is_empty());
    assert_eq!(rig.count().await, 10);
}

/// Real and hostile events, and one that no mapping fits, are all found on a real server.
async fn every_event_is_found_on(name: &str) {
    let server = RealServer::start(name, &[]).await;
    let mut messages: Vec<Value> = events::real().into_iter().chain(events::hostile()).collect();
    messages.push(json!({ "eventName": "Odd", "userIdentity": "not an object" }));

    let settings = settings(&[("ENDPOINT", &server.rig.stand_in.url()), ("REGION", "eu-west-1"), ("SERVICE", "es")]);
    let domain = Arc::new(Domain::connect(&settings, signing_key()).unwrap());
    let limits = Limits { body_bytes: 256 * 1024, ..Limits::default() };
    let function = Function::new(&settings, domain, limits);
    let payload = json!({ "awslogs": { "data": log_data_of(0, &messages) } }).to_string();
    // Twice, as Lambda may call it.
    for _ in 0..2 {
        let deadline = Instant::now() + Duration::from_mins(2);
        let outcome = function.invoke(payload.as_bytes(), deadline, Timestamp::now()).await;
        assert!(failures(&outcome).is_empty());
        assert_eq!((outcome.measures.indexed, outcome.measures.degraded), (messages.len() - 1, 1));
        assert_eq!(outcome.measures.retried, 0);
    }
    server.rig.ask(Method::POST, "/_refresh", &Value::Null).await;
    let count = server.rig.ask(Method::GET, "/cwl-2026.01.31/_count", &Value::Null).await;
    assert_eq!(count["count"], messages.len());
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn every_event_is_found_on_elasticsearch_2() {
    every_event_is_found_on("elasticsearch-2.4").await;
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn every_event_is_found_on_elasticsearch_5() {
    every_event_is_found_on("elasticsearch-5.6").await;
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn every_event_is_found_on_elasticsearch_6() {
    every_event_is_found_on("elasticsearch-6.8").await;
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn every_event_is_found_on_elasticsearch_7() {
    every_event_is_found_on("elasticsearch-7.10").await;
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn every_event_is_found_on_opensearch_2() {
    every_event_is_found_on("opensearch-2.19").await;
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn every_event_is_found_on_opensearch_3() {
    every_event_is_found_on("opensearch-3").await;
}
