//! The network checks: DNS, TCP, TLS, and requests to the domain.

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
use trailgate_client::{BodyHasher, Endpoint, Signer, SigningParams, Target, Upstream, UpstreamError, Via, tls_config};

/// A response of the domain.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    /// Returns the response's `Date`, which is the domain's clock.
    pub(super) fn date(&self) -> Option<SystemTime> {
        let date = self.headers.get(header::DATE)?.to_str().ok()?;
        httpdate::parse_http_date(date).ok()
    }
}

/// The signer of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller<'a> {
    pub(super) signer: &'a Signer,
    pub(super) credentials: &'a Credentials,
    /// The signature's time, by the domain's clock.
    pub(super) time: SystemTime,
}

/// Resolves the endpoint's host name.
pub(super) async fn resolve(endpoint: &Endpoint, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    Ok(within(limit, lookup_host((endpoint.host(), endpoint.port()))).await?.collect())
}

/// Connects to the first address that accepts, or returns the errors of all.
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

/// Performs a TLS handshake with the proxy's settings, and returns the TLS version.
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

/// Requests `target` as a browser or as an API client, and reads as much of the response as matters.
pub(super) async fn get(
    upstream: &Upstream,
    target: &Target,
    accept: &'static str,
    caller: Option<Caller<'_>>,
) -> Result<Answer, UpstreamError> {
    send(Method::GET, upstream, target, accept, caller).await
}

/// Does the same by any method, with an empty JSON object as the body of a `PUT`.
pub(super) async fn send(
    method: Method,
    upstream: &Upstream,
    target: &Target,
    accept: &'static str,
    caller: Option<Caller<'_>>,
) -> Result<Answer, UpstreamError> {
    let mut hasher = BodyHasher::default();
    if method == Method::PUT {
        hasher.push(Bytes::from_static(b"{}"));
    }
    let body = hasher.finish();
    let mut request = Request::new(body.frames());
    *request.method_mut() = method.clone();
    *request.uri_mut() = target.uri();
    let host = HeaderValue::from_str(upstream.endpoint().authority().as_str());
    request.headers_mut().insert(header::HOST, host.expect("an authority holds visible characters only"));
    if method == Method::PUT {
        request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static(accept));
    if let Some(Caller { signer, credentials, time }) = caller {
        let params = SigningParams { method: &method, target, body_sha256: body.sha256(), credentials, time };
        signer.sign(&params, request.headers_mut());
    }
    let (head, body) = upstream.send(request, Via::Pool).await?.into_parts();
    let body = match timeout(BODY_TIMEOUT, Limited::new(body, BODY_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        // Rejections and banners are shorter, and only the head of a page matters.
        Ok(Err(error)) if error.is::<LengthLimitError>() => Bytes::new(),
        Ok(Err(error)) => return Err(UpstreamError::Broken(error)),
        Err(_) => return Err(UpstreamError::ResponseTimeout),
    };
    Ok(Answer { status: head.status, headers: head.headers, body })
}

async fn within<T>(limit: Duration, io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, io).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The maximum body size, above that of AWS's rejections, which repeat the canonical request, and of the engine's
/// banner.
const BODY_BYTES: usize = 256 * 1024;
/// The read timeout of a response body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
