//! The findings of a verification, the counts of each day, and the verdict.

mod findings;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

pub use self::findings::{Finding, Kind};
use self::findings::{Findings, KEPT};

/// All that a verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Digest files that were read.
    pub digests: u64,
    /// The digest chains by account, region and trail.
    pub chains: BTreeMap<String, ChainSummary>,
    /// The fingerprints of the keys that signed valid digests.
    pub fingerprints: BTreeSet<String>,
    /// The accounts that have files.
    pub accounts: BTreeSet<String>,
    /// The regions that have files.
    pub regions: BTreeSet<String>,
    /// True if the domain is compared, too.
    pub compares_domain: bool,
    /// Requests to the domain.
    pub requests: u64,
    /// Missing events that were loaded after they were reported.
    pub loaded: u64,
    /// The findings of digests, and of objects without a day.
    bucket: Findings,
    days: BTreeMap<Date, DayRecord>,
    /// The findings of days that are compared as a whole.
    kept: BTreeMap<Kind, u64>,
}

/// The digests of one chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainSummary {
    /// Digests with a valid signature.
    pub valid: u64,
    /// The beginning of the first.
    pub start: Timestamp,
    /// The end of the last.
    pub end: Timestamp,
}

/// The counts of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayCounts {
    /// Events in log files.
    pub in_bucket: u64,
    /// Events and further documents in the domain.
    pub in_domain: u64,
    /// Events without a document.
    pub missing: u64,
    /// Documents that differ from their event.
    pub altered: u64,
    /// Documents beyond the first of an event.
    pub duplicated: u64,
    /// Documents without an event.
    pub extra: u64,
    /// Degraded documents.
    pub degraded: u64,
    /// Documents without an event at the edge of the period, or of the time of a missing log file.
    pub not_compared: u64,
}

/// All that a verification keeps of one day: its line of the checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct DayRecord {
    pub(super) counts: DayCounts,
    /// Log files whose last event is of this day.
    pub(super) files: u64,
    /// Log files whose hash is the one in a valid digest.
    pub(super) proven_files: u64,
    /// Log files that no valid digest covers.
    pub(super) unproven_files: u64,
    pub(super) findings: Findings,
    /// Documents of the day's events in the indices of days, by index.
    pub(super) in_index: BTreeMap<Date, IndexTally>,
    /// Documents of the day's events that the scan of another day finds, too.
    pub(super) elsewhere: Vec<u128>,
}

/// The documents of one index that have an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct IndexTally {
    pub(super) matched: u64,
    /// True if one of them may be counted twice, so that the number alone proves nothing.
    pub(super) is_uncertain: bool,
}

/// The verdict of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything exists and is unaltered.
    Proven,
    /// Something is not as CloudTrail delivered it.
    Differences,
    /// Nothing differs, but not everything could be compared.
    Undecided,
}

impl Report {
    pub(super) fn day(&mut self, day: Date) -> &mut DayRecord {
        self.days.entry(day).or_default()
    }

    /// Adds a finding of the digests, or one without a day.
    pub(super) fn add(&mut self, finding: Finding) {
        self.bucket.add(finding);
    }

    /// Closes a day: it has all its findings. Returns its record.
    pub(super) fn close(&mut self, day: Date) -> &DayRecord {
        let record = self.days.entry(day).or_default();
        record.findings.sort();
        let kept = &mut self.kept;
        record.findings.retain(|kind| {
            let count = kept.entry(kind).or_default();
            *count += 1;
            *count <= KEPT
        });
        record
    }

    /// Adds the record of a day that an earlier run closed.
    pub(super) fn restore(&mut self, day: Date, record: DayRecord) {
        self.days.insert(day, record);
        self.close(day);
    }

    /// Returns the records of days.
    pub(super) fn into_days(self) -> BTreeMap<Date, DayRecord> {
        self.days
    }

    /// Returns the documents that have an event, in the index of a day.
    pub(super) fn in_index(&self, index: Date) -> IndexTally {
        let tallies = self.days.values().filter_map(|record| record.in_index.get(&index));
        tallies.fold(IndexTally::default(), |sum, tally| IndexTally {
            matched: sum.matched + tally.matched,
            is_uncertain: sum.is_uncertain || tally.is_uncertain,
        })
    }

    /// Returns the counts of each day that has events or documents.
    pub fn days(&self) -> impl Iterator<Item = (Date, DayCounts)> {
        let days = self.days.iter().map(|(day, record)| (*day, record.counts));
        days.filter(|(_, counts)| *counts != DayCounts::default())
    }

    /// Returns the findings: all of a few, and the first of many of one kind.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.bucket.kept().chain(self.days.values().flat_map(|record| record.findings.kept()))
    }

    /// Returns the number of findings of each kind, also of those that are not kept.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Kind, u64> {
        let mut counts = BTreeMap::new();
        for findings in self.days.values().map(|record| &record.findings).chain([&self.bucket]) {
            for (kind, count) in findings.counts() {
                *counts.entry(kind).or_default() += count;
            }
        }
        counts
    }

    /// Returns the number of log files.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.days.values().map(|record| record.files).sum()
    }

    /// Returns the number of log files whose hash is the one in a valid digest.
    #[must_use]
    pub fn proven_files(&self) -> u64 {
        self.days.values().map(|record| record.proven_files).sum()
    }

    /// Returns the number of log files of the period that no valid digest covers.
    #[must_use]
    pub fn unproven_files(&self) -> u64 {
        self.days.values().map(|record| record.unproven_files).sum()
    }

    /// Returns the number of events in the bucket.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.days.values().map(|record| record.counts.in_bucket).sum()
    }

    /// Returns the verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let counts = self.counts();
        if counts.keys().any(|kind| kind.is_difference()) {
            return Verdict::Differences;
        }
        let is_whole = counts.is_empty() && self.unproven_files() == 0 && self.digests > 0;
        if is_whole { Verdict::Proven } else { Verdict::Undecided }
    }
}

impl DayCounts {
    pub(super) fn add(&mut self, other: Self) {
        let Self { in_bucket, in_domain, missing, altered, duplicated, extra, degraded, not_compared } = other;
        self.in_bucket += in_bucket;
        self.in_domain += in_domain;
        self.missing += missing;
        self.altered += altered;
        self.duplicated += duplicated;
        self.extra += extra;
        self.degraded += degraded;
        self.not_compared += not_compared;
    }
}

impl Verdict {
    /// Returns the exit code: 0, 1 or 2.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::Differences => 1,
            Self::Undecided => 2,
        }
    }

    /// Returns what the verdict says.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Proven => "proven: everything is there and unaltered",
            Self::Differences => "differences: not everything is as CloudTrail delivered it",
            Self::Undecided => "undecided: nothing differs, but not everything could be compared",
        }
    }
}
