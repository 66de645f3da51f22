//! A client with a read grant against each engine: the cluster's state afterwards is the one before.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use trailgate_testkit::Engine;

use super::proxy_in_front;
use crate::attacks;
use crate::support::{Rig, allow, json, request};

/// Sends every path of the read grant's table and of the engines' routes with every method and every body, for names
/// that exist and for names that do not.
async fn changes_nothing(name: &str, document: &str) {
    let engine = Engine::start(name, &[]).await.unwrap();
    let rig = proxy_in_front(&engine).await;
    // The rule of the access log has something to protect.
    for document in [document, &document.replace("cwl-2023.07.10", "gate-2026.11.29")] {
        let write = request("PUT", &format!("{document}?refresh=true"), &[JSON], "{\"eventName\":\"DeleteTrail\"}");
        assert_eq!(rig.send(write).await.status(), 201);
    }
    rig.learn_engine().await;
    rig.allow(&allow("127.0.0.1").replace("full", "read"));

    let before = State::of(&engine).await;
    let requests: Vec<_> = paths().into_iter().flat_map(|path| METHODS.map(|method| (method, path.clone()))).collect();
    assert!(requests.len() > 5000, "{} requests", requests.len());
    let passed: usize = stream::iter(requests)
        .map(|(method, path)| send_bodies(&rig, method, path))
        .buffer_unordered(CONCURRENT)
        .fold(0, async |sum, passed| sum + passed)
        .await;
    assert!(passed > 2500, "{passed} requests passed");

    // None of them reaches the engine: there are no pages before it.
    attacks::all_are_rejected(&rig, &["/_dashboards"]).await;
    let after = State::of(&engine).await;
    assert_eq!(after.documents, before.documents);
    for (key, value) in before.metadata.as_object().unwrap() {
        assert_eq!(&after.metadata[key], value, "metadata.{key} of {name}");
    }
    assert_eq!(after.metadata, before.metadata);
    assert_eq!(after.changes, before.changes);
}

/// Sends one request with each body, and returns how many the proxy forwarded.
async fn send_bodies(rig: &Rig, method: &'static str, mut path: String) -> usize {
    if path.starts_with("/_cluster/health") {
        // Else it waits half a minute for an index that does not exist.
        path.push_str("?timeout=100ms");
    }
    let mut passed = 0;
    for (content_type, body) in BODIES {
        let response = rig.send(request(method, &path, &[("content-type", content_type)], body)).await;
        // A response to `HEAD` has no reason.
        let is_rejected = if method == "HEAD" { response.status() == 403 } else { is_read_only_grant(&response) };
        passed += usize::from(!is_rejected);
    }
    passed
}

fn is_read_only_grant(response: &Response<Bytes>) -> bool {
    response.status() == 403 && json(response)["error"]["type"] == "read_only_grant"
}

/// Returns the engine's paths of the table in the documentation, and all known routes of any engine.
fn paths() -> BTreeSet<String> {
    let page = include_str!("../../../docs/read-grant.md");
    let rows = page.lines().filter(|line| line.starts_with("| engine |"));
    let patterns = rows.flat_map(|row| row.split('`').filter(|text| text.starts_with('/')));
    let mut paths: BTreeSet<String> = patterns
        .flat_map(|pattern| spellings(&pattern[1..].replace("\\|", "|")))
        .map(|path| format!("/{path}"))
        .collect();
    assert!(paths.len() > 150, "{} paths of the table", paths.len());
    for line in include_str!("../../data/kibana-traffic/routes.tsv").lines().skip(1) {
        let path = line.split('\t').nth(1).unwrap();
        for index in ["cwl-2023.07.10", "nowhere"] {
            paths.insert(path.replace("{index}", index).replace(['{', '}'], ""));
        }
        // Every action below an index, which an engine that does not know it could take for a type.
        if let Some(action) = path.split('/').rfind(|segment| segment.starts_with('_')) {
            paths.insert(format!("/anyname/{action}"));
            paths.insert(format!("/anyname/{action}/1"));
            paths.insert(format!("/anyname/cloudtrail/{action}"));
        }
    }
    paths
}

