//! Rejections: every reason to answer instead of the domain, with its status, its text for the client, and its cause
//! for the log.

mod contact;
mod page;
mod response;

use std::net::IpAddr;
use std::time::SystemTime;

use hyper::StatusCode;
use jiff::Timestamp;
use trailgate_client::{FailureKind, RequestError, TargetError, UpstreamError};

pub(crate) use self::contact::Contact;
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

/// The facts about a rejected request that its response shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RejectContext<'a> {
    /// True if the client accepts HTML.
    pub wants_html: bool,
    /// The client's address, unless a proxy hides it.
    pub client: Option<IpAddr>,
    pub time: SystemTime,
    pub request_id: &'a str,
    pub contact: Option<&'a Contact>,
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

    /// Returns the heading of the page: what happened, in a few words.
    fn title(&self) -> &'static str {
        match self {
            Self::NotListed(_) => "Not on the allowlist",
            Self::Expired(..) => "Grant expired",
            Self::ReadOnly(_) => "Read-only grant",
            Self::UnknownHost(_) => "Unknown host",
            Self::CrossSite(_) => "Request of another site",
            Self::Quota(_) => "Too many searches",
            Self::Body(BodyError::Overloaded) => "Too busy",
            Self::Log(_) => "Access log not writable",
            Self::Upstream(error) => match error.kind() {
                FailureKind::Unreachable | FailureKind::ConnectTimeout => "Domain not reachable",
                FailureKind::ResponseTimeout => "Domain too slow",
                FailureKind::BrokenResponse => "Broken response",
                FailureKind::NoCredentials | FailureKind::SignatureRejected | FailureKind::CredentialsRejected => {
                    "Domain not available"
                }
            },
            _ => self.status().canonical_reason().unwrap_or("Error"),
        }
    }

    /// Returns the step that the client can take.
    fn help(&self) -> &'static str {
        match self {
            Self::Head(HeadError::Slow) | Self::Body(BodyError::Slow) => "Check your connection, then try again.",
            Self::Head(HeadError::TooLarge) => "Delete the cookies of this site, or send fewer headers.",
            Self::Target(TargetError::TooLong) => "Send the query in a body.",
            Self::Head(_) | Self::Target(_) | Self::Unsupported(_) | Self::Body(BodyError::Broken(_)) => {
                "Correct the program that sent this request; it was not forwarded."
            }
            Self::ForwardedFor(_) => "Ask the operator to correct the proxy in front of this one.",
            Self::NotListed(_) => "Ask the operator to add this address to the allowlist.",
            Self::Expired(..) => "Ask the operator to renew the grant.",
            Self::UnknownHost(_) => "Open the address that the operator gave you.",
            Self::CrossSite(_) => "Open the page by its own address, and repeat the action there.",
            Self::ReadOnly(call) if call.is_of_access_log() => {
                "Name the indices to search, such as cwl-*. Ask the operator if you have to search the access log."
            }
            Self::ReadOnly(_) => {
                "Requests that read still work. Ask the operator for full access if you have to write."
            }
            Self::Quota(_) => "Wait for your other searches to end, then try again.",
            Self::Body(BodyError::TooLarge { .. }) => "Send less at once, such as smaller bulk requests.",
            Self::Log(_) | Self::Body(BodyError::Overloaded) => "Try again in a few seconds.",
            Self::Upstream(error) => match error.kind() {
                FailureKind::ResponseTimeout => "Narrow the search, such as to a shorter period.",
                FailureKind::Unreachable | FailureKind::ConnectTimeout | FailureKind::BrokenResponse => {
                    "Try again in a minute, and tell the operator if it fails again."
                }
                FailureKind::NoCredentials | FailureKind::SignatureRejected | FailureKind::CredentialsRejected => {
                    "Tell the operator, who finds the cause with trailgate doctor."
                }
            },
            Self::Internal => "Try again, and tell the operator the request ID.",
        }
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
    format(time, "%Y-%m-%dT%H:%MZ")
}

/// Formats a time as `2026-11-28T10:00:00Z`, truncated to the second.
fn second(time: SystemTime) -> String {
    format(time, "%Y-%m-%dT%H:%M:%SZ")
}

fn format(time: SystemTime, format: &str) -> String {
    Timestamp::try_from(time).map_or_else(|_| "an unknown time".to_owned(), |time| time.strftime(format).to_string())
}

#[cfg(test)]
mod tests;
