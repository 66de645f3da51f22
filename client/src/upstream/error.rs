//! The errors of an upstream connection.

use std::error::Error as StdError;

use hyper::Method;
use tower::BoxError;
use tower::timeout::error::Elapsed;

/// The reason why the domain sent no response.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// The connection failed: DNS, TCP or TLS.
    #[error("the domain cannot be reached")]
    Connect(#[source] BoxError),
    /// The connection was not established within `connect_timeout`.
    #[error("the domain does not accept connections")]
    ConnectTimeout,
    /// The response head did not arrive within `response_timeout`.
    #[error("the domain did not answer in time")]
    ResponseTimeout,
    /// The connection ended, or the response is not HTTP.
    #[error("the domain broke off, or its response is malformed")]
    Broken(#[source] BoxError),
    /// The head has more than 100 headers, or exceeds hyper's buffer of 400 KiB.
    #[error("the head of the response is too large: more than {MAX_HEADERS} headers, or more than 400 KiB")]
    HeadTooLarge,
    /// The response is well-formed, but not one that the request allows.
    #[error("the response is {0}, which was not asked for")]
    Unrequested(&'static str),
}

impl UpstreamError {
    /// Returns whether the request may be retried: none of it was sent, or its method is idempotent (RFC 9110, section
    /// 9.2.2) and the connection ended without a response, as a pooled one does when the domain closes it at that
    /// moment.
    #[must_use]
    pub fn may_retry(&self, method: &Method) -> bool {
        let Self::Broken(error) = self else { return false };
        let mut hyper_errors = sources(error.as_ref()).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
        let is_unsent = hyper_errors.any(hyper::Error::is_canceled);
        is_unsent || (method.is_idempotent() && self.ends_connection())
    }

    /// Returns whether the connection ended, as opposed to an invalid response.
    pub(super) fn ends_connection(&self) -> bool {
        let Self::Broken(error) = self else { return false };
        let cause = sources(error.as_ref()).find_map(|cause| cause.downcast_ref::<hyper::Error>());
        cause.is_some_and(|cause| cause.is_incomplete_message() || (!cause.is_parse() && !cause.is_user()))
    }

    pub(crate) fn broken(error: hyper::Error) -> Self {
        if error.is_parse_too_large() { Self::HeadTooLarge } else { Self::Broken(error.into()) }
    }

    pub(super) fn of_connecting(error: BoxError) -> Self {
        // The whole connect timeout has passed, or that of each address.
        let is_late = |cause: &(dyn StdError + 'static)| {
            let socket = cause.downcast_ref::<std::io::Error>();
            cause.is::<Elapsed>() || socket.is_some_and(|error| error.kind() == std::io::ErrorKind::TimedOut)
        };
        if sources(error.as_ref()).any(is_late) { Self::ConnectTimeout } else { Self::Connect(error) }
    }
}

/// Returns an error and its chain of sources.
fn sources<'a>(error: &'a (dyn StdError + 'static)) -> anyhow::Chain<'a> {
    anyhow::Chain::new(error)
}

/// The number of response headers that hyper parses without an allocation per response.
const MAX_HEADERS: usize = 100;
