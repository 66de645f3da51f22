//! Verifies evidence: the bucket against CloudTrail's signatures, and the index against the bucket.
//!
//! 1. [`keys`] holds CloudTrail's public keys, and [`digest`] parses a digest file and verifies its signature.
//! 2. [`chain`] verifies the digests of each account and region, and which log files they prove.
//! 3. [`log_file`] reads a log file's events and its hash.
//! 4. [`search`] finds the documents of events, and every document of a day; [`compare`] compares a document with the event.
//! 5. [`report`] counts by day and holds the findings and the verdict.
//!
//! Memory is bounded by the largest log file, and by sixteen bytes for each document of two days; the period does not
//! matter.

pub mod chain;
mod compare;
mod digest;
mod files;
pub mod keys;
mod log_file;
pub mod report;
mod search;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use serde_json::Value;

use self::chain::{BucketEvidence, MissingFile};
use self::files::{BucketFile, list_files};
use self::keys::PublicKeys;
use self::report::{Finding, Kind, Report};
use self::search::{Hit, Search};
use crate::document::DocumentOptions;
use crate::domain::Domain;
use crate::load::days::Days;
use crate::load::source::Sources;
use crate::payload::{LogBatch, LogEvent};

/// The first and the last day of a verification, in UTC.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// The first day.
    pub from: Date,
    /// The last day.
    pub to: Date,
}

impl Period {
    fn days(self) -> Days {
        Days { from: Some(self.from), to: Some(self.to) }
    }

    fn contains(self, day: Date) -> bool {
        self.days().contain(day)
    }
}

/// Verifies the bucket alone.
pub async fn verify_bucket(
    sources: &Arc<Sources>,
    keys: &PublicKeys,
    period: Period,
    mut progress: impl FnMut(&Report),
) -> anyhow::Result<Report> {
    let mut run = Run::begin(sources, keys, period).await?;
    while let Some(file) = run.next_file() {
        run.read(sources, &file).await?;
        run.unmatched.clear();
        progress(&run.report);
    }
    Ok(run.report)
}

/// Verifies the bucket, and then the domain against the files.
pub async fn verify(
    sources: &Arc<Sources>,
    keys: &PublicKeys,
    period: Period,
    domain: &Domain,
    options: &DocumentOptions,
    mut progress: impl FnMut(&Report),
) -> anyhow::Result<Report> {
    let search = Search::new(domain, &options.prefix);
    let mut run = Run::begin(sources, keys, period).await?;
    run.report.compares_domain = true;
    let mut next_scan = period.from;
    while let Some(file) = run.next_file() {
        // All files that may have events of a day are read once those of the day after the next begin.
        while file.day > next_scan.tomorrow()? && period.contains(next_scan) {
            run.compare(&search, options).await?;
            run.scan(&search, next_scan).await?;
            next_scan = next_scan.tomorrow()?;
        }
        run.read(sources, &file).await?;
        if run.unmatched.len() >= EVENTS_PER_BATCH {
            run.compare(&search, options).await?;
        }
        progress(&run.report);
    }
    run.compare(&search, options).await?;
    while period.contains(next_scan) {
        run.scan(&search, next_scan).await?;
        next_scan = next_scan.tomorrow()?;
    }
    run.report.requests = search.requests();
    Ok(run.report)
}

/// An event of a file, and the document that it should have.
struct FileEvent {
    day: Date,
    batch: LogBatch,
    event: LogEvent,
    /// False if its file differs from what CloudTrail delivered: its documents are found, but not compared.
    is_unchanged: bool,
}

struct Run {
    period: Period,
    report: Report,
    evidence: BucketEvidence,
    files: std::vec::IntoIter<BucketFile>,
    /// Events that are not compared yet.
    unmatched: Vec<FileEvent>,
    /// The documents that belong to an event of a file, by the event's day.
    matched: BTreeMap<Date, HashSet<u128>>,
    /// Altered documents: their own time may be of another day.
    altered: HashSet<u128>,
}

impl Run {
    async fn begin(sources: &Arc<Sources>, keys: &PublicKeys, period: Period) -> anyhow::Result<Self> {
        let files = list_files(sources, period.days());
        let mut report = Report::default();
        for (name, reason) in sources.failures() {
            report.add(Finding::new(Kind::Unreadable, None, name, reason));
        }
        let evidence = chain::verify_digests(sources, &files, keys, period, &mut report).await?;
        let files = files.logs.into_iter();
        let (matched, altered) = (BTreeMap::new(), HashSet::new());
        Ok(Self { period, report, evidence, files, unmatched: Vec::new(), matched, altered })
    }

    fn next_file(&mut self) -> Option<BucketFile> {
        self.files.next()
    }

