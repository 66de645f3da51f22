//! Upstream health, as the domain's last responses show it (passive health check).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;

use crate::error::FailureKind;

/// The last response of the domain, and the last failed request.
#[derive(Debug, Default)]
pub struct UpstreamHealth {
    /// Milliseconds of Unix time and the status, packed into one word, because each response writes it.
    answer: AtomicU64,
    /// Milliseconds of Unix time of the last response with a status below 500.
    success: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

/// A response of the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastResponse {
    /// The time at which its head arrived.
    pub at: SystemTime,
    /// Its status.
    pub status: u16,
}

/// A request without a response, or with a rejected signature or rejected credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The time of the failure.
    pub at: SystemTime,
    /// The kind of the failure.
    pub kind: FailureKind,
}

impl UpstreamHealth {
    pub(crate) fn record_response(&self, status: StatusCode, now: SystemTime) {
        let millis = millis(now);
        self.answer.store(millis << STATUS_BITS | u64::from(status.as_u16()), Ordering::Relaxed);
        if !status.is_server_error() {
            self.success.store(millis, Ordering::Relaxed);
        }
    }

    pub(crate) fn record_failure(&self, kind: FailureKind, now: SystemTime) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Failure { at: now, kind });
    }

    /// Returns the last response, with any status.
    #[must_use]
    pub fn last_response(&self) -> Option<LastResponse> {
        let packed = self.answer.load(Ordering::Relaxed);
        let status = u16::try_from(packed & ((1 << STATUS_BITS) - 1)).ok()?;
        (packed != 0).then(|| LastResponse { at: time(packed >> STATUS_BITS), status })
    }

    /// Returns the time of the last response with a status below 500.
    #[must_use]
    pub fn last_success(&self) -> Option<SystemTime> {
        let millis = self.success.load(Ordering::Relaxed);
        (millis != 0).then(|| time(millis))
    }

    /// Returns the last request without a response, or with a rejected signature or rejected credentials.
    #[must_use]
    pub fn last_failure(&self) -> Option<Failure> {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bits of a status, which is below 1000.
const STATUS_BITS: u32 = 10;

fn millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_response_has_its_time_and_status() {
        let health = UpstreamHealth::default();
        assert_eq!((health.last_response(), health.last_success(), health.last_failure()), (None, None, None));
        let now = time(1_800_000_000_123);
        health.record_response(StatusCode::NOT_FOUND, now);
        assert_eq!(health.last_response(), Some(LastResponse { at: now, status: 404 }));
        assert_eq!(health.last_success(), Some(now));
    }

    #[test]
    fn server_error_is_no_success() {
        let health = UpstreamHealth::default();
        health.record_response(StatusCode::OK, time(1000));
        health.record_response(StatusCode::SERVICE_UNAVAILABLE, time(2000));
        assert_eq!(health.last_response(), Some(LastResponse { at: time(2000), status: 503 }));
        assert_eq!(health.last_success(), Some(time(1000)));
    }
}
