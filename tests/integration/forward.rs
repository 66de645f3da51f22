use std::sync::Arc;

use bytes::Bytes;
use fake_domain::{Answer, Fault, Options, Times};
use http_body_util::BodyExt as _;
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use tokio::sync::Notify;

use crate::support::{Rig, Setup, get, header, json, patiently, request};

#[tokio::test]
async fn request_is_signed_and_its_response_forwarded() {
    let rig = Rig::new().await;
    let response = rig.get("/").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(json(&response)["tagline"], "You Know, for Search");
    let seen = rig.domain.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].refusal, None);
    assert_eq!(seen[0].header("host"), Some(rig.domain.address().to_string().as_str()));
}

#[tokio::test]
async fn domain_over_tls_is_reached() {
    let rig = Rig::with(Setup { domain: Options { tls: true, ..Options::default() }, ..Setup::default() }).await;
    assert_eq!(rig.get("/_cluster/health").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn documents_written_by_bulk_are_found_by_search() {
    let rig = Rig::new().await;
    let bulk = "{\"index\":{\"_index\":\"cwl-2026.01.01\",\"_id\":\"1\"}}\n{\"eventName\":\"RunInstances\"}\n";
    let headers = [("content-type", "application/x-ndjson")];
    let response = rig.send(request("POST", "/_bulk?refresh=true", &headers, bulk)).await;
    assert_eq!(json(&response)["errors"], false);
    let query = r#"{"query":{"term":{"eventName":"RunInstances"}}}"#;
    let headers = [("content-type", "application/json")];
    let response = rig.send(request("GET", "/cwl-*/_search", &headers, query)).await;
    assert_eq!(json(&response)["hits"]["hits"][0]["_id"], "1");
}

/// Sends `target` and gives it as the domain saw it; the domain checks the signature under every reading of a URL.
async fn seen_as(rig: &Rig, target: &str) -> String {
    rig.get(target).await;
    let seen = rig.domain.seen().pop().expect("the domain saw the request");
    assert_eq!(seen.refusal, None, "{target}");
    seen.target
}

#[tokio::test]
async fn every_kind_of_url_is_signed_as_it_is_sent() {
    let rig = Rig::new().await;
    let long = "x".repeat(8192);
    let table = [
        ("/cwl-*/_search", "/cwl-%2A/_search"),
        ("/%3Clogstash-%7Bnow%2Fd%7D%3E/_search", "/%3Clogstash-%7Bnow%2Fd%7D%3E/_search"),
        ("/a,b:c@d/_doc/x%2Fy%25z+%20é", "/a%2Cb%3Ac%40d/_doc/x%2Fy%25z%2B%20%C3%A9"),
        ("/idx//_doc/./x/../1", "/idx/_doc/1"),
        ("/_cat/indices?v&h=index,docs.count&v=", "/_cat/indices?v&h=index%2Cdocs.count&v="),
        ("/_search?q=a+b&q=a%20b&z=1&a=2", "/_search?q=a%20b&q=a%20b&z=1&a=2"),
        ("/_search?q=100%", "/_search?q=100%25"),
        ("/_search?q=a;b=c", "/_search?q=a%3Bb%3Dc"),
        ("/_search?q=%FF%00", "/_search?q=%FF%00"),
        ("/_search?q=1&&&", "/_search?q=1"),
        ("/app?_g=(time:(from:now-7d))", "/app?_g=%28time%3A%28from%3Anow-7d%29%29"),
        ("/_search?X-Amz-Signature=stale&q=1", "/_search?q=1"),
        (&format!("/_search?q={long}"), &format!("/_search?q={long}")),
    ];
    for (target, canonical) in table {
        assert_eq!(seen_as(&rig, target).await, canonical, "{target}");
    }
}

#[tokio::test]
async fn unsafe_url_is_rejected_and_not_forwarded() {
    let rig = Rig::new().await;
    for target in ["/../_bulk", "/a/%2e%2e/%2e%2e/b", "/100%", "/a%00b"] {
        let response = rig.get(target).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{target}");
        assert_eq!(json(&response)["error"]["type"], "malformed_target", "{target}");
    }
    assert!(rig.domain.seen().is_empty());
}

#[tokio::test]
async fn every_method_passes_with_its_body() {
    let rig = Rig::new().await;
    for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "SEARCH"] {
        rig.send(request(method, "/x", &[], "body")).await;
        let seen = rig.domain.seen().pop().unwrap();
        assert_eq!((seen.method.as_str(), seen.body, seen.refusal), (method, Bytes::from("body"), None));
    }
}

#[tokio::test]
async fn chunked_body_is_forwarded_with_content_length() {
    let rig = Rig::new().await;
    rig.raw(
        b"POST /x HTTP/1.1\r\nhost: gate.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    )
    .await;
    rig.send(request("POST", "/x", &[], "")).await;
    rig.get("/x").await;
    let seen = rig.domain.seen();
    let lengths: Vec<_> = seen.iter().map(|seen| seen.header("content-length")).collect();
    assert_eq!(lengths, [Some("5"), Some("0"), None]);
    assert_eq!(seen[0].body, "abcde");
    assert!(seen.iter().all(|seen| seen.header("transfer-encoding").is_none() && seen.refusal.is_none()));
}

#[tokio::test]
async fn headers_reach_the_domain_as_they_were_sent() {
    let rig = Rig::new().await;
    let mut sent = request("POST", "/x", &[("kbn-version", "5.1.1"), ("cookie", "a=b"), ("x-twice", "1")], "{}");
    sent.headers_mut().append("x-twice", HeaderValue::from_static("2"));
    sent.headers_mut().insert("x-latin", HeaderValue::from_bytes(b"caf\xe9").unwrap());
    sent.headers_mut().insert("authorization", HeaderValue::from_static("Basic eA=="));
    sent.headers_mut().insert("x-amz-security-token", HeaderValue::from_static("stale"));
    rig.send(sent).await;
    let seen = rig.domain.seen().pop().unwrap();
    assert_eq!(seen.refusal, None);
    assert_eq!(seen.header("kbn-version"), Some("5.1.1"));
    assert_eq!(seen.header("cookie"), Some("a=b"));
    assert_eq!(seen.values("x-twice").collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(seen.values("x-latin").collect::<Vec<_>>(), [b"caf\xe9"]);
    assert_eq!(seen.values("authorization").count(), 1);
    assert_eq!(seen.header("x-amz-security-token"), None);
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some("gate.test"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
}

/// Returns the response that a client gets when the domain responds so.
async fn forwarded_response(status: u16, headers: &[(&str, &str)], body: &'static [u8]) -> hyper::Response<Bytes> {
    let rig = Rig::new().await;
    let authority = rig.domain.address().to_string();
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.replace("DOMAIN", &authority)));
    let answer = Answer { status, headers: headers.collect(), body: Bytes::from_static(body) };
    rig.domain.fault(Fault::Answer(answer), Times::Once);
    rig.get("/x").await
}

#[tokio::test]
async fn encoded_response_passes_unchanged() {
    let gzip = b"\x1f\x8b\x08 not really gzip";
    let response = forwarded_response(200, &[("content-encoding", "gzip"), ("etag", "\"a-gzip\"")], gzip).await;
    assert_eq!(response.body().as_ref(), gzip);
    assert_eq!(header(&response, "content-encoding"), Some("gzip"));
    assert_eq!(header(&response, "etag"), Some("\"a-gzip\""));
}

#[tokio::test]
async fn not_modified_passes_without_a_body() {
    let response = forwarded_response(304, &[("etag", "\"a\"")], b"").await;
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(header(&response, "etag"), Some("\"a\""));
}

#[tokio::test]
async fn redirect_to_the_domain_is_rewritten_and_not_followed() {
    let response = forwarded_response(302, &[("location", "https://DOMAIN/_plugin/kibana/app#/x")], b"").await;
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(header(&response, "location"), Some("/_plugin/kibana/app#/x"));
}

#[tokio::test]
async fn cookie_of_the_domain_is_kept_by_the_browser_only() {
    let cookie = [("set-cookie", "sid=1; Domain=127.0.0.1; Path=/; Secure; HttpOnly")];
    let response = forwarded_response(200, &cookie, b"").await;
    assert_eq!(header(&response, "set-cookie"), Some("sid=1; Path=/; HttpOnly"));

    let rig = Rig::new().await;
    let headers = vec![("set-cookie".to_owned(), "sid=1".to_owned())];
    rig.domain.fault(Fault::Answer(Answer { status: 200, headers, body: Bytes::new() }), Times::Once);
    let mut connection = rig.connect().await;
    connection.send(get("/x")).await;
    connection.send(get("/x")).await;
    assert_eq!(rig.domain.seen()[1].header("cookie"), None);
}

#[tokio::test]
async fn head_response_has_the_length_and_no_body() {
    let rig = Rig::new().await;
    let body = rig.get("/").await.into_body();
    let mut connection = rig.connect().await;
    let response = connection.send(request(Method::HEAD.as_str(), "/", &[], "")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(header(&response, "content-length"), Some(body.len().to_string().as_str()));
    assert!(response.body().is_empty());
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn response_is_streamed() {
    let rig = Rig::new().await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldBody(Arc::clone(&release)), Times::Once);
    let mut body = rig.connect().await.begin(get("/")).await.into_body();
    let first = patiently(body.frame()).await.unwrap().unwrap().into_data().unwrap();
    assert!(!first.is_empty());
    release.notify_one();
    let rest = patiently(body.collect()).await.unwrap().to_bytes();
    let whole: serde_json::Value = serde_json::from_slice(&[first, rest].concat()).unwrap();
    assert_eq!(whole["tagline"], "You Know, for Search");
}

#[tokio::test]
async fn client_connection_reuses_one_upstream_connection() {
    let rig = Rig::new().await;
    let mut connection = rig.connect().await;
    for _ in 0..10 {
        assert_eq!(connection.send(get("/_cluster/health")).await.status(), StatusCode::OK);
    }
    assert_eq!(rig.domain.connections(), 1);
}

#[tokio::test]
async fn root_redirects_browsers_only() {
    let rig = Rig::new().await;
    let response = rig.send(request("GET", "/", &[("accept", "text/html,*/*;q=0.8")], "")).await;
    assert_eq!(response.status(), StatusCode::FOUND);
    assert_eq!(header(&response, "location"), Some("/_plugin/kibana/"));
    let response = rig.get("/_plugin/kibana?a=b").await;
    assert_eq!(header(&response, "location"), Some("/_plugin/kibana/?a=b"));
    assert!(rig.domain.seen().is_empty());
    assert_eq!(rig.get("/_plugin/kibana/").await.status(), StatusCode::OK);
    assert_eq!(json(&rig.get("/").await)["tagline"], "You Know, for Search");
}

#[tokio::test]
async fn each_response_has_a_request_id() {
    let rig = Rig::new().await;
    let (first, second) = (rig.get("/").await, rig.get("/").await);
    let (first, second) = (header(&first, "trailgate-request-id"), header(&second, "trailgate-request-id"));
    assert!(first.is_some());
    assert_ne!(first, second);
    assert_eq!(rig.access_line().await["id"], first.unwrap());
}
