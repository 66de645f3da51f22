//! The domain as an HTTP client sees it: TLS, a connection pool, a timeout for each phase.

mod counted;

use std::error::Error as StdError;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, Uri};
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::timeout::error::Elapsed;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder};

use self::counted::{Counted, Used};
use crate::body::Sending;
use crate::endpoint::Endpoint;
use crate::metrics::Metrics;
use crate::target::Target;

/// A pool of connections to one domain.
#[derive(Debug)]
pub struct Upstream {
    client: Client<Connector, Sending>,
    endpoint: Endpoint,
    response_timeout: Duration,
    metrics: Arc<Metrics>,
}

/// How long the phases of a request may take, and how many idle connections are kept.
#[derive(Clone, Copy, Debug)]
pub struct UpstreamLimits {
    /// For the name, the TCP and the TLS handshake together.
    pub connect_timeout: Duration,
    /// From the request to the head of the response.
    pub response_timeout: Duration,
    /// Idle connections kept.
    pub pool_idle: usize,
}

type Connector = BoxCloneSyncService<Uri, Counted<MaybeHttpsStream<TokioIo<TcpStream>>>, BoxError>;

impl Upstream {
    /// A pool for `endpoint`, which has to show a certificate that one of `roots` has signed.
    #[must_use]
    pub fn new(endpoint: Endpoint, roots: RootCertStore, limits: UpstreamLimits, metrics: Arc<Metrics>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(TCP_KEEPALIVE));
        let tls = HttpsConnectorBuilder::new().with_tls_config(tls_config(roots)).https_or_http().enable_http1();
        let counts = Arc::clone(&metrics);
        let connector = ServiceBuilder::new()
            .map_response(move |io| Counted::new(io, &counts))
            .timeout(limits.connect_timeout)
            .service(tls.wrap_connector(tcp));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(limits.pool_idle)
            // A second try is signed anew, so it is not the client's to make.
            .retry_canceled_requests(false)
            // The domain's name is in lower case already, and `Host` is set and signed by us.
            .set_host(false)
            .build(BoxCloneSyncService::new(connector));
        Self { client, endpoint, response_timeout: limits.response_timeout, metrics }
    }

    /// The domain's origin.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The URL of `target` on the domain; `None` when it is longer than a URL can be.
    #[must_use]
    pub fn uri(&self, target: &Target) -> Option<Uri> {
        let origin = Uri::builder().scheme(self.endpoint.scheme().clone()).authority(self.endpoint.authority().clone());
        origin.path_and_query(target.as_str()).build().ok()
    }

    /// Sends a request and gives the response once its head is there.
    pub async fn send(&self, request: Request<Sending>) -> Result<Response<Incoming>, SendError> {
        let response = timeout(self.response_timeout, self.client.request(request)).await;
        let response = response.map_err(|_| SendError::ResponseTimeout)??;
        if response.extensions().get().is_some_and(Used::again) {
            self.metrics.upstream_reused.inc();
        }
        Ok(response)
    }
}

/// Why the domain gave no response.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection: the name, the port, or the certificate.
    #[error("no connection")]
    Connect(#[source] Error),
    /// No connection within the time for it.
    #[error("no connection in time")]
    ConnectTimeout,
    /// No head of a response within the time for it.
    #[error("no response in time")]
    ResponseTimeout,
    /// The connection ended, or what came is not HTTP.
    #[error("broken response")]
    Broken(#[source] BoxError),
}

impl SendError {
    /// Whether the request may be sent once more: nothing of it was sent, or it does no harm twice and the connection
    /// ended without an answer, as a pooled one does when the domain closes it at that moment.
    #[must_use]
    pub fn may_retry(&self, method: &Method) -> bool {
        let Self::Broken(error) = self else { return false };
        causes(error.as_ref()).find_map(|cause| cause.downcast_ref::<hyper::Error>()).is_some_and(|cause| {
            let ended = cause.is_incomplete_message() || (!cause.is_parse() && !cause.is_user());
            cause.is_canceled() || (method.is_idempotent() && ended)
        })
    }
}

impl From<Error> for SendError {
    fn from(error: Error) -> Self {
        if !error.is_connect() {
            return Self::Broken(error.into());
        }
        if causes(&error).any(<dyn StdError>::is::<Elapsed>) { Self::ConnectTimeout } else { Self::Connect(error) }
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

/// Idle connections are closed before the domain's load balancer closes them, which it does after 60 seconds or more.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(40);
/// How often a silent connection is probed, so that one to a replaced node does not last.
const TCP_KEEPALIVE: Duration = Duration::from_secs(30);
