//! The errors of a request.

use crate::credentials::NoCredentials;
use crate::upstream::UpstreamError;

/// The reason why a request has no valid response.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No credentials are available to sign with.
    #[error("there are no valid AWS credentials at the moment")]
    NoCredentials(#[from] NoCredentials),
    /// The domain sent no response, or a broken one.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The domain rejected the signature, after a retry if its clock differed. On a mismatch the log has the canonical
    /// requests of both sides.
    #[error("the domain did not accept the signature")]
    SignatureRejected,
    /// The domain rejected the credentials as unknown or expired, and the provider has no others.
    #[error("the domain did not accept the credentials")]
    CredentialsRejected,
}

/// The kind of a [`RequestError`], without its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// No credentials are available to sign with.
    NoCredentials,
    /// The connection failed.
    Unreachable,
    /// The connection was not established within `connect_timeout`.
    ConnectTimeout,
    /// The response did not start within `response_timeout`.
    ResponseTimeout,
    /// The response broke off before its head was complete, or does not answer the request.
    BrokenResponse,
    /// The domain rejected the signature.
    SignatureRejected,
    /// The domain rejected the credentials.
    CredentialsRejected,
}

impl RequestError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NoCredentials(_) => FailureKind::NoCredentials,
            Self::Upstream(UpstreamError::Connect(_)) => FailureKind::Unreachable,
            Self::Upstream(UpstreamError::ConnectTimeout) => FailureKind::ConnectTimeout,
            Self::Upstream(UpstreamError::ResponseTimeout) => FailureKind::ResponseTimeout,
            Self::Upstream(UpstreamError::Broken(_) | UpstreamError::HeadTooLarge | UpstreamError::Unrequested(_)) => {
                FailureKind::BrokenResponse
            }
            Self::SignatureRejected => FailureKind::SignatureRejected,
            Self::CredentialsRejected => FailureKind::CredentialsRejected,
        }
    }

    /// Returns whether the same request may succeed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::SignatureRejected)
    }
}
