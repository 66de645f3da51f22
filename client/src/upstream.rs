//! The upstream connection: TLS, a connection pool, a timeout for each phase.
//!
//! Built on hyper's low-level client API with a pool of our own instead of hyper-util's legacy client. The task that
//! waits for a request also polls its connection, which saves the wake-ups between three tasks (docs/performance.md has
//! the figures). The pool can also be emptied when one of its connections is stale.

mod connection;
mod deadline;
mod early_response;
mod error;
mod pool;
mod pooled_body;
mod tls;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::RootCertStore;
use tokio_util::task::AbortOnDropHandle;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use self::connection::{Connection, MaybeTlsStream};
use self::early_response::EarlyResponseStream;
pub use self::error::UpstreamError;
use self::pool::Pool;
pub use self::pooled_body::PooledBody;
pub use self::tls::{RootsError, describe_pem, load_roots, tls_config, without_bom};
use crate::body::BodyFrames;
use crate::endpoint::Endpoint;
use crate::stats::ClientStats;

/// A domain with a pool of HTTP/1.1 connections to it.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    /// The task that closes idle connections.
    _sweep: AbortOnDropHandle<()>,
}

/// The state that all pools of one domain share.
#[derive(Debug)]
struct Shared {
    connector: Connector,
    endpoint: Endpoint,
    origin: Uri,
    config: UpstreamConfig,
    stats: Arc<ClientStats>,
}

/// The timeouts and limits of an [`Upstream`].
#[derive(Clone, Copy, Debug)]
pub struct UpstreamConfig {
    /// The connect timeout: DNS lookup, TCP handshake and TLS handshake together. Default: 5 seconds.
    pub connect_timeout: Duration,
    /// The response timeout: from the request, once connected, to the head of the response. Default: 5 minutes.
    pub response_timeout: Duration,
    /// Maximum number of idle connections in each pool. Default: 4.
    pub pool_idle: usize,
    /// Maximum number of open connections, over all pools, to leave file descriptors for other uses. Default: no limit.
    pub connections: usize,
}

impl Default for UpstreamConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_mins(5),
            pool_idle: 4,
            connections: usize::MAX,
        }
    }
}

type Connector = BoxCloneSyncService<Uri, MaybeTlsStream, BoxError>;

