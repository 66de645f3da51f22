use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fake_domain::{Answer, Fault, Times};
use futures_util::future::join_all;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::yield_now;
use trailgate_testkit::StoppedClock;

use crate::support::{RawAnswer, Rig, Setup, get, header, json, patiently, request, rest};

#[tokio::test]
async fn oversized_content_length_is_rejected_before_the_body() {
    let rig = with_limits("max_body = \"1 KiB\"").await;
    let answer = RawAnswer::only(&rig.raw(&post("content-length: 1025\r\n", "")).await);
    assert_eq!(answer.status, 413);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.json()["error"]["type"], "body_too_large");
    assert_eq!(answer.json()["error"]["reason"], "the body is larger than 1024 bytes");
    assert_eq!(rig.access_line().await["outcome"], "body_too_large");
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn oversized_expected_body_is_rejected_without_100() {
    let rig = with_limits("max_body = \"1 KiB\"").await;
    let head = post("expect: 100-continue\r\ncontent-length: 1025\r\n", "");
    assert_eq!(RawAnswer::only(&rig.raw(&head).await).status, 413);
}

#[tokio::test]
async fn body_of_exactly_the_limit_passes() {
    let rig = with_limits("max_body = \"1 KiB\"").await;
    let response = rig.send(request("POST", "/_a", &[], "x".repeat(1024))).await;
    assert!(header(&response, "x-amzn-requestid").is_some(), "{response:?}");
    let chunked = post("transfer-encoding: chunked\r\n", &format!("400\r\n{}\r\n0\r\n\r\n", "x".repeat(1024)));
    let answer = RawAnswer::only(&rig.raw(&chunked).await);
    assert!(answer.header("x-amzn-requestid").is_some(), "{answer:?}");
    let seen = rig.domain.seen();
    assert_eq!(seen.iter().map(|seen| seen.body.len()).collect::<Vec<_>>(), [1024, 1024]);
}

#[tokio::test]
async fn oversized_chunked_body_is_rejected_with_413() {
    let rig = with_limits("max_body = \"1 KiB\"").await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    let answer = RawAnswer::only(&rig.raw(&post("transfer-encoding: chunked\r\n", &chunk.repeat(3))).await);
    assert_eq!(answer.status, 413);
    assert_eq!(answer.json()["error"]["type"], "body_too_large");
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn client_that_sends_an_oversized_body_reads_the_response() {
    // The proxy reads for two more seconds of this clock, however long the client needs.
    let _clock = StoppedClock::stop();
    let rig = with_limits("max_body = \"1 MiB\"").await;
    let ten_mib = 10 * 1024 * 1024;
    let announced = post(&format!("content-length: {ten_mib}\r\n"), &"x".repeat(ten_mib));
    assert_eq!(RawAnswer::only(&rig.raw(&announced).await).status, 413);
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let chunked = post("transfer-encoding: chunked\r\n", &(chunk.repeat(160) + "0\r\n\r\n"));
    assert_eq!(RawAnswer::only(&rig.raw(&chunked).await).status, 413);
}

#[tokio::test]
async fn oversized_head_is_rejected() {
    let rig = with_limits("header_bytes = \"1 KiB\"").await;
    let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(1024));
    rejects_head(&rig, &head).await;
    // Its end need not come, nor any end of a line.
    rejects_head(&rig, &"G".repeat(1025)).await;
    rejects_head(&rig, &"\r\n".repeat(600)).await;
    rejects_head(&rig, &format!("GET /{}", "a".repeat(100_000))).await;
}

#[tokio::test]
async fn head_with_too_many_headers_is_rejected() {
    let rig = with_limits("headers = 10").await;
    let head = |headers: usize| format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: 1\r\n".repeat(headers - 1));
    rejects_head(&rig, &head(11)).await;
    let response = rig.raw(head(10).replacen("x: 1", "connection: close", 1).as_bytes()).await;
    assert_eq!(RawAnswer::only(&response).status, 200);
}

async fn rejects_head(rig: &Rig, head: &str) {
    let answer = RawAnswer::only(&rig.raw(head.as_bytes()).await);
    assert_eq!(answer.status, 431, "{answer:?}");
    assert_eq!(answer.json()["error"]["type"], "head_too_large");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(rig.access_line().await["outcome"], "head_too_large");
}

#[tokio::test]
async fn head_sent_byte_by_byte_times_out() {
    let clock = StoppedClock::stop();
    let rig = with_limits("header_timeout = \"300 ms\"").await;
    let mut stream = rig.open().await;
    for byte in b"GET / HTTP/1.1\r\nhost: a\r\nx: x" {
        stream.write_all(&[*byte]).await.unwrap();
        rig.has_read().await;
        clock.pass(Duration::from_millis(10)).await;
    }
    clock.pass(Duration::from_millis(50)).await;
    let answer = RawAnswer::only(&rest(&mut stream).await);
    assert_eq!(answer.status, 408);
    assert_eq!(answer.json()["error"]["type"], "head_timeout");
    assert_eq!(rig.access_line().await["outcome"], "head_timeout");
}

