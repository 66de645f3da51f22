//! A client with a read grant against each engine, which has an access line with a secret in it.

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::{Value, json};
use trailgate_testkit::Engine;

use super::proxy_in_front;
use crate::attacks;
use crate::support::{Rig, allow, request};

/// Sends what could reach the access log, as a client that may not see it: no answer has the secret of its document.
async fn access_log_is_hidden(name: &str) {
    let engine = Engine::start(name, &[]).await.unwrap();
    let rig = proxy_in_front(&engine).await;
    rig.learn_engine().await;
    let kind = if name == "elasticsearch-5.6" { "access" } else { "_doc" };
    write(&rig, &format!("/cwl-2026.11.29/{kind}/1"), json!({ "eventName": "DeleteTrail", "client": "192.0.2.1" }))
        .await;
    rig.allow(&allow("127.0.0.1").replace("full", "read"));
    assert!(
        response_contains(&rig, "GET", "/_search", "", "DeleteTrail").await,
        "{name}: `*` is rejected without an access log"
    );

    // The proxy above remembers that there is none.
    let rig = proxy_in_front(&engine).await;
    rig.learn_engine().await;
    write(&rig, &format!("/gate-2026.11.29/{kind}/1"), json!({ "entry": SECRET, "client": "192.0.2.1" })).await;
    // Elasticsearch 5.6 has neither asynchronous searches nor hidden indices.
    if kind == "_doc" {
        keep_result(&rig).await;
    }
    rig.allow(&allow("127.0.0.1").replace("full", "read"));
    let mut found = Vec::new();
    for (method, path, body) in calls(kind) {
        if response_contains(&rig, method, &path, &body, SECRET).await {
            found.push(format!("{method} {path} {body}"));
        }
    }
    assert!(found.is_empty(), "{name}: {found:#?}");
    attacks::all_are_rejected(&rig, &["/_dashboards"]).await;

    // What is permitted reads the other indices.
    for list in ["*,-gate-*", "cwl-*", "cwl-*,-cwl-2025.*", "<cwl-2026.11.29>"] {
        let list = list.replace('<', "%3C").replace('>', "%3E");
        assert!(response_contains(&rig, "GET", &format!("/{list}/_search"), "", "DeleteTrail").await, "{name}: {list}");
    }
    // The calls above would have found it.
    rig.allow(&(allow("127.0.0.1").replace("full", "read") + "access_log = true\n"));
    let mut count = 0;
    for (method, path, body) in calls(kind) {
        count += usize::from(response_contains(&rig, method, &path, &body, SECRET).await);
    }
    assert!(count > 40, "{name}: {count} calls reveal the secret to those who may see it");
}

async fn write(rig: &Rig, path: &str, document: Value) {
    let path = format!("{path}?refresh=true");
    assert_eq!(rig.send(request("PUT", &path, &[JSON], document.to_string())).await.status(), 201, "{path}");
}

/// Keeps a result with the secret as the plug-in for asynchronous searches does, in a hidden index.
async fn keep_result(rig: &Rig) {
    let hidden = json!({ "settings": { "index": { "hidden": true } } }).to_string();
    let made = rig.send(request("PUT", &format!("/{RESULTS}"), &[JSON], hidden)).await;
    assert_eq!(made.status(), 200, "{made:?}");
    write(rig, &format!("/{RESULTS}/_doc/1"), json!({ "response": SECRET })).await;
}

async fn response_contains(rig: &Rig, method: &str, path: &str, body: &str, secret: &str) -> bool {
    let response = rig.send(request(method, path, &[JSON], body.to_owned())).await;
    String::from_utf8_lossy(response.body()).contains(secret)
}

