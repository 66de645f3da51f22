use hyper::StatusCode;
use serde_json::json;

use crate::support::{Rig, Setup, get, json, request};

const JSON: (&str, &str) = ("content-type", "application/json");

/// Starts a rig whose client may read.
async fn reader() -> Rig {
    Rig::with(Setup { allow: entry("read"), ..Setup::default() }).await
}

fn entry(access: &str) -> String {
    format!("[[allow]]\ncidr = \"127.0.0.1\"\nname = \"auditor\"\naccess = \"{access}\"\n")
}

/// Sends a request that must not pass, and gives the reason.
async fn rejects(rig: &Rig, method: &str, target: &str, body: &str) -> String {
    let response = rig.send(request(method, target, &[JSON], body.to_owned())).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method} {target}");
    let error = &json(&response)["error"];
    assert_eq!(error["type"], "read_only_grant", "{method} {target}");
    assert_eq!(rig.access_line().await["outcome"], "read_only_grant");
    error["reason"].as_str().unwrap().to_owned()
}

/// Sends a request that must reach the domain.
async fn passes(rig: &Rig, method: &str, target: &str, body: &str) -> StatusCode {
    let before = rig.domain.seen().len();
    let response = rig.send(request(method, target, &[JSON], body.to_owned())).await;
    assert_eq!(rig.domain.seen().len(), before + 1, "{method} {target}");
    rig.access_line().await;
    response.status()
}

#[tokio::test]
async fn entry_without_access_grants_read() {
    let allow = "[[allow]]\ncidr = \"127.0.0.1\"\nname = \"auditor\"\n".to_owned();
    let rig = Rig::with(Setup { allow, ..Setup::default() }).await;
    assert_eq!(passes(&rig, "GET", "/_cat/indices", "").await, StatusCode::OK);
    rejects(&rig, "PUT", "/cwl-2023.07.10", "").await;
}

