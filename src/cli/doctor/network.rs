//! What there is on the way to the domain: its name, its port, its certificate, its answers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, StatusCode};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use trailgate_client::{Endpoint, HashedBody, Signer, SigningParams, Target, Upstream, UpstreamError, Via, tls_config};

/// What the domain answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// When the domain answered, by its own clock.
    pub(super) fn date(&self) -> Option<SystemTime> {
        let date = self.headers.get(header::DATE)?.to_str().ok()?;
        httpdate::parse_http_date(date).ok()
    }
}

/// In whose name to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) signer: &'a Signer,
    pub(super) credentials: &'a Credentials,
    /// The domain's time.
    pub(super) time: SystemTime,
}

/// The addresses of the endpoint's name.
pub(super) async fn resolve(endpoint: &Endpoint, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    Ok(within(limit, lookup_host((endpoint.host(), endpoint.port()))).await?.collect())
}

/// A connection to the first of the addresses that takes one; otherwise the errors of all.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let mut errors = Vec::new();
    for &address in addresses {
        match within(limit, TcpStream::connect(address)).await {
            Ok(stream) => return Ok(stream),
            Err(error) => errors.push((address, error)),
        }
    }
    Err(errors)
}

/// Shakes hands as the gate does, and gives the version of TLS.
pub(super) async fn shake_hands(
    stream: TcpStream,
    endpoint: &Endpoint,
    roots: RootCertStore,
    limit: Duration,
) -> io::Result<String> {
    let name = ServerName::try_from(endpoint.host().to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(tls_config(roots)));
    let stream = within(limit, connector.connect(name, stream)).await?;
    let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str());
    Ok(version.unwrap_or("TLS").replacen("TLSv", "TLS ", 1).replace('_', "."))
}

/// Asks for `target`, as a browser or as a client of the engine, and reads the answer as far as it can matter.
pub(super) async fn ask(
    upstream: &Upstream,
    target: &Target,
    accept: &'static str,
    caller: Option<Caller<'_>>,
) -> Result<Answer, UpstreamError> {
    let body = HashedBody::empty();
    let mut request = Request::new(body.frames());
    *request.uri_mut() = target.uri();
    let host = HeaderValue::from_str(upstream.endpoint().authority().as_str());
    request.headers_mut().insert(header::HOST, host.expect("an authority holds visible characters only"));
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
    if let Some(Caller { signer, credentials, time }) = caller {
        let params = SigningParams { method: &Method::GET, target, body_sha256: body.sha256(), credentials, time };
        signer.sign(&params, request.headers_mut());
    }
    let (head, body) = upstream.send(request, Via::Pool).await?.into_parts();
    let body = match timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        // No refusal and no banner is so long, and of a page only the head matters.
        Ok(Err(error)) if error.is::<LengthLimitError>() => Bytes::new(),
        Ok(Err(error)) => return Err(UpstreamError::Broken(error)),
        Err(_) => return Err(UpstreamError::ResponseTimeout),
    };
    Ok(Answer { status: head.status, headers: head.headers, body })
}

async fn within<T>(limit: Duration, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, io).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// More than the service's refusals, which repeat the canonical request, and the engine's banner.
const BODY_BYTES: usize = 256 * 1024;
/// How long the rest of an answer may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
