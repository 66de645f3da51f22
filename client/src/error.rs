//! The reasons why a request got no answer that counts.

use crate::credentials::NoCredentials;
use crate::upstream::UpstreamError;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// There is nothing to sign with.
    #[error("there is nothing to sign requests with at the moment")]
    NoCredentials(#[from] NoCredentials),
    /// The domain gave no response, or a broken one.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    /// The domain rejected the signature. The log has the canonical requests of both sides.
    #[error("the domain did not accept the signature")]
    SignatureRejected,
    /// The domain does not know the credentials, or finds them expired.
    #[error("the domain did not accept the credentials")]
    CredentialsRejected,
}

/// The kind of a [`RequestError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// There is nothing to sign with.
    NoCredentials,
    /// There was no connection.
    Unreachable,
    /// There was no connection in time.
    ConnectTimeout,
    /// There was no response in time.
    ResponseTimeout,
    /// The response broke off before its head was complete, or was no answer to the request.
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