#[tokio::test]
async fn read_grant_allows_search() {
    let rig = reader().await;
    rig.domain.load("cwl-2023.07.10", [json!({ "eventName": "DeleteTrail" })]);
    let response = rig.send(request("POST", "/cwl-*/_search", &[JSON], r#"{"size":1}"#)).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(json(&response)["hits"]["hits"][0]["_source"]["eventName"], "DeleteTrail");
}

#[tokio::test]
async fn read_grant_allows_saving_a_visualization() {
    let rig = reader().await;
    let target = "/_plugin/kibana/elasticsearch/.kibana/visualization/Events-over-time?op_type=create";
    passes(&rig, "POST", target, r#"{"title":"Events over time"}"#).await;
    passes(&rig, "POST", "/_dashboards/api/saved_objects/visualization?overwrite=true", r#"{"attributes":{}}"#).await;
    passes(&rig, "POST", "/_dashboards/api/ism/apiCaller", r#"{"endpoint":"cat.indices","data":{}}"#).await;
}

#[tokio::test]
async fn read_grant_rejects_writes() {
    let rig = reader().await;
    rig.domain.load("cwl-2023.07.10", [json!({ "eventName": "DeleteTrail" })]);
    let reason = rejects(&rig, "POST", "/cwl-*/_doc", "{}").await;
    assert_eq!(reason, "POST /cwl-*/_doc writes, or is not known to read: this address may read only");
    rejects(&rig, "POST", "/_bulk", "{\"delete\":{\"_index\":\"cwl-2023.07.10\",\"_id\":\"1\"}}\n").await;
    rejects(&rig, "DELETE", "/cwl-2023.07.10", "").await;
    rejects(&rig, "PUT", "/_plugin/kibana/api/console/proxy?uri=cwl-2023.07.10%2F_doc%2F1", "{}").await;
    rejects(&rig, "POST", "/_dashboards/api/console/proxy?path=cwl-2023.07.10&method=DELETE", "").await;
    let close = r#"{"data":{"index":"cwl-2023.07.10"},"endpoint":"indices.close"}"#;
    let reason = rejects(&rig, "POST", "/_dashboards/api/ism/apiCaller", close).await;
    assert!(reason.contains("in POST /_dashboards/api/ism/apiCaller"), "{reason}");
    rejects(&rig, "POST", "/_plugins/_sql", r#"{"query":"DELETE FROM cwl-2023.07.10"}"#).await;
    assert!(rig.domain.seen().is_empty());
}

#[tokio::test]
async fn rejection_does_not_wait_for_the_upload() {
    let rig = reader().await;
    // None of the body comes, and the answer does all the same.
    let head = "POST /_bulk HTTP/1.1\r\nHost: gate.test\r\nContent-Length: 1000000\r\n\r\n";
    let answer = rig.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let line = rig.access_line().await;
    assert_eq!((&line["outcome"], &line["entry"]), (&json!("read_only_grant"), &json!("auditor")));
}

#[tokio::test]
async fn full_grant_allows_all_writes() {
    let rig = Rig::with(Setup { allow: entry("full"), ..Setup::default() }).await;
    assert_eq!(passes(&rig, "PUT", "/cwl-2023.07.10/_doc/1", "{}").await, StatusCode::CREATED);
    assert_eq!(passes(&rig, "DELETE", "/cwl-2023.07.10/_doc/1", "").await, StatusCode::OK);
    passes(&rig, "POST", "/_dashboards/api/console/proxy?path=cwl-2023.07.10&method=DELETE", "").await;
    passes(&rig, "POST", "/_dashboards/api/ism/apiCaller", r#"{"endpoint":"indices.close"}"#).await;
}

#[tokio::test]
async fn changed_access_applies_to_the_next_request() {
    let rig = Rig::new().await;
    let mut connection = rig.connect().await;
    let write = || request("PUT", "/cwl-2023.07.10/_doc/1", &[JSON], "{}");
    assert_eq!(connection.send(write()).await.status(), StatusCode::CREATED);
    rig.allow(&entry("read"));
    assert_eq!(connection.send(write()).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn cross_site_write_is_rejected_for_every_grant() {
    let rig = Rig::new().await;
    for header in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.test"), ("origin", "null")] {
        let response = rig.send(request("PUT", "/cwl-2023.07.10", &[header], "")).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(json(&response)["error"]["type"], "cross_site_write");
        assert_eq!(rig.access_line().await["outcome"], "cross_site_write");
    }
    assert!(rig.domain.seen().is_empty());
    let own =
        request("PUT", "/cwl-2023.07.10", &[("origin", "http://gate.test"), ("sec-fetch-site", "same-origin")], "");
    assert_eq!(rig.send(own).await.status(), StatusCode::OK);
    let link = request("GET", "/", &[("sec-fetch-site", "cross-site")], "");
    assert_eq!(rig.send(link).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn csrf_check_uses_the_forwarded_host_of_a_trusted_proxy() {
    let config = "[listen]\ntrusted_proxies = [\"127.0.0.0/8\"]\n".to_owned();
    let rig = Rig::with(Setup { config, ..Setup::default() }).await;
    let from = |host| request("PUT", "/cwl", &[("x-forwarded-host", host), ("origin", "https://audit.example")], "");
    assert_eq!(rig.send(from("audit.example")).await.status(), StatusCode::OK);
    assert_eq!(rig.send(from("other.example")).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn unknown_host_name_is_rejected_with_421() {
    let config = "[listen]\nhosts = [\"Gate.test\"]\n".to_owned();
    let rig = Rig::with(Setup { config, ..Setup::default() }).await;
    assert_eq!(rig.get("/").await.status(), StatusCode::OK);
    rig.access_line().await;
    for head in ["GET / HTTP/1.1\r\nHost: evil.test", "GET http://evil.test/ HTTP/1.1\r\nHost: gate.test"] {
        let answer = rig.raw(format!("{head}\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
        assert_eq!(rig.access_line().await["outcome"], "unknown_host");
    }
    // A client that is not allowed learns no names.
    rig.allow("");
    let mut connection = rig.connect().await;
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn engine_is_detected_from_the_domain() {
    let rig = reader().await;
    let reason = rejects(&rig, "POST", "/cwl/_field_caps", "").await;
    assert!(reason.contains("the domain's engine is not known yet"), "{reason}");
    rig.learn_engine().await;
    passes(&rig, "POST", "/cwl/_field_caps", "").await;
    // The stand-in says that it is Elasticsearch 7.10.
    let reason = rejects(&rig, "POST", "/cwl/_search/point_in_time?keep_alive=1m", "").await;
    assert!(reason.contains("is not an API of Elasticsearch 7.10"), "{reason}");
}

#[tokio::test]
async fn response_that_contradicts_the_engine_detects_it_again() {
    let rig = reader().await;
    let learning = rig.keep_learning();
    rig.domain.wait_for_requests(1).await;
    let answer = rig.send(request("POST", "/cwl/_search/template", &[JSON], "")).await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    // Long before the interval.
    rig.domain.wait_for_requests(3).await;
    assert_eq!(rig.domain.seen()[2].target, "/");
    learning.abort();
}
