use std::sync::Arc;
use std::time::Duration;

use fake_domain::{Fault, Times};
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use trailgate_testkit::StoppedClock;

use crate::support::{Rig, Setup, get, header, patiently, rest};

#[tokio::test]
async fn request_in_flight_completes_at_shutdown() {
    let mut rig = Rig::new().await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
    let mut connection = rig.connect().await;
    let sent = tokio::spawn(async move { connection.send(get("/")).await });
    rig.domain.wait_for_requests(1).await;
    let server = rig.begin_shutdown();
    release.notify_one();
    assert_eq!(sent.await.unwrap().status(), StatusCode::OK);
    patiently(server).await.unwrap();
}

#[tokio::test]
async fn response_in_flight_completes_at_shutdown() {
    let mut rig = Rig::new().await;
    let release = Arc::new(Notify::new());
    rig.domain.fault(Fault::HoldBody(Arc::clone(&release)), Times::Once);
    let mut body = rig.connect().await.begin(get("/")).await.into_body();
    assert!(patiently(body.frame()).await.unwrap().is_ok());
    let server = rig.begin_shutdown();
    release.notify_one();
    assert!(patiently(body.collect()).await.is_ok());
    patiently(server).await.unwrap();
}

#[tokio::test]
async fn shutdown_closes_the_listener() {
    let mut rig = Rig::new().await;
    patiently(rig.begin_shutdown()).await.unwrap();
    assert!(TcpStream::connect(rig.address).await.is_err());
}

#[tokio::test]
async fn draining_proxy_accepts_no_connection() {
    let mut rig = Rig::new().await;
    rig.domain.fault(Fault::Hang, Times::Once);
    let mut connection = rig.connect().await;
    let sent = tokio::spawn(async move { connection.begin(get("/")).await });
    rig.domain.wait_for_requests(1).await;
    let server = rig.begin_shutdown();
    patiently(async { while TcpStream::connect(rig.address).await.is_ok() {} }).await;
    assert!(!server.is_finished() && !sent.is_finished());
    sent.abort();
}

#[tokio::test]
async fn first_request_on_an_open_connection_is_served_in_drain() {
    let clock = StoppedClock::stop();
    let mut rig = Rig::new().await;
    let mut stream = rig.open().await;
    // Accepted in their order: this one's answer tells that the other is.
    rig.get("/").await;
    let server = rig.begin_shutdown();
    while TcpStream::connect(rig.address).await.is_ok() {}
    stream.write_all(b"GET /%zz HTTP/1.1\r\nhost: gate\r\n\r\n").await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer:?}");
    clock.pass(Duration::from_secs(2)).await;
    patiently(server).await.unwrap();
}

#[tokio::test]
async fn idle_connections_do_not_delay_shutdown() {
    let mut rig = Rig::new().await;
    let mut used = rig.connect().await;
    assert_eq!(used.send(get("/")).await.status(), StatusCode::OK);
    let _unused = TcpStream::connect(rig.address).await.unwrap();
    patiently(rig.begin_shutdown()).await.unwrap();
}

#[tokio::test]
async fn endless_request_delays_shutdown_by_the_drain_time_only() {
    let config = "[limits]\ndrain = \"200 ms\"\n".to_owned();
    let mut rig = Rig::with(Setup { config, ..Setup::default() }).await;
    rig.domain.fault(Fault::Hang, Times::Once);
    let mut connection = rig.connect().await;
    let sent = tokio::spawn(async move { connection.begin(get("/")).await });
    rig.domain.wait_for_requests(1).await;
    patiently(rig.begin_shutdown()).await.unwrap();
    assert!(!sent.is_finished());
    sent.abort();
}

#[tokio::test]
async fn idle_connection_gets_connection_close_in_drain() {
    let clock = StoppedClock::stop();
    let mut rig = Rig::new().await;
    let mut connection = rig.connect().await;
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::OK);
    let server = rig.begin_shutdown();
    patiently(async { while TcpStream::connect(rig.address).await.is_ok() {} }).await;
    let last = connection.send(get("/")).await;
    assert_eq!((last.status(), header(&last, "connection")), (StatusCode::OK, Some("close")));
    clock.pass(Duration::from_secs(2)).await;
    patiently(server).await.unwrap();
}
