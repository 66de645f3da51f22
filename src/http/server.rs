//! Accepts connections, hands each request to the proxy, and drains at shutdown (graceful shutdown).

mod bound_listener;
mod connection;
mod connection_timeouts;
mod permits;
mod worker;

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::bound_listener::BoundListener;
use self::bound_listener::ListenerContext;
use self::permits::ConnectionPermits;
pub use self::worker::Worker;
use crate::http::head::{HeadError, HeadLimits};
use crate::http::listener::Connection;
use crate::policy::allowlist::Allowlist;

/// The limits of connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Maximum number of open connections.
    pub connections: usize,
    /// The limits of a request head.
    pub head: HeadLimits,
    /// The header timeout (slowloris protection): for the PROXY header and the TLS handshake together, then for the
    /// first head, then for each head.
    pub header_timeout: Duration,
    /// The write timeout: for a client that does not read its response.
    pub write_timeout: Duration,
    /// The idle timeout: for the next request on an open connection.
    pub keep_alive: Duration,
    /// The time for the requests in flight at shutdown.
    pub drain: Duration,
}

/// Connection counters; clones share them.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    /// Open connections.
    pub open: Gauge,
    /// Connections accepted so far.
    pub accepted: Counter,
    /// Connections rejected so far at the connection limit.
    pub refused: Counter,
}

/// The configuration of [`run`].
#[derive(Debug)]
pub(crate) struct ServerConfig {
    /// The limits of all connections.
    pub limits: ConnectionLimits,
    /// The allowlist; clients that are not on it get only a share of the connections.
    pub allowlist: Allowlist,
    /// The connection counters.
    pub metrics: ConnectionMetrics,
}

/// A parsed request.
#[derive(Debug)]
pub struct ClientRequest {
    /// The connection of the request.
    pub connection: Connection,
    /// The reason for which the head was rejected. The request is then only a placeholder.
    pub head_error: Option<HeadError>,
    /// The request.
    pub request: Request<Incoming>,
}

/// The state that all connections of one worker share.
struct Server<P, H> {
    shared: Arc<Shared<H>>,
    proxy: Arc<P>,
    runtime: Handle,
    connections: TaskTracker,
}

/// The state that all connections of all workers share.
struct Shared<H> {
    /// Returns the response to a request, by means of a worker's proxy.
    handle: H,
    limits: ConnectionLimits,
    permits: ConnectionPermits,
    metrics: ConnectionMetrics,
    stop: CancellationToken,
}

/// Serves at `listeners` until `shutdown` is ready, each connection on the worker with the fewest, then finishes the
/// requests in flight within `limits.drain`. Calls `on_drain_timeout` before it cuts the remaining ones.
pub(crate) async fn run<P, H, F, B>(
    listeners: Vec<BoundListener>,
    workers: Vec<Worker<P>>,
    config: ServerConfig,
    handle: H,
    shutdown: impl Future<Output = ()>,
    on_drain_timeout: impl FnOnce(),
) where
    P: Send + Sync + 'static,
    H: Fn(Arc<P>, ClientRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    let ServerConfig { limits, allowlist, metrics } = config;
    let permits = ConnectionPermits::new(limits.connections, allowlist);
    let shared = Arc::new(Shared { handle, limits, permits, metrics, stop: CancellationToken::new() });
    let server = |Worker { proxy, runtime, thread }| {
        let server = Server { shared: Arc::clone(&shared), proxy, runtime, connections: TaskTracker::new() };
        (Arc::new(server), thread)
    };
    let (servers, threads): (Vec<_>, Vec<_>) = workers.into_iter().map(server).unzip();
    tokio::select! {
        _ = join_all(listeners.iter().map(|listener| accept(listener, &servers))) => {}
        () = shutdown => {}
    }
    accept_queued(listeners, &servers).await;
    let open: usize = servers.iter().map(|server| server.connections.len()).sum();
    tracing::info!(connections = open, "draining");
    shared.stop.cancel();
    let ended = servers.iter().map(|server| {
        server.connections.close();
        server.connections.wait()
    });
    if timeout(limits.drain, join_all(ended)).await.is_err() {
        tracing::warn!("the drain timeout has passed with requests still in flight");
        on_drain_timeout();
    }
    drop(threads);
}

/// Accepts the connections that are queued at the sockets, which would be reset otherwise, and closes the sockets.
async fn accept_queued<P, H, F, B>(listeners: Vec<BoundListener>, servers: &[Arc<Server<P, H>>])
where
    P: Send + Sync + 'static,
    H: Fn(Arc<P>, ClientRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    // The runtime has to poll the sockets first: only then does `accept` return the last connections.
    yield_now().await;
    for BoundListener { socket, context } in listeners {
        while let Some(Ok((stream, peer))) = socket.accept().now_or_never() {
            least_busy(servers).serve(stream, peer, &context);
        }
    }
}

async fn accept<P, H, F, B>(BoundListener { socket, context }: &BoundListener, servers: &[Arc<Server<P, H>>])
where
    P: Send + Sync + 'static,
    H: Fn(Arc<P>, ClientRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    let mut delay = FIRST_DELAY;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                delay = FIRST_DELAY;
                least_busy(servers).serve(stream, peer, context);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of file descriptors or memory: both are released as connections end.
                tracing::error!(%error, retry_in_ms = delay.as_millis(), "cannot accept connections");
                sleep(delay).await;
                delay = (delay * 2).min(LAST_DELAY);
            }
        }
    }
}

/// Returns the worker with the fewest connections.
fn least_busy<P, H>(servers: &[Arc<Server<P, H>>]) -> &Arc<Server<P, H>> {
    servers.iter().min_by_key(|server| server.connections.len()).expect("there is a worker")
}

impl<P, H, F, B> Server<P, H>
where
    P: Send + Sync + 'static,
    H: Fn(Arc<P>, ClientRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    /// Serves a connection in the worker's runtime, if a permit is available.
    fn serve(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, context: &Arc<ListenerContext>) {
        let Some(permit) = self.shared.permits.acquire(&context.listener, peer) else {
            return self.shared.shed(&stream, peer, context);
        };
        // Fails only if the socket is gone.
        let Ok(stream) = stream.into_std() else { return };
        let serving = connection::serve(Arc::clone(self), Arc::clone(context), stream, peer, permit);
        self.connections.spawn_on(serving, &self.runtime);
    }
}

impl<H> Shared<H> {
    /// Rejects a client at the connection limit without spending a connection on it (load shedding).
    fn shed(&self, stream: &TcpStream, peer: SocketAddr, context: &ListenerContext) {
        self.metrics.refused.inc();
        tracing::warn!(%peer, "connection refused: too many are open");
        if context.tls.is_none() {
            // A client that waits for a response has an empty socket buffer, so one attempt to write is enough.
            let _ = stream.try_write(OVERLOADED);
        }
    }
}

/// Returns whether `accept` failed because the connection was already gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LAST_DELAY: Duration = Duration::from_secs(1);

/// A response with its length: the close that follows resets the connection if the client has sent a request already.
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\ncontent-length: 94\r\nretry-after: 5\r\nconnection: close\r\n\r\n\
    {\"error\":{\"type\":\"too_busy\",\"reason\":\"too many connections are open; try again\"},\"status\":503}";
