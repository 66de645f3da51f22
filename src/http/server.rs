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
    /// Connections open at once.
    pub connections: usize,
    /// The size of a head.
    pub head: HeadLimits,
    /// The time for a whole head, and for the first head of a connection; before that, for its PROXY header and its TLS
    /// handshake together.
    pub header_timeout: Duration,
    /// The time for a client to take bytes off its socket.
    pub write_timeout: Duration,
    /// The time for the next request on an open connection.
    pub keep_alive: Duration,
    /// The time for the requests in flight at shutdown.
    pub drain: Duration,
}

/// The counts of connections; clones share them.
#[derive(Clone, Debug, Default)]
pub struct ConnectionMetrics {
    /// Connections that are open.
    pub open: Gauge,
    /// Connections accepted so far.
    pub accepted: Counter,
    /// Connections refused so far, because too many were open.
    pub refused: Counter,
}

/// All that [`run`] needs besides sockets and workers.
#[derive(Debug)]
pub(crate) struct ServerConfig {
    /// The limits of all connections.
    pub limits: ConnectionLimits,
    /// The list of clients that may have more than a share of the connections.
    pub allowlist: Allowlist,
    /// The counts.
    pub metrics: ConnectionMetrics,
}

/// A request as it leaves the parser.
#[derive(Debug)]
pub struct ClientRequest {
    /// The connection that it came over.
    pub connection: Connection,
    /// The reason why the request is a placeholder for one with a malformed head, if it is.
    pub head_error: Option<HeadError>,
    /// The request.
    pub request: Request<Incoming>,
}

/// All that the connections of one worker share.
struct Server<P, H> {
    shared: Arc<Shared<H>>,
    proxy: Arc<P>,
    runtime: Handle,
    connections: TaskTracker,
}

/// All that the connections of all workers share.
struct Shared<H> {
    /// Answers a request by means of a worker's proxy.
    handle: H,
    limits: ConnectionLimits,
    permits: ConnectionPermits,
    metrics: ConnectionMetrics,
    stop: CancellationToken,
}

/// Serves at `listeners` until `shutdown` is ready, each connection by the worker that has the fewest, then finishes the
/// requests in flight within `limits.drain`. Calls `on_drain_timeout` before it cuts those that are left.
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
        tracing::warn!("requests were still in flight when the time to drain was over");
        on_drain_timeout();
    }
    drop(threads);
}

/// Accepts the connections that wait in the sockets' queues, which would be reset otherwise, and closes the sockets.
async fn accept_queued<P, H, F, B>(listeners: Vec<BoundListener>, servers: &[Arc<Server<P, H>>])
where
    P: Send + Sync + 'static,
    H: Fn(Arc<P>, ClientRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    // The runtime looks at the sockets first: only then `accept` knows of the last ones.
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
                // Out of file descriptors or memory: both come back as connections end.
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
    /// Serves a connection in the worker's runtime, if there is a permit for it.
    fn serve(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, context: &Arc<ListenerContext>) {
        let Some(permit) = self.shared.permits.acquire(&context.listener, peer) else {
            return self.shared.shed(&stream, peer, context);
        };
        // A socket that cannot be taken out of this runtime is one that is gone.
        let Ok(stream) = stream.into_std() else { return };
        let serving = connection::serve(Arc::clone(self), Arc::clone(context), stream, peer, permit);
        self.connections.spawn_on(serving, &self.runtime);
    }
}

impl<H> Shared<H> {
    /// Answers a client that there are too many connections, without spending one on it (load shedding).
    fn shed(&self, stream: &TcpStream, peer: SocketAddr, context: &ListenerContext) {
        self.metrics.refused.inc();
        tracing::warn!(%peer, "connection refused: too many are open");
        if context.tls.is_none() {
            // A socket that accepts nothing at once has no client that waits for this.
            let _ = stream.try_write(OVERLOADED);
        }
    }
}

/// Returns whether accepting failed because the connection to be accepted was gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LAST_DELAY: Duration = Duration::from_secs(1);

/// A response with its length: the close behind it resets the connection when the client has sent a request already.
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\ncontent-length: 94\r\nretry-after: 5\r\nconnection: close\r\n\r\n\
    {\"error\":{\"type\":\"too_busy\",\"reason\":\"too many connections are open; try again\"},\"status\":503}";
