//! The time that requests are signed with: this machine's, corrected by the domain's `Date`.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

/// This machine's clock and its offset to the domain's.
#[derive(Debug, Default)]
pub struct Clock {
    /// Seconds by which the domain is ahead of this machine.
    offset: AtomicI64,
}

impl Clock {
    /// Returns the domain's time when this machine's clock shows `local`.
    #[must_use]
    pub fn at(&self, local: SystemTime) -> SystemTime {
        shifted(local, self.offset())
    }

    /// Returns the seconds by which the domain is ahead of this machine, as far as it said so.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    /// Adopts the domain's time, which its `Date` said when this machine's clock showed `local`.
    ///
    /// Returns the new offset in seconds when it differs from the one in use by more than a request may take.
    pub fn correct(&self, local: SystemTime, domain: SystemTime) -> Option<i64> {
        let offset = offset(local, domain);
        let before = self.offset.swap(offset, Ordering::Relaxed);
        ((offset - before).abs() >= TOLERANCE).then_some(offset)
    }
}

/// Seconds that two clocks may differ by: a slow answer and a `Date` in whole seconds make up as much.
pub const TOLERANCE: i64 = 5;

/// Returns the seconds by which `domain` is ahead of `local`.
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
    fn a_clock_that_is_behind_is_put_forward() {
        let clock = Clock::default();
        assert_eq!(clock.correct(at(1_000), at(1_600)), Some(600));
        assert_eq!(clock.at(at(2_000)), at(2_600));
    }

    #[test]
    fn a_clock_that_is_ahead_is_put_back() {
        let clock = Clock::default();
        assert_eq!(clock.correct(at(1_600), at(1_000)), Some(-600));
        assert_eq!(clock.at(at(2_000)), at(1_400));
    }

    #[test]
    fn a_correction_that_changes_nothing_is_not_news() {
        let clock = Clock::default();
        assert_eq!(clock.correct(at(1_000), at(1_002)), None);
        assert_eq!(clock.correct(at(1_000), at(1_600)), Some(600));
        assert_eq!(clock.correct(at(1_010), at(1_611)), None);
    }
}
