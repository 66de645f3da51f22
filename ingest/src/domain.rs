//! A signed client of one domain, which reads whole responses.

pub mod json_client;

use std::io::Read as _;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};

use tokio_util::task::AbortOnDropHandle;
use trailgate_client::{
    CredentialCache, RequestError, SignedClient, Signer, Target, TargetError, UnsignedRequest, Upstream,
    UpstreamConfig, UpstreamError, load_roots,
};

use crate::settings::Settings;

/// A client of one domain that reads whole responses.
#[derive(Debug)]
pub struct Domain {
    client: SignedClient,
    /// The task that refreshes the credentials.
    _refresh: AbortOnDropHandle<()>,
}

/// A whole response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainResponse {
    /// The status.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

impl Domain {
    /// Creates a client of the domain that `settings` name, which signs with the credentials of `provider`. Sends
    /// nothing yet.
    pub fn connect(settings: &Settings, provider: SharedCredentialsProvider) -> anyhow::Result<Self> {
        let roots = load_roots(settings.ca_file.as_deref())?;
        let signer = Signer::new(settings.endpoint.authority(), &settings.region, &settings.service);
        let upstream = Upstream::new(settings.endpoint.clone(), roots, UpstreamConfig::default());
        let (credentials, refresher) = CredentialCache::new(provider);
        let refresh = AbortOnDropHandle::new(tokio::spawn(refresher.run()));
        Ok(Self { client: SignedClient::new(upstream, signer, credentials), _refresh: refresh })
    }

    /// Sends one request and reads the whole response, within `timeout`.
    ///
    /// `path` is sent as it is, with an optional query.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        body: RequestBody,
        timeout: Duration,
    ) -> Result<DomainResponse, DomainError> {
        self.send_with(method, path, HeaderMap::new(), body, timeout).await
    }

    /// Does the same as [`Self::send`], with `headers` in addition to those of the body.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: RequestBody,
        timeout: Duration,
    ) -> Result<DomainResponse, DomainError> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let target = Target::canonical(path, query)?;
        if !body.bytes.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
        }
        if body.is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let request = UnsignedRequest { method, target, body: body.bytes.into() };
        let exchanged = async {
            let response = self.client.send(&request, || headers.clone()).await?;
            let status = response.status();
            let is_gzip = response.headers().get(CONTENT_ENCODING).is_some_and(|coding| {
                coding.as_bytes().eq_ignore_ascii_case(b"gzip") || coding.as_bytes().eq_ignore_ascii_case(b"x-gzip")
            });
            let body = response.into_body().collect().await.map_err(DomainError::BrokeOff)?.to_bytes();
            // Some proxies compress although no request accepts it.
            let body = if is_gzip { gunzip(&body).ok_or(DomainError::Undecodable)? } else { body };
            Ok(DomainResponse { status, body })
        };
        tokio::time::timeout(timeout, exchanged).await.unwrap_or(Err(DomainError::TimedOut))
    }
}

/// The body of a request.
#[derive(Clone, Debug, Default)]
pub struct RequestBody {
    /// The bytes, compressed if `is_gzip`.
    pub bytes: Bytes,
    /// Their media type.
    pub content_type: &'static str,
    /// True if they are compressed.
    pub is_gzip: bool,
}

/// The reason why there is no complete response.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// The request has no canonical target.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The request could not be signed or sent, or the signature was rejected.
    #[error("{}", describe(.0))]
    Request(#[from] RequestError),
    /// The domain broke off its response.
    #[error("the domain closed the connection within its response")]
    BrokeOff(#[source] hyper::Error),
    /// The response is compressed, and malformed or longer than any response to these requests.
    #[error("cannot decompress the domain's response")]
    Undecodable,
    /// The timeout expired before the response was complete.
    #[error("the domain did not respond in time")]
    TimedOut,
}

impl DomainError {
    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Target(_) => false,
            Self::Request(error) => error.is_transient(),
            Self::BrokeOff(_) | Self::Undecodable | Self::TimedOut => true,
        }
    }
}

fn gunzip(body: &[u8]) -> Option<Bytes> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(body).take(MAX_RESPONSE + 1).read_to_end(&mut plain).ok()?;
    (plain.len() as u64 <= MAX_RESPONSE).then(|| plain.into())
}

/// The size limit of a decompressed response: each item of a `_bulk` response is shorter than its document.
const MAX_RESPONSE: u64 = 64 * 1024 * 1024;

/// Returns an error with its sources: the operator needs the cause behind "cannot be reached".
fn describe(error: &RequestError) -> String {
    match error {
        RequestError::Upstream(error @ UpstreamError::HeadTooLarge) => {
            format!("cannot read the domain's response: {error}")
        }
        error => anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": "),
    }
}
