//! Accepts connections, hands each request to the gate, and drains on shutdown.

mod connection;
mod pace;
mod worker;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::worker::Worker;
use crate::http::head::HeadLimits;
use crate::http::listener::Listener;
use crate::http::tls::{Certificate, CertificateReloader};
use crate::proxy::Gate;

/// What a connection may take, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections open at once.
    pub connections: usize,
    /// What a head may measure.
    pub head: HeadLimits,
    /// For a head to come whole, and for a connection to bring its first; before that, for its PROXY header and its TLS
    /// handshake together.
    pub header_timeout: Duration,
    /// For a client to take bytes off its socket.
    pub write_timeout: Duration,
    /// For the next request on an open connection.
    pub keep_alive: Duration,
    /// For what is in flight at shutdown.
    pub drain: Duration,
}

/// An open socket, and what holds for whoever comes there.
pub struct Entrance {
    /// Not shared with the connections, for it has to close while they go on.
    socket: TcpListener,
    door: Arc<Door>,
}

/// What holds for whoever comes in at one socket.
struct Door {
    listener: Arc<Listener>,
    tls: Option<TlsAcceptor>,
}

impl Entrance {
    /// Listens as `listener` says. The reloader has to run for a certificate to follow its files.
    pub async fn open(listener: Listener) -> anyhow::Result<(Self, Option<CertificateReloader>)> {
        let socket = TcpListener::bind(listener.address).await;
        let socket = socket.with_context(|| format!("cannot listen on {}", listener.address))?;
        Self::on(socket, listener)
    }

    /// The same on a socket that is open already.
    pub fn on(socket: TcpListener, listener: Listener) -> anyhow::Result<(Self, Option<CertificateReloader>)> {
        let certificate = listener.tls.as_ref().map(CertificateReloader::start).transpose()?;
        let (reloader, certificate) = certificate.unzip();
        let tls = certificate.map(|it: Certificate| TlsAcceptor::from(Arc::new(it.server_config())));
        let door = Arc::new(Door { listener: Arc::new(listener), tls });
        Ok((Self { socket, door }, reloader))
    }

    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// What the connections of one worker share, and through it those of all.
struct Server {
    gate: Arc<Gate>,
    runtime: Handle,
    limits: ConnectionLimits,
    places: Arc<Semaphore>,
    /// Of the places, how many strangers may take: those who hold connections to lock out the others are no clients.
    strangers: Arc<Semaphore>,
    stop: CancellationToken,
    connections: TaskTracker,
}

/// A connection's place among those that may be open.
struct Place {
    _any: OwnedSemaphorePermit,
    stranger: Option<OwnedSemaphorePermit>,
}

/// Serves at `entrances` until `shutdown` is ready, each connection with the worker that has the fewest, then finishes
/// what is in flight within `limits.drain`.
pub async fn run(
    entrances: Vec<Entrance>,
    workers: Vec<Worker>,
    limits: ConnectionLimits,
    shutdown: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let strangers = Arc::new(Semaphore::new((limits.connections / 10).max(1)));
    let stop = CancellationToken::new();
    let server = |Worker { gate, runtime, thread }| {
        let (places, strangers, stop) = (Arc::clone(&places), Arc::clone(&strangers), stop.clone());
        let connections = TaskTracker::new();
        (Arc::new(Server { gate, runtime, limits, places, strangers, stop, connections }), thread)
    };
    // The threads are kept apart: a connection that outlives the time to drain must not keep its own thread.
    let (servers, threads): (Vec<_>, Vec<_>) = workers.into_iter().map(server).unzip();
    tokio::select! {
        _ = join_all(entrances.iter().map(|entrance| accept(entrance, &servers))) => {}
        () = shutdown => {}
    }
    accept_last(entrances, &servers).await;
    let open: usize = servers.iter().map(|server| server.connections.len()).sum();
    tracing::info!(connections = open, "draining");
    stop.cancel();
    let ended = servers.iter().map(|server| {
        server.connections.close();
        server.connections.wait()
    });
    if timeout(limits.drain, join_all(ended)).await.is_err() {
        tracing::warn!("requests were still in flight when the time to drain was over");
        for server in &servers {
            server.gate.access_log.note_cut();
        }
    }
    drop(threads);
}

/// Accepts the connections that wait in the sockets' queues, which would be reset otherwise, and closes the sockets.
async fn accept_last(entrances: Vec<Entrance>, servers: &[Arc<Server>]) {
    // The event queue is looked at before this goes on.
    yield_now().await;
    for Entrance { socket, door } in entrances {
        while let Some(Ok((stream, peer))) = socket.accept().now_or_never() {
            let server = servers.iter().min_by_key(|server| server.connections.len());
            server.expect("there is a worker").take(stream, peer, &door);
        }
    }
}

async fn accept(Entrance { socket, door }: &Entrance, servers: &[Arc<Server>]) {
    let mut delay = FIRST_DELAY;
    loop {
        match socket.accept().await {
            Ok((stream, peer)) => {
                delay = FIRST_DELAY;
                let server = servers.iter().min_by_key(|server| server.connections.len());
                server.expect("there is a worker").take(stream, peer, door);
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

impl Server {
    fn take(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, door: &Arc<Door>) {
        let Some(place) = self.place(&door.listener, peer) else { return self.shed(&stream, peer, door) };
        // A socket that cannot be taken out of this runtime is one that is gone.
        let Ok(stream) = stream.into_std() else { return };
        let serving = connection::serve(Arc::clone(self), Arc::clone(door), stream, peer, place);
        self.connections.spawn_on(serving, &self.runtime);
    }

    /// A place for a connection from `peer`, if there is one left for such as this.
    fn place(&self, listener: &Listener, peer: SocketAddr) -> Option<Place> {
        let mut place = Place { _any: Arc::clone(&self.places).try_acquire_owned().ok()?, stranger: None };
        if !listener.trusted_proxies.contains(peer.ip()) {
            self.settle(&mut place, peer.ip())?;
        }
        Some(place)
    }

    /// Counts the connection among the strangers' when `client` is one; nothing if they have too many.
    fn settle(&self, place: &mut Place, client: IpAddr) -> Option<()> {
        if !self.gate.knows(client) {
            place.stranger = Some(Arc::clone(&self.strangers).try_acquire_owned().ok()?);
        }
        Some(())
    }

    /// Tells a client that there is no place for it, without spending one on it.
    fn shed(&self, stream: &TcpStream, peer: SocketAddr, door: &Door) {
        self.gate.metrics.connections_refused.inc();
        tracing::warn!(%peer, "connection refused: too many are open");
        if door.tls.is_none() {
            // A socket that takes nothing at once has nobody who waits for this.
            let _ = stream.try_write(OVERLOADED);
        }
    }
}

/// Whether accepting failed because the connection to be accepted was gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

const FIRST_DELAY: Duration = Duration::from_millis(10);
const LAST_DELAY: Duration = Duration::from_secs(1);

/// It tells its length: the close behind it resets the connection when the client has sent a request already.
const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
    content-type: application/json\r\ncontent-length: 94\r\nretry-after: 5\r\nconnection: close\r\n\r\n\
    {\"error\":{\"type\":\"too_busy\",\"reason\":\"too many connections are open; try again\"},\"status\":503}";
