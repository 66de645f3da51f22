use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Instant;

use hyper::Method;
use serde_json::{Map, Value, json};
use trailgate_ingest::domain::json_client::JsonRequestError;
use trailgate_ingest::engine::{Engine, EngineKind};
use trailgate_ingest::settings::SetupPlan;
use trailgate_ingest::setup::{SetupError, SetupState, set_up_domain};

use crate::events;
use crate::rig::{Rig, TIMEOUT};
use crate::server::Server;

type Document = Map<String, Value>;

/// The counts of documents found and rejected, and of mapped fields.
struct InvocationOutcome {
    found: u64,
    rejected: BTreeMap<String, usize>,
    fields: usize,
}

/// Installs the template on a real server, writes real and hostile events under it, and finds all of them again.
async fn template_loses_no_event(name: &str) {
    let server = Server::start(name, &[]).await;
    let rig = &server.rig;
    let runs = the_template_is_installed_once(rig).await;

    let begin = Instant::now();
    let events: Vec<Value> = events::real().into_iter().chain(events::hostile()).collect();
    let documents: Vec<Document> = events.iter().enumerate().map(|(id, event)| events::promoted(event, id)).collect();
    let outcome = index(rig, runs, INDEX, &documents).await;
    let seconds = begin.elapsed().as_secs_f32();
    println!(
        "{name}: {} of {} found, {} rejected, {} fields, {seconds:.1} s",
        outcome.found,
        documents.len(),
        outcome.rejected.values().sum::<usize>(),
        outcome.fields,
    );
    assert!(outcome.rejected.is_empty(), "{:#?}", outcome.rejected);
    assert_eq!(outcome.found, documents.len() as u64);
    assert!(outcome.fields < 300, "{} fields", outcome.fields);

    documents_come_back_as_they_were_sent(rig, &documents).await;
    searches_find_what_is_there(rig, &documents).await;
    assert!(rig.stand_in.seen().iter().all(|seen| seen.refusal.is_none()));
}

/// Asserts that the template is installed where it is missing or older, and that the same and a newer one stay.
async fn the_template_is_installed_once(rig: &Rig) -> Engine {
    let plan = SetupPlan::new("cwl-", None).unwrap();
    let mut ensured = Vec::new();
    for _ in 0..2 {
        ensured.push(set_up_domain(&rig.domain, &plan, TIMEOUT).await);
    }
    let engine = ensured[0].engine;
    let [first, second] = &ensured[..] else { unreachable!() };
    assert!(matches!(first.template, Ok(SetupState::Installed)), "{first:?}");
    assert!(matches!(second.template, Ok(SetupState::Current)), "{second:?}");

    for (version, expected) in [(1_000_000, SetupState::Newer), (0, SetupState::Replaced)] {
        put_other_version(rig, engine, version).await;
        let ensured = set_up_domain(&rig.domain, &plan, TIMEOUT).await;
        assert!(matches!(ensured.template, Ok(state) if state == expected), "{ensured:?}");
        assert!(ensured.retention.is_none());
    }
    engine
}

/// Puts a template in the place of ours that says it is of `version`.
async fn put_other_version(rig: &Rig, engine: Engine, version: u64) {
    let mappings = json!({ "_meta": { "trailgate": { "version": version } } });
    let is_composable = engine.kind != EngineKind::Elasticsearch;
    let template = match (engine.document_type(), engine.version.0) {
        _ if is_composable => json!({ "index_patterns": ["cwl-*"], "template": { "mappings": mappings } }),
        (Some(type_), ..6) => json!({ "template": "cwl-*", "mappings": { type_: mappings } }),
        (Some(type_), _) => json!({ "index_patterns": ["cwl-*"], "mappings": { type_: mappings } }),
        (None, _) => json!({ "index_patterns": ["cwl-*"], "mappings": mappings }),
    };
    let api = if is_composable { "_index_template" } else { "_template" };
    rig.ask(Method::PUT, &format!("/{api}/trailgate-cwl"), &template).await;
}

async fn documents_come_back_as_they_were_sent(rig: &Rig, documents: &[Document]) {
    let search = json!({ "size": 1000, "query": { "term": { "eventName": "HostileEvent" } } });
    let answer = rig.ask(Method::POST, "/cwl-*/_search", &search).await;
    let hits = answer["hits"]["hits"].as_array().unwrap();
    assert!(!hits.is_empty());
    for hit in hits {
        let id: usize = hit["_id"].as_str().unwrap().parse().unwrap();
        assert_eq!(hit["_source"].as_object(), Some(&documents[id]));
    }
}

