use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use trailgate_testkit::StoppedClock;

use super::*;
use crate::body::HashedBody;

/// A bare TCP listener as the domain: tests control its connections directly.
struct Bare(TcpListener);

impl Bare {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn upstream(&self, pool_idle: usize) -> Arc<Upstream> {
        self.upstream_with_timeout(TIMEOUT, pool_idle)
    }

    fn upstream_with_timeout(&self, response_timeout: Duration, pool_idle: usize) -> Arc<Upstream> {
        let address: SocketAddr = self.0.local_addr().unwrap();
        let endpoint = Endpoint::parse(&format!("http://{address}")).unwrap();
        let config = UpstreamConfig { connect_timeout: TIMEOUT, response_timeout, pool_idle, connections: usize::MAX };
        Arc::new(Upstream::new(endpoint, RootCertStore::empty(), config))
    }

    async fn accept(&self) -> TcpStream {
        self.0.accept().await.unwrap().0
    }

    /// Returns the server side of a connection over which `upstream` has had one response, and which is idle now.
    async fn used_by(&self, upstream: &Arc<Upstream>) -> TcpStream {
        let asked = ask(upstream);
        let mut connection = self.accept().await;
        answer(&mut connection, SHORT).await;
        assert_eq!(asked.await.unwrap().unwrap(), "short");
        connection
    }
}

/// Reads a request head.
async fn read_head(connection: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(connection.read_u8().await.unwrap());
    }
}

/// Reads a request head, and responds.
async fn answer(connection: &mut TcpStream, with: &str) {
    read_head(connection).await;
    connection.write_all(with.as_bytes()).await.unwrap();
}

/// Sends a request, and returns the response body.
fn ask(upstream: &Arc<Upstream>) -> tokio::task::JoinHandle<Result<Bytes, UpstreamError>> {
    ask_via(upstream, Via::Pool)
}

fn ask_via(upstream: &Arc<Upstream>, via: Via) -> tokio::task::JoinHandle<Result<Bytes, UpstreamError>> {
    let upstream = Arc::clone(upstream);
    tokio::spawn(async move {
        let mut request = Request::new(HashedBody::empty().frames());
        *request.uri_mut() = Uri::from_static("/");
        request.headers_mut().insert("host", "domain.test".parse().unwrap());
        let response = upstream.send(request, via).await?;
        Ok(response.into_body().collect().await.map_err(UpstreamError::broken)?.to_bytes())
    })
}

/// Waits until `count` connections are open.
async fn until_open(upstream: &Upstream, count: u64) {
    let since = Instant::now();
    while upstream.stats().open_connections() != count {
        assert!(since.elapsed() < TIMEOUT, "{} connections are open", upstream.stats().open_connections());
        sleep(Duration::from_millis(10)).await;
    }
}

const TIMEOUT: Duration = Duration::from_mins(1);
const SHORT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nshort";

#[tokio::test]
async fn sequential_requests_share_a_connection() {
    let domain = Bare::start().await;
    let upstream = domain.upstream(1);
    let first = ask(&upstream);
    let mut connection = domain.accept().await;
    answer(&mut connection, SHORT).await;
    assert_eq!(first.await.unwrap().unwrap(), "short");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n\r\n";
    let trailer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\nx-sum: 1\r\n\r\n";
    for body in [SHORT, chunked, trailer, SHORT] {
        let next = ask(&upstream);
        answer(&mut connection, body).await;
        assert_eq!(next.await.unwrap().unwrap(), "short");
    }
    assert_eq!((upstream.stats().connections_opened(), upstream.stats().connections_reused()), (1, 4));
}

#[tokio::test]
async fn each_request_on_a_connection_gets_the_whole_timeout() {
    let clock = StoppedClock::stop();
    let domain = Bare::start().await;
    let upstream = domain.upstream_with_timeout(Duration::from_secs(1), 1);
    let mut connection = domain.used_by(&upstream).await;
    clock.pass(Duration::from_millis(700)).await;
    let second = ask(&upstream);
    read_head(&mut connection).await;
    clock.pass(Duration::from_millis(900)).await;
    connection.write_all(SHORT.as_bytes()).await.unwrap();
    assert_eq!(second.await.unwrap().unwrap(), "short");
    let third = ask(&upstream);
    read_head(&mut connection).await;
    clock.pass(Duration::from_millis(900)).await;
    assert!(!third.is_finished());
    clock.pass(Duration::from_millis(110)).await;
    assert!(matches!(third.await.unwrap(), Err(UpstreamError::ResponseTimeout)));
    assert_eq!(upstream.stats().connections_opened(), 1);
}

