//! Loads CloudTrail's files into the index by the code of the function: history, events too large for CloudWatch Logs,
//! and local trials.
//!
//! 1. [`source`] finds the files: on disk, on standard input, in S3.
//! 2. [`input`] decodes their bytes to text, [`values`] splits it into JSON values, and [`classify`] finds log events in them.
//! 3. [`chunk_reader`] gathers them into chunks, on a blocking thread.
//! 4. [`tally`] counts files, events and failures of the chunks that are sent.
//! 5. [`checkpoint`] records the files that are in the index, so that an interrupted run can resume; [`failure_file`] keeps
//!    what failed.
//! 6. [`progress`] shows the progress.
//!
//! Memory is bounded whatever the files are: by [`PARALLEL_CHUNKS`] chunks that are sent and [`QUEUED_CHUNKS`] that
//! wait, each of about the size of a request, by a request's body for each chunk that is sent, and by the largest
//! single value.

pub mod checkpoint;
pub(crate) mod chunk_reader;
pub(crate) mod classify;
pub mod days;
pub mod failure_file;
pub(crate) mod input;
pub mod progress;
pub mod source;
pub mod tally;
pub(crate) mod values;
pub(crate) mod visible;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::checkpoint::Checkpoint;
use self::chunk_reader::{Chunk, ChunkReader};
use self::days::Days;
use self::failure_file::FailureFile;
use self::progress::Progress;
use self::source::{Source, Sources};
use self::tally::{IndexOf, Summary, Tally};
use crate::delivery::bulk::BulkAction;
use crate::delivery::{Delivery, DeliveryLimits, DeliveryReport};
use crate::document::{Document, DocumentOptions, build_degraded, build_document};
use crate::domain::Domain;
use crate::payload::{LogBatch, LogEvent};
use crate::settings::Settings;
use crate::setup::{SetupState, set_up_domain};

/// A run from files to the index.
#[derive(Debug)]
pub struct Load {
    document_options: DocumentOptions,
    days: Days,
    to: Option<Arc<LoadTarget>>,
}

/// A domain that is set up for events of files.
#[derive(Debug)]
pub struct LoadTarget {
    delivery: Delivery,
    mapping_type: Option<&'static str>,
    document_options: DocumentOptions,
}

impl Load {
    /// Creates a run that counts what it would index, and sends nothing.
    #[must_use]
    pub fn dry_run(document_options: DocumentOptions, days: Days) -> Self {
        Self { document_options, days, to: None }
    }

    /// Creates a run into `domain`, and installs the index template there.
    pub async fn into_domain(domain: Arc<Domain>, settings: &Settings, days: Days) -> anyhow::Result<Self> {
        let to = LoadTarget::set_up(domain, settings, BulkAction::Index).await?;
        Ok(Self { document_options: settings.document_options.clone(), days, to: Some(Arc::new(to)) })
    }