async fn searches_find_what_is_there(rig: &Rig, documents: &[Document]) {
    let count = |is_wanted: &dyn Fn(&Document) -> bool| documents.iter().filter(|d| is_wanted(d)).count() as u64;
    let names = count(&|document| document["eventName"] == "GetBucketLogging");
    let bucket = documents.iter().find_map(|document| document.get("ct")?.get("bucket")?.as_str()).unwrap();
    let in_bucket = count(&|document| document.get("ct").is_some_and(|ct| ct["bucket"] == bucket));
    let in_network = count(&|document| {
        document.get("source").and_then(|source| source["ip"].as_str()).is_some_and(|ip| ip.starts_with("10.248."))
    });
    let late = count(&|document| document["eventTime"].as_str().unwrap() >= "2023-07-10T12:00:00Z");
    let read_only = count(&|document| [Some(&json!(true)), Some(&json!("true"))].contains(&document.get("readOnly")));
    assert!(names > 0 && in_bucket > 0 && in_network > 0 && late > 0 && read_only > 0);

    for (query, expected) in [
        (json!({ "term": { "eventName": "GetBucketLogging" } }), names),
        (json!({ "term": { "eventName.keyword": "GetBucketLogging" } }), names),
        (json!({ "term": { "ct.bucket": bucket } }), in_bucket),
        (json!({ "term": { "source.ip": "10.248.0.0/16" } }), in_network),
        (json!({ "term": { "readOnly": true } }), read_only),
        (json!({ "range": { "@timestamp": { "gte": "2023-07-10T12:00:00Z" } } }), late),
        (json!({ "range": { "eventTime": { "gte": "2023-07-10T12:00:00Z" } } }), late),
        (json!({ "match": { "@message": "getbucketlogging" } }), names),
        // Words without a field, as a person types them.
        (json!({ "query_string": { "query": "getbucketlogging" } }), names),
        (json!({ "query_string": { "query": "eventName:GetBucketLogging AND NOT errorCode:*" } }), {
            count(&|document| document["eventName"] == "GetBucketLogging" && !document.contains_key("errorCode"))
        }),
    ] {
        let answer = rig.ask(Method::POST, "/cwl-*/_count", &json!({ "query": query })).await;
        assert_eq!(answer["count"], expected, "{query}");
    }

    for field in ["eventName", "eventName.keyword", "ct.bucket", "userIdentity.sessionContext.sessionIssuer.arn"] {
        let aggregations = json!({ "top": { "terms": { "field": field, "size": 1000 } } });
        let answer = rig.ask(Method::POST, "/cwl-*/_search", &json!({ "size": 0, "aggs": aggregations })).await;
        let buckets = answer["aggregations"]["top"]["buckets"].as_array().unwrap();
        let sum: u64 = buckets.iter().map(|bucket| bucket["doc_count"].as_u64().unwrap()).sum();
        let pointer = format!("/{}", field.trim_end_matches(".keyword").replace('.', "/"));
        let expected = count(&|document| Value::Object(document.clone()).pointer(&pointer).is_some());
        assert_eq!(sum, expected, "{field}");
    }
}

/// Writes `documents` to `index` with `_bulk`, and counts.
async fn index(rig: &Rig, engine: Engine, index: &str, documents: &[Document]) -> InvocationOutcome {
    let mut rejected = BTreeMap::new();
    for batch in documents.chunks(250) {
        let lines = batch.iter().flat_map(|document| {
            let mut target = json!({ "_index": index, "_id": document["@id"] });
            if let Some(document_type) = engine.document_type() {
                target["_type"] = json!(document_type);
            }
            [json!({ "index": target }), Value::Object(document.clone())]
        });
        let body: String = lines.flat_map(|line| [line.to_string(), "\n".to_owned()]).collect();
        let (status, answer) = rig.send(Method::POST, "/_bulk", body).await;
        assert!(status.is_success(), "{status}: {answer}");
        for item in answer["items"].as_array().unwrap() {
            let item = &item["index"];
            if item["status"].as_u64().unwrap() >= 300 {
                *rejected.entry(reason(item)).or_default() += 1;
            }
        }
    }
    rig.ask(Method::POST, &format!("/{index}/_refresh"), &Value::Null).await;
    let found = rig.get(&format!("/{index}/_count")).await["count"].as_u64().unwrap();
    let mapping = rig.get(&format!("/{index}/_mapping")).await;
    let mapping = &mapping[index]["mappings"];
    let mapping = engine.document_type().map_or(mapping, |document_type| &mapping[document_type]);
    InvocationOutcome { found, rejected, fields: fields(mapping) }
}