impl Upstream {
    /// Creates a pool for `endpoint`, whose certificate has to chain to one of `roots`.
    ///
    /// Its connections belong to the current Tokio runtime.
    ///
    /// # Panics
    ///
    /// Panics outside a Tokio runtime.
    #[must_use]
    pub fn new(endpoint: Endpoint, roots: RootCertStore, config: UpstreamConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the addresses of the host name, so that an unreachable node leaves time for another.
        tcp.set_connect_timeout(Some(config.connect_timeout));
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls_config(roots)).https_or_http().enable_http1();
        let connector = ServiceBuilder::new().timeout(config.connect_timeout).service(tls.wrap_connector(tcp));
        let connector = BoxCloneSyncService::new(connector);
        let origin = Uri::builder().scheme(endpoint.scheme().clone()).authority(endpoint.authority().clone());
        let origin = origin.path_and_query("/").build().expect("scheme, authority and path make a URL");
        Self::of(Arc::new(Shared { connector, endpoint, origin, config, stats: Arc::default() }))
    }

    /// Creates another pool for the same domain, in the current Tokio runtime.
    #[must_use]
    pub fn with_own_pool(&self) -> Self {
        Self::of(Arc::clone(&self.shared))
    }

    fn of(shared: Arc<Shared>) -> Self {
        let pool = Arc::new(Pool::new(shared.config.pool_idle));
        let swept = Arc::clone(&pool);
        let sweep = AbortOnDropHandle::new(tokio::spawn(async move { swept.sweep().await }));
        Self { shared, pool, _sweep: sweep }
    }

    /// Returns the domain's endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// Returns the counters, over all pools of this domain.
    #[must_use]
    pub fn stats(&self) -> &Arc<ClientStats> {
        &self.shared.stats
    }

    /// Sends a signed request, and returns the response once its head has arrived. The request's URI is in origin form:
    /// see [`Target::uri`](crate::Target::uri).
    ///
    /// A pooled connection that ends without a response empties the pool, because the others are probably stale as
    /// well: when a node is replaced or a load balancer loses its state, every idle connection fails at its next
    /// request.
    pub async fn send(&self, request: Request<BodyFrames>, via: Via) -> Result<Response<PooledBody>, UpstreamError> {
        let pooled = if via == Via::NewConnection { None } else { self.pool.take() };
        let mut connection = match pooled {
            Some(connection) => connection,
            // Boxed: this rare branch would otherwise enlarge every request's future.
            None => Box::pin(self.connect()).await?,
        };
        let mut response = match connection.send(request, self.shared.config.response_timeout).await {
            Ok(response) => response,
            Err(error) => {
                if connection.is_used() && error.ends_connection() {
                    self.pool.clear();
                }
                return Err(error);
            }
        };
        check_framing(&mut response)?;
        if connection.mark_used() {
            self.shared.stats.count_reuse();
        }
        Ok(response.map(|incoming| PooledBody::new(incoming, connection, Arc::clone(&self.pool))))
    }

    async fn connect(&self) -> Result<Box<Connection>, UpstreamError> {
        let Shared { connector, origin, config, stats, .. } = &*self.shared;
        let open = stats.open_connections();
        if open >= config.connections as u64 {
            let reason = format!("{open} connections to the domain are open, no file descriptor is left for another");
            return Err(UpstreamError::Connect(reason.into()));
        }
        let stream = connector.clone().oneshot(origin.clone()).await.map_err(UpstreamError::of_connecting)?;
        let connection = Connection::open(EarlyResponseStream::new(stream), stats).await;
        Ok(Box::new(connection.map_err(UpstreamError::broken)?))
    }
}

/// The connection that a request is sent over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// An idle connection of the pool, or a new one if none is idle.
    Pool,
    /// A new connection: a retry must not use another stale one.
    NewConnection,
}

/// Rejects a response that the request did not allow: a protocol switch, or a transfer coding other than `chunked`,
/// which a client has to offer in `TE`. `Transfer-Encoding` overrides `Content-Length` (RFC 9112, section 6.3), and a
/// 204 has none (RFC 9110, section 8.6).
fn check_framing<B>(response: &mut Response<B>) -> Result<(), UpstreamError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::Unrequested("a switch to another protocol (101)"));
    }
    let is_empty = response.status() == StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(UpstreamError::Unrequested("in a transfer coding other than chunked"));
        }
        headers.remove(header::CONTENT_LENGTH);
    }
    if is_empty {
        headers.remove(header::CONTENT_LENGTH);
    }
    normalize_length(headers);
    Ok(())
}

/// Leaves at most one `Content-Length`, with one number, because clients may reject others (RFC 9110, section 8.6).
/// hyper accepts a number that is repeated, and in a response to `HEAD` anything.
fn normalize_length(headers: &mut HeaderMap) {
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    match (values.next(), values.next()) {
        (None, _) => return,
        (Some(value), None) if is_number(value) => return,
        _ => {}
    }
    let values = headers.get_all(header::CONTENT_LENGTH).iter();
    let numbers: BTreeSet<&[u8]> =
        values.flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii).collect();
    let only = numbers.first().filter(|number| numbers.len() == 1 && is_number(number));
    match only.and_then(|number| HeaderValue::from_bytes(number).ok()) {
        Some(number) => drop(headers.insert(header::CONTENT_LENGTH, number)),
        None => drop(headers.remove(header::CONTENT_LENGTH)),
    }
}

/// The TCP keepalive time: a silent connection is probed after it, so that one to a vanished node ends.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// The interval of TCP keepalive probes.
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// The time for which sent bytes or probes may stay unacknowledged (`TCP_USER_TIMEOUT`, RFC 5482). A node that vanishes
/// without FIN or RST would otherwise delay each request for the whole response timeout.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
