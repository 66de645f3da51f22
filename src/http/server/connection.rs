//! One connection from accept to close: PROXY header, TLS handshake, then requests over HTTP/1.1 or HTTP/2.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::io;
use std::net::{SocketAddr, TcpStream as StdStream};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hyper::Response;
use hyper::body::Body;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::bound_listener::ListenerContext;
use super::connection_timeouts::ConnectionActivity;
use super::permits::{ConnectionPermit, ConnectionPermits};
use super::{ClientRequest, Server};
use crate::http::head::validating_stream::{Timeouts, ValidatingStream};
use crate::http::head::{self, HeadError};
use crate::http::listener::Connection;
use crate::http::proxy_protocol::{self, ProxyError};
use crate::http::tls;
use crate::policy::client_address::ClientAddress;

/// Serves one connection from accept to close.
pub(super) async fn serve<P, H, F, B>(
    server: Arc<Server<P, H>>,
    context: Arc<ListenerContext>,
    stream: StdStream,
    peer: SocketAddr,
    mut permit: ConnectionPermit,
) where
    P: Send + Sync + 'static,
    H: Fn(Arc<P>, ClientRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    let (metrics, limits) = (&server.shared.metrics, server.shared.limits);
    metrics.accepted.inc();
    let _open = OpenConnection::count(&metrics.open);
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    // Fails only on a closed socket.
    let _ = stream.set_nodelay(true);
    let opening = timeout(limits.header_timeout, open(&server.shared.permits, &context, stream, peer, &mut permit));
    let outcome = match opening.await {
        Ok(Ok((connection, Io::Plain(stream)))) => server.http1(connection, stream, None).await,
        Ok(Ok((connection, Io::Unencrypted(stream)))) => {
            server.http1(connection, stream, Some(HeadError::Unencrypted)).await
        }
        Ok(Ok((connection, Io::Tls(stream)))) if stream.get_ref().1.alpn_protocol() == Some(tls::HTTP_2) => {
            server.http2(connection, stream).await
        }
        Ok(Ok((connection, Io::Tls(stream)))) => server.http1(connection, stream, None).await,
        // Load balancer health checks connect and disconnect.
        Ok(Err(OpenError::Proxy(error @ ProxyError::Ended(_)))) => {
            return tracing::debug!(%error, %peer, "connection ended");
        }
        Ok(Err(OpenError::Proxy(error))) => return tracing::warn!(%error, %peer, "connection refused"),
        Ok(Err(OpenError::Untrusted)) => {
            return tracing::warn!(%peer, "connection refused: it is not from one of listen.trusted_proxies");
        }
        Ok(Err(OpenError::Overloaded)) => {
            metrics.refused.inc();
            return tracing::warn!(%peer, "connection refused: too many are open");
        }
        // Port scans and browsers that do not trust the certificate cause this often: not worth a warning each time.
        Ok(Err(OpenError::Handshake(error))) => return tracing::debug!(%error, %peer, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "the connection timed out before its first request"),
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, %peer, "connection ended");
    }
}

/// Counts a connection as open until it is dropped.
struct OpenConnection(Gauge);

