//! Compression of request bodies, given up for a while where the domain rejects it.

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::StatusCode;
use tokio::time::Instant;
use trailgate_client::{RequestError, UpstreamError};

use crate::domain::{DomainError, DomainResponse};

/// The domain's known support of compressed bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GzipSupport {
    /// Not accepted yet, with this number of failures.
    Untried { failures: u8 },
    /// Accepted once.
    Accepted,
    /// Rejected after [`MAX_FAILURES`] failures, or one that is certain; tried again after [`PAUSE`].
    Rejected { since: Instant },
    /// Switched off by the settings.
    Off,
}

/// Failures of compressed bodies, where the plain ones succeeded, after which compression counts as rejected: a domain
/// that just restarts fails once or twice as well.
const MAX_FAILURES: u8 = 3;

/// The time for which only plain bodies are sent after that.
const PAUSE: Duration = Duration::from_mins(10);

impl GzipSupport {
    /// Returns whether to send the next body compressed.
    pub(super) fn is_worth_trying(self, now: Instant) -> bool {
        match self {
            Self::Untried { .. } | Self::Accepted => true,
            Self::Rejected { since } => now.saturating_duration_since(since) >= PAUSE,
            Self::Off => false,
        }
    }

    /// Returns the state after a compressed body failed and the plain one succeeded.
    #[must_use]
    pub(super) fn after_failure(self, is_certain: bool, now: Instant) -> Self {
        match self {
            Self::Untried { failures } if !is_certain && failures + 1 < MAX_FAILURES => {
                Self::Untried { failures: failures + 1 }
            }
            Self::Untried { .. } => {
                tracing::warn!("the domain rejects compressed requests; sending uncompressed ones for ten minutes");
                Self::Rejected { since: now }
            }
            Self::Rejected { .. } => Self::Rejected { since: now },
            // Other requests were compressed, and accepted.
            Self::Accepted | Self::Off => self,
        }
    }
}

/// Returns whether a request may have failed because it was compressed: a service in front of the engine may reject the
/// signature, or just hang up; Elasticsearch 2 hangs up on the service, which then answers 502.
pub(super) fn may_be_rejected_for_gzip(result: &Result<DomainResponse, DomainError>) -> bool {
    match result {
        Ok(response) => matches!(
            response.status,
            StatusCode::BAD_REQUEST
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_ACCEPTABLE
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::BAD_GATEWAY
        ),
        Err(DomainError::Request(error)) => {
            matches!(error, RequestError::SignatureRejected | RequestError::Upstream(UpstreamError::Broken(_)))
        }
        Err(DomainError::Target(_) | DomainError::BrokeOff(_) | DomainError::Undecodable | DomainError::TimedOut) => {
            false
        }
    }
}

/// Compresses a body.
pub(super) fn compress(plain: &[u8]) -> Bytes {
    // Events are much alike: the fastest level shrinks them to a tenth, and a function's share of a processor is small.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("memory can be written to").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_stops_after_three_failures_and_is_retried_later() {
        let now = Instant::now();
        let once = GzipSupport::Untried { failures: 0 }.after_failure(false, now);
        assert_eq!(once, GzipSupport::Untried { failures: 1 });
        let rejected = once.after_failure(false, now).after_failure(false, now);
        assert_eq!(rejected, GzipSupport::Rejected { since: now });
        assert_eq!(once.after_failure(true, now), rejected);
        assert!(!rejected.is_worth_trying(now) && rejected.is_worth_trying(now + PAUSE));
        assert_eq!(GzipSupport::Accepted.after_failure(false, now), GzipSupport::Accepted);
    }
}
