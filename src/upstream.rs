//! The domain as an HTTP client sees it: TLS, a connection pool, a timeout for each phase.

mod io;
mod link;
mod pool;

use std::error::Error as StdError;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::{Method, Request, Response, StatusCode, Uri, header};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;
use tower::timeout::error::Elapsed;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt as _};

use self::io::AnswerFirst;
pub use self::link::Arriving;
use self::link::{Io, Link};
use self::pool::Pool;
use crate::body::Sending;
use crate::endpoint::Endpoint;
use crate::metrics::Metrics;

/// A pool of connections to one domain.
#[derive(Debug)]
pub struct Upstream {
    connector: Connector,
    endpoint: Endpoint,
    origin: Uri,
    pool: Arc<Pool>,
    /// The task that closes idle connections.
    _sweep: AbortOnDropHandle<()>,
    limits: UpstreamLimits,
    metrics: Arc<Metrics>,
}

/// How long the phases of a request may take, and how many idle connections are kept.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// For the name, the TCP and the TLS handshake together.
    pub connect_timeout: Duration,
    /// From the request, once there is a connection, to the head of the response.
    pub response_timeout: Duration,
    /// Idle connections kept.
    pub pool_idle: usize,
    /// Connections open at once, over all pools: the others leave file descriptors for clients and for files.
    pub connections: usize,
}

type Connector = BoxCloneSyncService<Uri, Io, BoxError>;

impl Upstream {
    /// A pool for `endpoint`, which has to show a certificate that one of `roots` has signed.
    ///
    /// Panics outside of a runtime; connections live in the one that it is called in.
    #[must_use]
    pub fn new(endpoint: Endpoint, roots: RootCertStore, limits: UpstreamLimits, metrics: Arc<Metrics>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // Divided among the addresses of the name, so that a node that vanished leaves time for another.
        tcp.set_connect_timeout(Some(limits.connect_timeout));
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        tcp.set_keepalive_interval(Some(TCP_KEEPALIVE_INTERVAL));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls_config(roots)).https_or_http().enable_http1();
        let connector = ServiceBuilder::new().timeout(limits.connect_timeout).service(tls.wrap_connector(tcp));
        Self::with(BoxCloneSyncService::new(connector), endpoint, limits, metrics)
    }

    /// The same with a pool of its own, in the runtime that this is called in.
    #[must_use]
    pub fn with_own_pool(&self) -> Self {
        Self::with(self.connector.clone(), self.endpoint.clone(), self.limits, Arc::clone(&self.metrics))
    }

    fn with(connector: Connector, endpoint: Endpoint, limits: UpstreamLimits, metrics: Arc<Metrics>) -> Self {
        let origin = Uri::builder().scheme(endpoint.scheme().clone()).authority(endpoint.authority().clone());
        let origin = origin.path_and_query("/").build().expect("scheme, authority and path make a URL");
        let pool = Arc::new(Pool::of(limits.pool_idle));
        let swept = Arc::clone(&pool);
        let sweep = AbortOnDropHandle::new(tokio::spawn(async move { swept.sweep().await }));
        Self { connector, endpoint, origin, pool, _sweep: sweep, limits, metrics }
    }

    /// The domain's origin.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Sends a request and returns the response once its head has arrived. The request's URL is a path with a query:
    /// see [`Target::uri`](crate::target::Target::uri).
    ///
    /// A pooled connection that ends without an answer shows that the pool is stale, so it empties the pool: when a node
    /// is replaced or a load balancer loses its state, every idle connection fails at its next request.
    pub async fn send(&self, request: Request<Sending>, via: Via) -> Result<Response<Arriving>, SendError> {
        let pooled = if via == Via::NewConnection { None } else { self.pool.take() };
        let mut link = match pooled {
            Some(link) => link,
            // Boxed: this rare branch would otherwise enlarge every request's future.
            None => Box::pin(self.connect()).await?,
        };
        let mut response = match link.send(request, self.limits.response_timeout).await {
            Ok(response) => response,
            Err(error) => {
                if link.is_used() && error.ends_connection() {
                    self.pool.clear();
                }
                return Err(error);
            }
        };
        check_framing(&mut response)?;
        if link.note_use() {
            self.metrics.upstream_reused.inc();
        }
        Ok(response.map(|incoming| Arriving::new(incoming, link, Arc::clone(&self.pool))))
    }

    async fn connect(&self) -> Result<Box<Link>, SendError> {
        let open = usize::try_from(self.metrics.upstream_connections.get()).unwrap_or_default();
        if open >= self.limits.connections {
            let reason = format!("{open} connections to the domain are open, no file descriptor is left for another");
            return Err(SendError::Connect(reason.into()));
        }
        let io = self.connector.clone().oneshot(self.origin.clone()).await.map_err(SendError::of_connecting)?;
        Ok(Box::new(Link::over(AnswerFirst::new(io), &self.metrics).await.map_err(SendError::broken)?))
    }
}

