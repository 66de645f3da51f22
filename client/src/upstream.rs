//! The way to the domain: TLS, a connection pool, a timeout for each phase.
//!
//! hyper's low-level client API with a pool of our own rather than hyper-util's legacy client: a request is polled by
//! the task that waits for it, which saves the wake-ups between three tasks (docs/performance.md has the figures), and
//! the pool can be emptied when one of its connections turns out to be stale.

mod answer_first;
mod connection;
mod deadline;
mod error;
mod pool;
mod pooled_body;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use hyper::{Request, Response, StatusCode, Uri, header};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::RootCertStore;
use tokio_util::task::AbortOnDropHandle;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use self::answer_first::AnswerFirst;
use self::connection::{Connection, MaybeTlsStream};
pub use self::error::UpstreamError;
use self::pool::Pool;
pub use self::pooled_body::PooledBody;
pub use self::tls::{RootsError, load_roots, tls_config};
use crate::body::BodyFrames;
use crate::endpoint::Endpoint;
use crate::stats::ClientStats;

/// One domain, and a pool of connections to it.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    /// The task that closes idle connections.
    _sweep: AbortOnDropHandle<()>,
}

/// All that the pools of one domain have in common.
#[derive(Debug)]
struct Shared {
    connector: Connector,
    endpoint: Endpoint,
    origin: Uri,
    config: UpstreamConfig,
    stats: Arc<ClientStats>,
}

/// Timeouts and bounds of an [`Upstream`].
#[derive(Clone, Copy, Debug)]
pub struct UpstreamConfig {
    /// The time for the name, the TCP and the TLS handshake together.
    pub connect_timeout: Duration,
    /// The time from the request, once there is a connection, to the head of the response.
    pub response_timeout: Duration,
    /// Idle connections kept in each pool.
    pub pool_idle: usize,
    /// Connections open at once, over all pools. It leaves file descriptors for other uses.
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
    /// Makes a pool for `endpoint`, whose certificate has to be signed by one of `roots`.
    ///
    /// Connections live in the runtime that this is called in. Panics outside of one.
    #[must_use]
    pub fn new(endpoint: Endpoint, roots: RootCertStore, config: UpstreamConfig) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the addresses of the name, so that a node that vanished leaves time for another.
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

    /// Makes another pool for the same domain, in the runtime that this is called in.
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

    /// Returns the domain's origin.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// Returns the counts of all pools of this domain.
    #[must_use]
    pub fn stats(&self) -> &Arc<ClientStats> {
        &self.shared.stats
    }

    /// Sends a request and returns the response once its head has arrived. The request's URL is a path with a query:
    /// see [`Target::uri`](crate::Target::uri).
    ///
    /// A pooled connection that ends without a response shows that the pool is stale, and empties it: when a node is
    /// replaced or a load balancer loses its state, every idle connection fails at its next request.
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
        let connection = Connection::open(AnswerFirst::new(stream), stats).await;
        Ok(Box::new(connection.map_err(UpstreamError::broken)?))
    }
}

/// The connection that a request is sent over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// An idle connection of the pool if there is one, else a new one.
    Pool,
    /// A connection that has carried no request: a retry must not meet the next stale one.
    NewConnection,
}

/// Rejects a response that no request asked for: a switch to another protocol, or a transfer coding that only the peer
/// which asked for it can decode. Where both lengths are given, `chunked` is the one that counts (RFC 9112, section 6.3).
fn check_framing<B>(response: &mut Response<B>) -> Result<(), UpstreamError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpstreamError::Unrequested("a switch to another protocol (101)"));
    }
    let headers = response.headers_mut();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(UpstreamError::Unrequested("in a transfer coding other than chunked"));
        }
        headers.remove(header::CONTENT_LENGTH);
    }
    Ok(())
}

/// The time after which a silent connection is probed, so that one to a node that vanished does not last.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// The time between two probes.
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// The time that sent bytes or probes may stay without an acknowledgement (`TCP_USER_TIMEOUT`, RFC 5482). A node that
/// vanishes without FIN or RST would otherwise hold each request for the whole response timeout.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
