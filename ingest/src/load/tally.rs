//! The counts of a run: files that are done, and the result of each event.

use std::collections::{BTreeMap, HashMap};

use super::checkpoint::Checkpoint;
use super::chunk_reader::{Chunk, Ending, FileNote};
use super::days::Days;
use super::failure_file::{FailureFile, FailureRecord};
use super::source::{Source, Sources};
use super::visible::visible;
use crate::delivery::DeliveryReport;
use crate::payload::{LogBatch, LogEvent};

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files read.
    pub files: usize,
    /// Files that are done: each of their events is in the index.
    pub files_done: usize,
    /// Skipped files, by the reason.
    pub skipped: BTreeMap<String, SkippedFiles>,
    /// Values of other kinds in files that have events too, by the kind.
    pub foreign: BTreeMap<&'static str, usize>,
    /// Events of the days that are wanted.
    pub events: usize,
    /// Events of other days.
    pub other_days: usize,
    /// Events in the index as they are.
    pub indexed: usize,
    /// Events in the index in their degraded form.
    pub degraded: usize,
    /// Events, values that are none, and files that are not in the index.
    pub failed: usize,
    /// The first of them: the place, and why.
    pub failures: Vec<String>,
    /// Events by the index they belong to, if that is all that the run is for.
    pub by_index: BTreeMap<String, usize>,
}

/// Files skipped for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SkippedFiles {
    /// The number of files.
    pub files: usize,
    /// The names of the first.
    pub names: Vec<String>,
}

/// Names the index of an event.
pub(super) type IndexOf<'a> = dyn Fn(&LogBatch, &LogEvent) -> String + Sync + 'a;

/// The counts during the run.
pub(super) struct Tally<'r> {
    sources: &'r [Source],
    done: &'r mut Checkpoint,
    failures: &'r mut FailureFile,
    summary: Summary,
    /// Files that have events on their way, or that are not read to their ends.
    files: HashMap<usize, File>,
}

#[derive(Clone, Copy, Debug, Default)]
struct File {
    /// Chunks on their way that have events of it.
    chunks: usize,
    has_failed: bool,
    is_read: bool,
}

impl<'r> Tally<'r> {
    pub(super) fn new(sources: &'r [Source], done: &'r mut Checkpoint, failures: &'r mut FailureFile) -> Self {
        Self { sources, done, failures, summary: Summary::default(), files: HashMap::new() }
    }

    pub(super) fn summary(&self) -> &Summary {
        &self.summary
    }

    pub(super) fn into_summary(self) -> Summary {
        self.summary
    }

    /// Counts the files that are skipped; returns the numbers of those to read.
    pub(super) fn begin(&mut self, sources: &Sources, days: Days) -> anyhow::Result<Vec<usize>> {
        for skipped in sources.skipped() {
            self.summary.skip(skipped.reason, &skipped.name);
        }
        for (name, reason) in sources.failures() {
            self.fail(&FailureRecord { file: name, lines: None, reason, text: None })?;
        }
        let mut wanted = Vec::new();
        for (file, source) in self.sources.iter().enumerate() {
            if self.done.contains(source) {
                self.summary.skip("done before", source.name());
            } else if source.is_of_cloudtrail() && source.day().is_some_and(|day| !days.may_be_delivered(day)) {
                self.summary.skip("of other days", source.name());
            } else {
                wanted.push(file);
            }
        }
        Ok(wanted)
    }

    /// Counts a chunk before it is sent. `index` names the index of an event.
    pub(super) fn count_chunk(&mut self, chunk: &mut Chunk, index: Option<&IndexOf<'_>>) -> anyhow::Result<()> {
        self.summary.events += chunk.events.len();
        if let Some(index) = index {
            for it in &chunk.events {
                *self.summary.by_index.entry(index(&chunk.batches[it.batch], &it.event)).or_default() += 1;
            }
        }
        for file in files_of(chunk) {
            self.files.entry(file).or_default().chunks += 1;
        }
        for note in std::mem::take(&mut chunk.notes) {
            match note {
                FileNote::Failed { file, lines, failed } => {
                    self.files.entry(file).or_default().has_failed = true;
                    let text = Some(failed.text.as_str()).filter(|text| !text.is_empty());
                    let name = self.sources[file].name();
                    self.fail(&FailureRecord { file: name, lines, reason: &failed.reason, text })?;
                }
                FileNote::Foreign(kind, count) => *self.summary.foreign.entry(kind).or_default() += count,
                FileNote::OtherDays(count) => self.summary.other_days += count,
                FileNote::End(file, ending) => self.end(file, ending)?,
            }
        }
        Ok(())
    }

