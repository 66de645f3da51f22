//! Accepts connections, hands each request to the gate, and drains on shutdown.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::client_address::Connection;
use crate::gate::Gate;
use crate::head::HeadLimits;
use crate::head::guard::{Guard, Timeouts};
use crate::metrics::{Metrics, Open};

/// What a connection may take, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections open at once.
    pub connections: usize,
    /// What a head may measure.
    pub head: HeadLimits,
    /// For a head to come whole, and for a connection to bring its first.
    pub header_timeout: Duration,
    /// For a client to take bytes off its socket.
    pub write_timeout: Duration,
    /// For the next request on an open connection.
    pub keep_alive: Duration,
    /// For what is in flight at shutdown.
    pub drain: Duration,
}

/// Serves `gate` on `listener` until `shutdown` is ready, then finishes what is in flight within `limits.drain`.
pub async fn run(listener: TcpListener, gate: Arc<Gate>, limits: ConnectionLimits, shutdown: impl Future<Output = ()>) {
    let graceful = GracefulShutdown::new();
    let places = Arc::new(Semaphore::new(limits.connections));
    tokio::select! {
        () = accept(&listener, &gate, limits, &places, &graceful) => {}
        () = shutdown => {}
    }
    drop(listener);
    tracing::info!(connections = graceful.count(), "draining");
    if timeout(limits.drain, graceful.shutdown()).await.is_err() {
        tracing::warn!("requests were still in flight when the time to drain was over");
    }
}

async fn accept(
    listener: &TcpListener,
    gate: &Arc<Gate>,
    limits: ConnectionLimits,
    places: &Arc<Semaphore>,
    graceful: &GracefulShutdown,
) {
    let mut delay = FIRST_DELAY;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                delay = FIRST_DELAY;
                match Arc::clone(places).try_acquire_owned() {
                    Ok(place) => {
                        tokio::spawn(serve(stream, peer, Arc::clone(gate), limits, graceful.watcher(), place));
                    }
                    Err(_) => shed(&stream, peer, &gate.metrics),
                }
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

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    gate: Arc<Gate>,
    limits: ConnectionLimits,
    watcher: Watcher,
    _place: OwnedSemaphorePermit,
) {
    gate.metrics.connections_accepted.inc();
    let _open = Open::count(&gate.metrics.connections);
    // Only a socket that is closed already refuses this.
    let _ = stream.set_nodelay(true);
    let connection = Connection { peer: peer.ip(), is_tls: false };
    let timeouts = Timeouts { head: limits.header_timeout, write: limits.write_timeout };
    let guard = Guard::new(stream, limits.head, timeouts);
    let refusal = guard.refusal();
    let service = service_fn(move |request| {
        // Here, not in the future: hyper calls this as it parses a head, before it reads on.
        let refused = refusal.take();
        let gate = Arc::clone(&gate);
        async move { Ok::<_, Infallible>(gate.serve(connection, refused, request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.keep_alive)
        // The guard has counted already; hyper must not stumble over what the guard let pass.
        .max_headers(limits.head.headers + 1)
        .max_buf_size(limits.head.bytes.max(READ_BUFFER))
        .serve_connection(TokioIo::new(guard), service);
    if let Err(error) = watcher.watch(served).await {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// Tells a client that there is no place for it, without spending one on it.
fn shed(stream: &TcpStream, peer: SocketAddr, metrics: &Metrics) {
    metrics.connections_refused.inc();
    tracing::warn!(%peer, "connection refused: limits.connections are open");
    // A socket that takes nothing at once has nobody who waits for this.
    let _ = stream.try_write(OVERLOADED);
}

/// Whether accepting failed because the connection to be accepted was gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LAST_DELAY: Duration = Duration::from_secs(1);

/// Bytes that hyper reads at once at the most; it grows its buffer up to there only for bodies that keep filling it.
const READ_BUFFER: usize = 400 * 1024;

/// It tells its length: the close behind it resets the connection when the client has sent a request already.
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\ncontent-length: 94\r\nretry-after: 5\r\nconnection: close\r\n\r\n\
    {\"error\":{\"type\":\"too_busy\",\"reason\":\"too many connections are open; try again\"},\"status\":503}";
