//! CloudTrail's files into the index, by the same code as the function: for history, for events that are too large for
//! CloudWatch Logs, and for a local try.
//!
//! 1. [`source`] finds the files: on disk, on standard input, in S3.
//! 2. [`input`] makes text of their bytes, [`values`] JSON values of the text, and [`kind`] log events of the values.
//! 3. [`reading`] gathers them into chunks, on a thread of its own.
//! 4. [`tally`] keeps account of the chunks that are sent: of files, events and failures.
//! 5. [`done`] remembers the files that are in the index, so that a run that was interrupted goes on where it was;
//!    [`failures`] keeps what failed.
//! 6. [`progress`] shows how far it is.
//!
//! Memory is bounded whatever the files are: by [`SENDERS`] chunks that are sent and [`WAITING`] that wait, each of about
//! the size of a request, by a request's body for each sender, and by the largest single value.

pub mod days;
pub mod done;
pub mod failures;
mod input;
mod kind;
pub mod progress;
mod reading;
pub mod source;
pub mod tally;
mod values;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::stream::{self, FuturesUnordered, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::days::Days;
use self::done::Done;
use self::failures::Failures;
use self::progress::Progress;
use self::reading::{Chunk, Reading};
use self::source::{Source, Sources};
use self::tally::{IndexOf, Summary, Tally};
use crate::delivery::DeliveryReport;
use crate::delivery::{Delivery, DeliveryLimits};
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
    to: Option<Arc<Destination>>,
}

#[derive(Debug)]
struct Destination {
    delivery: Delivery,
    mapping_type: Option<&'static str>,
    document_options: DocumentOptions,
}

impl Load {
    /// A run that says what it would do, and does nothing.
    #[must_use]
    pub fn dry(document_options: DocumentOptions, days: Days) -> Self {
        Self { document_options, days, to: None }
    }

    /// A run into `domain`, which gets its index template first.
    pub async fn into(domain: Arc<Domain>, settings: &Settings, days: Days) -> anyhow::Result<Self> {
        let setup = set_up_domain(&domain, &settings.plan, TIMEOUT).await;
        match setup.template {
            Ok(SetupState::Installed) => tracing::info!("the index template is installed"),
            Ok(_) => {}
            Err(error) => return Err(error).context("the index template cannot be installed"),
        }
        if let Some(Err(error)) = setup.retention {
            tracing::warn!(%error, "the retention policy cannot be installed");
        }
        // A chunk is about one request; those of several chunks go in parallel.
        let limits = DeliveryLimits { timeout: TIMEOUT, parallel: 1, ..DeliveryLimits::default() };
        let document_options = settings.document_options.clone();
        let delivery = Delivery::new(domain, limits, settings.gzip);
        let to = Destination {
            delivery,
            mapping_type: setup.engine.document_type(),
            document_options: document_options.clone(),
        };
        Ok(Self { document_options, days, to: Some(Arc::new(to)) })
    }

    /// Reads `sources` and indexes what is in them, until `stop` says so.
    ///
    /// A file counts as done once each of its events is in the index.
    pub async fn run(
        &self,
        sources: &Arc<Sources>,
        done: &mut Done,
        failures: &mut Failures,
        progress: &Progress,
        mut stop: impl FnMut() -> bool,
    ) -> anyhow::Result<Summary> {
        let mut tally = Tally::new(sources.list(), done, failures);
        let mut wanted = Vec::new();
        for file in tally.begin(sources, self.days)? {
            wanted.push((file, sources.list()[file].clone()));
        }
        progress.begin(wanted.len());

        let (out, mut chunks) = mpsc::channel(WAITING);
        let reading = tokio::spawn(read(Arc::clone(sources), wanted, Reading::new(out, self.days)));
        let reading = AbortOnDropHandle::new(reading);
        let index = |batch: &LogBatch, event: &LogEvent| build_document(batch, event, &self.document_options).index;
        let mut sending = FuturesUnordered::new();
        let (mut is_read, mut is_stopped) = (false, false);
        loop {
            tokio::select! {
                Some(sent) = sending.next() => {
                    let (chunk, report): (Chunk, DeliveryReport) = sent?;
                    tally.settle(&chunk, &report)?;
                }
                chunk = chunks.recv(), if !is_read && sending.len() < SENDERS => match chunk {
                    Some(mut chunk) => {
                        tally.enter(&mut chunk, self.to.is_none().then_some(&index as &IndexOf<'_>))?;
                        match &self.to {
                            None => tally.settle(&chunk, &DeliveryReport::default())?,
                            Some(to) => sending.push(AbortOnDropHandle::new(tokio::spawn(Arc::clone(to).send(chunk)))),
                        }
                    }
                    None => is_read = true,
                },
                else => break,
            }
            progress.show(tally.summary());
            if !is_read && stop() {
                // What is sent already is waited for, and what is read is dropped.
                chunks.close();
                (is_read, is_stopped) = (true, true);
            }
        }
        // A reader that waits for its input may do so for ever.
        if !is_stopped {
            reading.await??;
        }
        progress.finish(tally.summary());
        Ok(tally.into_summary())
    }
}

impl Destination {
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
        let deadline = Instant::now() + DEADLINE;
        let report = self.delivery.deliver(documents, &degrade, self.mapping_type, deadline).await;
        (chunk, report)
    }
}

/// Reads files one after another, while the next ones in S3 are asked for.
async fn read(sources: Arc<Sources>, wanted: Vec<(usize, Source)>, mut reading: Reading) -> anyhow::Result<()> {
    let opened = stream::iter(wanted).map(|(file, source)| {
        let sources = Arc::clone(&sources);
        async move { (file, sources.open(&source).await, source) }
    });
    let mut opened = std::pin::pin!(opened.buffered(OPENED));
    while let Some((file, input, source)) = opened.next().await {
        let read = spawn_blocking(move || {
            let stopped = reading.read(file, source.name(), input);
            stopped.map(|()| reading)
        });
        match read.await? {
            Ok(rest) => reading = rest,
            Err(_) => return Ok(()),
        }
    }
    // The receiver may have stopped.
    let _ = spawn_blocking(move || reading.finish()).await?;
    Ok(())
}

/// Chunks that are sent at the same time.
const SENDERS: usize = 4;
/// Chunks that are read ahead.
const WAITING: usize = 2;
/// Files that are opened ahead.
const OPENED: usize = 8;
/// How long one request may take.
const TIMEOUT: Duration = Duration::from_mins(1);
/// How long a chunk may take, with all repetitions, before its events count as failed.
const DEADLINE: Duration = Duration::from_mins(10);
