//! One run of a verification: reads files, compares batches of events while others are read, and scans days.

mod batches;
mod scan;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use indicatif::ProgressBar;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use self::batches::Batch;
pub(super) use self::batches::Comparison;
use super::chain::{self, BucketEvidence, hash_key};
use super::compare::{FileEvent, FileEvidence, day_of};
use super::files::{BucketFile, BucketFiles, list_files};
use super::log_file::{self, LogContent, ReadError};
use super::report::{DayRecord, Finding, Kind, Report};
use super::state::RunState;
use super::{Evidence, Part, Period};
use crate::load::checkpoint::Checkpoint;
use crate::load::chunk_reader::LOG_GROUP;
use crate::load::progress::Progress;
use crate::load::source::Sources;
use crate::payload::{LogBatch, LogEvent};

pub(super) struct Run {
    period: Period,
    report: Report,
    evidence: BucketEvidence,
    comparison: Option<Comparison>,
    /// Events whose documents are not searched for yet, and their bytes.
    queued: Vec<FileEvent>,
    queued_bytes: usize,
    in_flight: FuturesUnordered<Batch>,
    /// The documents that belong to an event of a file, by the event's day.
    matched: BTreeMap<Date, HashSet<u128>>,
    /// Documents that the scan of another day finds, too.
    elsewhere: HashSet<u128>,
    /// The hashes of the keys of log files that are read.
    read: HashSet<u128>,
    /// Requests to the domain in earlier parts of the run.
    earlier_requests: u64,
    /// The next day to scan; those before it are closed.
    next_day: Date,
    /// False once an event was later than its file: a run that resumes would pass over it.
    is_resumable: bool,
}

/// A day that is closed, as a line of the checkpoint.
#[derive(Serialize, Deserialize)]
struct ClosedDay {
    day: Date,
    record: DayRecord,
}

impl Run {
    /// Verifies the evidence, and then the domain against it. `done` has the days that an earlier run closed.
    pub(super) async fn execute(
        evidence: &Evidence,
        comparison: Option<Comparison>,
        done: &mut Checkpoint,
        progress: &Progress,
    ) -> anyhow::Result<Report> {
        let (mut run, files) = Self::start(evidence, comparison, progress).await?;
        run.restore(done)?;
        run.read_all(&evidence.sources, files, done, progress, &|| false).await?;
        Ok(run.into_report())
    }

    /// Does the same in parts: it pauses after a file once `is_late` returns true. `state` is that of an earlier part.
    pub(super) async fn execute_part(
        evidence: &Evidence,
        comparison: Comparison,
        state: Option<RunState>,
        is_late: &impl Fn() -> bool,
    ) -> anyhow::Result<Part> {
        let progress = Progress::Bar(ProgressBar::hidden());
        let (mut run, files) = Self::start(evidence, Some(comparison), &progress).await?;
        if let Some(state) = state {
            run.resume(state);
        }
        let mut done = Checkpoint::in_memory();
        let is_done = run.read_all(&evidence.sources, files, &mut done, &progress, is_late).await?;
        Ok(if is_done { Part::Done(run.into_report()) } else { Part::Paused(run.into_state()) })
    }

    /// Lists the files and verifies the digests.
    async fn start(
        evidence: &Evidence,
        comparison: Option<Comparison>,
        progress: &Progress,
    ) -> anyhow::Result<(Self, BucketFiles)> {
        let Evidence { sources, keys, period } = evidence;
        let files = list_files(sources, period.days());
        progress.begin(files.digests.len() + files.logs.len());
        let mut report = Report::default();
        report.compares_domain = comparison.is_some();
        for (name, reason) in sources.failures() {
            report.add(Finding::new(Kind::Unreadable, None, name, reason));
        }
        for file in files.digests.iter().chain(&files.logs) {
            if let Some((account, region)) = file.account_and_region() {
                // No allocation for a name that the set has.
                if !report.accounts.contains(account) {
                    report.accounts.insert(account.to_owned());
                }
                if !report.regions.contains(region) {
                    report.regions.insert(region.to_owned());
                }
            }
        }
        let evidence = chain::verify_digests(sources, &files, keys, *period, &mut report, progress).await?;
        let run = Self {
            period: *period,
            report,
            evidence,
            comparison,
            queued: Vec::new(),
            queued_bytes: 0,
            in_flight: FuturesUnordered::new(),
            matched: BTreeMap::new(),
            elsewhere: HashSet::new(),
            read: HashSet::new(),
            earlier_requests: 0,
            next_day: period.from,
            is_resumable: true,
        };
        Ok((run, files))
    }

