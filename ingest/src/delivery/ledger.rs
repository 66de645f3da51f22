//! The state of each document of a delivery, and which documents are sent next.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use super::bulk::{self, BulkAction, BulkError, BulkItem, BulkOutcome, Verdict};
use crate::document::Document;

/// The state of a set of documents on their way into the index. It decides, and sends nothing itself.
#[derive(Debug)]
pub(super) struct Ledger {
    documents: Vec<Document>,
    states: Vec<DocumentState>,
    queue: VecDeque<Batch>,
    body_bytes: usize,
    retried: usize,
    /// Requests that were rejected as a whole since one was accepted.
    rejected_in_a_row: usize,
}

/// The number of consecutive requests rejected as a whole from which their bodies are not the cause: halving 10,000
/// documents down to the one at fault needs 14.
const MAX_REJECTED_IN_A_ROW: usize = 48;

/// Documents that go into one body.
#[derive(Debug)]
pub(super) struct Batch {
    members: Vec<usize>,
    /// Failed attempts so far.
    attempt: u32,
    /// The error of the last failed attempt.
    error: Option<BulkError>,
}

/// The result of a delivery, document by document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    /// Documents that were to be delivered.
    pub received: usize,
    /// Documents in the index as they were.
    pub indexed: usize,
    /// Documents in the index in degraded form.
    pub degraded: usize,
    /// Retries of documents, after transient errors.
    pub retried: usize,
    /// Bytes of the documents received.
    pub bytes: usize,
    /// Documents that are not in the index as far as is known, in order.
    pub failed: Vec<FailedDocument>,
}

impl DeliveryReport {
    /// Adds the report of the documents that follow these.
    pub fn append(&mut self, next: Self) {
        let failed = next.failed.into_iter();
        self.failed.extend(failed.map(|it| FailedDocument { document: self.received + it.document, ..it }));
        self.received += next.received;
        self.indexed += next.indexed;
        self.degraded += next.degraded;
        self.retried += next.retried;
        self.bytes += next.bytes;
    }
}

/// A document that is not in the index as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedDocument {
    /// Its number among those that were to be delivered.
    pub document: usize,
    /// The reason, without any of the document's content.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DocumentState {
    /// Still to be indexed; `is_replaced` if its degraded form is sent instead.
    Open {
        is_replaced: bool,
    },
    Indexed,
    Failed {
        reason: String,
    },
}

impl Ledger {
    /// Queues all of `documents`, in bodies of at most `body_bytes` where they can be split.
    #[must_use]
    pub(super) fn new(documents: Vec<Document>, body_bytes: usize) -> Self {
        let states = vec![DocumentState::Open { is_replaced: false }; documents.len()];
        let all = (0..documents.len()).collect();
        let mut ledger =
            Self { documents, states, queue: VecDeque::new(), body_bytes, retried: 0, rejected_in_a_row: 0 };
        ledger.enqueue(all, 0, None);
        ledger
    }

