//! A report as a table, and as lines of JSON.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::json;

use super::{DayCounts, Finding, Report};
use crate::load::visible::visible;

/// The name of a column, and its number on a day.
type Column = (&'static str, fn(&DayCounts) -> u64);

impl Report {
    /// Returns one line of JSON for each day, and one with the findings and the verdict.
    ///
    /// `stage` is in each line, if there is one: it distinguishes the two reports of one run.
    #[must_use]
    pub fn json_lines(&self, stage: Option<&str>) -> String {
        let mut lines = String::new();
        for (day, counts) in self.days() {
            let mut line = json!(counts);
            line["day"] = json!(day.to_string());
            if let Some(stage) = stage {
                line["stage"] = json!(stage);
            }
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        let counts: BTreeMap<String, u64> =
            self.counts().into_iter().map(|(kind, count)| (kind.name(), count)).collect();
        let Self { digests, fingerprints, chains, accounts, regions, compares_domain, requests, loaded, .. } = self;
        let chains: Vec<&String> = chains.keys().collect();
        let findings: Vec<&Finding> = self.findings().collect();
        let mut last = json!({
            "verdict": self.verdict(), "digests": digests, "files": self.files(),
            "proven_files": self.proven_files(), "unproven_files": self.unproven_files(),
            "compares_domain": compares_domain, "requests": requests, "fingerprints": fingerprints, "chains": chains,
            "accounts": accounts, "regions": regions, "counts": counts, "findings": findings, "loaded": loaded,
            "version": env!("CARGO_PKG_VERSION"),
        });
        if let Some(stage) = stage {
            last["stage"] = json!(stage);
        }
        lines.push_str(&last.to_string());
        lines.push('\n');
        lines
    }

    /// Returns the columns of the table by day: their names, and how to read them.
    pub(in crate::verify) fn columns(&self) -> &'static [Column] {
        if self.compares_domain { &COLUMNS } else { &COLUMNS[..1] }
    }

    /// Returns how many log files are proven, in one sentence.
    pub(in crate::verify) fn files_sentence(&self) -> String {
        let (proven, files, unproven) = (self.proven_files(), self.files(), self.unproven_files());
        format!("{proven} of {files} log files proven by {} digests, {unproven} not covered", self.digests)
    }
}

/// Displays a table by day, the findings with what to do, and the verdict.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:10}", "day")?;
        self.columns().iter().try_for_each(|(name, _)| write!(f, " {name:>12}"))?;
        writeln!(f)?;
        for (day, counts) in self.days() {
            write!(f, "{day}")?;
            self.columns().iter().try_for_each(|(_, count)| write!(f, " {:>12}", count(&counts)))?;
            writeln!(f)?;
        }
        writeln!(f, "{}", self.files_sentence())?;
        for Finding { kind, subject, reason, .. } in self.findings() {
            writeln!(f, "{}: {}: {}", kind.name(), visible(subject), visible(reason))?;
        }
        for (kind, count) in self.counts() {
            writeln!(f, "{count} {}: {}", kind.name(), kind.advice())?;
        }
        f.write_str(self.verdict().sentence())
    }
}

const COLUMNS: [Column; 8] = [
    ("bucket", |counts| counts.in_bucket),
    ("domain", |counts| counts.in_domain),
    ("missing", |counts| counts.missing),
    ("altered", |counts| counts.altered),
    ("duplicated", |counts| counts.duplicated),
    ("extra", |counts| counts.extra),
    ("degraded", |counts| counts.degraded),
    ("not compared", |counts| counts.not_compared),
];