    fn into_report(mut self) -> Report {
        self.report.requests = self.requests();
        self.report
    }

    fn into_state(self) -> RunState {
        RunState {
            next_day: self.next_day,
            requests: self.requests(),
            days: self.report.into_days(),
            matched: self.matched,
            elsewhere: self.elsewhere,
            read: self.read,
        }
    }

    /// Goes on from the state of an earlier part.
    fn resume(&mut self, state: RunState) {
        let RunState { next_day, requests, days, matched, elsewhere, read } = state;
        for (day, record) in days {
            if day < next_day {
                self.report.restore(day, record);
            } else {
                *self.report.day(day) = record;
            }
        }
        (self.next_day, self.earlier_requests) = (next_day, requests);
        (self.matched, self.elsewhere, self.read) = (matched, elsewhere, read);
    }

    fn requests(&self) -> u64 {
        self.earlier_requests + self.comparison.as_ref().map_or(0, |comparison| comparison.search.requests())
    }

    /// Restores the days that an earlier run closed, up to the first that it did not.
    fn restore(&mut self, done: &Checkpoint) -> anyhow::Result<()> {
        let mut days: BTreeMap<Date, DayRecord> = BTreeMap::new();
        for line in done.texts() {
            let ClosedDay { day, record } = serde_json::from_str(line)
                .context("the file of --done has a line that is not a verified day; remove the file")?;
            days.insert(day, record);
        }
        while let Some(record) = days.remove(&self.next_day) {
            self.elsewhere.extend(&record.elsewhere);
            self.report.restore(self.next_day, record);
            self.next_day = self.next_day.tomorrow()?;
        }
        Ok(())
    }

    /// Returns the files to read, in the order in which days can be closed.
    fn choose(&mut self, files: Vec<BucketFile>) -> Vec<BucketFile> {
        let mut wanted = Vec::with_capacity(files.len());
        for mut file in files {
            if self.read.contains(&hash_key(&file.key)) {
                continue;
            }
            let listed = self.evidence.listed(&file.key);
            if let Some(listed) = listed {
                listed.set_days(&mut file);
            }
            if self.record_day(&file) < self.next_day {
                continue;
            }
            // CloudTrail's documentation does not say that digests list the files of these folders.
            if listed.is_none() && !file.has_own_folder() && self.evidence.covers(&file) {
                let day = self.record_day(&file);
                self.read.insert(hash_key(&file.key));
                let record = self.report.day(day);
                record.files += 1;
                record.findings.add(Finding::new(
                    Kind::ExtraFile,
                    Some(file.day),
                    &file.key,
                    "no digest lists this file",
                ));
                continue;
            }
            wanted.push(file);
        }
        wanted.sort_by(|a, b| (a.read_day, &a.key).cmp(&(b.read_day, &b.key)));
        wanted
    }

    /// Returns the day whose record has the counts of a file: no later file has events of it.
    fn record_day(&self, file: &BucketFile) -> Date {
        file.last_day.max(self.period.from)
    }

    /// Reads the log files and closes the days. Returns false if it paused.
    async fn read_all(
        &mut self,
        sources: &Arc<Sources>,
        files: BucketFiles,
        done: &mut Checkpoint,
        progress: &Progress,
        is_late: &impl Fn() -> bool,
    ) -> anyhow::Result<bool> {
        let reads = stream::iter(self.choose(files.logs)).map(|file| {
            let sources = Arc::clone(sources);
            AbortOnDropHandle::new(tokio::spawn(async move {
                let read = log_file::read_source(&sources, &file).await;
                (file, read)
            }))
        });
        let mut reads = std::pin::pin!(reads.buffered(READ_AHEAD));
        let mut files_read = files.digests.len();
        while let Some(read) = reads.next().await {
            let (file, read) = read?;
            // All files that may have events of a day are read once those of the day after the next begin.
            while file.read_day > self.next_day.tomorrow()? && self.period.contains(self.next_day) {
                self.close_day(done).await?;
            }
            self.add_file(&file, read);
            self.compare_full_batches().await?;
            files_read += 1;
            progress.show_count(files_read, &format!("{} events compared", self.report.events()));
            if is_late() {
                self.compare_queued().await?;
                return Ok(false);
            }
        }
        while self.period.contains(self.next_day) {
            self.close_day(done).await?;
        }
        Ok(true)
    }

