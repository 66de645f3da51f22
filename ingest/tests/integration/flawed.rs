//! Events with a flaw, and domains with one: what is found on real servers.

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use trailgate_ingest::delivery::DeliveryLimits;
use trailgate_ingest::function::{Function, InvocationOutcome};
use trailgate_testkit::pack_log_data;

use crate::payloads::log_data_of;
use crate::rig::{Rig, TIMEOUT};
use crate::server::Server;

async fn invoke(rig: &Rig, data: String) -> InvocationOutcome {
    let function = Function::new(&rig.settings, rig.domain.clone(), DeliveryLimits::default());
    let payload = json!({ "awslogs": { "data": data } }).to_string();
    let now = "2026-01-31T12:05:00Z".parse().unwrap();
    let outcome = function.invoke(payload.as_bytes(), Instant::now() + TIMEOUT, now).await;
    rig.ask(Method::POST, "/_refresh", &Value::Null).await;
    outcome
}

async fn found(rig: &Rig, query: &str) -> u64 {
    let query = json!({ "query": { "query_string": { "query": query } } });
    rig.ask(Method::POST, "/cwl-2026.01.31/_count", &query).await["count"].as_u64().unwrap()
}

/// Returns a record with this member in place of its own.
fn record(member: &str) -> String {
    let record = r#""eventName":"Flawed","eventTime":"2026-01-31T11:58:00Z","userIdentity":{"type":"Root"}"#;
    format!("{{{record},{member}}}")
}

