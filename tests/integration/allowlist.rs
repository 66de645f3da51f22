use std::sync::Arc;

use fake_domain::{Fault, Times};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::support::{RawAnswer, Rig, Setup, allow, get, header, json, patiently, request, rest};

const NOBODY_HERE: &str = "203.0.113.7";

#[tokio::test]
async fn unlisted_client_gets_403_with_only_its_address() {
    let rig = Rig::with(Setup { allow: allow(NOBODY_HERE), ..Setup::default() }).await;
    let response = rig.get("/_search").await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    let expected = serde_json::json!({
        "error": {
            "type": "client_not_allowed",
            "reason": "Your address 127.0.0.1 is not on the allowlist.",
            "help": "Ask the operator to add this address to the allowlist.",
            "request_id": header(&response, "trailgate-request-id"),
            "time": json(&response)["error"]["time"],
            "client": "127.0.0.1",
        },
        "status": 403,
    });
    assert_eq!(json(&response), expected);
    let mut names: Vec<_> = response.headers().keys().map(hyper::http::HeaderName::as_str).collect();
    names.sort_unstable();
    let nothing_more =
        ["cache-control", "connection", "content-length", "content-type", "date", "trailgate-request-id"];
    assert_eq!(names, nothing_more);
    assert!(rig.domain.seen().is_empty());
}