    /// Compares what is queued, scans the next day and records it in the checkpoint.
    async fn close_day(&mut self, done: &mut Checkpoint) -> anyhow::Result<()> {
        let day = self.next_day;
        self.compare_queued().await?;
        if let Some(comparison) = self.comparison.clone() {
            self.scan(&comparison, day).await?;
        }
        self.matched.retain(|matched_day, _| *matched_day > day);
        let record = self.report.close(day);
        if self.is_resumable {
            let line = serde_json::to_string(&ClosedDay { day, record: record.clone() })?;
            done.record(&line)?;
        }
        self.next_day = day.tomorrow()?;
        Ok(())
    }

    /// Counts a log file, compares its hash, and queues its events.
    fn add_file(&mut self, file: &BucketFile, read: Result<LogContent, ReadError>) {
        self.read.insert(hash_key(&file.key));
        let record_day = self.record_day(file);
        let listed = self.evidence.listed(&file.key);
        let record = self.report.day(record_day);
        record.files += 1;
        let log = match read {
            Ok(log) => log,
            Err(error) => {
                let (kind, error) = match error {
                    ReadError::Malformed(error) if listed.is_some() => (Kind::ChangedFile, error),
                    ReadError::Malformed(error) | ReadError::Unavailable(error) => (Kind::Unreadable, error),
                };
                let reason = format!("cannot be read: {error:#}");
                record.findings.add(Finding::new(kind, Some(file.day), &file.key, reason));
                return;
            }
        };
        let evidence = match listed {
            Some(listed) if listed.has_hash(&log.sha256) => FileEvidence::Proven,
            Some(_) => FileEvidence::Changed,
            None => FileEvidence::Unproven,
        };
        match evidence {
            FileEvidence::Proven => record.proven_files += 1,
            FileEvidence::Changed => {
                let reason = "its SHA-256 differs from the one in the digest";
                record.findings.add(Finding::new(Kind::ChangedFile, Some(file.day), &file.key, reason));
            }
            FileEvidence::Unproven => {
                let mut days = log.events.iter().map(|(_, event)| event_day(event));
                if self.period.contains(file.day) || days.any(|day| self.period.contains(day)) {
                    record.unproven_files += 1;
                }
            }
        }
        for reason in log.unreadable {
            record.findings.add(Finding::new(Kind::Unreadable, Some(file.day), &file.key, reason));
        }
        let late = self.queue_events(file, evidence, log.events);
        if late > 0 {
            let reason = format!("has {late} events of days compared before, and no digest lists its times");
            let finding = Finding::new(Kind::Unproven, Some(file.day), &file.key, reason);
            self.report.day(record_day).findings.add(finding);
        }
    }

    /// Queues the events of the period that are to be compared. Returns the number of those that are too late for it.
    fn queue_events(&mut self, file: &BucketFile, evidence: FileEvidence, events: Vec<(String, LogEvent)>) -> u64 {
        let mut batch: Option<Arc<LogBatch>> = None;
        let mut late = 0;
        for (owner, event) in events {
            let day = event_day(&event);
            if !self.period.contains(day) {
                continue;
            }
            if day.tomorrow().is_ok_and(|next| next < file.read_day) {
                late += 1;
                continue;
            }
            // An earlier run has compared those of a closed day.
            if day < self.next_day {
                continue;
            }
            self.is_resumable &= day <= file.last_day;
            self.report.day(day).counts.in_bucket += 1;
            if self.comparison.is_none() {
                continue;
            }
            let batch = match &batch {
                Some(batch) if batch.owner == owner => Arc::clone(batch),
                _ => {
                    // As `load` makes it.
                    let (log_group, log_stream) = (LOG_GROUP.to_owned(), file.source.name().to_owned());
                    Arc::clone(batch.insert(Arc::new(LogBatch { owner, log_group, log_stream, events: Vec::new() })))
                }
            };
            self.queued_bytes += event.message.len();
            self.queued.push(FileEvent { day, batch, event, evidence });
        }
        late
    }
}

fn event_day(event: &LogEvent) -> Date {
    day_of(Timestamp::from_millisecond(event.timestamp).unwrap_or_default())
}

/// Log files that are read ahead.
const READ_AHEAD: usize = 2;
