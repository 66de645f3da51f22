//! The signing clock: this machine's time, corrected by the domain's `Date` (clock skew).

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// This machine's clock with the domain's offset.
#[derive(Debug, Default)]
pub struct Clock {
    /// Seconds by which the domain is ahead of this machine; negative if it is behind.
    offset: AtomicI64,
}

impl Clock {
    /// Returns the domain's time at the local time `local`.
    #[must_use]
    pub fn at(&self, local: SystemTime) -> SystemTime {
        shifted(local, self.offset())
    }

    /// Returns the seconds by which the domain is ahead of this machine: 0 until [`Clock::correct`] is called, negative
    /// if the domain is behind.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Adopts the domain's time, which its `Date` header named at the local time `local`.
    ///
    /// Returns the new offset in seconds if it differs from the previous one by at least
    /// [`CLOCK_TOLERANCE`](TOLERANCE).
    pub fn correct(&self, local: SystemTime, domain: SystemTime) -> Option<i64> {
        let offset = offset(local, domain);
        let before = self.offset.swap(offset, Ordering::Relaxed);
        ((offset - before).abs() >= TOLERANCE).then_some(offset)
    }
}

/// Seconds below which a clock difference is not reported: a slow response and the whole seconds of `Date` add up to
/// it.
pub const TOLERANCE: i64 = 5;

/// Returns the seconds by which `domain` is ahead of `local`; negative if it is behind.
#[must_use]
pub fn offset(local: SystemTime, domain: SystemTime) -> i64 {
    match domain.duration_since(local) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 2)
}

fn shifted(time: SystemTime, offset: i64) -> SystemTime {
    let by = Duration::from_secs(offset.unsigned_abs());
    let shifted = if offset < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    shifted.unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn clock_that_is_behind_is_moved_forward() {
        let clock = Clock::default();
        assert_eq!(clock.correct(at(1_000), at(1_600)), Some(600));
        assert_eq!(clock.at(at(2_000)), at(2_600));
    }

    #[test]
    fn clock_that_is_ahead_is_moved_back() {
        let clock = Clock::default();
        assert_eq!(clock.correct(at(1_600), at(1_000)), Some(-600));
        assert_eq!(clock.at(at(2_000)), at(1_400));
    }

    #[test]
    fn correction_within_seconds_is_not_reported() {
        let clock = Clock::default();
        assert_eq!(clock.correct(at(1_000), at(1_002)), None);
        assert_eq!(clock.correct(at(1_000), at(1_600)), Some(600));
        assert_eq!(clock.correct(at(1_010), at(1_611)), None);
    }
}
