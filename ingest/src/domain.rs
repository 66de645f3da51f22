//! The domain as the function uses it: signed requests, small answers.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use trailgate::credentials;
use trailgate::exchange::{Answer, Exchange, Outgoing};
use trailgate::reject::Reject;
use trailgate::sign::Signer;
use trailgate::target::Target;
use trailgate::upstream::{self, Upstream, UpstreamLimits};

use crate::settings::Settings;

/// A signed way to one domain: the gate's own signer, credentials and client.
#[derive(Debug)]
pub struct Domain {
    exchange: Exchange,
    /// The task that renews the credentials.
    _renewal: AbortOnDropHandle<()>,
}

/// What the domain said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The whole body.
    pub body: Bytes,
}

impl Domain {
    /// The domain that `settings` name, to be signed for with what `provider` provides. Nothing is sent yet.
    pub fn connect(settings: &Settings, provider: SharedCredentialsProvider) -> anyhow::Result<Self> {
        let roots = upstream::roots(settings.ca_file.as_deref())?;
        let signer = Signer::new(settings.endpoint.authority(), &settings.region, &settings.service);
        let upstream = Upstream::new(settings.endpoint.clone(), roots, LIMITS, Arc::default());
        let (credentials, renewal) = credentials::cache(provider);
        let renewal = AbortOnDropHandle::new(tokio::spawn(renewal.run()));
        Ok(Self { exchange: Exchange::new(upstream, signer, credentials, Arc::default()), _renewal: renewal })
    }

    /// Sends one request and reads the whole answer, all within `patience`.
    ///
    /// `path` is a path with an optional query, as it is to be sent.
    pub async fn send(&self, method: Method, path: &str, body: Body, patience: Duration) -> Result<Reply, DomainError> {
        self.send_with(method, path, HeaderMap::new(), body, patience).await
    }

    /// The same with more headers than those of the body.
    pub async fn send_with(
        &self,
        method: Method,
        path: &str,
        mut headers: HeaderMap,
        body: Body,
        patience: Duration,
    ) -> Result<Reply, DomainError> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let target = Target::canonical(path, query).map_err(|error| DomainError::Rejected(error.into()))?;
        if !body.bytes.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
        }
        if body.is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let outgoing = Outgoing { method, target, headers, hop: None, body: body.bytes.into() };
        let exchanged = async {
            let response = self.exchange.send(&outgoing).await.map_err(DomainError::Rejected)?;
            let status = response.status();
            let is_gzip = response.headers().get(CONTENT_ENCODING).is_some_and(|coding| {
                coding.as_bytes().eq_ignore_ascii_case(b"gzip") || coding.as_bytes().eq_ignore_ascii_case(b"x-gzip")
            });
            let body = match response.into_body() {
                Answer::Read(body) => body,
                Answer::Streaming(body) => body.collect().await.map_err(DomainError::BrokeOff)?.to_bytes(),
            };
            // It is not asked for, and some proxies compress nevertheless.
            let body = if is_gzip { gunzip(&body).ok_or(DomainError::Undecodable)? } else { body };
            Ok(Reply { status, body })
        };
        timeout(patience, exchanged).await.unwrap_or(Err(DomainError::TimedOut))
    }
}

/// The body of a request.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// The bytes, compressed if `is_gzip`.
    pub bytes: Bytes,
    /// What they are.
    pub content_type: &'static str,
    /// Whether they are compressed.
    pub is_gzip: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// The request could not be signed or sent, or the signature was refused.
    #[error("{}", describe(.0))]
    Rejected(Reject),
    /// The domain broke off within its answer.
    #[error("the domain broke off within its answer")]
    BrokeOff(#[source] hyper::Error),
    /// The answer is compressed, and broken or longer than any answer to a request of ours.
    #[error("the domain's gzip answer cannot be read")]
    Undecodable,
    /// The time was over before the answer was whole.
    #[error("the domain did not answer in time")]
    TimedOut,
}

impl DomainError {
    /// Whether the same request may go well later.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Rejected(reject) => {
                matches!(reject, Reject::NoCredentials | Reject::Credentials | Reject::Upstream(_))
            }
            Self::BrokeOff(_) | Self::Undecodable | Self::TimedOut => true,
        }
    }
}

fn gunzip(body: &[u8]) -> Option<Bytes> {
    let mut plain = Vec::new();
    MultiGzDecoder::new(body).take(MAX_ANSWER + 1).read_to_end(&mut plain).ok()?;
    (plain.len() as u64 <= MAX_ANSWER).then(|| plain.into())
}

/// Bytes of a compressed answer: each item of a `_bulk` reply is shorter than its document.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

fn describe(reject: &Reject) -> String {
    let reason = reject.reason();
    reject.cause().map_or(reason.clone(), |cause| format!("{reason}: {cause}"))
}

/// A request ends when its sender's patience does; a domain that cannot be connected to is tried again before that.
const LIMITS: UpstreamLimits = UpstreamLimits {
    connect_timeout: Duration::from_secs(5),
    response_timeout: Duration::from_mins(5),
    pool_idle: 4,
    connections: usize::MAX,
};
