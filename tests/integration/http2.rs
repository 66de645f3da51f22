//! HTTP/2 towards the client, over TLS.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fake_domain::{Fault, Times};
use futures_util::stream::unfold;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper::{Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use trailgate_testkit::StoppedClock;

use crate::support::{Rig, Setup, allow, header, json, patiently};
use crate::tls::{SelfSigned, secure, with_limits};

#[tokio::test]
async fn rejected_upload_over_http_2_is_read_to_its_end() {
    let (rig, certificate) = secure(Setup { allow: allow("203.0.113.7"), ..Setup::default() }).await;
    let stream = certificate.shake_hands(rig.open().await, &["h2"]).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    // More than the windows of the stream and the connection hold, and a client that sends all before it reads.
    let (frames, body) = mpsc::channel(1);
    let body = StreamBody::new(unfold(body, async |mut body| {
        let frame = body.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(frame)), body))
    }));
    let request = Request::post("https://gate.test/_bulk").body(BoxBody::new(Box::pin(body))).unwrap();
    let answer = tokio::spawn(sender.send_request(request));
    patiently(async {
        for _ in 0..64 {
            frames.send(Bytes::from(vec![b'x'; 64 * 1024])).await.expect("the stream is not reset");
        }
    })
    .await;
    drop(frames);
    let answer = patiently(answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let body = patiently(answer.into_body().collect()).await.unwrap().to_bytes();
    assert!(!body.is_empty());
}

/// A browser's connection.
pub(crate) struct Http2(http2::SendRequest<Full<Bytes>>);

impl Http2 {
    pub(crate) async fn open(rig: &Rig, certificate: &SelfSigned) -> Self {
        Self::over(rig.open().await, certificate).await
    }