    /// Reads a log file, compares its hash, and queues its events.
    async fn read(&mut self, sources: &Arc<Sources>, file: &BucketFile) -> anyhow::Result<()> {
        self.report.files += 1;
        let is_listed = self.evidence.hash_of(&file.key).is_some();
        if !is_listed && self.evidence.covers(file) {
            self.report.add(Finding::new(Kind::ExtraFile, Some(file.day), &file.key, "no digest lists this file"));
            return Ok(());
        }
        let input = sources.open(&file.source).await;
        let is_gzip = file.is_gzip();
        let read = match input {
            Ok(input) => tokio::task::spawn_blocking(move || log_file::read(input, is_gzip)).await?,
            Err(error) => Err(error),
        };
        let log = match read {
            Ok(log) => log,
            Err(error) => {
                let kind = if is_listed { Kind::ChangedFile } else { Kind::Unreadable };
                self.report.add(Finding::new(kind, Some(file.day), &file.key, format!("cannot be read: {error:#}")));
                return Ok(());
            }
        };
        let is_changed = self.evidence.hash_of(&file.key).is_some_and(|hash| !hash.eq_ignore_ascii_case(&log.sha256));
        if is_changed {
            let reason = "its SHA-256 differs from the one in the digest";
            self.report.add(Finding::new(Kind::ChangedFile, Some(file.day), &file.key, reason));
        } else if is_listed {
            self.report.proven_files += 1;
        } else if self.period.contains(file.day)
            || log.events.iter().any(|(_, event)| self.period.contains(day_of(event.timestamp)))
        {
            self.report.unproven_files += 1;
        }
        for reason in log.unreadable {
            self.report.add(Finding::new(Kind::Unreadable, Some(file.day), &file.key, reason));
        }
        for (owner, event) in log.events {
            let day = day_of(event.timestamp);
            if !self.period.contains(day) {
                continue;
            }
            self.report.day(day).in_bucket += 1;
            let batch = LogBatch { owner, log_group: String::new(), log_stream: String::new(), events: Vec::new() };
            self.unmatched.push(FileEvent { day, batch, event, is_unchanged: !is_changed });
        }
        Ok(())
    }

    /// Finds and compares the documents of the queued events.
    async fn compare(&mut self, search: &Search<'_>, options: &DocumentOptions) -> anyhow::Result<()> {
        for events in std::mem::take(&mut self.unmatched).chunks(EVENTS_PER_BATCH) {
            let ids: Vec<&str> = events.iter().map(|it| it.event.id.as_str()).collect();
            let hits = search.find(&ids).await?;
            for event in events {
                self.compare_event(event, hits.get(event.event.id.as_str()).map_or(&[], Vec::as_slice), options);
            }
        }
        Ok(())
    }

    fn compare_event(&mut self, event: &FileEvent, hits: &[Hit], options: &DocumentOptions) {
        let FileEvent { day, batch, event, is_unchanged } = event;
        let matched = self.matched.entry(*day).or_default();
        matched.extend(hits.iter().map(Hit::key));
        if hits.is_empty() {
            if *is_unchanged {
                self.report.day(*day).missing += 1;
                let reason = "no document has this event";
                self.report.add(Finding::new(Kind::MissingEvent, Some(*day), &event.id, reason));
            }
            return;
        }
        self.report.day(*day).in_domain += 1;
        if let [first, rest @ ..] = hits
            && !rest.is_empty()
        {
            self.report.day(*day).duplicated += rest.len() as u64;
            let places: Vec<_> = rest.iter().map(Hit::place).collect();
            let reason = format!("{} and {} have the same event", first.place(), places.join(", "));
            self.report.add(Finding::new(Kind::DuplicateEvent, Some(*day), &event.id, reason));
        }
        if !is_unchanged {
            return;
        }
        for hit in hits {
            if hit.source.get("@degraded").is_some() {
                self.report.day(*day).degraded += 1;
            }
            let mut fields = compare::differences(batch, event, options, &hit.source);
            if !is_expected_index(&hit.index, &options.prefix, *day, &hit.source) {
                fields.push("_index".to_owned());
            }
            if !fields.is_empty() {
                self.report.day(*day).altered += 1;
                self.altered.insert(hit.key());
                let reason = format!("{} differs in {}", hit.place(), fields.join(", "));
                self.report.add(Finding::new(Kind::AlteredEvent, Some(*day), &event.id, reason));
            }
        }
    }

    /// Finds the documents of `day`, by index or by time, that no file has.
    async fn scan(&mut self, search: &Search<'_>, day: Date) -> anyhow::Result<()> {
        let mut extra = Vec::new();
        let (matched, altered) = (&self.matched, &self.altered);
        search
            .each_of_day(day, |hit| {
                let key = hit.key();
                if !altered.contains(&key) && !matched.values().any(|keys| keys.contains(&key)) {
                    extra.push(hit);
                }
            })
            .await?;
        for hit in extra {
            let time = hit.source["eventTime"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
            let event_day = time.map(|time| day_of(time.as_millisecond()));
            // A late delivery of the day before the period, in the index of the day of its delivery.
            let is_edge = event_day.is_some_and(|day| day < self.period.from)
                && is_expected_index(&hit.index, search.prefix(), Date::MIN, &hit.source);
            let is_missing_files = time.is_some_and(|time| {
                self.evidence.missing.iter().any(|file: &MissingFile| file.may_have(time, &hit.source))
            });
            // The scan of its own day judges it.
            if event_day.is_some_and(|event_day| event_day != day && self.period.contains(event_day)) {
                continue;
            }
            let counts = self.report.day(day);
            if is_edge || is_missing_files {
                counts.not_compared += 1;
                continue;
            }
            counts.in_domain += 1;
            counts.extra += 1;
            let reason = "no file has this document's event";
            self.report.add(Finding::new(Kind::ExtraDocument, Some(day), &hit.place(), reason));
        }
        self.matched.retain(|matched_day, _| *matched_day > day);
        Ok(())
    }
}

/// Returns whether a document may be in this index: that of the event's day, or of the delivery's.
fn is_expected_index(index: &str, prefix: &str, day: Date, source: &Value) -> bool {
    let name = |day: Date| format!("{prefix}{}", day.strftime("%Y.%m.%d"));
    let delivered = source["@timestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    index == name(day) || delivered.is_some_and(|time| index == name(day_of(time.as_millisecond())))
}

fn day_of(milliseconds: i64) -> Date {
    Offset::UTC.to_datetime(Timestamp::from_millisecond(milliseconds).unwrap_or_default()).date()
}

/// Events whose documents are searched for in one request.
const EVENTS_PER_BATCH: usize = 500;