    /// Counts the result of a chunk.
    pub(super) fn count_result(&mut self, chunk: &Chunk, report: &DeliveryReport) -> anyhow::Result<()> {
        self.summary.indexed += report.indexed;
        self.summary.degraded += report.degraded;
        for failure in &report.failed {
            let it = &chunk.events[failure.document];
            self.files.entry(it.file).or_default().has_failed = true;
            let (file, lines) = (self.sources[it.file].name(), Some((it.line, it.line)));
            self.summary.fail(file, lines, &format!("event {}: {}", it.event.id, failure.reason));
            let failure = FailureRecord { file, lines, reason: &failure.reason, text: None };
            self.failures.add_event(&failure, &chunk.batches[it.batch], &it.event)?;
        }
        for file in files_of(chunk) {
            self.files.entry(file).or_default().chunks -= 1;
            self.close(file)?;
        }
        Ok(())
    }

    fn end(&mut self, file: usize, ending: Ending) -> anyhow::Result<()> {
        let name = self.sources[file].name();
        match ending {
            Ending::Read => self.summary.files += 1,
            Ending::Unreadable => {}
            Ending::Foreign(kind) => self.summary.skip(kind, name),
            Ending::Empty => self.summary.skip("empty", name),
        }
        self.files.entry(file).or_default().is_read = true;
        self.close(file)
    }

    /// Notes a file as done if it is.
    fn close(&mut self, file: usize) -> anyhow::Result<()> {
        let Some(&File { chunks: 0, is_read: true, has_failed }) = self.files.get(&file) else { return Ok(()) };
        self.files.remove(&file);
        self.summary.files_done += 1;
        if has_failed { Ok(()) } else { self.done.add(&self.sources[file]) }
    }

    fn fail(&mut self, failure: &FailureRecord<'_>) -> anyhow::Result<()> {
        self.summary.fail(failure.file, failure.lines, failure.reason);
        self.failures.add(failure)
    }
}

impl Summary {
    /// Returns whether all events are in the index, or were skipped for a reason that is named.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failed == 0 && self.has_found()
    }

    /// Returns whether there was any CloudTrail event, or a skipped file that may have some.
    #[must_use]
    pub fn has_found(&self) -> bool {
        let may_have_events = |reason: &str| self.skipped.contains_key(reason);
        self.events + self.other_days > 0 || may_have_events("done before") || may_have_events("of other days")
    }

    fn skip(&mut self, reason: &str, name: &str) {
        let entry = self.skipped.entry(reason.to_owned()).or_default();
        entry.files += 1;
        if entry.names.len() < NAMED {
            entry.names.push(visible(name));
        }
    }

    fn fail(&mut self, file: &str, lines: Option<(u64, u64)>, reason: &str) {
        self.failed += 1;
        if self.failures.len() < SHOWN {
            let place = match lines {
                None => file.to_owned(),
                Some((first, last)) if first == last => format!("{file}:{first}"),
                Some((first, last)) => format!("{file}:{first}-{last}"),
            };
            self.failures.push(visible(&format!("{place}: {reason}")));
        }
    }
}

/// Returns the numbers of the files that have events in a chunk, each once.
fn files_of(chunk: &Chunk) -> Vec<usize> {
    let mut files: Vec<usize> = chunk.events.iter().map(|it| it.file).collect();
    files.dedup();
    files
}

/// Failures that are kept to be printed.
const SHOWN: usize = 20;
/// Names that are kept to be printed of files skipped.
const NAMED: usize = 3;