#[tokio::test]
async fn unlisted_browser_gets_an_html_page() {
    let rig = Rig::with(Setup { allow: allow(NOBODY_HERE), ..Setup::default() }).await;
    let response = rig.send(request("GET", "/", &[("accept", "text/html")], "")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(header(&response, "content-type"), Some("text/html; charset=utf-8"));
    let page = String::from_utf8_lossy(response.body());
    assert!(page.contains("Your address 127.0.0.1 is not on the allowlist"), "{page}");
}

#[tokio::test]
async fn removed_client_is_rejected_on_its_open_connection() {
    let rig = Rig::new().await;
    let mut connection = rig.connect().await;
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::OK);
    rig.allow(&allow(NOBODY_HERE));
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn client_removed_during_its_request_gets_403() {
    let rig = Rig::new().await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
    let mut connection = rig.connect().await;
    let sent = tokio::spawn(async move { connection.send(get("/")).await });
    rig.domain.wait_for_requests(1).await;
    rig.allow(&allow(NOBODY_HERE));
    release.notify_one();
    assert_eq!(sent.await.unwrap().status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn client_removed_while_its_body_arrives_writes_nothing() {
    let rig = Rig::new().await;
    for head in ["Content-Length: 2\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n0\r\n"] {
        rig.allow(&allow("127.0.0.1"));
        let mut connection = begin_write(&rig, head).await;
        rig.allow(&allow(NOBODY_HERE));
        assert_eq!(end_write(&mut connection, head).await, "client_not_allowed");
    }
    assert!(rig.domain.seen().is_empty());
}

#[tokio::test]
async fn grant_lowered_while_a_body_arrives_decides() {
    let rig = Rig::new().await;
    let head = "Content-Length: 2\r\n\r\n{";
    let mut connection = begin_write(&rig, head).await;
    rig.allow(&allow("127.0.0.1").replace("full", "read"));
    assert_eq!(end_write(&mut connection, head).await, "read_only_grant");
    assert_eq!(rig.access_line().await["access"], "read");
    assert!(rig.domain.seen().is_empty());
}

/// Sends a write without its end, and waits until the proxy has read it.
async fn begin_write(rig: &Rig, head: &str) -> TcpStream {
    let mut connection = rig.open().await;
    let head = format!("PUT /cwl HTTP/1.1\r\nHost: gate.test\r\nConnection: close\r\n{head}");
    connection.write_all(head.as_bytes()).await.unwrap();
    rig.has_read().await;
    connection
}

/// Sends the end of a write, and returns the type of its rejection.
async fn end_write(connection: &mut TcpStream, head: &str) -> String {
    connection.write_all(if head.ends_with('{') { b"}" } else { b"\r\n" }).await.unwrap();
    let answer = RawAnswer::only(&rest(connection).await);
    answer.json()["error"]["type"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn access_line_has_the_grant_that_decided() {
    let rig = Rig::new().await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
    let mut connection = rig.connect().await;
    let write = request("PUT", "/cwl", &[("content-type", "application/json")], "{}");
    let sent = tokio::spawn(async move { connection.send(write).await });
    rig.domain.wait_for_requests(1).await;
    rig.allow(&allow("127.0.0.1").replace("full", "read").replace("auditor", "reader"));
    release.notify_one();
    assert_eq!(sent.await.unwrap().status(), StatusCode::OK);
    let line = rig.access_line().await;
    assert_eq!((&line["entry"], &line["access"]), (&"auditor".into(), &"full".into()));
}

#[tokio::test]
async fn empty_allowlist_rejects_every_client() {
    let rig = Rig::new().await;
    rig.allow("");
    assert_eq!(rig.get("/").await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn response_in_flight_to_a_removed_client_is_cut() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::HoldBody(Arc::new(Notify::new())), Times::Once);
    let mut connection = rig.connect().await;
    let mut body = connection.begin(get("/")).await.into_body();
    assert!(patiently(body.frame()).await.unwrap().is_ok());
    rig.allow(&allow(NOBODY_HERE));
    assert!(patiently(body.frame()).await.unwrap().is_err());
    assert_eq!(rig.access_line().await["outcome"], "grant_revoked");
}

#[tokio::test]
async fn response_continues_if_its_client_stays_on_the_allowlist() {
    let rig = Rig::new().await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldBody(Arc::clone(&release)), Times::Once);
    let mut connection = rig.connect().await;
    let mut body = connection.begin(get("/")).await.into_body();
    assert!(patiently(body.frame()).await.unwrap().is_ok());
    rig.allow(&allow("127.0.0.0/8"));
    release.notify_one();
    assert!(patiently(body.collect()).await.is_ok());
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn expired_grant_cuts_the_response_in_flight() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::HoldBody(Arc::new(Notify::new())), Times::UntilCleared);
    let mut grants = (0..).map(|attempt| SignedDuration::from_millis(500 << attempt));
    // Until a grant lasts for long enough that its client is answered within it.
    let (ends, mut body) = loop {
        let ends = Timestamp::now() + grants.next().unwrap();
        rig.allow(&format!("{}expires = {ends}\n", allow("127.0.0.1")));
        let answer = rig.connect().await.begin(get("/")).await;
        if answer.status() == StatusCode::OK {
            break (ends, answer.into_body());
        }
        assert!(Timestamp::now() >= ends, "refused before the grant ended");
    };
    while patiently(body.frame()).await.unwrap().is_ok() {}
    assert!(Timestamp::now() >= ends, "cut before the grant ended");
    assert_eq!(rig.get("/").await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn rejection_for_an_expired_grant_states_its_end() {
    let allow = format!("{}expires = 2026-11-28T10:00:30Z\n", allow("127.0.0.1"));
    let rig = Rig::with(Setup { allow, ..Setup::default() }).await;
    let response = rig.get("/_search").await;
    let error = &json(&response)["error"];
    assert_eq!(error["type"], "client_not_allowed");
    assert_eq!(error["reason"], "The grant of your address 127.0.0.1 expired at 2026-11-28T10:00Z.");
    let page = rig.send(request("GET", "/", &[("accept", "text/html")], "")).await;
    assert!(String::from_utf8_lossy(page.body()).contains("expired at 2026-11-28T10:00Z"));
    assert_eq!(phrase(&rig).await, "HTTP/1.1 403 Grant expired 2026-11-28T10:00Z");
}

#[tokio::test]
async fn rejection_has_its_reason_in_the_reason_phrase() {
    let rig = Rig::with(Setup { allow: allow(NOBODY_HERE), ..Setup::default() }).await;
    assert_eq!(phrase(&rig).await, "HTTP/1.1 403 Not on the allowlist");
    rig.allow(&allow("127.0.0.1").replace("full", "read"));
    assert_eq!(phrase(&rig).await, "HTTP/1.1 403 Read-only grant");
}

/// Returns the status line of the response to a write.
async fn phrase(rig: &Rig) -> String {
    let answer = rig.raw(b"PUT /cwl HTTP/1.1\r\nHost: gate.test\r\n\r\n").await;
    answer.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn client_named_by_a_trusted_proxy_decides() {
    let config = "[listen]\ntrusted_proxies = [\"127.0.0.0/8\"]\n".to_owned();
    let rig = Rig::with(Setup { config, allow: allow("203.0.113.7"), ..Setup::default() }).await;
    let from = |forwarded_for| request("GET", "/", &[("x-forwarded-for", forwarded_for)], "");
    assert_eq!(rig.send(from("203.0.113.7")).await.status(), StatusCode::OK);
    assert_eq!(rig.access_line().await["client"], "203.0.113.7");
    assert_eq!(rig.send(from("203.0.113.7, 198.51.100.1")).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(rig.get("/").await.status(), StatusCode::FORBIDDEN);
    let response = rig.send(from("203.0.113.7, unknown")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(json(&response)["error"]["type"], "malformed_forwarded_for");
}

#[tokio::test]
async fn x_forwarded_for_of_an_untrusted_peer_is_ignored() {
    let rig = Rig::with(Setup { allow: allow("203.0.113.7"), ..Setup::default() }).await;
    let response = rig.send(request("GET", "/", &[("x-forwarded-for", "203.0.113.7")], "")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}