/// Calls that an engine could answer with the access log.
fn calls(kind: &str) -> Vec<(&'static str, String, String)> {
    let mut calls = Vec::new();
    for list in LISTS {
        let escaped = percent_encode(list.as_bytes(), NON_ALPHANUMERIC).to_string();
        for states in [
            "",
            "?expand_wildcards=all",
            "?expand_wildcards=open",
            "?expand_wildcards=closed",
            "?ignore_unavailable=true",
        ] {
            calls.push(("GET", format!("/{escaped}/_search{states}"), String::new()));
        }
        calls.push(("GET", format!("/_search?index={escaped}"), String::new()));
        calls.push(("GET", format!("/cwl-*/_search?index={escaped}"), String::new()));
        calls.push(("GET", format!("/_plugin/kibana/elasticsearch/{escaped}/_search"), String::new()));
        calls.push(("GET", format!("/_plugin/kibana/api/console/proxy?uri={escaped}%2F_search"), String::new()));
        calls.push(("POST", "/_msearch".to_owned(), format!("{}\n{{}}\n", json!({ "index": list }))));
        calls.push(("POST", "/_msearch".to_owned(), format!("{}\n{{}}\n", json!({ "index": [list] }))));
        let split: Vec<&str> = list.split(',').collect();
        calls.push(("POST", "/_msearch".to_owned(), format!("{}\n{{}}\n", json!({ "index": split }))));
        calls.push(("POST", "/cwl-*/_msearch".to_owned(), format!("{}\n{{}}\n", json!({ "indices": list }))));
        let documents = json!({ "docs": [{ "_index": list, "_type": kind, "_id": "1" }] });
        calls.push(("POST", "/_mget".to_owned(), documents.to_string()));
        calls.push(("GET", format!("/{escaped}/{kind}/1"), String::new()));
        let like =
            json!({ "like": [{ "_index": list, "_type": kind, "_id": "1" }], "min_term_freq": 1, "min_doc_freq": 1 });
        calls.push(("POST", "/cwl-*/_search".to_owned(), json!({ "query": { "more_like_this": like } }).to_string()));
        calls.push((
            "POST",
            "/_plugins/_sql".to_owned(),
            json!({ "query": format!("SELECT * FROM `{list}`") }).to_string(),
        ));
    }
    for body in ["\n{}\n{}\n", "{}\n{}\n", "\n{\"index\":\"cwl-*\"}\n{}\n{}\n{}\n", "{\"index\":\"cwl-*\"}\n{}\n\n{}\n"]
    {
        calls.push(("POST", "/_msearch".to_owned(), body.to_owned()));
    }
    calls.push(("POST", "/_mget?index=gate-2026.11.29".to_owned(), json!({ "ids": ["1"] }).to_string()));
    calls.push((
        "POST",
        "/_search".to_owned(),
        json!({ "aggs": { "a": { "terms": { "field": "entry.keyword" } } } }).to_string(),
    ));
    calls.push(("GET", "/_search".to_owned(), String::new()));
    calls
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn access_log_is_hidden_on_elasticsearch_5_6() {
    access_log_is_hidden("elasticsearch-5.6").await;
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn access_log_is_hidden_on_elasticsearch_7_10() {
    access_log_is_hidden("elasticsearch-7.10").await;
}

#[tokio::test]
#[ignore = "needs Java and Maven"]
async fn access_log_is_hidden_on_opensearch_2_19() {
    access_log_is_hidden("opensearch-2.19").await;
}

const SECRET: &str = "zweiundvierzig";

const RESULTS: &str = ".opendistro-asynchronous-search-response";

const JSON: (&str, &str) = ("content-type", "application/json");

/// Lists that reach the access log on some engine, and those that the proxy permits.
const LISTS: &[&str] = &[
    "gate-2026.11.29",
    "gate-*",
    "GATE-*",
    "g*",
    "*",
    "**",
    "_all",
    "-x",
    "-x,*",
    "+gate-2026.11.29",
    "+gate-*",
    "cwl-*,+gate-*",
    "cwl-2026.11.29,-x",
    "*,-cwl-*",
    "*,-gate-*",
    "*,-gate-*,gate-2026.11.29",
    "gate-2026.11.29,*,-gate-*",
    "cwl-*,gate-2026.11.29,-gate-*",
    "cwl-*,-gate-*",
    "_all,-gate-*",
    "*,-gate-*,g*",
    "cwl-*,-x,-gate-*",
    ".*",
    "cwl*",
    "<gate-2026.11.29>",
    "<gate-{2026.11.29||/d}>",
    "<{2026.11.29||/d{'gate-'yyyy.MM.dd}}>",
    "<g*{now/d}>",
    "x:gate-2026.11.29",
    "*:*",
    "*:gate-*",
    " gate-2026.11.29",
    "gate-2026.11.29 ",
    "cwl-*, gate-2026.11.29",
    ".opendistro-asynchronous-search-response",
    ".opendistro-*",
    ".*,-gate-*",
    "*response,-gate-*",
];