#[tokio::test]
async fn second_head_of_a_connection_times_out_too() {
    let clock = StoppedClock::stop();
    let rig = with_limits("header_timeout = \"300 ms\"").await;
    let mut stream = rig.open().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /").await.unwrap();
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
    clock.pass(Duration::from_millis(400)).await;
    let answers = RawAnswer::all(&rest(&mut stream).await);
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [200, 408]);
}

#[tokio::test]
async fn stalled_request_body_times_out() {
    let clock = StoppedClock::stop();
    let rig = with_limits("body_timeout = \"300 ms\"").await;
    for stopped in [
        post("content-length: 10\r\n", "12345"),
        post("content-length: 10\r\n", ""),
        post("transfer-encoding: chunked\r\n", "5\r\n12345\r\n"),
        post("transfer-encoding: chunked\r\n", "5\r\n12345\r\n0\r\nx"),
    ] {
        let answer = RawAnswer::only(&after(&clock, 400, &rig, &stopped).await);
        assert_eq!(answer.status, 408);
        assert_eq!(answer.json()["error"]["type"], "body_timeout");
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(rig.access_line().await["outcome"], "body_timeout");
    }
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn connection_without_a_request_is_closed_silently() {
    let clock = StoppedClock::stop();
    let rig = with_limits("header_timeout = \"200 ms\"").await;
    assert_eq!(after(&clock, 300, &rig, b"").await, "");
    assert_eq!(after(&clock, 300, &rig, b"\r\n").await, "");
}

#[tokio::test]
async fn idle_connection_is_closed_without_another_response() {
    let rig = with_limits("keep_alive = \"200 ms\"").await;
    let answer = RawAnswer::only(&rig.raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn connection_that_awaits_a_response_is_not_idle() {
    let clock = StoppedClock::stop();
    let rig = with_limits("keep_alive = \"500 ms\"").await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
    let mut connection = rig.connect().await;
    let sent = tokio::spawn(async move { (connection.send(get("/")).await, connection) });
    rig.domain.wait_for_requests(1).await;
    clock.pass(Duration::from_secs(1)).await;
    release.notify_one();
    let (answer, mut connection) = sent.await.unwrap();
    assert_eq!(header(&answer, "connection"), None);
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn empty_line_after_a_request_starts_no_head() {
    let clock = StoppedClock::stop();
    let rig = with_limits("header_timeout = \"100 ms\"\nkeep_alive = \"600 ms\"").await;
    let mut stream = rig.open().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n\r\n").await.unwrap();
    assert_eq!(rig.access_line().await["outcome"], "forwarded");
    clock.pass(Duration::from_millis(700)).await;
    let answer = RawAnswer::only(&rest(&mut stream).await);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn body_of_one_byte_chunks_is_forwarded_whole() {
    let rig = with_limits("max_body = \"16 KiB\"").await;
    let chunks = "1\r\nx\r\n".repeat(16 * 1024) + "0\r\n\r\n";
    let answer = RawAnswer::only(&rig.raw(&post("transfer-encoding: chunked\r\n", &chunks)).await);
    assert!(answer.header("x-amzn-requestid").is_some(), "{answer:?}");
    assert_eq!(rig.domain.seen()[0].body, "x".repeat(16 * 1024));
}

#[tokio::test]
async fn excess_connection_is_rejected_until_one_is_free() {
    let rig = with_limits("connections = 2").await;
    let (first, second) = (rig.open().await, rig.open().await);
    let answer = RawAnswer::only(&rest(&mut rig.open().await).await);
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["type"], "too_busy");
    assert_eq!(answer.header("retry-after"), Some("5"));

    drop(first);
    // The proxy notices it asynchronously.
    patiently(async {
        while get_on(rig.open().await).await.is_none_or(|answer| answer.status != 200) {
            yield_now().await;
        }
    })
    .await;
    let served = get_on(second).await.expect("the one that was there is served");
    assert_eq!(served.status, 200);
}

#[tokio::test]
async fn excess_connection_that_sends_reads_its_whole_response() {
    let _clock = StoppedClock::stop();
    let rig = with_limits("connections = 1").await;
    let _first = rig.open().await;
    for _ in 0..20 {
        let answer = get_on(rig.open().await).await.expect("an answer");
        assert_eq!(answer.status, 503);
        assert!(answer.header("content-length").is_some(), "where it ends cannot be told from a reset: {answer:?}");
    }
}

/// Returns the response to a request on this connection, which may be reset after the response.
async fn get_on(mut stream: TcpStream) -> Option<RawAnswer> {
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    let mut answer = Vec::new();
    let _ = patiently(stream.read_to_end(&mut answer)).await;
    RawAnswer::all(str::from_utf8(&answer).unwrap()).pop()
}

#[tokio::test]
async fn uploads_beyond_the_memory_budget_wait_for_each_other() {
    let rig = with_limits("max_body = \"64 KiB\"\nbuffer_memory = \"160 KiB\"").await;
    let uploads = (0..20).map(|_| rig.send(upload(60 * 1024)));
    for response in patiently(join_all(uploads)).await {
        assert_eq!(response.status(), StatusCode::CREATED);
    }
    assert!(rig.domain.seen().iter().all(|seen| seen.body.len() == 60 * 1024));
}

#[tokio::test]
async fn upload_without_memory_in_time_is_rejected_as_retryable() {
    let clock = StoppedClock::stop();
    let rig = with_limits("max_body = \"64 KiB\"\nbuffer_memory = \"128 KiB\"\nbody_timeout = \"300 ms\"").await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Next(2));
    // One after the other: the first has the shared part of the memory, the second the part that is kept apart.
    let second = async {
        rig.domain.wait_for_requests(1).await;
        rig.send(upload(60 * 1024)).await
    };
    let third = async {
        rig.domain.wait_for_requests(2).await;
        let (response, ()) = tokio::join!(rig.send(upload(60 * 1024)), clock.pass(Duration::from_secs(1)));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(json(&response)["error"]["type"], "too_busy");
        assert_eq!(header(&response, "retry-after"), Some("5"));
        assert_eq!(rig.access_line().await["outcome"], "too_busy");
        // A request without a body is served meanwhile.
        assert_eq!(rig.get("/").await.status(), StatusCode::OK);
        release.notify_one();
        release.notify_one();
    };
    let (first, second, ()) =
        patiently(async { tokio::join!(rig.send(upload(60 * 1024)), second, Box::pin(third)) }).await;
    assert_eq!((first.status(), second.status()), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(rig.send(upload(60 * 1024)).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn buffer_memory_is_released_however_an_upload_ends() {
    let clock = StoppedClock::stop();
    let rig = with_limits("max_body = \"64 KiB\"\nbuffer_memory = \"96 KiB\"\nbody_timeout = \"300 ms\"").await;
    let sixty = "x".repeat(60 * 1024);
    for _ in 0..5 {
        assert_eq!(rig.send(upload(60 * 1024)).await.status(), StatusCode::CREATED);
        let stopped = post("content-length: 61441\r\n", &sixty);
        assert_eq!(RawAnswer::only(&after(&clock, 400, &rig, &stopped).await).status, 408);
        let malformed = post("transfer-encoding: chunked\r\n", &format!("f000\r\n{sixty}\r\nx"));
        assert_eq!(RawAnswer::only(&rig.raw(&malformed).await).status, 400);
        let grown = post("transfer-encoding: chunked\r\n", &format!("f000\r\n{sixty}\r\nf000\r\n{sixty}\r\n"));
        assert_eq!(RawAnswer::only(&rig.raw(&grown).await).status, 413);
        let mut left = rig.open().await;
        left.write_all(&stopped).await.unwrap();
        drop(left);
    }
    assert_eq!(rig.send(upload(60 * 1024)).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn client_that_reads_no_response_is_disconnected() {
    let rig = with_limits("body_timeout = \"300 ms\"").await;
    let large = Answer { status: 200, headers: Vec::new(), body: vec![b'x'; 32 * 1024 * 1024].into() };
    rig.domain.fault(Fault::Answer(large), Times::Once);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(rig.address).await.unwrap();
    stream.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let line = rig.access_line().await;
    assert_eq!(line["outcome"], "client_left");
    assert_eq!(line["status"], 200);
}

async fn with_limits(limits: &str) -> Rig {
    Rig::with(Setup { config: format!("[limits]\n{limits}\n"), ..Setup::default() }).await
}

/// Sends raw bytes on a new connection, lets this many milliseconds pass once the proxy has read them, and returns all
/// bytes received until the proxy closes the connection.
async fn after(clock: &StoppedClock, milliseconds: u64, rig: &Rig, bytes: &[u8]) -> String {
    let mut stream = rig.open().await;
    stream.write_all(bytes).await.unwrap();
    rig.has_read().await;
    clock.pass(Duration::from_millis(milliseconds)).await;
    rest(&mut stream).await
}

/// Returns an upload of a document of about this size.
fn upload(bytes: usize) -> Request<Full<Bytes>> {
    let filler = "x".repeat(bytes - r#"{"x":""}"#.len());
    request("POST", "/i/_doc", &[("content-type", "application/json")], format!(r#"{{"x":"{filler}"}}"#))
}

/// Returns a `POST` with these header lines after `Host`, followed by `body`.
fn post(headers: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}").into_bytes()
}
