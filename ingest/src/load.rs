//! CloudTrail's files into the index, by the same code as the function: for history, for events that are too large for
//! CloudWatch Logs, and for a local try.
//!
//! 1. [`source`] finds the files: on disk, on standard input, in S3.
//! 2. [`content`] makes log events of what is in them.
//! 3. [`done`] remembers the files that are in the index, so that a run that was interrupted goes on where it was.
//! 4. [`progress`] shows how far it is.

pub mod content;
pub mod done;
pub mod progress;
pub mod source;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use tokio::time::Instant;

use self::content::Content;
use self::done::Done;
use self::progress::Progress;
use self::source::{Source, Sources};
use crate::delivery::{Delivery, Limits};
use crate::document::{Document, Shaping, degraded, document};
use crate::domain::Domain;
use crate::payload::{LogBatch, LogEvent};
use crate::settings::Settings;
use crate::template::{self, State};

/// The days whose events are wanted, both included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Days {
    /// The first day, in UTC.
    pub from: Option<Date>,
    /// The last day, in UTC.
    pub to: Option<Date>,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Files read.
    pub files: usize,
    /// Files passed over, by the reason.
    pub passed_over: BTreeMap<&'static str, usize>,
    /// Events in them, of the days that are wanted.
    pub events: usize,
    /// Events in the index as they are.
    pub indexed: usize,
    /// Events in the index in their degraded form.
    pub degraded: usize,
    /// Events that are not in the index, and files that could not be read: what, and why.
    pub failures: Vec<String>,
    /// Events by the index they belong to.
    pub by_index: BTreeMap<String, usize>,
}

/// A run from files to the index.
#[derive(Debug)]
pub struct Load {
    shaping: Shaping,
    days: Days,
    to: Option<Destination>,
}

#[derive(Debug)]
struct Destination {
    delivery: Delivery,
    mapping_type: Option<&'static str>,
}

/// Files whose events are sent together.
#[derive(Default)]
struct Gathered {
    batches: Vec<LogBatch>,
    sources: Vec<Source>,
    bytes: usize,
}

impl Load {
    /// A run that says what it would do, and does nothing.
    #[must_use]
    pub fn dry(shaping: Shaping, days: Days) -> Self {
        Self { shaping, days, to: None }
    }

    /// A run into `domain`, which gets its index template first.
    pub async fn into(domain: Arc<Domain>, settings: &Settings, days: Days) -> anyhow::Result<Self> {
        let ensured = template::ensure(&domain, &settings.plan, PATIENCE).await;
        match ensured.template {
            Ok(State::Installed) => tracing::info!("the index template is installed"),
            Ok(_) => {}
            Err(error) => return Err(error).context("the index template cannot be installed"),
        }
        if let Some(Err(error)) = ensured.retention {
            tracing::warn!(%error, "the retention policy cannot be installed");
        }
        let limits = Limits { patience: PATIENCE, ..Limits::default() };
        let delivery = Delivery::new(domain, limits, settings.gzip);
        let to = Destination { delivery, mapping_type: ensured.engine.document_type() };
        Ok(Self { shaping: settings.shaping.clone(), days, to: Some(to) })
    }

    /// Reads `sources` and indexes what is in them, until `stop` says so.
    ///
    /// A file counts as done once each of its events is in the index.
    pub async fn run(
        &self,
        sources: &Sources,
        done: &mut Done,
        progress: &Progress,
        mut stop: impl FnMut() -> bool,
    ) -> anyhow::Result<Summary> {
        let mut summary = Summary::default();
        let mut gathered = Gathered::default();
        for source in sources.list() {
            if stop() {
                break;
            }
            if done.contains(source) {
                *summary.passed_over.entry("done before").or_default() += 1;
            } else if source.day().is_some_and(|day| !self.days.contain(day)) {
                *summary.passed_over.entry("of other days").or_default() += 1;
            } else {
                self.gather(sources, source, &mut gathered, &mut summary).await;
            }
            progress.advance(&summary);
            if gathered.bytes >= GATHER_BYTES {
                self.deliver(std::mem::take(&mut gathered), done, &mut summary).await?;
                progress.show(&summary);
            }
        }
        self.deliver(gathered, done, &mut summary).await?;
        progress.finish(&summary);
        Ok(summary)
    }

    async fn gather(&self, sources: &Sources, source: &Source, gathered: &mut Gathered, summary: &mut Summary) {
        let content = match sources.read(source).await {
            Ok(bytes) => content::read(source.name(), &bytes, Timestamp::now()).map_err(anyhow::Error::from),
            Err(error) => Err(error),
        };
        match content {
            Ok(Content::Digest) => *summary.passed_over.entry("digest files").or_default() += 1,
            Ok(Content::Events(batches)) => {
                summary.files += 1;
                gathered.sources.push(source.clone());
                for mut batch in batches {
                    batch.events.retain(|event| self.days.contain(day(event)));
                    gathered.bytes += batch.events.iter().map(|event| event.message.len()).sum::<usize>();
                    gathered.batches.push(batch);
                }
            }
            Err(error) => summary.failures.push(format!("{}: {error:#}", source.name())),
        }
    }

    async fn deliver(&self, gathered: Gathered, done: &mut Done, summary: &mut Summary) -> anyhow::Result<()> {
        let events: Vec<(&LogBatch, &LogEvent)> =
            gathered.batches.iter().flat_map(|batch| batch.events.iter().map(move |event| (batch, event))).collect();
        let documents: Vec<Document> =
            events.iter().map(|(batch, event)| document(batch, event, &self.shaping)).collect();
        summary.events += events.len();
        for document in &documents {
            *summary.by_index.entry(document.index.clone()).or_default() += 1;
        }
        let Some(to) = &self.to else { return Ok(()) };

        let degrade = |index: usize, reason: &str| {
            let (batch, event) = events[index];
            degraded(batch, event, &self.shaping, reason)
        };
        let report = to.delivery.run(documents, &degrade, to.mapping_type, Instant::now() + DEADLINE).await;
        summary.indexed += report.indexed;
        summary.degraded += report.degraded;
        let name = |failure: usize| format!("{}: {}", events[failure].0.log_stream, events[failure].1.id);
        summary
            .failures
            .extend(report.failed.iter().map(|failure| format!("{}: {}", name(failure.document), failure.reason)));
        let failed: Vec<&str> =
            report.failed.iter().map(|failure| events[failure.document].0.log_stream.as_str()).collect();
        for source in gathered.sources.iter().filter(|source| !failed.contains(&source.name())) {
            done.add(source)?;
        }
        Ok(())
    }
}

impl Days {
    /// Whether `day` is one of them.
    #[must_use]
    pub fn contain(&self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to)
    }
}

fn day(event: &LogEvent) -> Date {
    let time = Timestamp::from_millisecond(event.timestamp).unwrap_or_default();
    Offset::UTC.to_datetime(time).date()
}

/// Bytes of events that are gathered from files before they are sent: some bodies, so that they go in parallel.
const GATHER_BYTES: usize = 16 * 1024 * 1024;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the events gathered may take, with all repetitions, before they count as failed.
const DEADLINE: Duration = Duration::from_mins(10);
