//! What the domain last did when it was asked: answer, or not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;

use crate::outcome::Outcome;

/// The domain's last answer, and the last time that there was none.
#[derive(Debug, Default)]
pub struct Contact {
    /// Milliseconds of Unix time and the status, in one word, since each answer writes it.
    answer: AtomicU64,
    /// Milliseconds of Unix time of the last answer that is no fault of the domain's.
    sound: AtomicU64,
    failure: Mutex<Option<Failure>>,
}

/// An answer of the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastAnswer {
    /// When its head came.
    pub at: SystemTime,
    /// Its status.
    pub status: u16,
}

/// A request that the domain did not answer, or whose signature it did not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When that was known.
    pub at: SystemTime,
    /// What the client was told.
    pub outcome: Outcome,
}

impl Contact {
    pub(super) fn note_answer(&self, status: StatusCode, now: SystemTime) {
        let millis = millis(now);
        self.answer.store(millis << STATUS_BITS | u64::from(status.as_u16()), Ordering::Relaxed);
        if !status.is_server_error() {
            self.sound.store(millis, Ordering::Relaxed);
        }
    }

    pub(super) fn note_failure(&self, outcome: Outcome, now: SystemTime) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Failure { at: now, outcome });
    }

    /// The last answer, whatever it said.
    #[must_use]
    pub fn answer(&self) -> Option<LastAnswer> {
        let packed = self.answer.load(Ordering::Relaxed);
        let status = u16::try_from(packed & ((1 << STATUS_BITS) - 1)).ok()?;
        (packed != 0).then(|| LastAnswer { at: time(packed >> STATUS_BITS), status })
    }

    /// When the domain last answered with no fault of its own (5xx).
    #[must_use]
    pub fn sound(&self) -> Option<SystemTime> {
        let millis = self.sound.load(Ordering::Relaxed);
        (millis != 0).then(|| time(millis))
    }

    /// The last request without an answer.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A status is below 1000.
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
    fn the_last_answer_is_known_with_its_time_and_status() {
        let contact = Contact::default();
        assert_eq!((contact.answer(), contact.sound(), contact.failure()), (None, None, None));
        let now = time(1_800_000_000_123);
        contact.note_answer(StatusCode::NOT_FOUND, now);
        assert_eq!(contact.answer(), Some(LastAnswer { at: now, status: 404 }));
        assert_eq!(contact.sound(), Some(now));
    }

    #[test]
    fn an_answer_that_tells_a_fault_is_no_sound_one() {
        let contact = Contact::default();
        contact.note_answer(StatusCode::OK, time(1000));
        contact.note_answer(StatusCode::SERVICE_UNAVAILABLE, time(2000));
        assert_eq!(contact.answer(), Some(LastAnswer { at: time(2000), status: 503 }));
        assert_eq!(contact.sound(), Some(time(1000)));
    }
}