#[tokio::test]
async fn idle_connection_closed_by_the_domain_is_closed_here() {
    let domain = Bare::start().await;
    let upstream = domain.upstream(1);
    let connection = domain.used_by(&upstream).await;
    until_open(&upstream, 1).await;
    drop(connection);
    until_open(&upstream, 0).await;
}

#[tokio::test]
async fn connection_idle_for_forty_seconds_is_closed() {
    let domain = Bare::start().await;
    let upstream = domain.upstream(1);
    let _connection = domain.used_by(&upstream).await;
    // The paused clock advances as soon as all tasks wait.
    tokio::time::pause();
    let since = Instant::now();
    while upstream.stats().open_connections() == 1 {
        sleep(Duration::from_millis(100)).await;
    }
    assert!((40..=42).contains(&since.elapsed().as_secs()), "closed after {:?}", since.elapsed());
}

#[tokio::test]
async fn idle_connections_beyond_the_limit_are_closed() {
    let domain = Bare::start().await;
    let upstream = domain.upstream(1);
    let asked = [ask(&upstream), ask(&upstream)];
    let mut connections = [domain.accept().await, domain.accept().await];
    until_open(&upstream, 2).await;
    for connection in &mut connections {
        answer(connection, SHORT).await;
    }
    for one in asked {
        assert_eq!(one.await.unwrap().unwrap(), "short");
    }
    until_open(&upstream, 1).await;
}

#[tokio::test]
async fn connection_with_connection_close_is_not_pooled() {
    let domain = Bare::start().await;
    let upstream = domain.upstream(1);
    let first = ask(&upstream);
    let mut connection = domain.accept().await;
    answer(&mut connection, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nshort").await;
    first.await.unwrap().unwrap();
    assert_eq!(upstream.stats().open_connections(), 0);
}

#[tokio::test]
async fn aborted_response_closes_its_connection() {
    let domain = Bare::start().await;
    let upstream = domain.upstream(1);
    let first = ask(&upstream);
    let mut connection = domain.accept().await;
    answer(&mut connection, "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nsh").await;
    until_open(&upstream, 1).await;
    first.abort();
    until_open(&upstream, 0).await;
    assert_eq!(connection.read(&mut [0]).await.unwrap_or_default(), 0);
}

/// Returns two connections that are idle in the pool of `upstream`.
async fn two_used_by(domain: &Bare, upstream: &Arc<Upstream>) -> [TcpStream; 2] {
    let asked = [ask(upstream), ask(upstream)];
    let mut connections = [domain.accept().await, domain.accept().await];
    for connection in &mut connections {
        answer(connection, SHORT).await;
    }
    for one in asked {
        one.await.unwrap().unwrap();
    }
    connections
}

#[tokio::test]
async fn stale_pooled_connection_empties_the_pool() {
    let domain = Bare::start().await;
    let upstream = domain.upstream(2);
    let [mut first, mut second] = two_used_by(&domain, &upstream).await;
    let asked = ask(&upstream);
    // The connection that gets the request closes, and the other one stays open.
    let is_first = tokio::select! {
        byte = first.read_u8() => byte.is_ok(),
        byte = second.read_u8() => byte.is_err(),
    };
    let _open = if is_first {
        drop(first);
        second
    } else {
        drop(second);
        first
    };
    asked.await.unwrap().expect_err("the connection was closed");
    assert_eq!(upstream.stats().open_connections(), 0);
}

#[tokio::test]
async fn failed_new_connection_keeps_the_pool() {
    let domain = Bare::start().await;
    let upstream = domain.upstream(2);
    let mut pooled = domain.used_by(&upstream).await;
    let asked = ask_via(&upstream, Via::NewConnection);
    drop(timeout(TIMEOUT, domain.accept()).await.expect("it opens a connection"));
    asked.await.unwrap().expect_err("the connection was closed");
    let asked = ask(&upstream);
    answer(&mut pooled, SHORT).await;
    assert_eq!(asked.await.unwrap().unwrap(), "short");
}