impl OpenConnection {
    fn count(open: &Gauge) -> Self {
        open.inc();
        Self(open.clone())
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A connection that is ready for HTTP.
enum Io {
    Plain(TcpStream),
    /// Plain HTTP on a listener with TLS, to be rejected with a reason. A failed handshake would give none.
    Unencrypted(TcpStream),
    // Boxed: the state is large, and a connection is idle for most of its life.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The reason why a connection ends before HTTP.
enum OpenError {
    Proxy(ProxyError),
    Untrusted,
    Overloaded,
    Handshake(io::Error),
}

async fn open(
    permits: &ConnectionPermits,
    context: &ListenerContext,
    mut stream: TcpStream,
    peer: SocketAddr,
    permit: &mut ConnectionPermit,
) -> Result<(Connection, Io), OpenError> {
    let trusted_proxies = &context.listener.trusted_proxies;
    let is_trusted = trusted_proxies.contains(peer.ip());
    let peer = ClientAddress::new(peer.ip());
    let mut connection = Connection { peer, is_trusted, listener: Arc::clone(&context.listener) };
    if context.listener.proxy_protocol {
        if !is_trusted {
            return Err(OpenError::Untrusted);
        }
        let client = proxy_protocol::read(&mut stream).await.map_err(OpenError::Proxy)?;
        connection.is_trusted = client.is_some_and(|client| trusted_proxies.contains(client));
        connection.peer = client.map_or(connection.peer, ClientAddress::new);
        // The permit was acquired for the load balancer; now the client is known.
        permits.assign_client(permit, connection.peer.ip()).ok_or(OpenError::Overloaded)?;
    }
    let io = match &context.tls {
        None => Io::Plain(stream),
        Some(_) if is_http(&stream).await => Io::Unencrypted(stream),
        Some(acceptor) => Io::Tls(Box::new(acceptor.accept(stream).await.map_err(OpenError::Handshake)?)),
    };
    Ok((connection, io))
}

/// Returns whether the client begins with a method of HTTP. A TLS handshake begins with 0x16.
async fn is_http(stream: &TcpStream) -> bool {
    let mut first = [0];
    // The handshake reports the end or failure of the connection.
    stream.peek(&mut first).await.is_ok_and(|length| length > 0 && first[0].is_ascii_uppercase())
}

impl<P, H, F, B> Server<P, H>
where
    P: Send + Sync + 'static,
    H: Fn(Arc<P>, ClientRequest) -> F + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + Unpin + 'static,
{
    /// Serves HTTP/1.1, or only rejects the first request for `error`.
    async fn http1<I>(
        self: &Arc<Self>,
        connection: Connection,
        io: I,
        error: Option<HeadError>,
    ) -> Result<(), hyper::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.shared.limits;
        let timeouts = Timeouts { head: limits.header_timeout, write: limits.write_timeout };
        let mut stream = ValidatingStream::new(io, limits.head, timeouts);
        if let Some(error) = error {
            stream.reject(error);
        }
        let (rejection, half_closed) = (stream.rejection(), stream.half_closed());
        let activity = ConnectionActivity::start();
        let (server, requests) = (Arc::clone(self), Arc::clone(&activity));
        let service = service_fn(move |request| {
            // Here, not in the future: hyper calls this as it parses a head, before it reads on.
            let head_error = rejection.take();
            let (connection, guard) = (connection.clone(), requests.begin_request());
            let request = ClientRequest { connection, head_error, request };
            let response = (server.shared.handle)(Arc::clone(&server.proxy), request);
            async move {
                let mut response = response.await;
                guard.close_if_draining(&mut response);
                Ok::<_, Infallible>(guard.track(response))
            }
        });
        let mut builder = http1::Builder::new();
        // `ValidatingStream` and `ConnectionActivity` bound these times.
        builder.header_read_timeout(None);
        builder.max_buf_size(limits.head.bytes.max(READ_BUFFER));
        // The validator has counted the headers already, so hyper must not reject a head with its own lower limit.
        // hyper keeps the positions of its default number of headers on the stack, and those of a configured number on
        // the heap.
        if limits.head.headers > HYPER_HEADERS {
            builder.max_headers(limits.head.headers);
        }
        let mut http = pin!(builder.serve_connection(TokioIo::new(stream), service));
        // `FuturesUnordered` polls its future only when that is woken, not with each byte of the connection.
        let mut ending = FuturesUnordered::from_iter([async {
            tokio::select! {
                () = self.drain_http1(&activity) => {}
                () = activity.wait_until_idle(limits.keep_alive) => {}
                () = half_closed.notified() => {}
            }
        }]);
        tokio::select! {
            biased;
            http = http.as_mut() => return http,
            _ = ending.next() => http.as_mut().graceful_shutdown(),
        }
        http.await
    }

    async fn http2<I>(self: &Arc<Self>, connection: Connection, io: I) -> Result<(), hyper::Error>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.shared.limits;
        let activity = ConnectionActivity::start();
        let (server, requests) = (Arc::clone(self), Arc::clone(&activity));
        let service = service_fn(move |mut request| {
            let head_error = head::http2::normalize(&mut request, limits.head).err();
            let (connection, guard) = (connection.clone(), requests.begin_request());
            let request = ClientRequest { connection, head_error, request };
            let response = (server.shared.handle)(Arc::clone(&server.proxy), request);
            async move { Ok::<_, Infallible>(guard.track(response.await)) }
        });
        let http = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.head.bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .serve_connection(TokioIo::new(io), service);
        let mut http = pin!(http);
        tokio::select! {
            http = http.as_mut() => return http,
            () = self.drain_http2(&activity) => http.as_mut().graceful_shutdown(),
            () = async {
                tokio::select! {
                    () = activity.wait_until_unused(limits.header_timeout) => {}
                    () = activity.wait_until_idle(limits.keep_alive) => {}
                }
            } => {
                http.as_mut().graceful_shutdown();
                // A client that does not react to GOAWAY has gone.
                return timeout(limits.header_timeout, http).await.unwrap_or(Ok(()));
            }
            () = activity.wait_until_stalled(limits.write_timeout) => return Ok(()),
        }
        http.await
    }

    /// Waits until the proxy drains and the connection is idle. Responses in the meantime carry `Connection: close`.
    async fn drain_http1(&self, activity: &ConnectionActivity) {
        self.shared.stop.child_token().cancelled().await;
        activity.drain(FIRST_REQUEST).await;
    }

    /// Waits until the proxy drains and the connection's first request has begun. A graceful shutdown before that makes
    /// hyper close the connection, although the client may have sent a request already.
    async fn drain_http2(&self, activity: &ConnectionActivity) {
        // A child token: otherwise all cores contend for the token's lock whenever a connection wakes.
        self.shared.stop.child_token().cancelled().await;
        activity.wait_for_first_request(FIRST_REQUEST).await;
    }
}

/// The time that a connected client has for its first request when the proxy drains. A request sent at once is not
/// lost, and a browser's preconnect does not delay the shutdown for long.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// The number of headers that hyper accepts by default.
const HYPER_HEADERS: usize = 100;

/// The maximum number of bytes per read by hyper. Its buffer grows to this size only for bodies that keep filling it.
const READ_BUFFER: usize = 400 * 1024;

/// Concurrent streams on an HTTP/2 connection. Browsers and other clients use fewer.
const STREAMS: u32 = 128;

/// The HTTP/2 flow control window in bytes: the body bytes that a client may send before the proxy reads them, which it
/// does within the memory budget.
const WINDOW: u32 = 256 * 1024;
