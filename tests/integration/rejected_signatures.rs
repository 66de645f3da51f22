//! A domain that rejects the signature: by its clock, the credentials, or the secret.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use bytes::Bytes;
use fake_domain::verify::{self, Verifier, parse_date};
use fake_domain::{Answer, Fault, Options, Times};
use hyper::StatusCode;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use trailgate_testkit::{StoppedClock, signing_key};

use crate::failures::fails;
use crate::support::{Events, Rig, Setup, header, request};

#[tokio::test]
async fn request_without_credentials_is_not_forwarded() {
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
async fn session_token_is_signed_and_sent() {
    let rig = with_token(signing_key(Some(TOKEN))).await;
    assert_eq!(rig.get("/").await.status(), StatusCode::OK);
    let seen = &rig.domain.seen()[0];
    assert_eq!(seen.values("x-amz-security-token").collect::<Vec<_>>(), [TOKEN.as_bytes()]);
    assert!(seen.header("authorization").unwrap().contains(";x-amz-security-token,"));
}

#[tokio::test]
async fn clock_skew_is_corrected_by_the_domains_time() {
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
async fn clock_correction_follows_each_change_of_skew() {
    let rig = Rig::new().await;
    for offset in [600, 0, -600] {
        rig.domain.set_clock_offset(offset);
        let response = rig.send(request("POST", "/_search", &[("content-type", "application/json")], "{}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{offset}");
    }
}

#[tokio::test]
async fn persistent_clock_skew_is_a_rejected_signature() {
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
async fn chunked_signature_rejection_is_not_forwarded() {
    let rig = Rig::new().await;
    let message = "The request signature we calculated does not match the signature you provided.";
    let body = serde_json::json!({ "message": message }).to_string();
    let chunked =
        format!("HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    rig.domain.fault(Fault::Garbage(Bytes::from(chunked)), Times::Once);
    fails(&rig, &rig.get("/").await, 502, "upstream_refused_signature").await;
}

#[tokio::test]
async fn longer_403_than_a_rejection_is_forwarded() {
    let rig = Rig::new().await;
    let body = "x".repeat(300 * 1024);
    let chunked =
        format!("HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    rig.domain.fault(Fault::Garbage(Bytes::from(chunked)), Times::Once);
    let response = rig.get("/").await;
    assert_eq!((response.status(), response.body().len()), (StatusCode::FORBIDDEN, body.len()));
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn slower_403_than_a_rejection_is_forwarded() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let rig = Rig::with(Setup { endpoint, ..Setup::default() }).await;
    let clock = StoppedClock::stop();
    let domain = async {
        let (mut domain, _) = listener.accept().await.unwrap();
        domain.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 9\r\n\r\nnot ").await.unwrap();
        clock.pass(Duration::from_secs(11)).await;
        domain.write_all(b"yours").await.unwrap();
        domain
    };
    let (response, _domain) = tokio::join!(rig.get("/"), domain);
    assert_eq!((response.status(), response.body().as_ref()), (StatusCode::FORBIDDEN, &b"not yours"[..]));
}

#[tokio::test]
async fn wrong_secret_gets_502_without_the_domains_details() {
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

    let event = events.only("the domain expected a different canonical request");
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

/// Starts a proxy with these credentials, and a domain that expects a session token.
async fn with_token(credentials: Credentials) -> Rig {
    let expected = verify::Credentials { session_token: Some(TOKEN.to_owned()), ..verify::Credentials::default() };
    let domain = Options::default();
    let domain = Options { verifier: Verifier { credentials: expected, ..domain.verifier.clone() }, ..domain };
    Rig::with(Setup { domain, credentials: SharedCredentialsProvider::new(credentials), ..Setup::default() }).await
}

fn wrong_secret() -> Credentials {
    Credentials::new("AKIDEXAMPLE", "another secret", Some(TOKEN.to_owned()), None, "test")
}

/// A session token.
pub(crate) const TOKEN: &str = "IQoJb3JpZ2luX2VjEXAMPLETOKEN";