    pub(crate) async fn over(stream: TcpStream, certificate: &SelfSigned) -> Self {
        let stream = certificate.shake_hands(stream, &["h2", "http/1.1"]).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) async fn begin(&mut self, request: Request<Full<Bytes>>) -> Response<hyper::body::Incoming> {
        patiently(self.0.send_request(request)).await.unwrap()
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let (head, body) = self.begin(request).await.into_parts();
        Response::from_parts(head, patiently(body.collect()).await.unwrap().to_bytes())
    }
}

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("https://gate.test{target}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

pub(crate) fn get(target: &str) -> Request<Full<Bytes>> {
    request("GET", target, &[], "")
}

#[tokio::test]
async fn http_2_request_is_forwarded_and_signed() {
    let (rig, certificate) = secure(Setup::default()).await;
    let mut browser = Http2::open(&rig, &certificate).await;
    let cookies = [("cookie", "a=1"), ("cookie", "b=2")];
    let response = browser.send(request("POST", "/_cluster/health?q=a+b", &cookies, "{}")).await;
    assert!(header(&response, "x-amzn-requestid").is_some(), "{response:?}");
    assert_eq!(response.version(), Version::HTTP_2);
    let seen = &rig.domain.seen()[0];
    assert_eq!(seen.refusal, None);
    assert_eq!(seen.body, "{}");
    assert_eq!(seen.header("cookie"), Some("a=1; b=2"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("gate.test"));
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
}

#[tokio::test]
async fn http_2_response_without_content_has_no_length() {
    let (rig, certificate) = secure(Setup::default()).await;
    rig.domain.fault(Fault::Garbage("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n".into()), Times::Once);
    let response = Http2::open(&rig, &certificate).await.send(get("/")).await;
    assert_eq!((response.status(), header(&response, "content-length")), (StatusCode::NO_CONTENT, None));
}

#[tokio::test]
async fn slow_request_blocks_no_other_on_its_connection() {
    let (rig, certificate) = secure(Setup::default()).await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
    let mut browser = Http2::open(&rig, &certificate).await;
    let mut slow = Http2(browser.0.clone());
    let slow = tokio::spawn(async move { slow.send(get("/")).await.status() });
    rig.domain.wait_for_requests(1).await;
    assert_eq!(browser.send(get("/")).await.status(), StatusCode::OK);
    release.notify_one();
    assert_eq!(slow.await.unwrap(), StatusCode::OK);
}

#[tokio::test]
async fn unlisted_http_2_client_gets_403_with_its_address() {
    let (rig, certificate) = secure(Setup { allow: allow("203.0.113.7"), ..Setup::default() }).await;
    let response = Http2::open(&rig, &certificate).await.send(request("POST", "/", &[], "x".repeat(100_000))).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(header(&response, "connection"), None);
    assert!(json(&response)["error"]["reason"].as_str().unwrap().contains("127.0.0.1"));
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn removed_http_2_client_is_cut_off() {
    let (rig, certificate) = secure(Setup::default()).await;
    rig.domain.fault(Fault::HoldBody(Arc::new(Notify::new())), Times::Once);
    let mut body = Http2::open(&rig, &certificate).await.begin(get("/")).await.into_body();
    assert!(patiently(body.frame()).await.unwrap().is_ok());
    rig.allow(&allow("203.0.113.7"));
    assert!(patiently(body.collect()).await.is_err());
    assert_eq!(rig.access_line().await["outcome"], "grant_revoked");
}

#[tokio::test]
async fn http_2_has_the_head_and_body_limits_of_http_1() {
    let (rig, certificate) = with_limits("headers = 4\nmax_body = \"1 KiB\"").await;
    let mut browser = Http2::open(&rig, &certificate).await;
    let headers = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4"), ("e", "5")];
    let response = browser.send(request("GET", "/", &headers, "")).await;
    assert_eq!(json(&response)["error"]["type"], "head_too_large");
    let response = browser.send(request("GET", "/", &[("host", "evil.test")], "")).await;
    assert_eq!(json(&response)["error"]["type"], "malformed_request");
    let response = browser.send(request("POST", "/", &[], "x".repeat(1025))).await;
    assert_eq!(json(&response)["error"]["type"], "body_too_large");
    assert_eq!(rig.domain.seen(), []);
    assert_eq!(browser.send(get("/")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn http_2_connection_without_a_request_times_out() {
    let clock = StoppedClock::stop();
    let (rig, certificate) = with_limits("header_timeout = \"200 ms\"").await;
    let mut stream = certificate.shake_hands(rig.open().await, &["h2"]).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    rig.has_read().await;
    // Until GOAWAY arrives, and until the connection is closed.
    clock.pass(Duration::from_millis(500)).await;
    // It may end without TLS's close_notify, because the client did not respond to GOAWAY.
    let _ = patiently(stream.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn idle_http_2_connection_times_out() {
    let clock = StoppedClock::stop();
    let (rig, certificate) = with_limits("header_timeout = \"200 ms\"\nkeep_alive = \"200 ms\"").await;
    let mut browser = Http2::open(&rig, &certificate).await;
    assert_eq!(browser.send(get("/")).await.status(), StatusCode::OK);
    clock.pass(Duration::from_millis(500)).await;
    patiently(async {
        while browser.0.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn http_2_client_that_reads_no_response_is_cut_off() {
    let clock = StoppedClock::stop();
    let (rig, certificate) = with_limits("body_timeout = \"300 ms\"").await;
    rig.domain.fault(Fault::status(200, vec![b' '; 4 * 1024 * 1024]), Times::Once);
    let body = Http2::open(&rig, &certificate).await.begin(get("/")).await.into_body();
    // Without being read, the window of the stream stays shut.
    rig.has_read().await;
    clock.pass(Duration::from_secs(1)).await;
    assert_eq!(rig.access_line().await["outcome"], "client_left");
    assert!(patiently(body.collect()).await.is_err());
}

#[tokio::test]
async fn http_2_request_in_flight_completes_at_shutdown() {
    let (mut rig, certificate) = secure(Setup::default()).await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
    let mut browser = Http2::open(&rig, &certificate).await;
    let sent = tokio::spawn(async move { browser.send(get("/")).await });
    rig.domain.wait_for_requests(1).await;
    let server = rig.begin_shutdown();
    release.notify_one();
    assert_eq!(sent.await.unwrap().status(), StatusCode::OK);
    patiently(server).await.unwrap();
}
