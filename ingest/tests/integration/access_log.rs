//! Access lines of trailgate, from a subscription to the index.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use trailgate_ingest::delivery::DeliveryLimits;
use trailgate_ingest::function::{Function, InvocationOutcome};

use crate::engines::fields;
use crate::payloads::log_data_of;
use crate::rig::{LIMITS, Rig, with_timeout};
use crate::server::Server;

/// Targets as clients can send them, with all that the daemon lets into a line.
fn hostile_targets() -> Vec<String> {
    vec![
        "/cwl-%2A/_search?q=a".to_owned(),
        "/a".repeat(32 * 1024),
        format!("/{}/_search", "a%2C".repeat(16 * 1024)),
        "/%FF%00%C0/_search".to_owned(),
        "/\n{\"time\":\"2026-11-29T00:00:00Z\",\"client\":\"203.0.113.9\"}\r\n".to_owned(),
        "/\u{2028}\u{0}\u{1b}[31m\u{fffd}\"\\".to_owned(),
        "/<script>/${jndi:ldap://a}/=1+1".to_owned(),
    ]
}

pub(crate) fn access_line(number: usize, target: &str) -> String {
    let is_allowed = !number.is_multiple_of(3);
    json!({
        "time": "2026-11-29T12:00:00.000Z", "id": format!("{number:016x}"),
        "client": if number.is_multiple_of(2) { "192.0.2.1" } else { "2001:db8::1" },
        "entry": is_allowed.then_some("auditor"), "method": "GET", "target": target, "route": "searches",
        "status": if is_allowed { 200 } else { 403 }, "bytes_in": 0, "bytes_out": number, "upstream_ms": 1.5,
        "total_ms": 2.25, "outcome": if is_allowed { "forwarded" } else { "client_not_allowed" },
        "domain_request_id": null,
    })
    .to_string()
}

fn function(rig: &mut Rig, indexes: bool) -> Function {
    rig.settings.document_options.access_log = indexes;
    Function::new(&rig.settings, Arc::clone(&rig.domain), LIMITS)
}

async fn invoke(function: &Function, messages: &[String]) -> InvocationOutcome {
    let payload = json!({ "awslogs": { "data": log_data_of(0, messages) } }).to_string();
    let now = "2026-11-29T12:05:00Z".parse().unwrap();
    with_timeout(function.invoke(payload.as_bytes(), Instant::now() + Duration::from_mins(3), now)).await
}

#[tokio::test]
async fn access_lines_are_skipped_by_default() {
    let mut rig = Rig::new().await;
    let function = function(&mut rig, false);
    let outcome = invoke(&function, &[access_line(1, "/"), r#"{"eventName":"A"}"#.to_owned()]).await;
    assert!(outcome.response.is_ok());
    assert_eq!((outcome.metrics.received, outcome.metrics.indexed, outcome.metrics.passed_over), (1, 1, 1));
    assert_eq!(rig.get("/cwl-*/_count").await["count"], 1);
}

#[tokio::test]
async fn access_lines_are_indexed_and_events_skipped() {
    let mut rig = Rig::new().await;
    let function = function(&mut rig, true);
    let event = r#"{"timestamp":"2026-11-29T12:00:00Z","level":"INFO","message":"reloaded","target":"trailgate"}"#;
    let lines = [access_line(1, "/"), event.to_owned(), access_line(2, "/"), r#"{"lost_lines":3}"#.to_owned()];
    for _ in 0..2 {
        let outcome = invoke(&function, &lines).await;
        assert!(outcome.response.is_ok());
        assert_eq!((outcome.metrics.received, outcome.metrics.indexed, outcome.metrics.degraded), (2, 2, 0));
    }
    assert_eq!(rig.get("/gate-2026.11.29/_count").await["count"], 2);
    assert!(rig.get("/_template/trailgate-gate").await["trailgate-gate"].is_object());
}

/// Indexes lines with hostile targets twice, and finds each once and whole.
async fn no_access_line_is_lost(name: &str) {
    let mut server = Server::start(name, &[]).await;
    server.rig.settings.document_options.access_log = true;
    let limits = DeliveryLimits { body_bytes: 8 * 1024 * 1024, ..LIMITS };
    let function = Function::new(&server.rig.settings, Arc::clone(&server.rig.domain), limits);
    let rig = &server.rig;
    let begin = std::time::Instant::now();
    for _ in 0..2 {
        for first in (0..LINES).step_by(CHUNK) {
            let lines: Vec<String> = (first..first + CHUNK).map(hostile_line).collect();
            let outcome = invoke(&function, &lines).await;
            assert!(outcome.response.is_ok(), "{:?}", outcome.response);
            assert_eq!((outcome.metrics.indexed, outcome.metrics.degraded), (lines.len(), 0));
        }
        rig.ask(Method::POST, "/gate-*/_refresh", &Value::Null).await;
        assert_eq!(rig.get("/gate-*/_count").await["count"], LINES);
    }
    println!("{name}: {LINES} lines twice in {:.1} s", begin.elapsed().as_secs_f32());
    for query in [json!({ "term": { "client": "192.0.2.0/24" } }), json!({ "term": { "client": "2001:db8::/32" } })] {
        let count = rig.ask(Method::POST, "/gate-*/_count", &json!({ "query": query })).await;
        assert_eq!(count["count"], LINES / 2, "{query}");
    }
    for number in 0..hostile_targets().len() {
        let query = json!({ "query": { "term": { "request_id": format!("{number:016x}") } } });
        let found = rig.ask(Method::POST, "/gate-*/_search", &query).await;
        assert_eq!(found["hits"]["hits"].as_array().map(Vec::len), Some(1), "{number}");
        assert_eq!(found["hits"]["hits"][0]["_source"]["@message"], hostile_line(number), "{number}");
    }
    let mapping = rig.get("/gate-2026.11.29/_mapping").await;
    let mapping = &mapping["gate-2026.11.29"]["mappings"];
    let fields = fields(mapping.get("event").unwrap_or(mapping));
    assert!((10..40).contains(&fields), "{fields} fields");
}

/// Returns the line of this number. After the first hundred lines, at most one in a hundred has a long target: a call has
/// at most 6 MiB.
fn hostile_line(number: usize) -> String {
    let targets = hostile_targets();
    let target = &targets[number % targets.len()];
    let is_short = target.len() > 1000 && number > 100 && !number.is_multiple_of(100);
    access_line(number, if is_short { "/" } else { target })
}

/// An even multiple of [`CHUNK`], so that an engine takes some fifteen seconds. With 100,000 each engine took 150 to 170
/// seconds on two busy cores on 29 November 2026, and lost none.
const LINES: usize = 4_000;

/// Lines of one call.
const CHUNK: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn no_access_line_is_lost_on_elasticsearch_5() {
    no_access_line_is_lost("elasticsearch-5.6").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn no_access_line_is_lost_on_elasticsearch_7() {
    no_access_line_is_lost("elasticsearch-7.10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn no_access_line_is_lost_on_opensearch_2() {
    no_access_line_is_lost("opensearch-2.19").await;
}
