//! The findings of a verification, the counts of each day, and the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Value, json};

/// All that a verification found.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Digest files that were read.
    pub digests: u64,
    /// Log files that were read.
    pub files: u64,
    /// Log files whose hash is the one in a valid digest.
    pub proven_files: u64,
    /// Log files of the period that no valid digest covers.
    pub unproven_files: u64,
    /// Account, region and trail of each digest chain.
    pub chains: BTreeSet<String>,
    /// The fingerprints of the keys that signed valid digests.
    pub fingerprints: BTreeSet<String>,
    /// True if the domain is compared, too.
    pub compares_domain: bool,
    /// Requests to the domain.
    pub requests: u64,
    days: BTreeMap<Date, DayCounts>,
    findings: Vec<Finding>,
    /// The number of findings of each kind, also of those that are not kept.
    counts: BTreeMap<Kind, u64>,
}

/// The counts of one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
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

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// The verdict of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything is there and unaltered.
    Proven,
    /// Something is not as CloudTrail delivered it.
    Differences,
    /// Nothing differs, but not everything could be compared.
    Undecided,
}

impl Finding {
    pub(super) fn new(kind: Kind, day: Option<Date>, subject: &str, reason: impl Into<String>) -> Self {
        Self { kind, day: day.map(|day| day.to_string()), subject: subject.to_owned(), reason: reason.into() }
    }
}

impl Kind {
    fn is_difference(self) -> bool {
        !matches!(self, Self::Unproven | Self::Unreadable)
    }

    /// Returns what an operator should do.
    fn advice(self) -> &'static str {
        match self {
            Self::InvalidDigest | Self::ChangedFile => {
                "restore the object's earlier version, and look for PutObject in the bucket's data events"
            }
            Self::MissingDigest | Self::MissingFile => {
                "restore the object, and look for DeleteObject in the bucket's data events"
            }
            Self::ExtraFile => "find who wrote it: CloudTrail did not",
            Self::MissingEvent => "load the day's files again: trailgate-ingest load --from DAY --to DAY",
            Self::AlteredEvent => "find who changed the document in the domain's audit log; the file has the event",
            Self::DuplicateEvent => "compare DOCUMENT_ID of the function and of load: they have different ids",
            Self::ExtraDocument => "find who wrote the document: no file of CloudTrail has it",
            Self::Unproven => "verify a period that digests cover, or obtain the digests",
            Self::Unreadable => "make the file readable and verify again",
        }
    }
}

impl Report {
    pub(super) fn day(&mut self, day: Date) -> &mut DayCounts {
        self.days.entry(day).or_default()
    }

    pub(super) fn add(&mut self, finding: Finding) {
        let count = self.counts.entry(finding.kind).or_default();
        *count += 1;
        if *count <= KEPT_FINDINGS {
            self.findings.push(finding);
        }
    }

    /// Returns the findings, the first thousand of each kind.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Returns the events in log files so far.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.days.values().map(|day| day.in_bucket).sum()
    }

    /// Returns the verdict.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if self.counts.keys().any(|kind| kind.is_difference()) {
            return Verdict::Differences;
        }
        let is_whole = self.counts.is_empty() && self.unproven_files == 0 && self.digests > 0;
        if is_whole { Verdict::Proven } else { Verdict::Undecided }
    }

    /// Returns one line of JSON for each day, and one with the findings and the verdict.
    #[must_use]
    pub fn json_lines(&self) -> String {
        let mut lines = String::new();
        for (day, counts) in &self.days {
            let mut line = json!(counts);
            line["day"] = json!(day.to_string());
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        let counts: BTreeMap<String, u64> =
            self.counts.iter().map(|(kind, count)| (kind_name(*kind), *count)).collect();
        let Self { digests, files, proven_files, unproven_files, fingerprints, chains, requests, findings, .. } = self;
        let last = json!({
            "verdict": self.verdict(), "digests": digests, "files": files, "proven_files": proven_files,
            "unproven_files": unproven_files, "compares_domain": self.compares_domain, "requests": requests,
            "fingerprints": fingerprints, "chains": chains, "counts": counts, "findings": findings,
            "version": env!("CARGO_PKG_VERSION"),
        });
        lines.push_str(&last.to_string());
        lines.push('\n');
        lines
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
}

/// Displays a table by day, the findings with what to do, and the verdict.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["bucket", "domain", "missing", "altered", "duplicated", "extra", "degraded", "not compared"];
        let domain = if self.compares_domain { &names[1..] } else { &[] };
        write!(f, "{:10} {:>10}", "day", names[0])?;
        domain.iter().try_for_each(|name| write!(f, " {name:>12}"))?;
        writeln!(f)?;
        for (day, counts) in &self.days {
            let DayCounts { in_bucket, in_domain, missing, altered, duplicated, extra, degraded, not_compared } =
                counts;
            write!(f, "{day} {in_bucket:>10}")?;
            let counts = [in_domain, missing, altered, duplicated, extra, degraded, not_compared];
            counts.iter().take(domain.len()).try_for_each(|count| write!(f, " {count:>12}"))?;
            writeln!(f)?;
        }
        let Self { proven_files, files, digests, unproven_files, .. } = self;
        writeln!(f, "{proven_files} of {files} log files proven by {digests} digests, {unproven_files} not covered")?;
        for Finding { kind, subject, reason, .. } in &self.findings {
            writeln!(f, "{}: {subject}: {reason}", kind_name(*kind))?;
        }
        for (kind, count) in &self.counts {
            writeln!(f, "{count} {}: {}", kind_name(*kind), kind.advice())?;
        }
        f.write_str(match self.verdict() {
            Verdict::Proven => "proven: everything is there and unaltered",
            Verdict::Differences => "differences: not everything is as CloudTrail delivered it",
            Verdict::Undecided => "undecided: nothing differs, but not everything could be compared",
        })
    }
}

fn kind_name(kind: Kind) -> String {
    match json!(kind) {
        Value::String(name) => name,
        other => other.to_string(),
    }
}

/// The findings that are kept of each kind, so that memory is bounded.
const KEPT_FINDINGS: u64 = 1_000;