/// The connection that a request is sent by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// An idle connection of the pool if there is one.
    Pool,
    /// A connection that no request has used: a retry must not meet the next stale one.
    NewConnection,
}

/// Rejects a response that nothing asked for: a switch to another protocol, or a transfer coding that only the peer
/// which asked for it can decode. Where both lengths are given, `chunked` is the one that counts (RFC 9112, section 6.3).
fn check_framing<B>(response: &mut Response<B>) -> Result<(), SendError> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(SendError::Unasked("a switch to another protocol (101)"));
    }
    let headers = response.headers_mut();
    if headers.contains_key(header::TRANSFER_ENCODING) {
        let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
        if codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"chunked")) {
            return Err(SendError::Unasked("in a transfer coding other than chunked"));
        }
        headers.remove(header::CONTENT_LENGTH);
    }
    Ok(())
}

/// Why the domain gave no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection: the name, the port, or the certificate.
    #[error("no connection")]
    Connect(#[source] BoxError),
    /// No connection within the time for it.
    #[error("no connection in time")]
    ConnectTimeout,
    /// No head of a response within the time for it.
    #[error("no response in time")]
    ResponseTimeout,
    /// The connection ended, or what came is not HTTP.
    #[error("broken response")]
    Broken(#[source] BoxError),
    /// The head has more headers than hyper parses ([`MAX_HEADERS`]), or is longer than its buffer.
    #[error("the head of the response is too large: more than {MAX_HEADERS} headers, or more than 400 KiB")]
    HeadTooLarge,
    /// The response is well-formed, but no answer to what was asked.
    #[error("the response is {0}, which was not asked for")]
    Unasked(&'static str),
}

impl SendError {
    /// Whether the request may be sent once more: nothing of it was sent, or it does no harm twice and the connection
    /// ended without an answer, as a pooled one does when the domain closes it at that moment.
    #[must_use]
    pub fn may_retry(&self, method: &Method) -> bool {
        let Self::Broken(error) = self else { return false };
        let mut hyper_errors = causes(error.as_ref()).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
        let is_unsent = hyper_errors.any(hyper::Error::is_canceled);
        is_unsent || (method.is_idempotent() && self.ends_connection())
    }

    /// Whether the connection ended, as opposed to an answer that came and cannot be read.
    fn ends_connection(&self) -> bool {
        let Self::Broken(error) = self else { return false };
        let cause = causes(error.as_ref()).find_map(|cause| cause.downcast_ref::<hyper::Error>());
        cause.is_some_and(|cause| cause.is_incomplete_message() || (!cause.is_parse() && !cause.is_user()))
    }

    fn broken(error: hyper::Error) -> Self {
        if error.is_parse_too_large() { Self::HeadTooLarge } else { Self::Broken(error.into()) }
    }

    fn of_connecting(error: BoxError) -> Self {
        // The whole takes too long, or each address of the name does.
        let is_late = |cause: &(dyn StdError + 'static)| {
            let socket = cause.downcast_ref::<std::io::Error>();
            cause.is::<Elapsed>() || socket.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
        };
        if causes(error.as_ref()).any(is_late) { Self::ConnectTimeout } else { Self::Connect(error) }
    }
}

/// An error, its source, the source's source, and so on.
pub(crate) fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// The roots that sign the domain's certificate: those in `ca_file` alone, or this platform's.
pub fn roots(ca_file: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = ca_file {
        let pem = fs::read(file).with_context(|| format!("{}: cannot be read", file.display()))?;
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate = certificate.with_context(|| format!("{}: is not PEM", file.display()))?;
            roots.add(certificate).with_context(|| format!("{}: holds a bad certificate", file.display()))?;
        }
        if roots.is_empty() {
            bail!("{}: holds no certificate", file.display());
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let errors = found.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            bail!("this platform has no root certificates (install ca-certificates, or name a ca_file) {errors}");
        }
    }
    Ok(roots)
}

pub(crate) fn tls_config(roots: RootCertStore) -> ClientConfig {
    let provider = rustls::crypto::ring::default_provider();
    ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// How long a connection may be silent before it is probed, so that one to a node that vanished does not last.
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
/// The time between two probes.
const TCP_KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long sent bytes or probes may stay without an acknowledgement (`TCP_USER_TIMEOUT`, RFC 5482). A node that
/// vanishes without FIN or RST would otherwise hold each request for the whole response timeout.
#[cfg(target_os = "linux")]
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// Headers of a response that hyper parses without an allocation for each answer.
const MAX_HEADERS: usize = 100;

#[cfg(test)]
mod tests;