    /// Reads `sources` and indexes their events, until `stop` returns true.
    ///
    /// A file counts as done once each of its events is in the index.
    pub async fn run(
        &self,
        sources: &Arc<Sources>,
        done: &mut Checkpoint,
        failures: &mut FailureFile,
        progress: &Progress,
        mut stop: impl FnMut() -> bool,
    ) -> anyhow::Result<Summary> {
        let mut tally = Tally::new(sources.list(), done, failures);
        let mut wanted = Vec::new();
        for file in tally.begin(sources, self.days)? {
            wanted.push((file, sources.list()[file].clone()));
        }
        progress.begin(wanted.len());

        let (out, mut chunks) = mpsc::channel(QUEUED_CHUNKS);
        let chunk_reader = tokio::spawn(read(
            Arc::clone(sources),
            wanted,
            ChunkReader::new(out, self.days, self.document_options.access_log),
        ));
        let chunk_reader = AbortOnDropHandle::new(chunk_reader);
        let index = |batch: &LogBatch, event: &LogEvent| build_document(batch, event, &self.document_options).index;
        let mut sending = FuturesUnordered::new();
        let (mut is_read, mut is_stopped) = (false, false);
        loop {
            tokio::select! {
                Some(sent) = sending.next() => {
                    let (chunk, report): (Chunk, DeliveryReport) = sent?;
                    tally.count_result(&chunk, &report)?;
                }
                chunk = chunks.recv(), if !is_read && sending.len() < PARALLEL_CHUNKS => match chunk {
                    Some(mut chunk) => {
                        tally.count_chunk(&mut chunk, self.to.is_none().then_some(&index as &IndexOf<'_>))?;
                        match &self.to {
                            None => tally.count_result(&chunk, &DeliveryReport::default())?,
                            Some(to) => sending.push(AbortOnDropHandle::new(tokio::spawn(Arc::clone(to).send(chunk)))),
                        }
                    }
                    None => is_read = true,
                },
                else => break,
            }
            progress.show(tally.summary());
            if !is_read && stop() {
                // Chunks in flight are waited for; queued ones are dropped.
                chunks.close();
                (is_read, is_stopped) = (true, true);
            }
        }
        // A reader that waits for its input may do so for ever.
        if !is_stopped {
            chunk_reader.await??;
        }
        progress.finish(tally.summary());
        Ok(tally.into_summary())
    }
}

impl LoadTarget {
    /// Sets up `domain` for events that are missing there. A document that has the id of one stays as it is.
    pub async fn for_missing(domain: Arc<Domain>, settings: &Settings) -> anyhow::Result<Self> {
        Self::set_up(domain, settings, BulkAction::Create).await
    }

    async fn set_up(domain: Arc<Domain>, settings: &Settings, action: BulkAction) -> anyhow::Result<Self> {
        let setup = set_up_domain(&domain, &settings.plan, TIMEOUT).await;
        match setup.template {
            Ok(SetupState::Installed) => tracing::info!("installed the index template"),
            Ok(_) => {}
            Err(error) => return Err(error).context("cannot install the index template"),
        }
        if let Some(Err(error)) = setup.retention {
            tracing::warn!(%error, "cannot install the retention policy");
        }
        if settings.document_options.access_log {
            let access_log = set_up_domain(&domain, &settings.plan.for_access_log(), TIMEOUT).await;
            access_log.template.context("cannot install the index template of the access log")?;
        }
        let limits = DeliveryLimits { timeout: TIMEOUT, ..DeliveryLimits::default() };
        Ok(Self {
            delivery: Delivery::new(domain, limits, settings.gzip).with_action(action),
            mapping_type: setup.engine.document_type(),
            document_options: settings.document_options.clone(),
        })
    }

    /// Indexes events; returns the number of those that are in the index now.
    pub(crate) async fn create_missing(&self, events: Vec<(Arc<LogBatch>, LogEvent)>) -> u64 {
        let documents =
            events.iter().map(|(batch, event)| build_document(batch, event, &self.document_options)).collect();
        let degrade = |index: usize, reason: &str| {
            let (batch, event) = &events[index];
            build_degraded(batch, event, &self.document_options, reason)
        };
        let deadline = Instant::now() + CHUNK_TIMEOUT;
        let report = self.delivery.deliver(documents, &degrade, self.mapping_type, deadline).await;
        if let Some(first) = report.failed.first() {
            tracing::warn!(failed = report.failed.len(), reason = first.reason, "cannot load some missing events");
        }
        (report.indexed + report.degraded) as u64
    }

    async fn send(self: Arc<Self>, chunk: Chunk) -> (Chunk, DeliveryReport) {
        let documents: Vec<Document> = chunk
            .events
            .iter()
            .map(|it| build_document(&chunk.batches[it.batch], &it.event, &self.document_options))
            .collect();
        let degrade = |index: usize, reason: &str| {
            let it = &chunk.events[index];
            build_degraded(&chunk.batches[it.batch], &it.event, &self.document_options, reason)
        };
        let deadline = Instant::now() + CHUNK_TIMEOUT;
        let report = self.delivery.deliver(documents, &degrade, self.mapping_type, deadline).await;
        (chunk, report)
    }
}

/// Reads files one after another, while the next ones in S3 are opened.
async fn read(
    sources: Arc<Sources>,
    wanted: Vec<(usize, Source)>,
    mut chunk_reader: ChunkReader,
) -> anyhow::Result<()> {
    let opened = stream::iter(wanted).map(|(file, source)| {
        let sources = Arc::clone(&sources);
        async move { (file, sources.open(&source).await, source) }
    });
    let mut opened = std::pin::pin!(opened.buffered(OPEN_FILES));
    while let Some((file, input, source)) = opened.next().await {
        let read = spawn_blocking(move || {
            let stopped = chunk_reader.read(file, source.name(), input);
            stopped.map(|()| chunk_reader)
        });
        match read.await? {
            Ok(rest) => chunk_reader = rest,
            Err(_) => return Ok(()),
        }
    }
    // The receiver may have stopped.
    let _ = spawn_blocking(move || chunk_reader.finish()).await?;
    Ok(())
}

/// Chunks that are sent in parallel, each in about one request: one more than there are requests in flight, so that the
/// next request is built and compressed while the domain is busy with those.
const PARALLEL_CHUNKS: usize = 5;
/// Chunks that are read ahead.
const QUEUED_CHUNKS: usize = 1;
/// Files that are opened ahead.
const OPEN_FILES: usize = 8;
/// The longest time for one request.
const TIMEOUT: Duration = Duration::from_mins(1);
/// The longest time for a chunk, retries included, before its events count as failed.
const CHUNK_TIMEOUT: Duration = Duration::from_mins(10);
