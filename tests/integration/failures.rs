use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use bytes::Bytes;
use fake_domain::verify::{self, Verifier, parse_date};
use fake_domain::{Answer, FakeDomain, Fault, Options, Times};
use futures_util::future::join_all;
use http_body_util::BodyExt as _;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use trailgate_testkit::{ReservedPort, signing_key};

use crate::support::{RawAnswer, Rig, Setup, get, header, json as body, patiently, request};

#[tokio::test]
async fn a_domain_that_takes_no_connections_is_unreachable() {
    let port = ReservedPort::bind().unwrap();
    let rig = Rig::with(Setup { endpoint: Some(port.url()), ..Setup::default() }).await;
    fails(&rig, &rig.get("/").await, 502, "upstream_unreachable").await;
}

#[tokio::test]
async fn a_domain_that_does_not_finish_the_handshake_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    let config = "connect_timeout = \"200 ms\"\n".to_owned();
    let rig = Rig::with(Setup { endpoint: Some(endpoint), config, ..Setup::default() }).await;
    fails(&rig, &rig.get("/").await, 504, "upstream_connect_timeout").await;
}

#[tokio::test]
async fn a_domain_with_the_right_certificate_is_trusted() {
    let rig = Rig::with(Setup { domain: tls(), ..Setup::default() }).await;
    assert_eq!(rig.get("/").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn certificate_of_another_authority_is_not_trusted() {
    let other = FakeDomain::start(tls()).await.unwrap();
    let ca_pem = other.ca_pem().map(str::to_owned);
    let rig = Rig::with(Setup { domain: tls(), ca_pem, ..Setup::default() }).await;
    fails(&rig, &rig.get("/").await, 502, "upstream_unreachable").await;
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn an_answer_that_is_not_http_is_a_broken_reply() {
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
async fn answer_with_two_lengths_passes_whole() {
    let rig = Rig::new().await;
    let both = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\n\r\n";
    rig.domain.fault(Fault::Garbage(Bytes::from(both)), Times::Once);
    let response = rig.get("/").await;
    assert_eq!((response.status(), response.body().as_ref()), (StatusCode::OK, &b"whole"[..]));
    assert_eq!(header(&response, "content-length"), None);
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn answer_with_a_trailer_is_forwarded() {
    let rig = Rig::new().await;
    let chunks = "5\r\nwhole\r\n0\r\nx-sum: 1\r\n\r\n";
    let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n{chunks}");
    rig.domain.fault(Fault::Garbage(Bytes::from(answer)), Times::Once);
    assert_eq!(rig.get("/").await.body().as_ref(), b"whole");
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn answer_that_was_not_asked_for_is_a_broken_reply() {
    let rig = Rig::new().await;
    for head in [
        "101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c",
        "200 OK\r\ntransfer-encoding: gzip, chunked",
        "200 OK\r\ntransfer-encoding: gzip",
    ] {
        rig.domain.fault(Fault::Garbage(Bytes::from(format!("HTTP/1.1 {head}\r\n\r\n0\r\n\r\n"))), Times::Once);
        let response = rig.get("/").await;
        fails(&rig, &response, 502, "upstream_broken_reply").await;
        assert_eq!(body(&response)["error"]["reason"], "the domain answered what was not asked for", "{head}");
    }
}

#[tokio::test]
async fn answer_with_too_many_headers_says_so() {
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
async fn short_answer_is_logged_with_the_missing_bytes() {
    let events = Events::default();
    let _logging = events.capture();
    let rig = Rig::new().await;
    let short = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort";
    rig.domain.fault(Fault::Garbage(Bytes::from(short)), Times::Once);
    cut_off(&rig).await;
    assert_eq!(events.only("the domain's answer broke off")["missing_bytes"], 5);
}

#[tokio::test]
async fn answer_longer_than_its_length_is_logged() {
    let events = Events::default();
    let _logging = events.capture();
    let rig = Rig::new().await;
    let long = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nshort and more";
    rig.domain.fault(Fault::Garbage(Bytes::from(long)), Times::Once);
    assert_eq!(rig.get("/").await.body().as_ref(), b"short");
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
    events.only("the domain sent more than its answer's Content-Length: the connection is closed");
}

#[tokio::test]
async fn a_domain_that_breaks_off_again_and_again_is_a_broken_reply() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::BreakOff, Times::UntilCleared);
    fails(&rig, &rig.get("/").await, 502, "upstream_broken_reply").await;
    assert_eq!(rig.domain.seen().len(), 2, "one more try, and no third");
}

#[tokio::test]
async fn answer_that_breaks_off_is_cut_for_the_client_too() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::BreakBody, Times::Once);
    cut_off(&rig).await;
}

#[tokio::test]
async fn an_answer_that_falls_silent_is_cut() {
    let rig = with_upstream("idle_timeout = \"200 ms\"").await;
    rig.domain.fault(Fault::HoldBody(Arc::new(Notify::new())), Times::Once);
    cut_off(&rig).await;
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
async fn an_answer_that_is_slow_but_never_silent_comes_whole() {
    let rig = with_upstream("idle_timeout = \"1 s\"").await;
    rig.domain.fault(Fault::Slow(Duration::from_millis(300)), Times::Once);
    let response = rig.get("/").await;
    assert_eq!(body(&response)["tagline"], "You Know, for Search");
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn a_domain_that_does_not_answer_is_given_up() {
    let rig = with_upstream("response_timeout = \"200 ms\"").await;
    rig.domain.fault(Fault::Hang, Times::Once);
    fails(&rig, &rig.get("/").await, 504, "upstream_timeout").await;
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
async fn a_request_that_may_have_been_carried_out_is_not_sent_again() {
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

#[tokio::test]
async fn without_credentials_nothing_is_sent() {
    let rig = Rig::with(Setup { credentials: SharedCredentialsProvider::new(Nothing), ..Setup::default() }).await;
    let response = rig.get("/").await;
    assert_eq!(header(&response, "retry-after"), Some("5"));
    fails(&rig, &response, 503, "no_credentials").await;
    assert_eq!((rig.domain.connections(), rig.domain.seen()), (0, Vec::new()));
}

/// A provider that has lost its credentials.
#[derive(Debug)]
struct Nothing;

impl ProvideCredentials for Nothing {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::ready(Err(CredentialsError::not_loaded("there are none")))
    }
}

#[tokio::test]
async fn a_session_token_is_signed_and_sent() {
    let rig = with_token(signing_key(Some(TOKEN))).await;
    assert_eq!(rig.get("/").await.status(), StatusCode::OK);
    let seen = &rig.domain.seen()[0];
    assert_eq!(seen.values("x-amz-security-token").collect::<Vec<_>>(), [TOKEN.as_bytes()]);
    assert!(seen.header("authorization").unwrap().contains(";x-amz-security-token,"));
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_corrected_by_the_domains() {
    for offset in [600, -600] {
        let rig = Rig::new().await;
        rig.domain.set_clock_offset(offset);
        assert_eq!(rig.get("/").await.status(), StatusCode::OK);
        let seen = rig.domain.seen();
        assert!(
            matches!(&seen[..], [refused, taken] if refused.refusal.is_some() && taken.refusal.is_none()),
            "{seen:?}"
        );
        let times = seen.iter().map(|seen| parse_date(seen.header("x-amz-date").unwrap()).unwrap().as_second());
        let times: Vec<i64> = times.collect();
        assert!((times[1] - times[0] - offset).abs() < 60, "{times:?}");

        assert_eq!(rig.get("/").await.status(), StatusCode::OK);
        assert_eq!(rig.domain.seen().len(), 3, "the next request needs no second try");
    }
}

#[tokio::test]
async fn head_with_a_skewed_clock_is_corrected_by_the_date() {
    for offset in [600, -600] {
        let rig = Rig::new().await;
        rig.domain.set_clock_offset(offset);
        for _ in 0..2 {
            assert_eq!(rig.send(request("HEAD", "/", &[], "")).await.status(), StatusCode::OK, "{offset}");
        }
        assert_eq!(rig.domain.seen().len(), 3, "the next request needs no second try");
    }
}

#[tokio::test]
async fn rotated_credentials_are_used_for_the_rejected_request() {
    for (method, target) in [("POST", "/_search"), ("HEAD", "/")] {
        let credentials = SharedCredentialsProvider::new(Rotated(AtomicBool::new(true)));
        let rig = Rig::with(Setup { credentials, ..Setup::default() }).await;
        let headers = [("content-type", "application/json")];
        let text = if method == "POST" { "{}" } else { "" };
        assert_eq!(rig.send(request(method, target, &headers, text)).await.status(), StatusCode::OK, "{method}");
        let seen = rig.domain.seen();
        assert!(matches!(&seen[..], [rejected, answered] if rejected.refusal.is_some() && answered.refusal.is_none()));
    }
}

/// A provider whose first keys the domain does not know any more.
#[derive(Debug)]
struct Rotated(AtomicBool);

impl ProvideCredentials for Rotated {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let is_first = self.0.swap(false, Ordering::SeqCst);
        let old = Credentials::new("AKIDROTATED", "old secret", None, None, "test");
        future::ProvideCredentials::ready(Ok(if is_first { old } else { signing_key(None) }))
    }
}

#[tokio::test]
async fn a_clock_that_is_right_again_is_corrected_back() {
    let rig = Rig::new().await;
    for offset in [600, 0, -600] {
        rig.domain.set_clock_offset(offset);
        let response = rig.send(request("POST", "/_search", &[("content-type", "application/json")], "{}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{offset}");
    }
}

#[tokio::test]
async fn a_clock_that_stays_wrong_is_a_refused_signature() {
    let rig = Rig::new().await;
    let message =
        "Signature expired: 20150830T123600Z is now earlier than 20150830T124100Z (20150830T124600Z - 5 min.)";
    for date in [httpdate::fmt_http_date(SystemTime::now()), "yesterday".to_owned()] {
        let headers = vec![("date".to_owned(), date)];
        let answer = Answer { status: 403, headers, body: json!({ "message": message }).to_string().into() };
        rig.domain.fault(Fault::Answer(answer), Times::UntilCleared);
        fails(&rig, &rig.get("/").await, 502, "upstream_refused_signature").await;
        rig.domain.clear_faults();
    }
    assert_eq!(rig.domain.seen().len(), 3, "a Date that can be read is worth one more try");
}

#[tokio::test]
async fn rejected_signature_of_unknown_length_is_not_passed_on() {
    let rig = Rig::new().await;
    let message = "The request signature we calculated does not match the signature you provided.";
    let body = serde_json::json!({ "message": message }).to_string();
    let chunked =
        format!("HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    rig.domain.fault(Fault::Garbage(Bytes::from(chunked)), Times::Once);
    fails(&rig, &rig.get("/").await, 502, "upstream_refused_signature").await;
}

#[tokio::test]
async fn wrong_secret_is_answered_without_the_domains_details() {
    let rig = with_token(wrong_secret()).await;
    let response = rig.get("/i/_search?q=needle").await;
    fails(&rig, &response, 502, "upstream_refused_signature").await;
    assert!(rig.domain.seen()[0].refusal.as_ref().unwrap().contains("The Canonical String"));
    assert_eq!(rig.domain.seen().len(), 1, "it is not sent again");
}

#[tokio::test]
async fn rejected_signature_logs_both_requests_without_token() {
    let events = Events::default();
    let _logging = events.capture();
    let rig = with_token(wrong_secret()).await;
    assert_eq!(rig.get("/i/_search?b&a=1").await.status(), StatusCode::BAD_GATEWAY);

    let event = events.only("the domain expected another canonical request");
    let host = rig.domain.address().to_string();
    let first = format!("GET\n/i/_search\na=1&b=\nhost:{host}\nx-amz-content-sha256:");
    for name in ["expected", "signed"] {
        let canonical = event[name].as_str().unwrap();
        assert!(canonical.starts_with(&first), "{name}: {canonical}");
        assert!(canonical.contains("\nx-amz-security-token:(hidden)\n"), "{name}: {canonical}");
    }
    assert_eq!(event["expected"], event["signed"], "only the secret differs");
    assert!(!events.text().contains(TOKEN), "{}", events.text());
}

/// What a test has logged.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<u8>>>);

impl Events {
    /// Keeps what this thread logs until the guard is dropped; the tasks of a test all run on its thread.
    fn capture(&self) -> (tracing::Dispatch, tracing::subscriber::DefaultGuard) {
        let writer = self.clone();
        let subscriber = tracing_subscriber::fmt().json().flatten_event(true).with_writer(move || writer.clone());
        // As long as there is one subscriber only, an event is asked for once, in the thread that first meets it:
        // another test's, where there is none.
        let other = tracing::Dispatch::new(tracing_subscriber::registry());
        (other, tracing::subscriber::set_default(subscriber.finish()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The one event with this message.
    fn only(&self, message: &str) -> Value {
        let text = self.text();
        let mut events = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let event = events.find(|event| event["message"] == message).unwrap_or_else(|| panic!("not logged: {text}"));
        assert!(events.all(|event| event["message"] != message), "logged twice: {text}");
        event
    }
}

impl Write for Events {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Expects an answer of the gate's own that says no more than its kind and a reason, and the access line to it.
async fn fails(rig: &Rig, response: &Response<Bytes>, status: u16, kind: &str) {
    assert_eq!(response.status().as_u16(), status, "{response:?}");
    let line = rig.access_line().await;
    assert_eq!(line["id"], header(response, "trailgate-request-id").unwrap());
    assert_eq!((&line["status"], &line["outcome"]), (&status.into(), &kind.into()));

    let reason = body(response)["error"]["reason"].clone();
    assert_eq!(body(response), json!({ "error": { "type": kind, "reason": reason }, "status": status }));
    // The request's id is by chance, and so could hold the port's digits.
    let headers = response.headers().iter().filter(|(name, _)| *name != "trailgate-request-id");
    let shown = format!("{:?} {:?}", headers.collect::<Vec<_>>(), response.body());
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

/// A gate with these credentials, and a domain that expects a session token.
async fn with_token(credentials: Credentials) -> Rig {
    let expected = verify::Credentials { session_token: Some(TOKEN.to_owned()), ..verify::Credentials::default() };
    let domain = Options::default();
    let domain = Options { verifier: Verifier { credentials: expected, ..domain.verifier.clone() }, ..domain };
    Rig::with(Setup { domain, credentials: SharedCredentialsProvider::new(credentials), ..Setup::default() }).await
}

fn wrong_secret() -> Credentials {
    Credentials::new("AKIDEXAMPLE", "another secret", Some(TOKEN.to_owned()), None, "test")
}

fn tls() -> Options {
    Options { tls: true, ..Options::default() }
}

const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLETOKEN";
