//! One run of a verification: reads files, compares batches of events while others are read, and scans days.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;

use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use indicatif::ProgressBar;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use super::chain::{self, BucketEvidence, MissingFile, hash_key};
use super::compare::{
    Compared, FileEvent, FileEvidence, compare_events, day_of, event_day, is_expected_index, time_of,
};
use super::files::{BucketFile, BucketFiles, list_files};
use super::log_file::{self, LogContent};
use super::report::{DayRecord, Finding, Kind, Report};
use super::search::{Hit, Search};
use super::state::RunState;
use super::{Evidence, Part, Period};
use crate::document::DocumentOptions;
use crate::load::LoadTarget;
use crate::load::checkpoint::Checkpoint;
use crate::load::chunk_reader::LOG_GROUP;
use crate::load::progress::Progress;
use crate::load::source::Sources;
use crate::payload::LogBatch;

/// The domain that is compared, and how.
#[derive(Clone)]
pub(super) struct Comparison {
    pub(super) search: Arc<Search>,
    pub(super) options: Arc<DocumentOptions>,
    /// The destination of missing events, if they are loaded.
    pub(super) target: Option<Arc<LoadTarget>>,
}

/// The result of a batch, and the number of events that were loaded.
type Batch = AbortOnDropHandle<anyhow::Result<(Compared, u64)>>;

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
                // No allocation for a name that is there.
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
            let ClosedDay { day, record } = serde_json::from_str(line)?;
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
            // CloudTrail's documentation does not say that digests list files with Insights events.
            if listed.is_none() && !file.is_insight() && self.evidence.covers(&file) {
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
                let read = read_log(&sources, &file).await;
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
            while self.queued_bytes >= BATCH_BYTES || self.queued.len() >= EVENTS_PER_BATCH {
                self.start_batch();
                if self.in_flight.len() >= PARALLEL_BATCHES {
                    self.finish_batch().await?;
                }
            }
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

    /// Compares all events that were queued.
    async fn compare_queued(&mut self) -> anyhow::Result<()> {
        while !self.queued.is_empty() {
            self.start_batch();
        }
        while !self.in_flight.is_empty() {
            self.finish_batch().await?;
        }
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
        let day = |milliseconds| day_of(Timestamp::from_millisecond(milliseconds).unwrap_or_default());
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
                let mut days = log.events.iter().map(|(_, event)| day(event.timestamp));
                if self.period.contains(file.day) || days.any(|day| self.period.contains(day)) {
                    record.unproven_files += 1;
                }
            }
        }
        for reason in log.unreadable {
            record.findings.add(Finding::new(Kind::Unreadable, Some(file.day), &file.key, reason));
        }
        let mut batch: Option<Arc<LogBatch>> = None;
        let mut late = 0_u64;
        for (owner, event) in log.events {
            let day = day(event.timestamp);
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
        if late > 0 {
            let reason = format!("has {late} events of days compared before, and no digest lists its times");
            let finding = Finding::new(Kind::Unproven, Some(file.day), &file.key, reason);
            self.report.day(record_day).findings.add(finding);
        }
    }

    /// Starts to compare the first of the queued events.
    fn start_batch(&mut self) {
        let mut bytes = 0;
        let fits = |event: &&FileEvent| {
            bytes += event.event.message.len();
            bytes <= BATCH_BYTES
        };
        let count = self.queued.iter().take(EVENTS_PER_BATCH).take_while(fits).count().max(1);
        let rest = self.queued.split_off(count.min(self.queued.len()));
        let events = std::mem::replace(&mut self.queued, rest);
        self.queued_bytes -= events.iter().map(|it| it.event.message.len()).sum::<usize>();
        let Some(comparison) = self.comparison.clone() else { return };
        self.in_flight.push(AbortOnDropHandle::new(tokio::spawn(comparison.compare(events))));
    }

    async fn finish_batch(&mut self) -> anyhow::Result<()> {
        let Some(finished) = self.in_flight.next().await else { return Ok(()) };
        let (compared, loaded) = finished??;
        self.report.loaded += loaded;
        for (day, counts) in compared.days {
            self.report.day(day).counts.add(counts);
        }
        for (day, finding) in compared.findings {
            self.report.day(day).findings.add(finding);
        }
        for (day, document) in compared.matched {
            let record = self.report.day(day);
            let is_new = self.matched.entry(day).or_default().insert(document.key);
            if let Some(index) = document.index.filter(|_| is_new) {
                let tally = record.in_index.entry(index).or_default();
                tally.matched += 1;
                tally.is_uncertain |= document.is_uncertain;
            }
            if document.is_elsewhere && self.elsewhere.insert(document.key) {
                record.elsewhere.push(document.key);
            }
        }
        Ok(())
    }

    /// Finds the documents of `day`, by index or by time, that no file has.
    async fn scan(&mut self, comparison: &Comparison, day: Date) -> anyhow::Result<()> {
        let search = &comparison.search;
        // Each document that has an event was found: if there are no more in the index, none is without one.
        let tally = self.report.in_index(day);
        if tally.is_uncertain || search.count_in_index(day).await? != tally.matched {
            let mut pages = search.open_index(day).await?;
            while let Some(hits) = search.next_page(&mut pages).await? {
                self.judge(comparison, day, &hits);
            }
        }
        let mut pages = search.open_other_indices(day).await?;
        while let Some(hits) = search.next_page(&mut pages).await? {
            self.judge(comparison, day, &hits);
        }
        Ok(())
    }

    /// Adds the documents that have no event of a file.
    fn judge(&mut self, comparison: &Comparison, day: Date, hits: &[Hit]) {
        let prefix = &comparison.options.prefix;
        for hit in hits {
            let key = hit.key();
            if self.elsewhere.contains(&key) || self.matched.values().any(|keys| keys.contains(&key)) {
                continue;
            }
            let time = time_of(&hit.source, "eventTime");
            let event_day = event_day(&hit.source);
            // The scan of its own day judges it.
            if event_day.is_some_and(|event_day| event_day != day && self.period.contains(event_day)) {
                continue;
            }
            // A late delivery of the day before the period, in the index of the day of its delivery.
            let is_edge = event_day.is_some_and(|day| day < self.period.from)
                && is_expected_index(&hit.index, prefix, Date::MIN, &hit.source);
            let is_missing_files = time.is_some_and(|time| {
                self.evidence.missing.iter().any(|file: &MissingFile| file.may_have(time, &hit.source))
            });
            let delivered = time_of(&hit.source, "@timestamp").map(day_of);
            let record = self.report.day(day);
            if is_edge || is_missing_files {
                record.counts.not_compared += 1;
                continue;
            }
            record.counts.in_domain += 1;
            record.counts.extra += 1;
            let last = self.period.to.tomorrow().unwrap_or(self.period.to);
            let reason = match delivered.filter(|delivered| *delivered > last) {
                None => "no file has this document's event".to_owned(),
                Some(delivered) => format!(
                    "no file has this document's event; its @timestamp is of {delivered}: verify with --to {delivered}, \
                     which reads the files of that day"
                ),
            };
            record.findings.add(Finding::new(Kind::ExtraDocument, Some(day), &hit.place(), reason));
        }
    }
}

