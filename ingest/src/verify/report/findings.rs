//! Findings, and what to do about them.

use std::collections::BTreeMap;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A digest file that is not as CloudTrail signed it.
    InvalidDigest,
    /// A digest file that the next one names, and the bucket lacks.
    MissingDigest,
    /// A log file that differs from the hash in its digest.
    ChangedFile,
    /// A log file that a digest lists, and the bucket lacks.
    MissingFile,
    /// A log file that no digest lists, though digests cover its time.
    ExtraFile,
    /// An event without a document.
    MissingEvent,
    /// A document that differs from its event.
    AlteredEvent,
    /// Several documents of one event.
    DuplicateEvent,
    /// A document without an event.
    ExtraDocument,
    /// A time or a digest for which there is no proof.
    Unproven,
    /// Something that cannot be read.
    Unreadable,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Finding {
    /// Its kind.
    pub kind: Kind,
    /// The day, if it has one.
    pub day: Option<String>,
    /// The object key, the event id, or the document's index and id.
    pub subject: String,
    /// A description of the problem.
    pub reason: String,
}

/// The first findings of each kind, and the number of all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::verify) struct Findings {
    kept: Vec<Finding>,
    counts: BTreeMap<Kind, u64>,
}

impl Finding {
    pub(in crate::verify) fn new(kind: Kind, day: Option<Date>, subject: &str, reason: impl Into<String>) -> Self {
        Self { kind, day: day.map(|day| day.to_string()), subject: subject.to_owned(), reason: reason.into() }
    }
}

impl Findings {
    pub(in crate::verify) fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.kind).or_default();
        *count += 1;
        if *count <= KEPT {
            self.kept.push(finding);
        }
    }

    pub(super) fn sort(&mut self) {
        self.kept.sort();
    }

    /// Keeps the findings of which `is_kept` returns true for the kind; all stay counted.
    pub(super) fn retain(&mut self, mut is_kept: impl FnMut(Kind) -> bool) {
        self.kept.retain(|finding| is_kept(finding.kind));
    }

    pub(super) fn kept(&self) -> impl Iterator<Item = &Finding> {
        self.kept.iter()
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (Kind, u64)> {
        self.counts.iter().map(|(kind, count)| (*kind, *count))
    }
}

impl Kind {
    pub(super) fn is_difference(self) -> bool {
        !matches!(self, Self::Unproven | Self::Unreadable)
    }

    /// Returns its name, as in JSON.
    #[must_use]
    pub fn name(self) -> String {
        match json!(self) {
            Value::String(name) => name,
            other => other.to_string(),
        }
    }

    /// Returns what an operator should do.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::InvalidDigest | Self::ChangedFile => {
                "restore the object's earlier version, and look for PutObject in the bucket's data events"
            }
            Self::MissingDigest | Self::MissingFile => {
                "restore the object, and look for DeleteObject in the bucket's data events"
            }
            Self::ExtraFile => "find who wrote it: CloudTrail did not",
            Self::MissingEvent => "load what is missing: trailgate-ingest verify --load-missing",
            Self::AlteredEvent => "find who changed the document in the domain's audit log; the file has the event",
            Self::DuplicateEvent => "compare DOCUMENT_ID of the function and of load: they have different ids",
            Self::ExtraDocument => "find who wrote the document: no file of CloudTrail has it",
            Self::Unproven => "verify a period that digests cover, or obtain the digests",
            Self::Unreadable => "make the file readable and verify again",
        }
    }
}

/// The findings that are kept of each kind, so that memory is bounded.
pub(super) const KEPT: u64 = 1_000;
