//! The domain as the function uses it: signed requests, small answers.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use tokio::time::timeout;
use trailgate::exchange::{Answer, Exchange, Outgoing};
use trailgate::reject::Reject;
use trailgate::target::Target;

/// A signed way to one domain: the gate's own signer, credentials and client.
#[derive(Debug)]
pub struct Domain {
    exchange: Exchange,
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
    /// The domain behind `exchange`.
    #[must_use]
    pub fn new(exchange: Exchange) -> Self {
        Self { exchange }
    }

    /// Sends one request and reads the whole answer, all within `patience`.
    ///
    /// `path` is a path with an optional query, as it is to be sent. With `gzip`, `body` is gzip data.
    pub async fn send(&self, method: Method, path: &str, body: Body, patience: Duration) -> Result<Reply, DomainError> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let target = Target::canonical(path, query).map_err(|error| DomainError::Rejected(error.into()))?;
        let mut headers = HeaderMap::new();
        if !body.bytes.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(body.content_type));
        }
        if body.is_gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let outgoing = Outgoing { method, target, headers, body: body.bytes.into() };
        let exchanged = async {
            let response = self.exchange.send(&outgoing).await.map_err(DomainError::Rejected)?;
            let status = response.status();
            let body = match response.into_body() {
                Answer::Read(body) => body,
                Answer::Streaming(body) => body.collect().await.map_err(DomainError::BrokeOff)?.to_bytes(),
            };
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
#[derive(Debug)]
pub enum DomainError {
    /// The request could not be signed or sent, or the signature was refused.
    Rejected(Reject),
    /// The domain broke off within its answer.
    BrokeOff(hyper::Error),
    /// The time was over before the answer was whole.
    TimedOut,
}
