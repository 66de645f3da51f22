//! The time of an entry's last request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of an entry's last request since the proxy started, to the minute, in seconds of Unix time.
#[derive(Debug, Default)]
pub(super) struct LastUse(AtomicU64);

impl LastUse {
    /// Records a request at `now`. Most requests only read the time, so that workers share the cache line.
    pub(super) fn record(&self, now: SystemTime) {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if seconds >= self.0.load(Ordering::Relaxed) + STEP.as_secs() {
            self.0.store(seconds, Ordering::Relaxed);
        }
    }

    /// Takes over the time of the same entry in an older list.
    pub(super) fn inherit(&self, older: &Self) {
        self.0.fetch_max(older.0.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn time(&self) -> Option<SystemTime> {
        let seconds = self.0.load(Ordering::Relaxed);
        (seconds > 0).then(|| UNIX_EPOCH + Duration::from_secs(seconds))
    }
}

/// A clone has a time of its own.
impl Clone for LastUse {
    fn clone(&self) -> Self {
        Self(AtomicU64::new(self.0.load(Ordering::Relaxed)))
    }
}

/// It is no part of an entry's value: a reload that changes nothing else changes nothing.
impl PartialEq for LastUse {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastUse {}

const STEP: Duration = Duration::from_mins(1);