    /// Returns the batch to send next, which must be returned by [`Ledger::record_outcome`] or [`Ledger::give_up`].
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        self.queue.pop_front()
    }

    /// Builds the request body of a batch.
    #[must_use]
    pub(super) fn body(&self, batch: &Batch, mapping_type: Option<&str>, action: BulkAction) -> Vec<u8> {
        let mut body =
            Vec::with_capacity(batch.members.iter().map(|&member| bulk::estimate_bytes(&self.documents[member])).sum());
        for &member in &batch.members {
            bulk::append_document(&mut body, &self.documents[member], mapping_type, action);
        }
        body
    }

    /// Records the outcome of a batch. `degrade` builds the degraded form of a document that does not fit.
    pub(super) fn record_outcome(
        &mut self,
        batch: Batch,
        outcome: BulkOutcome,
        degrade: &dyn Fn(usize, &str) -> Document,
    ) {
        match outcome {
            BulkOutcome::Items(items) => {
                self.rejected_in_a_row = 0;
                let count = items.len();
                if let Some(errors) = self.match_items(&batch, items) {
                    self.record_items(batch, errors, degrade);
                } else {
                    // The items cannot be matched with the documents.
                    let reason = format!("the response has {count} items for {} documents", batch.members.len());
                    self.retry_batch(batch, BulkError::no_response(reason));
                }
            }
            BulkOutcome::Retry(error) => self.retry_batch(batch, error),
            BulkOutcome::Halve(error) if self.is_rejected_again() => self.fail_all(batch, &error),
            BulkOutcome::Halve(error) => self.halve_batch(batch, &error, degrade),
            BulkOutcome::Fail(error) if self.is_rejected_again() => self.fail_all(batch, &error),
            BulkOutcome::Fail(error) => batch.members.iter().for_each(|&member| self.fail_document(member, &error)),
        }
    }

    /// Counts a request that was rejected as a whole, and returns whether it is one too many.
    fn is_rejected_again(&mut self) -> bool {
        self.rejected_in_a_row += 1;
        self.rejected_in_a_row > MAX_REJECTED_IN_A_ROW
    }

    /// Gives up on all that is not in flight: a domain that rejects every request would get thousands more of them.
    fn fail_all(&mut self, batch: Batch, error: &BulkError) {
        let queued = std::mem::take(&mut self.queue);
        let reason = format!("{error}; {MAX_REJECTED_IN_A_ROW} requests in a row were rejected");
        for member in queued.into_iter().chain([batch]).flat_map(|batch| batch.members) {
            self.states[member] = DocumentState::Failed { reason: reason.clone() };
        }
    }

    /// Returns the items' errors in the order of the batch, by ids where all have one; none if they are other items.
    fn match_items(&self, batch: &Batch, items: Vec<BulkItem>) -> Option<Vec<Option<BulkError>>> {
        if items.len() != batch.members.len() {
            return None;
        }
        let ids: Vec<_> = batch.members.iter().map(|&member| self.documents[member].id.as_deref()).collect();
        let has_ids = ids.iter().all(Option::is_some) && items.iter().all(|item| item.id.is_some());
        if !has_ids || ids.iter().copied().eq(items.iter().map(|item| item.id.as_deref())) {
            return Some(items.into_iter().map(|item| item.error).collect());
        }
        // An event that came twice has the same id twice: its items are matched in order.
        let mut by_id: HashMap<String, VecDeque<Option<BulkError>>> = HashMap::with_capacity(items.len());
        for item in items {
            by_id.entry(item.id?).or_default().push_back(item.error);
        }
        ids.into_iter().map(|id| by_id.get_mut(id?)?.pop_front()).collect()
    }

    /// Gives up a batch for which there is no time.
    pub(super) fn give_up(&mut self, batch: Batch) {
        let why = batch.error.map_or_else(String::new, |error| format!("; before that: {error}"));
        for member in batch.members {
            self.states[member] = DocumentState::Failed { reason: format!("out of time{why}") };
        }
    }

    /// Returns the result of the delivery, document by document. A document that is still open counts as failed.
    #[must_use]
    pub(super) fn report(self) -> DeliveryReport {
        let bytes = self.documents.iter().map(|document| document.source.len()).sum();
        let mut report =
            DeliveryReport { received: self.states.len(), retried: self.retried, bytes, ..DeliveryReport::default() };
        for (document, state) in self.states.into_iter().enumerate() {
            match state {
                DocumentState::Indexed if self.documents[document].is_degraded => report.degraded += 1,
                DocumentState::Indexed => report.indexed += 1,
                DocumentState::Failed { reason } => report.failed.push(FailedDocument { document, reason }),
                DocumentState::Open { .. } => {
                    report.failed.push(FailedDocument { document, reason: "not sent".to_owned() });
                }
            }
        }
        report
    }

    fn record_items(&mut self, batch: Batch, items: Vec<Option<BulkError>>, degrade: &dyn Fn(usize, &str) -> Document) {
        let (mut again, mut reason) = (Vec::new(), None);
        let mut degraded = Vec::new();
        for (&member, item) in batch.members.iter().zip(items) {
            let Some(error) = item else {
                self.states[member] = DocumentState::Indexed;
                continue;
            };
            match error.verdict() {
                Verdict::Done => self.states[member] = DocumentState::Indexed,
                Verdict::Retry => {
                    again.push(member);
                    reason.get_or_insert(error);
                }
                Verdict::Degrade => degraded.extend(self.degrade_document(member, &error, degrade)),
                Verdict::Fail => self.fail_document(member, &error),
            }
        }
        // In separate batches: those that fit now need not wait for those that the domain has no room for.
        self.enqueue(degraded, 0, None);
        if let Some(error) = reason {
            self.retry_batch(Batch { members: again, ..batch }, error);
        }
    }

    fn retry_batch(&mut self, batch: Batch, error: BulkError) {
        self.retried += batch.members.len();
        // An error of the domain says more than the lack of a response, as when time is up.
        let said = batch.error.filter(|said| error.status == 0 && said.status != 0);
        self.enqueue(batch.members, batch.attempt.saturating_add(1), Some(said.unwrap_or(error)));
    }

    /// Queues the two halves before all else. A document that is rejected alone is what the error is about.
    fn halve_batch(&mut self, batch: Batch, error: &BulkError, degrade: &dyn Fn(usize, &str) -> Document) {
        if let [member] = batch.members[..] {
            if error.verdict() != Verdict::Degrade {
                return self.fail_document(member, error);
            }
            let degraded = self.degrade_document(member, error, degrade).into_iter().collect();
            return self.enqueue(degraded, 0, None);
        }
        let mut first = batch.members;
        let second = first.split_off(first.len() / 2);
        self.queue.push_front(Batch { members: second, attempt: 0, error: None });
        self.queue.push_front(Batch { members: first, attempt: 0, error: None });
    }

    /// Replaces a document by its degraded form, once; returns none if that is rejected too.
    fn degrade_document(
        &mut self,
        member: usize,
        error: &BulkError,
        degrade: &dyn Fn(usize, &str) -> Document,
    ) -> Option<usize> {
        if self.states[member] == (DocumentState::Open { is_replaced: true }) {
            self.fail_document(member, error);
            return None;
        }
        self.documents[member] = degrade(member, &error.full_text());
        self.states[member] = DocumentState::Open { is_replaced: true };
        Some(member)
    }

    fn fail_document(&mut self, member: usize, error: &BulkError) {
        self.states[member] = DocumentState::Failed { reason: error.to_string() };
    }

    /// Queues documents in as few bodies as they fit into. One that is larger than a body is sent alone.
    fn enqueue(&mut self, members: Vec<usize>, attempt: u32, error: Option<BulkError>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for member in members {
            let cost = bulk::estimate_bytes(&self.documents[member]);
            if bytes + cost > self.body_bytes && !batch.is_empty() {
                let members = std::mem::take(&mut batch);
                self.queue.push_back(Batch { members, attempt, error: error.clone() });
                bytes = 0;
            }
            bytes += cost;
            batch.push(member);
        }
        if !batch.is_empty() {
            self.queue.push_back(Batch { members: batch, attempt, error });
        }
    }
}

impl Batch {
    /// Returns the number of documents.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Returns the number of failed attempts.
    #[must_use]
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }
}
