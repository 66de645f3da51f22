//! Rejections: every reason to answer instead of the domain, with its status, its text for the client, and its cause
//! for the log.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use trailgate_client::{FailureKind, RequestError, TargetError, UpstreamError};

use crate::http::head::HeadError;
use crate::http::memory_budget::BodyError;
use crate::human::join_sources;
use crate::ops::access_log::LogFailure;
use crate::ops::outcome::Outcome;
use crate::policy::client_address::BadHop;
use crate::policy::csrf::CrossSite;
use crate::policy::grant::ReadOnly;
use crate::policy::host_check::UnknownHost;
use crate::policy::quota::QuotaError;

/// The reason why a request gets no response from the domain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Reject {
    /// The head is malformed, too large, or arrived too slowly.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// A trusted proxy sent an invalid `X-Forwarded-For`.
    #[error(transparent)]
    ForwardedFor(#[from] BadHop),
    /// The access log cannot be written, and `log.on_failure` requires it.
    #[error(transparent)]
    Log(#[from] LogFailure),
    /// No entry of the allowlist contains the client's address.
    #[error("Your address {0} is not on the allowlist.")]
    NotListed(IpAddr),
    /// The last entry that contains the client's address has expired.
    #[error("The grant of your address {0} expired at {time}.", time = minute(*.1))]
    Expired(IpAddr, SystemTime),
    /// The request names a host that is not served (DNS rebinding protection).
    #[error(transparent)]
    UnknownHost(#[from] UnknownHost),
    /// A page of another site attempts a write (CSRF protection).
    #[error(transparent)]
    CrossSite(#[from] CrossSite),
    /// The client has only a read grant.
    #[error(transparent)]
    ReadOnly(#[from] ReadOnly),
    /// The client's entry has exceeded its quota.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The target has no canonical form.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// `CONNECT`, `TRACE`, or an upgrade to a protocol that cannot be signed.
    #[error("{0} is not supported here")]
    Unsupported(&'static str),
    /// The body was not read to its end.
    #[error(transparent)]
    Body(#[from] BodyError<hyper::Error>),
    /// The domain sent no response, or rejected the signature or the credentials.
    #[error("{}", upstream_reason(.0))]
    Upstream(#[from] RequestError),
    /// The proxy itself failed.
    #[error("trailgate failed")]
    Internal,
}

impl Reject {
    /// Returns the status of the response.
    #[must_use]
    pub(crate) fn status(&self) -> StatusCode {
        self.outcome().status().unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Returns the reason's name: `error.type` in the response, `outcome` in the access log.
    #[must_use]
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Head(HeadError::TooLarge) => Outcome::HeadTooLarge,
            Self::Head(HeadError::Slow) => Outcome::HeadTimeout,
            Self::Head(_) => Outcome::MalformedRequest,
            Self::ForwardedFor(_) => Outcome::MalformedForwardedFor,
            Self::Log(_) => Outcome::LogUnwritable,
            Self::NotListed(_) | Self::Expired(..) => Outcome::NotAllowed,
            Self::UnknownHost(_) => Outcome::UnknownHost,
            Self::CrossSite(_) => Outcome::CrossSite,
            Self::ReadOnly(_) => Outcome::ReadOnly,
            Self::Quota(_) => Outcome::QuotaExceeded,
            Self::Target(TargetError::TooLong) => Outcome::TargetTooLong,
            Self::Target(_) => Outcome::MalformedTarget,
            Self::Unsupported(_) => Outcome::Unsupported,
            Self::Body(BodyError::TooLarge { .. }) => Outcome::BodyTooLarge,
            Self::Body(BodyError::Slow) => Outcome::BodyTimeout,
            Self::Body(BodyError::Overloaded) => Outcome::TooBusy,
            Self::Body(BodyError::Broken(_)) => Outcome::MalformedBody,
            Self::Upstream(error) => error.kind().into(),
            Self::Internal => Outcome::Internal,
        }
    }

    /// Returns the underlying cause, if any. It is logged and not sent to the client.
    #[must_use]
    pub(crate) fn cause(&self) -> Option<String> {
        match self {
            Self::Body(BodyError::Broken(error)) => Some(join_sources(error)),
            Self::Upstream(RequestError::Upstream(error)) => match error {
                UpstreamError::Connect(error) | UpstreamError::Broken(error) => Some(join_sources(error.as_ref())),
                UpstreamError::HeadTooLarge | UpstreamError::Unrequested(_) => Some(error.to_string()),
                UpstreamError::ConnectTimeout | UpstreamError::ResponseTimeout => None,
            },
            _ => None,
        }
    }

    /// Returns the response: an HTML page for a client that accepts HTML, otherwise JSON in the form of Elasticsearch
    /// errors.
    #[must_use]
    pub(crate) fn response(&self, wants_html: bool) -> Response<Bytes> {
        let status = self.status();
        let (content_type, body) = if wants_html {
            ("text/html; charset=utf-8", page(status, &self.to_string()))
        } else {
            let error = serde_json::json!({ "type": self.outcome().name(), "reason": self.to_string() });
            let body = serde_json::json!({ "error": error, "status": status.as_u16() });
            ("application/json", body.to_string())
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        if let Some(phrase) = self.phrase() {
            response.extensions_mut().insert(phrase);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
        }
        if self.closes() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// Returns the HTTP/1.1 reason phrase, which Kibana and Dashboards show instead of an error's text.
    fn phrase(&self) -> Option<ReasonPhrase> {
        match self {
            Self::NotListed(_) => Some(ReasonPhrase::from_static(b"Not on the allowlist")),
            Self::Expired(_, at) => ReasonPhrase::try_from(format!("Grant expired {}", minute(*at))).ok(),
            Self::ReadOnly(_) => Some(ReasonPhrase::from_static(b"Read-only grant")),
            _ => None,
        }
    }

    /// Returns whether the connection closes after the response, because the rest of the request is unread or not worth
    /// reading.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::Head(_)
                | Self::ForwardedFor(_)
                | Self::Log(_)
                | Self::NotListed(_)
                | Self::Expired(..)
                | Self::UnknownHost(_)
                | Self::CrossSite(_)
                | Self::ReadOnly(_)
                | Self::Unsupported(_)
                | Self::Body(_)
        )
    }
}

/// Returns the text for the client, which names nothing behind the proxy.
fn upstream_reason(error: &RequestError) -> String {
    match error {
        RequestError::Upstream(error @ UpstreamError::HeadTooLarge) => {
            format!("cannot read the domain's response: {error}")
        }
        RequestError::Upstream(UpstreamError::Unrequested(_)) => {
            "the domain sent a response that does not match the request".to_owned()
        }
        error => error.to_string(),
    }
}

impl From<FailureKind> for Outcome {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::NoCredentials => Self::NoCredentials,
            FailureKind::Unreachable => Self::Unreachable,
            FailureKind::ConnectTimeout => Self::ConnectTimeout,
            FailureKind::ResponseTimeout => Self::ResponseTimeout,
            FailureKind::BrokenResponse => Self::BrokenReply,
            FailureKind::SignatureRejected => Self::RefusedSignature,
            FailureKind::CredentialsRejected => Self::RefusedCredentials,
        }
    }
}

/// Formats a time as `2026-11-28T10:00Z`, truncated to the minute.
fn minute(time: SystemTime) -> String {
    Timestamp::try_from(time)
        .map_or_else(|_| "an unknown time".to_owned(), |time| time.strftime("%Y-%m-%dT%H:%MZ").to_string())
}

/// Returns a page without external resources. `reason` is our own text and contains no HTML markup, so it is not
/// escaped.
fn page(status: StatusCode, reason: &str) -> String {
    let title = status.canonical_reason().unwrap_or("Error");
    format!(
        "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>{title}</title>\n<style>:root{{color-scheme:light dark}}body{{font:1.1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:18vh auto;\
         padding:0 1rem}}</style>\n<h1>{title}</h1>\n<p>{reason}</p>\n"
    )
}

/// The value of `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