/// Returns the reason why an item was rejected, cut so that items with the same cause have the same reason.
fn reason(item: &Value) -> String {
    let cause = item["error"]["caused_by"]["reason"].as_str().unwrap_or_default();
    format!("{} {cause}", item["error"]["reason"].as_str().unwrap_or_default()).chars().take(200).collect()
}

/// Counts the fields of a mapping as engines do, objects and sub-fields included.
pub(crate) fn fields(mapping: &Value) -> usize {
    ["properties", "fields"]
        .iter()
        .filter_map(|key| mapping.get(key)?.as_object())
        .flat_map(Map::values)
        .map(|field| 1 + fields(field))
        .sum()
}

/// The same events as the stock function writes them, under the engine's own guesses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn events_are_lost_without_the_template() {
    let server = Server::start("elasticsearch-7.10", &[]).await;
    let rig = &server.rig;
    let runs = set_up_domain(&rig.domain, &SetupPlan::new("cwl-", None).unwrap(), TIMEOUT).await.engine;
    let events = events::real();
    let documents: Vec<Document> = events.iter().enumerate().map(|(id, event)| events::stock(event, id)).collect();
    let stock = index(rig, runs, "stock-2023.07.10", &documents).await;
    let ours = index(rig, runs, INDEX, &documents).await;
    for (name, outcome) in [("stock mapping", &stock), ("template", &ours)] {
        let rejected = &outcome.rejected;
        println!(
            "{name}: {} of {} found, {} fields, rejected: {rejected:#?}",
            outcome.found,
            documents.len(),
            outcome.fields
        );
    }
    assert_eq!((ours.found, ours.rejected.len()), (documents.len() as u64, 0));
    assert!(stock.found < documents.len() as u64, "the stock mapping has lost nothing");
}

/// A domain of several zones with a standby refuses templates that do not give each zone a copy, and one in
/// compatibility mode calls itself Elasticsearch 7.10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn opensearch_in_three_zones_with_false_version_gets_template() {
    let settings = [
        "node.attr.zone=a",
        "cluster.routing.allocation.awareness.attributes=zone",
        "cluster.routing.allocation.awareness.force.zone.values=a,b,c",
        "cluster.routing.allocation.awareness.balance=true",
        "compatibility.override_main_response_version=true",
    ];
    let server = Server::start("opensearch-2.19", &settings).await;
    let rig = &server.rig;
    // Without this setting such a cluster accepts no new index, whatever its template.
    let replicas = json!({ "persistent": { "cluster.default_number_of_replicas": 2 } });
    rig.ask(Method::PUT, "/_cluster/settings", &replicas).await;
    let ensured = set_up_domain(&rig.domain, &SetupPlan::new("cwl-", NonZeroU32::new(30)).unwrap(), TIMEOUT).await;
    assert_eq!((ensured.engine.kind, ensured.engine.version), (EngineKind::OpenSearch, (7, 10)));
    assert!(matches!(ensured.template, Ok(SetupState::Installed)), "{ensured:?}");
    // This server lacks the plug-in, which costs the retention and nothing else.
    assert!(
        matches!(ensured.retention, Some(Err(SetupError::Request(JsonRequestError::Unexpected { .. })))),
        "{ensured:?}"
    );
    let outcome = index(rig, ensured.engine, INDEX, &[events::promoted(&events::hostile()[0], 0)]).await;
    assert_eq!(outcome.found, 1);
    let settings = rig.get(&format!("/{INDEX}/_settings")).await;
    assert_eq!(settings[INDEX]["settings"]["index"]["auto_expand_replicas"], "0-2");
}

const INDEX: &str = "cwl-2023.07.10";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn no_event_is_lost_on_elasticsearch_2() {
    template_loses_no_event("elasticsearch-2.4").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn no_event_is_lost_on_elasticsearch_5() {
    template_loses_no_event("elasticsearch-5.6").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn no_event_is_lost_on_elasticsearch_6() {
    template_loses_no_event("elasticsearch-6.8").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn no_event_is_lost_on_elasticsearch_7() {
    template_loses_no_event("elasticsearch-7.10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn no_event_is_lost_on_opensearch_2() {
    template_loses_no_event("opensearch-2.19").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn no_event_is_lost_on_opensearch_3() {
    template_loses_no_event("opensearch-3").await;
}