impl Comparison {
    /// Finds and compares the documents of events, and loads what is missing if that is wanted.
    async fn compare(self, events: Vec<FileEvent>) -> anyhow::Result<(Compared, u64)> {
        let ids: Vec<String> = events.iter().map(|it| it.event.id.clone()).collect();
        let found = self.search.find(&ids).await?;
        let options = Arc::clone(&self.options);
        let mut compared = spawn_blocking(move || compare_events(events, &found, &options)).await?;
        let missing = std::mem::take(&mut compared.missing);
        let Some(target) = self.target.filter(|_| !missing.is_empty()) else { return Ok((compared, 0)) };
        let missing = missing.into_iter().map(|it| (it.batch, it.event)).collect();
        Ok((compared, target.create_missing(missing).await))
    }
}

/// The reason why a log file has no content.
#[derive(Debug)]
enum ReadError {
    /// It cannot be opened: that says nothing of its content.
    Unavailable(anyhow::Error),
    /// The object is not a log file.
    Malformed(anyhow::Error),
}

async fn read_log(sources: &Sources, file: &BucketFile) -> Result<LogContent, ReadError> {
    let input = sources.open(&file.source).await.map_err(ReadError::Unavailable)?;
    let is_gzip = file.is_gzip();
    let read = spawn_blocking(move || log_file::read(input, is_gzip)).await;
    read.map_err(anyhow::Error::from).flatten().map_err(|error| match error.downcast_ref::<io::Error>() {
        Some(reason) if reason.kind() == ErrorKind::PermissionDenied => ReadError::Unavailable(error),
        _ => ReadError::Malformed(error),
    })
}

/// Events whose documents are searched for in one request.
const EVENTS_PER_BATCH: usize = 500;
/// Bytes of such events: the response has about twice as many.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Batches that are compared in parallel.
const PARALLEL_BATCHES: usize = 3;
/// Log files that are read ahead.
const READ_AHEAD: usize = 2;
