//! The state of a run that pauses, as bytes: another process resumes from them.
//!
//! Digests are not part of it: each process verifies them itself. Documents and files are 16 bytes each, of which a day has
//! millions, so they follow a line of JSON as they are; CBOR has no integers of that size.

use std::collections::{BTreeMap, HashSet};

use anyhow::{Context as _, ensure};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::report::DayRecord;

/// The state of a run between two of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunState {
    /// The next day to close.
    pub(super) next_day: Date,
    /// Requests to the domain.
    pub(super) requests: u64,
    pub(super) days: BTreeMap<Date, DayRecord>,
    /// The documents that have an event, by the event's day.
    pub(super) matched: BTreeMap<Date, HashSet<u128>>,
    /// Documents that the scan of another day finds, too.
    pub(super) elsewhere: HashSet<u128>,
    /// The hashes of the keys of log files that are read.
    pub(super) read: HashSet<u128>,
}

/// The line of JSON, with the lengths of the sets that follow it.
#[derive(Serialize, Deserialize)]
struct Head {
    next_day: Date,
    requests: u64,
    days: BTreeMap<Date, DayRecord>,
    matched: Vec<(Date, usize)>,
    elsewhere: usize,
    read: usize,
}

impl RunState {
    /// Returns the state as bytes.
    pub fn to_bytes(&self) -> anyhow::Result<Vec<u8>> {
        let head = Head {
            next_day: self.next_day,
            requests: self.requests,
            days: self.days.clone(),
            matched: self.matched.iter().map(|(day, keys)| (*day, keys.len())).collect(),
            elsewhere: self.elsewhere.len(),
            read: self.read.len(),
        };
        let mut bytes = serde_json::to_vec(&head)?;
        bytes.push(b'\n');
        let sets = || self.matched.values().chain([&self.elsewhere, &self.read]);
        bytes.reserve_exact(sets().map(HashSet::len).sum::<usize>() * WIDTH);
        for key in sets().flatten() {
            bytes.extend_from_slice(&key.to_be_bytes());
        }
        Ok(bytes)
    }

    /// Parses what [`RunState::to_bytes`] returned.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        let end = bytes.iter().position(|byte| *byte == b'\n').context("the state has no head")?;
        let (head, rest) = bytes.split_at(end);
        let head: Head = serde_json::from_slice(head).context("the state's head cannot be read")?;
        let (keys, rest) = rest[1..].as_chunks::<WIDTH>();
        let lengths = || head.matched.iter().map(|(_, length)| *length).chain([head.elsewhere, head.read]);
        let is_whole = lengths().try_fold(0_usize, usize::checked_add) == Some(keys.len());
        ensure!(is_whole && rest.is_empty(), "the state is cut off");
        let mut keys = keys.iter().map(|key| u128::from_be_bytes(*key));
        let mut set = |length| keys.by_ref().take(length).collect::<HashSet<u128>>();
        Ok(Self {
            next_day: head.next_day,
            requests: head.requests,
            days: head.days,
            matched: head.matched.iter().map(|(day, length)| (*day, set(*length))).collect(),
            elsewhere: set(head.elsewhere),
            read: set(head.read),
        })
    }
}

/// Bytes of a document or a file.
const WIDTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> RunState {
        let day = Date::constant(2026, 1, 31);
        let mut record = DayRecord::default();
        record.counts.in_bucket = 3;
        RunState {
            next_day: day,
            requests: 7,
            days: [(day, record)].into(),
            matched: [(day, HashSet::from([1, u128::MAX])), (Date::constant(2026, 2, 1), HashSet::from([2]))].into(),
            elsewhere: HashSet::new(),
            read: HashSet::from([1, 0x0a0a]),
        }
    }

    #[test]
    fn state_is_the_same_after_a_round_trip() {
        assert_eq!(RunState::parse(&state().to_bytes().unwrap()).unwrap(), state());
    }

    #[test]
    fn state_that_is_cut_off_is_rejected() {
        let bytes = state().to_bytes().unwrap();
        for length in [0, 10, bytes.len() - WIDTH, bytes.len() - 1] {
            assert!(RunState::parse(&bytes[..length]).is_err(), "{length}");
        }
    }
}
