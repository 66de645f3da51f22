use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fake_domain::{FakeDomain, Fault, Options, Times};
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use hyper::{Response, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use trailgate_testkit::{ReservedPort, StoppedClock, all_read};

use crate::rejected_signatures::TOKEN;
use crate::support::{Events, RawAnswer, Rig, Setup, get, header, json as body, patiently, request};

#[tokio::test]
async fn domain_that_refuses_connections_is_unreachable() {
    let port = ReservedPort::bind().unwrap();
    let rig = Rig::with(Setup { endpoint: Some(port.url()), ..Setup::default() }).await;
    fails(&rig, &rig.get("/").await, 502, "upstream_unreachable").await;
}

#[tokio::test]
async fn unfinished_upstream_handshake_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let config = "connect_timeout = \"200 ms\"\n".to_owned();
    let rig = Rig::with(Setup { endpoint: Some(endpoint), config, ..Setup::default() }).await;
    fails(&rig, &rig.get("/").await, 504, "upstream_connect_timeout").await;
}

#[tokio::test]
async fn domain_with_a_valid_certificate_is_trusted() {
    let rig = Rig::with(Setup { domain: tls(), ..Setup::default() }).await;
    assert_eq!(rig.get("/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn ca_file_with_a_byte_order_mark_is_read() {
    let domain = FakeDomain::start(tls()).await.unwrap();
    let ca_pem = domain.ca_pem().map(|pem| format!("\u{feff}{pem}"));
    let rig = Rig::with(Setup { endpoint: Some(domain.url()), ca_pem, ..Setup::default() }).await;
    assert_eq!(rig.get("/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn domain_certificate_of_an_unknown_ca_is_rejected() {
    let other = FakeDomain::start(tls()).await.unwrap();
    let ca_pem = other.ca_pem().map(str::to_owned);
    let rig = Rig::with(Setup { domain: tls(), ca_pem, ..Setup::default() }).await;
    fails(&rig, &rig.get("/").await, 502, "upstream_unreachable").await;
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn response_that_is_not_http_is_a_broken_reply() {
    let rig = Rig::new().await;
    for garbage in
        ["SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 200\0OK\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n"]
    {
        rig.domain.fault(Fault::Garbage(Bytes::from(garbage)), Times::Once);
        fails(&rig, &rig.get("/").await, 502, "upstream_broken_reply").await;
    }
    assert_eq!(rig.domain.seen().len(), 3, "a request that was answered is not sent again");
}

#[tokio::test]
async fn response_with_two_lengths_is_forwarded_as_chunked() {
    let rig = Rig::new().await;
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
    rig.domain.fault(Fault::Garbage(Bytes::from(both)), Times::Once);
    let response = rig.get("/").await;
    assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, &b"whole"[..]));
    assert_eq!(header(&response, "content-length"), None);
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn repeated_length_is_forwarded_once() {
    let rig = Rig::new().await;
    for (head, expected) in [
        ("content-length: 5, 5", vec!["5"]),
        ("content-length: 5\r\ncontent-length: 5", vec!["5"]),
        // What hyper rejects in a response to GET.
        ("content-length: 5, 6", vec![]),
        ("content-length: ", vec![]),
    ] {
        rig.domain.fault(Fault::Garbage(Bytes::from(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n"))), Times::Once);
        let response = rig.raw(b"HEAD / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
        let lengths: Vec<&str> = response.lines().filter_map(|line| line.strip_prefix("content-length: ")).collect();
        assert_eq!(lengths, expected, "{head}");
    }
}

#[tokio::test]
async fn response_over_http_1_0_is_forwarded_as_1_1() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::Garbage("HTTP/1.0 200 OK\r\n\r\nwhole".into()), Times::Once);
    let response = rig.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn response_with_a_trailer_is_forwarded() {
    let rig = Rig::new().await;
    let chunks = "5\r\nwhole\r\n0\r\nx-sum: 1\r\n\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n{chunks}");
    rig.domain.fault(Fault::Garbage(Bytes::from(answer)), Times::Once);
    assert_eq!(rig.get("/").await.body().as_ref(), b"whole");
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn unrequested_upgrade_or_coding_is_a_broken_reply() {
    let rig = Rig::new().await;
    for head in [
        "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c",
        "200 OK\r\ntransfer-encoding: gzip, chunked",
        "200 OK\r\ntransfer-encoding: gzip",
    ] {
        rig.domain.fault(Fault::Garbage(Bytes::from(format!("HTTP/1.1 {head}\r\n\r\n0\r\n\r\n"))), Times::Once);
        let response = rig.get("/").await;
        fails(&rig, &response, 502, "upstream_broken_reply").await;
        assert_eq!(
            body(&response)["error"]["reason"],
            "the domain sent a response that does not match the request",
            "{head}"
        );
    }
}

#[tokio::test]
async fn response_with_too_many_headers_is_reported() {
    let rig = Rig::new().await;
    let answer = |count: usize| {
        let headers = (0..count - 1).map(|number| format!("x-{number}: 1\r\n")).collect::<Vec<_>>().concat();
        Fault::Garbage(format!("HTTP/1.1 200 OK\r\n{headers}content-length: 0\r\n\r\n").into())
    };
    rig.domain.fault(answer(100), Times::Once);
    let passed = rig.raw(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    assert_eq!(RawAnswer::only(&passed).header("x-98"), Some("1"));
    rig.access_line().await;
    rig.domain.fault(answer(101), Times::Once);
    let response = rig.get("/").await;
    fails(&rig, &response, 502, "upstream_broken_reply").await;
    let reason = body(&response)["error"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("more than 100 headers"), "{reason}");
}

#[tokio::test]
async fn short_response_is_logged_with_the_missing_bytes() {
    let events = Events::default();
    let _logging = events.capture();
    let rig = Rig::new().await;
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort";
    rig.domain.fault(Fault::Garbage(Bytes::from(short)), Times::Once);
    cut_off(&rig).await;
    assert_eq!(events.only("the domain's response broke off")["missing_bytes"], 5);
}

#[tokio::test]
async fn response_longer_than_its_length_is_logged() {
    let events = Events::default();
    let _logging = events.capture();
    let rig = Rig::new().await;
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nshort and more";
    rig.domain.fault(Fault::Garbage(Bytes::from(long)), Times::Once);
    assert_eq!(rig.get("/").await.body().as_ref(), b"short");
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
    events.only("the domain sent more than the Content-Length of its response: the connection is closed");
}

#[tokio::test]
async fn connection_broken_twice_is_a_broken_reply() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::BreakOff, Times::UntilCleared);
    fails(&rig, &rig.get("/").await, 502, "upstream_broken_reply").await;
    assert_eq!(rig.domain.seen().len(), 2, "one more try, and no third");
}

#[tokio::test]
async fn truncated_response_is_truncated_for_the_client() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::BreakBody, Times::Once);
    cut_off(&rig).await;
}

#[tokio::test]
async fn response_without_data_is_cut_by_the_idle_timeout() {
    let clock = StoppedClock::stop();
    let rig = with_upstream("idle_timeout = \"200 ms\"").await;
    rig.domain.fault(Fault::HoldBody(Arc::new(Notify::new())), Times::Once);
    let silence = async {
        rig.domain.wait_for_requests(1).await;
        all_read(rig.domain.address().port()).await;
        clock.pass(Duration::from_millis(300)).await;
    };
    tokio::join!(cut_off(&rig), silence);
}

/// Expects that an answer begins well and breaks off.
async fn cut_off(rig: &Rig) {
    let mut connection = rig.connect().await;
    let response = connection.begin(get("/")).await;
    assert_eq!(response.status(), StatusCode::OK);
    patiently(response.into_body().collect()).await.expect_err("the body has no end");
    let line = rig.access_line().await;
    assert_eq!((&line["status"], &line["outcome"]), (&200.into(), &"upstream_broke_off".into()));
    assert_ne!(line["bytes_out"], 0);
}

#[tokio::test]
async fn slow_response_within_the_idle_timeout_is_complete() {
    let clock = StoppedClock::stop();
    let rig = with_upstream("idle_timeout = \"1 s\"").await;
    rig.domain.fault(Fault::Slow(Duration::from_millis(300)), Times::Once);
    let parts = async {
        rig.domain.wait_for_requests(1).await;
        for _ in 0..5 {
            clock.pass(Duration::from_millis(310)).await;
            all_read(rig.domain.address().port()).await;
        }
    };
    let (response, ()) = tokio::join!(rig.get("/"), parts);
    assert_eq!(body(&response)["tagline"], "You Know, for Search");
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn domain_that_sends_no_response_times_out() {
    let clock = StoppedClock::stop();
    let rig = with_upstream("response_timeout = \"200 ms\"").await;
    rig.domain.fault(Fault::Hang, Times::Once);
    let silence = async {
        rig.domain.wait_for_requests(1).await;
        clock.pass(Duration::from_millis(300)).await;
    };
    let (response, ()) = tokio::join!(rig.get("/"), silence);
    fails(&rig, &response, 504, "upstream_timeout").await;
    assert_eq!(rig.domain.seen().len(), 1, "what took too long is not sent again");
    assert_eq!(rig.get("/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn errors_of_the_domain_pass_unchanged() {
    let rig = Rig::new().await;
    for (status, text) in [
        (400, r#"{"error":{"type":"parsing_exception"},"status":400}"#),
        (403, r#"{"message":"User: arn:aws:iam::1:user/a is not authorized to perform: es:ESHttpGet"}"#),
        (403, r#"{"error":{"type":"security_exception","reason":"no permissions"},"status":403}"#),
        (403, "<html>Forbidden</html>"),
        (403, ""),
        (404, r#"{"error":"Incorrect HTTP method"}"#),
        (413, r#"{"Message":"Request size exceeded 10485760 bytes"}"#),
        (429, r#"{"error":{"type":"es_rejected_execution_exception"},"status":429}"#),
        (500, ""),
        (503, "<html><b>Http/1.1 Service Unavailable</b></html>"),
        (504, "{}"),
    ] {
        rig.domain.fault(Fault::status(status, text), Times::Once);
        let response = rig.get("/").await;
        assert_eq!((response.status().as_u16(), response.body().as_ref()), (status, text.as_bytes()));
        assert_eq!(header(&response, "content-type"), Some("application/json"));
        let line = rig.access_line().await;
        assert_eq!((&line["status"], &line["outcome"]), (&status.into(), &"forwarded".into()));
        assert_eq!(line["bytes_out"], text.len());
    }
    assert_eq!(rig.domain.seen().len(), 11, "none is sent again");
}

#[tokio::test]
async fn connection_closed_while_pooled_costs_no_request() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::CloseAfter, Times::Next(20));
    for _ in 0..20 {
        assert_eq!(rig.get("/").await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn stale_pool_of_six_connections_costs_no_request() {
    let rig = Rig::new().await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Next(6));
    let warm = async {
        // Each has a connection of its own, since none is answered before all have come.
        rig.domain.wait_for_requests(6).await;
        for _ in 0..6 {
            release.notify_one();
            tokio::task::yield_now().await;
        }
    };
    let (answers, ()) = patiently(async { tokio::join!(join_all((0..6).map(|_| rig.get("/"))), warm) }).await;
    assert!(answers.iter().all(|answer| answer.status() == StatusCode::OK));
    // A node that was replaced: each connection of before fails at its next request.
    rig.domain.judge_requests(|seen| (seen.connection <= 6).then_some(Fault::BreakOff));
    for _ in 0..6 {
        assert_eq!(rig.get("/").await.status(), StatusCode::OK);
    }
    assert_eq!(rig.domain.seen().len(), 6 + 7, "one retry in all");
}

#[tokio::test]
async fn idempotent_request_is_signed_again_and_retried() {
    let rig = Rig::new().await;
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let before = rig.domain.seen().len();
        rig.domain.fault(Fault::BreakOff, Times::Once);
        let text = if method == "PUT" { r#"{"a":1}"# } else { "" };
        let headers = [("content-type", "application/json")];
        let response = rig.send(request(method, "/i/_doc/1", &headers, text)).await;
        assert!(header(&response, "x-amzn-requestid").is_some(), "{method}: {response:?}");
        let seen = &rig.domain.seen()[before..];
        assert_eq!(seen.len(), 2, "{method}");
        for seen in seen {
            assert_eq!((seen.body.as_ref(), &seen.refusal), (text.as_bytes(), &None), "{method}");
            assert_eq!(seen.values("x-amz-date").count(), 1, "{method}");
            assert_eq!(seen.values("authorization").count(), 1, "{method}");
        }
        assert_ne!(seen[0].connection, seen[1].connection, "{method}");
    }
}

#[tokio::test]
async fn non_idempotent_request_is_not_retried() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::BreakOff, Times::UntilCleared);
    for method in ["POST", "PATCH"] {
        let before = rig.domain.seen().len();
        let headers = [("content-type", "application/json")];
        let response = rig.send(request(method, "/i/_doc", &headers, r#"{"a":1}"#)).await;
        fails(&rig, &response, 502, "upstream_broken_reply").await;
        assert_eq!(rig.domain.seen().len(), before + 1, "{method}");
    }
}

/// Expects a rejection that names nothing behind the proxy, and its access line.
pub(crate) async fn fails(rig: &Rig, response: &Response<Bytes>, status: u16, kind: &str) {
    assert_eq!(response.status().as_u16(), status, "{response:?}");
    let line = rig.access_line().await;
    assert_eq!(line["id"], header(response, "trailgate-request-id").unwrap());
    assert_eq!((&line["status"], &line["outcome"]), (&status.into(), &kind.into()));

    let mut rejection = body(response);
    assert_eq!((&rejection["error"]["type"], &rejection["status"]), (&kind.into(), &status.into()));
    let error = rejection["error"].as_object_mut().unwrap();
    assert_eq!(error.remove("client"), Some("127.0.0.1".into()));
    assert_eq!(error.remove("request_id"), Some(line["id"].clone()));
    assert_eq!(
        error.keys().collect::<BTreeSet<_>>(),
        ["help", "reason", "time", "type"].map(String::from).iter().collect()
    );
    // The request's id is by chance, and so could hold the port's digits.
    let headers = response.headers().iter().filter(|(name, _)| *name != "trailgate-request-id");
    let shown = format!("{:?} {rejection}", headers.collect::<Vec<_>>());
    let domain = rig.domain.address();
    for hidden in
        [&domain.port().to_string(), "127.0.0.1", "localhost", "AKIDEXAMPLE", TOKEN, "Canonical", "x-amz", "os error"]
    {
        assert!(!shown.contains(hidden), "{hidden:?} in {shown}");
    }
}

async fn with_upstream(config: &str) -> Rig {
    Rig::with(Setup { config: format!("{config}\n"), ..Setup::default() }).await
}

fn tls() -> Options {
    Options { tls: true, ..Options::default() }
}