/// Asserts that a flaw costs an event the flawed part only, and that a search finds the event by the others.
async fn flawed_events_keep_their_fields_on(engine: &str) {
    let server = Server::start(engine, &[]).await;
    let rig = &server.rig;
    let keys: Vec<_> = (0..10_000).map(|key| format!(r#""key{key}":"x""#)).collect();
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let messages = [
        record(r#""readOnly":"False""#),
        record(r#""readOnly":"true""#),
        record(r#""readOnly":"maybe""#),
        record(r#""eventTime":"2026-01-31 11:58:00""#),
        record(r#""eventTime":"yesterday""#),
        record(r#""eventName":{"a":1}"#),
        record(r#""userIdentity":{"type":"Root","userName":{"first":"A"}}"#),
        record(&format!(r#""requestParameters":{{"x":{deep},"bucketName":"b"}}"#)),
        record("\"errorMessage\":\"a\u{1}b\""),
        record(r#""errorMessage":"cut o"#).trim_end_matches("\"}").to_owned(),
        record(&keys.join(",")),
        record(r#""readOnly":false"#),
    ];
    let outcome = invoke(rig, log_data_of(0, &messages)).await;
    let metrics = &outcome.metrics;
    assert_eq!((metrics.received, metrics.failed), (messages.len(), 0), "{metrics:?}");
    assert_eq!((metrics.indexed, metrics.degraded), (4, 8), "{metrics:?}");
    for (query, expected) in [
        ("*", messages.len()),
        ("@degraded:*", 8),
        ("eventName:Flawed", messages.len() - 1),
        ("userIdentity.type:Root", messages.len()),
        ("ct.principal:root", messages.len()),
        ("eventTime:[2026-01-31 TO 2026-02-01]", messages.len() - 1),
        ("readOnly:false", 2),
        ("readOnly:true", 1),
        ("ct.bucket:b", 1),
    ] {
        assert_eq!(found(rig, query).await, expected as u64, "{query}");
    }
    let health = rig.get("/_cluster/health").await;
    assert_ne!(health["status"], "red");
}

/// Asserts that events of a subscription with system fields keep the fields of their records.
async fn system_fields_leave_the_records_fields_on(engine: &str) {
    let server = Server::start(engine, &[]).await;
    let rig = &server.rig;
    let fields = json!({ "@aws.account": "111122223333", "@aws.region": "eu-west-1" });
    let event = json!({
        "id": "1", "timestamp": 1_769_860_800_000_u64, "message": record(r#""readOnly":false"#), "extractedFields": fields,
    });
    let batch = json!({
        "messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "trail", "logStream": "s", "logEvents": [event],
    });
    let outcome = invoke(rig, pack_log_data(&batch)).await;
    assert_eq!((outcome.metrics.indexed, outcome.metrics.degraded), (1, 0));
    for query in ["eventName:Flawed", "@aws.account:111122223333", "@aws.region.keyword:\"eu-west-1\""] {
        assert_eq!(found(rig, query).await, 1, "{query}");
    }
}

/// Returns the reason why the first of 20 events is not in the index.
async fn refusal(rig: &Rig) -> String {
    let messages: Vec<_> = (0..20).map(|_| record(r#""readOnly":false"#)).collect();
    let outcome = invoke(rig, log_data_of(0, &messages)).await;
    assert_eq!((outcome.metrics.degraded, outcome.metrics.failed), (0, 20), "{:?}", outcome.metrics);
    outcome.response.unwrap_err().to_string()
}

async fn the_shard_limit_is_named_on(engine: &str) {
    let server = Server::start(engine, &[]).await;
    let rig = &server.rig;
    let settings = json!({ "persistent": { "cluster.max_shards_per_node": 1 } });
    rig.ask(Method::PUT, "/_cluster/settings", &settings).await;
    rig.ask(Method::PUT, "/other", &json!({ "settings": { "number_of_shards": 1, "number_of_replicas": 0 } })).await;
    let reason = refusal(rig).await;
    assert!(reason.contains("shards open"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn data_stream_template_is_reported_on_opensearch_2() {
    let server = Server::start("opensearch-2.19", &[]).await;
    let rig = &server.rig;
    let template = json!({ "index_patterns": ["cwl-2*"], "priority": 1000, "data_stream": {} });
    rig.ask(Method::PUT, "/_index_template/theirs", &template).await;
    let reason = refusal(rig).await;
    assert!(reason.contains("remove data_stream from the index template"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn template_of_equal_priority_is_outranked_on_opensearch_2() {
    let server = Server::start("opensearch-2.19", &[]).await;
    let rig = &server.rig;
    let template = json!({ "index_patterns": ["cwl-2*"], "priority": 100, "template": {} });
    rig.ask(Method::PUT, "/_index_template/theirs", &template).await;
    let outcome = invoke(rig, log_data_of(0, &[record(r#""readOnly":false"#)])).await;
    assert_eq!((outcome.metrics.indexed, outcome.metrics.failed), (1, 0));
    let installed = rig.get("/_index_template/trailgate-cwl").await;
    assert_eq!(installed["index_templates"][0]["index_template"]["priority"], 101);
    let mapping = rig.get("/cwl-2026.01.31/_mapping").await;
    assert_eq!(mapping["cwl-2026.01.31"]["mappings"]["properties"]["eventName"]["type"], "keyword");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn flawed_events_keep_their_fields_on_elasticsearch_2() {
    flawed_events_keep_their_fields_on("elasticsearch-2.4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn flawed_events_keep_their_fields_on_elasticsearch_5() {
    flawed_events_keep_their_fields_on("elasticsearch-5.6").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn flawed_events_keep_their_fields_on_elasticsearch_7() {
    flawed_events_keep_their_fields_on("elasticsearch-7.10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn flawed_events_keep_their_fields_on_opensearch_2() {
    flawed_events_keep_their_fields_on("opensearch-2.19").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn system_fields_keep_the_records_fields_on_elasticsearch_2() {
    system_fields_leave_the_records_fields_on("elasticsearch-2.4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn system_fields_keep_the_records_fields_on_opensearch_2() {
    system_fields_leave_the_records_fields_on("opensearch-2.19").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn shard_limit_is_reported_on_elasticsearch_7() {
    the_shard_limit_is_named_on("elasticsearch-7.10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn shard_limit_is_reported_on_opensearch_2() {
    the_shard_limit_is_named_on("opensearch-2.19").await;
}
