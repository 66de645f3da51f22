//! Batches of events that are compared with their documents.

use std::sync::Arc;

use futures_util::stream::StreamExt as _;
use tokio::task::spawn_blocking;
use tokio_util::task::AbortOnDropHandle;

use super::Run;
use crate::document::DocumentOptions;
use crate::load::LoadTarget;
use crate::verify::compare::{Compared, FileEvent, compare_events};
use crate::verify::search::Search;

/// The domain that is compared, and how.
#[derive(Clone)]
pub(in crate::verify) struct Comparison {
    pub(in crate::verify) search: Arc<Search>,
    pub(in crate::verify) options: Arc<DocumentOptions>,
    /// The destination of missing events, if they are loaded.
    pub(in crate::verify) target: Option<Arc<LoadTarget>>,
}

/// The result of a batch, and the number of events that were loaded.
pub(super) type Batch = AbortOnDropHandle<anyhow::Result<(Compared, u64)>>;

impl Run {
    /// Starts batches until the queued events are fewer than one has.
    pub(super) async fn compare_full_batches(&mut self) -> anyhow::Result<()> {
        while self.queued_bytes >= BATCH_BYTES || self.queued.len() >= EVENTS_PER_BATCH {
            self.start_batch();
            if self.in_flight.len() >= PARALLEL_BATCHES {
                self.finish_batch().await?;
            }
        }
        Ok(())
    }

    /// Compares all events that were queued.
    pub(super) async fn compare_queued(&mut self) -> anyhow::Result<()> {
        while !self.queued.is_empty() {
            self.start_batch();
        }
        while !self.in_flight.is_empty() {
            self.finish_batch().await?;
        }
        Ok(())
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

/// Events whose documents are searched for in one request.
const EVENTS_PER_BATCH: usize = 500;
/// Bytes of such events: the response has about twice as many.
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Batches that are compared in parallel.
const PARALLEL_BATCHES: usize = 3;
