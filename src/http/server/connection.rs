//! One connection from its first byte to its last: PROXY header, TLS handshake, then requests by HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::pace::Pace;
use super::{Door, Place, Server};
use crate::http::head;
use crate::http::head::guard::{Guard, Timeouts};
use crate::http::listener::Connection;
use crate::http::proxy_protocol::{self, ProxyError};
use crate::http::tls;
use crate::ops::metrics::Open;
use crate::policy::client_address::Address;

pub(super) async fn serve(server: Arc<Server>, door: Arc<Door>, stream: StdStream, peer: SocketAddr, mut place: Place) {
    let metrics = &server.gate.metrics;
    metrics.connections_accepted.inc();
    let _open = Open::count(&metrics.connections);
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    // Only a socket that is closed already refuses this.
    let _ = stream.set_nodelay(true);
    let opening = timeout(server.limits.header_timeout, open(&server, &door, stream, peer, &mut place));
    let outcome = match opening.await {
        Ok(Ok((connection, Io::Plain(stream)))) => server.http1(connection, stream).await,
        Ok(Ok((connection, Io::Tls(stream)))) if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP_2) => {
            server.http2(connection, stream).await
        }
        Ok(Ok((connection, Io::Tls(stream)))) => server.http1(connection, stream).await,
        // Load balancers look whether somebody listens, and hang up.
        Ok(Err(OpenError::Proxy(error @ ProxyError::Ended(_)))) => {
            return tracing::debug!(%error, %peer, "connection ended");
        }
        Ok(Err(OpenError::Proxy(error))) => return tracing::warn!(%error, %peer, "connection refused"),
        Ok(Err(OpenError::Untrusted)) => {
            return tracing::warn!(%peer, "connection refused: it is not from one of listen.trusted_proxies");
        }
        Ok(Err(OpenError::Crowded)) => {
            metrics.connections_refused.inc();
            return tracing::warn!(%peer, "connection refused: too many are open");
        }
        // Port scans and browsers that do not trust the certificate: nothing to tell an operator each time.
        Ok(Err(OpenError::Handshake(error))) => return tracing::debug!(%error, %peer, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "the connection did not begin in time"),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// A connection that is ready for HTTP.
enum Io {
    Plain(TcpStream),
    // Boxed, for it is large, and most of the time of a connection is spent waiting.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why a connection does not get as far as HTTP.
enum OpenError {
    Proxy(ProxyError),
    Untrusted,
    Crowded,
    Handshake(io::Error),
}

async fn open(
    server: &Server,
    door: &Door,
    mut stream: TcpStream,
    peer: SocketAddr,
    place: &mut Place,
) -> Result<(Connection, Io), OpenError> {
    let mut connection = Connection { peer: Address::new(peer.ip()), listener: Arc::clone(&door.listener) };
    if door.listener.proxy_protocol {
        if !door.listener.trusted_proxies.contains(peer.ip()) {
            return Err(OpenError::Untrusted);
        }
        let client = proxy_protocol::read(&mut stream).await.map_err(OpenError::Proxy)?;
        connection.peer = client.map_or(connection.peer, Address::new);
        // The place was the proxy's; now it is known whose it is.
        server.settle(place, connection.peer.ip()).ok_or(OpenError::Crowded)?;
    }
    let io = match &door.tls {
        None => Io::Plain(stream),
        Some(acceptor) => Io::Tls(Box::new(acceptor.accept(stream).await.map_err(OpenError::Handshake)?)),
    };
    Ok((connection, io))
}

impl Server {
    async fn http1<I>(&self, connection: Connection, io: I) -> Result<(), hyper::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let timeouts = Timeouts { head: limits.header_timeout, write: limits.write_timeout };
        let guard = Guard::new(io, limits.head, timeouts);
        let (refusal, half_closed) = (guard.refusal(), guard.half_closed());
        let pace = Pace::start();
        let (gate, at_work) = (Arc::clone(&self.gate), Arc::clone(&pace));
        let service = service_fn(move |request| {
            // Here, not in the future: hyper calls this as it parses a head, before it reads on.
            let refused = refusal.take();
            let (gate, connection, turn) = (Arc::clone(&gate), connection.clone(), at_work.begin());
            async move {
                let mut response = gate.serve(connection, refused, request).await;
                turn.close_at_end(&mut response);
                Ok::<_, Infallible>(turn.follow(response))
            }
        });
        let mut builder = http1::Builder::new();
        // The guard and the pace see to that.
        builder.header_read_timeout(None);
        builder.max_buf_size(limits.head.bytes.max(READ_BUFFER));
        // The guard has counted already; hyper must not stumble over what the guard let pass. It keeps the places of so
        // many headers on the stack by itself, and of as many as it is told on the heap.
        if limits.head.headers > HYPER_HEADERS {
            builder.max_headers(limits.head.headers);
        }
        let mut served = pin!(builder.serve_connection(TokioIo::new(guard), service));
        // One that is polled only when something has happened to it, and not with each byte.
        let mut ending = FuturesUnordered::from_iter([async {
            tokio::select! {
                () = self.end_http1(&pace) => {}
                () = pace.idle(limits.keep_alive) => {}
                () = half_closed.notified() => {}
            }
        }]);
        tokio::select! {
            biased;
            served = served.as_mut() => return served,
            _ = ending.next() => served.as_mut().graceful_shutdown(),
        }
        served.await
    }

    async fn http2<I>(&self, connection: Connection, io: I) -> Result<(), hyper::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let pace = Pace::start();
        let (gate, at_work) = (Arc::clone(&self.gate), Arc::clone(&pace));
        let service = service_fn(move |mut request| {
            let refused = head::http2::settle(&mut request, limits.head).err();
            let (gate, connection, turn) = (Arc::clone(&gate), connection.clone(), at_work.begin());
            async move { Ok::<_, Infallible>(turn.follow(gate.serve(connection, refused, request).await)) }
        });
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.head.bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .serve_connection(TokioIo::new(io), service);
        let mut served = pin!(served);
        tokio::select! {
            served = served.as_mut() => return served,
            () = self.end(&pace) => served.as_mut().graceful_shutdown(),
            () = async {
                tokio::select! {
                    () = pace.unused(limits.header_timeout) => {}
                    () = pace.idle(limits.keep_alive) => {}
                }
            } => {
                served.as_mut().graceful_shutdown();
                // A client that does not hear of it has gone.
                return timeout(limits.header_timeout, served).await.unwrap_or(Ok(()));
            }
            () = pace.stalled(limits.write_timeout) => return Ok(()),
        }
        served.await
    }

    /// Ready when the proxy ends and the connection is idle, after each answer since has announced the end.
    async fn end_http1(&self, pace: &Pace) {
        self.stop.child_token().cancelled().await;
        pace.end(FIRST_REQUEST).await;
    }

    /// Ready when the gate ends, and the connection's first request has begun: told to end before that, hyper closes
    /// the connection of a client that may have sent it already.
    async fn end(&self, pace: &Pace) {
        // A child, for all cores would meet at the lock of the token itself whenever a connection moves.
        self.stop.child_token().cancelled().await;
        pace.begun(FIRST_REQUEST).await;
    }
}

/// How long a client that has connected may take to ask when the gate is about to end. Nobody is lost who asks at once,
/// and a browser that connects in advance does not hold up the end for long.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// Headers that hyper takes by default.
const HYPER_HEADERS: usize = 100;

/// Bytes that hyper reads at once at the most; it grows its buffer up to there only for bodies that keep filling it.
const READ_BUFFER: usize = 400 * 1024;

/// Requests at once on a connection of HTTP/2. Browsers and clients ask for fewer.
const STREAMS: u32 = 128;

/// Bytes of bodies that a client may send on a connection of HTTP/2 before the gate takes them, which it does within
/// the budget for bodies.
const WINDOW: u32 = 256 * 1024;