/// Returns all paths that match a pattern of the table, with names that do not exist.
fn spellings(pattern: &str) -> Vec<String> {
    let (part, rest) = pattern.split_once('/').map_or((pattern, None), |(part, rest)| (part, Some(rest)));
    let rests = rest.map_or_else(|| vec![String::new()], spellings);
    let (part, is_optional) = part.strip_suffix('?').map_or((part, part == "…"), |part| (part, true));
    let mut firsts: Vec<String> = match part {
        "{index}" => vec!["nowhere".to_owned(), "_all".to_owned(), "no,where".to_owned()],
        "…" => vec!["nowhere".to_owned()],
        part => part.split('|').map(|name| name.replace(['{', '}'], "")).collect(),
    };
    if is_optional {
        firsts.push(String::new());
    }
    let joined = |first: &String, rest: &String| match (first.as_str(), rest.as_str()) {
        ("", rest) => rest.to_owned(),
        (first, "") => first.to_owned(),
        (first, rest) => format!("{first}/{rest}"),
    };
    firsts.iter().flat_map(|first| rests.iter().map(move |rest| joined(first, rest))).collect()
}

/// All that a reader could have changed, as the engine itself shows it.
struct State {
    /// Indices with their settings, mappings and aliases, templates, pipelines, stored scripts, persistent settings and
    /// tasks.
    metadata: Value,
    documents: Value,
    /// The version of the cluster state, which each change of the metadata increments, and the number of documents
    /// written and deleted: they show a change that a later request undid.
    changes: [Value; 2],
}

impl State {
    async fn of(engine: &Engine) -> Self {
        let ask = async |path: &str| -> Value {
            let uri = format!("{}{path}", engine.url());
            let request = Request::get(uri).body(Full::<Bytes>::default()).unwrap();
            let client = Client::builder(TokioExecutor::new()).build_http();
            let response = client.request(request).await.unwrap();
            serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
        };
        let metadata = ask("/_cluster/state/metadata").await["metadata"].take();
        let documents = ask("/_all/_search?sort=_doc&version=true&filter_path=hits.hits").await;
        let changes = [
            ask("/_cluster/state/version?filter_path=version").await,
            ask("/_all/_stats/indexing?filter_path=_all.total.indexing.*_total").await,
        ];
        Self { metadata, documents, changes }
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PUT", "DELETE"];

const BODIES: [(&str, &str); 5] = [
    ("application/json", ""),
    ("application/json", "{}"),
    ("application/json", "{\"eventName\":\"Forged\"}"),
    ("application/x-ndjson", "{\"index\":{\"_index\":\"nowhere\",\"_id\":\"1\"}}\n{\"eventName\":\"Forged\"}\n"),
    ("application/json", "[{\"eventName\":\"Forged\"}]"),
];

/// Requests under way at once.
const CONCURRENT: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn read_grant_changes_nothing_on_elasticsearch_2() {
    changes_nothing("elasticsearch-2.4", "/cwl-2023.07.10/cloudtrail/1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn read_grant_changes_nothing_on_elasticsearch_5() {
    changes_nothing("elasticsearch-5.6", "/cwl-2023.07.10/cloudtrail/1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn read_grant_changes_nothing_on_elasticsearch_6() {
    changes_nothing("elasticsearch-6.8", "/cwl-2023.07.10/_doc/1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn read_grant_changes_nothing_on_elasticsearch_7() {
    changes_nothing("elasticsearch-7.10", "/cwl-2023.07.10/_doc/1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn read_grant_changes_nothing_on_opensearch_2() {
    changes_nothing("opensearch-2.19", "/cwl-2023.07.10/_doc/1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn read_grant_changes_nothing_on_opensearch_3() {
    changes_nothing("opensearch-3", "/cwl-2023.07.10/_doc/1").await;
}
