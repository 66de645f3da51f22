//! The outcome of fetches: the last failure and the counts.

use std::error::Error;
use std::iter::successors;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use aws_credential_types::provider::error::CredentialsError;
use tokio::time::Instant;

/// A failed fetch of credentials.
#[derive(Clone, Debug)]
pub struct FetchFailure {
    /// The time of the failure.
    pub at: SystemTime,
    /// The reason, as AWS states it.
    pub reason: String,
    pub(super) instant: Instant,
}

impl FetchFailure {
    pub(super) fn new(error: &CredentialsError) -> Self {
        Self { at: SystemTime::now(), reason: innermost(error), instant: Instant::now() }
    }
}

/// Returns the text of the innermost source of an error: the outer ones only say that credentials were not loaded.
#[must_use]
pub fn innermost(error: &CredentialsError) -> String {
    let first: &dyn Error = error;
    let innermost = successors(Some(first), |&error| error.source()).last();
    innermost.map(ToString::to_string).unwrap_or_default()
}

/// The number of fetches by outcome.
#[derive(Debug, Default)]
pub struct FetchCounts {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

impl FetchCounts {
    pub(super) fn count(&self, is_success: bool) {
        let counter = if is_success { &self.succeeded } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of successful fetches.
    #[must_use]
    pub fn succeeded(&self) -> u64 {
        self.succeeded.load(Ordering::Relaxed)
    }

    /// Returns the number of failed fetches.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}
