//! The content of a report, in either format.

use super::AuditContext;
use crate::verify::report::{Finding, Report, Verdict};

/// A part of a report under one heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) heading: &'static str,
    pub(super) paragraphs: Vec<String>,
    pub(super) table: Option<Table>,
    pub(super) items: Vec<String>,
}

/// A table; the first cell of a row is its heading.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Builds the sections of a report.
pub(super) fn build_sections(context: &AuditContext, before: Option<&Report>, report: &Report) -> Vec<Section> {
    let mut sections = vec![verdict(report), scope(context, report), digests(report)];
    if let Some(before) = before {
        let loaded = format!(
            "{} missing events were loaded from proven log files. No document was replaced. This section says what differed \
             before; the next ones say what was found after.",
            before.loaded
        );
        sections.push(Section { paragraphs: vec![loaded], ..differences("Before missing events were loaded", before) });
    }
    sections.extend([days(report), differences("Differences", report), compared(report), limits()]);
    sections
}

fn verdict(report: &Report) -> Section {
    let meaning = match report.verdict() {
        Verdict::Proven if report.compares_domain => {
            "Each log file of the period is as CloudTrail signed it. The domain holds each of their events unaltered, and no \
             other document of these days."
        }
        Verdict::Proven => "Each log file of the period is as CloudTrail signed it. The domain was not compared.",
        Verdict::Differences => "Each difference is named below, with what to do.",
        Verdict::Undecided => {
            "What could not be compared is named below. It proves neither that something differs nor that nothing does."
        }
    };
    let paragraphs = vec![format!("Verdict: {}.", report.verdict().sentence()), meaning.to_owned()];
    Section { heading: "Verdict", paragraphs, ..Section::default() }
}

fn scope(context: &AuditContext, report: &Report) -> Section {
    let list = |names: &std::collections::BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    let AuditContext { time, path, endpoint, prefix, keys, period } = context;
    let rows = [
        ("Period", format!("{} to {}, days in UTC, both included", period.from, period.to)),
        ("Accounts", list(&report.accounts)),
        ("Regions", list(&report.regions)),
        ("Events in log files", report.events().to_string()),
        ("Log files", report.files_sentence()),
        ("Files read from", path.clone()),
        ("Domain", format!("{endpoint}, indices {prefix}*")),
        ("Public keys from", keys.clone()),
        ("Verified at", format!("{time:.0}")),
        ("Tool", format!("trailgate-ingest {}", env!("CARGO_PKG_VERSION"))),
    ];
    let rows = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let table = Table { head: vec!["Subject".to_owned(), "Value".to_owned()], rows };
    Section { heading: "Scope", table: Some(table), ..Section::default() }
}

fn digests(report: &Report) -> Section {
    let row = |(name, chain): (&String, &crate::verify::report::ChainSummary)| {
        vec![name.clone(), chain.valid.to_string(), chain.start.to_string(), chain.end.to_string()]
    };
    let head = ["Chain", "Valid digests", "From", "To"].map(str::to_owned).to_vec();
    let table = Table { head, rows: report.chains.iter().map(row).collect() };
    let fingerprints = report.fingerprints.iter().map(|it| format!("Key fingerprint: {it}")).collect();
    Section { heading: "Digests", table: Some(table), items: fingerprints, ..Section::default() }
}

fn days(report: &Report) -> Section {
    let names = report.columns().iter().map(|(name, _)| (*name).to_owned());
    let head = std::iter::once("Day".to_owned()).chain(names).collect();
    let row = |(day, counts): (jiff::civil::Date, crate::verify::report::DayCounts)| {
        let counts = report.columns().iter().map(|(_, count)| count(&counts).to_string());
        std::iter::once(day.to_string()).chain(counts).collect()
    };
    let table = Table { head, rows: report.days().map(row).collect() };
    Section { heading: "Counts by day", table: Some(table), ..Section::default() }
}

fn differences(heading: &'static str, report: &Report) -> Section {
    let counts = report.counts();
    if counts.is_empty() {
        return Section { heading, paragraphs: vec!["None.".to_owned()], ..Section::default() };
    }
    let items = counts.iter().map(|(kind, count)| format!("{count} {}: {}", kind.name(), kind.advice())).collect();
    let row = |finding: &Finding| {
        let Finding { kind, day, subject, reason } = finding;
        vec![kind.name(), day.clone().unwrap_or_default(), subject.clone(), reason.clone()]
    };
    let head = ["Kind", "Day", "Subject", "Reason"].map(str::to_owned).to_vec();
    let table = Table { head, rows: report.findings().map(row).collect() };
    let all: u64 = counts.values().sum();
    let mut paragraphs = Vec::new();
    if (table.rows.len() as u64) < all {
        paragraphs.push(format!("The table has the first {} of {all}.", table.rows.len()));
    }
    Section { heading, paragraphs, table: Some(table), items }
}

fn compared(report: &Report) -> Section {
    let mut items = vec![
        "The signature of each digest file: RSA PKCS #1 v1.5 with SHA-256, by the key with its fingerprint.",
        "The chain: each digest names the one before it, with its hash.",
        "The SHA-256 of each log file's uncompressed content, with the one in its digest.",
        "The log files that are there, with those that digests list.",
    ];
    if report.compares_domain {
        items.extend([
            "Each event with its documents, found by event id in all indices: each field as a JSON value. Fields of the \
             delivery are left out: @id, @timestamp, @lag, @owner, @log_group, @log_stream, @aws.",
            "The documents of each day, by index and by eventTime, with the events of the log files.",
        ]);
    }
    let items = items.into_iter().map(str::to_owned).collect();
    Section { heading: "What was compared", items, ..Section::default() }
}

fn limits() -> Section {
    let items = [
        "A digest proves the log files since its trail's first digest. It does not prove that no trail was deleted before.",
        "Nothing here proves that CloudTrail recorded or delivered each event.",
        "The public keys are trusted: they must have come from CloudTrail over a trusted connection.",
        "Events that came later than the day after the period are in files that were not read.",
        "The report says what was found at its time. The domain and the bucket may change after it.",
        "The report is not signed. Keep it where only its owner can write.",
    ];
    Section { heading: "Limits", items: items.map(str::to_owned).to_vec(), ..Section::default() }
}
