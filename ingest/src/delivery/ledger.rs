//! Which documents are accounted for, and which are to be sent next.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use super::bulk::{self, Item, Outcome, Refusal, Verdict};
use crate::document::Document;

/// The account of a set of documents on their way into the index. It decides, and sends nothing itself.
#[derive(Debug)]
pub(super) struct Ledger {
    documents: Vec<Document>,
    states: Vec<State>,
    queue: VecDeque<Batch>,
    body_bytes: usize,
    retried: usize,
    /// How many requests were refused as a whole since one was accepted.
    refused_in_a_row: usize,
}

/// After so many requests that were refused as a whole with none accepted between them, it is not about their bodies:
/// halving one of 10,000 documents down to the one at fault takes 14.
const MAX_REFUSED_IN_A_ROW: usize = 48;

/// Documents that go into one body.
#[derive(Debug)]
pub(super) struct Batch {
    members: Vec<usize>,
    /// How often it was tried in vain.
    attempt: u32,
    /// Why, the last time.
    refusal: Option<Refusal>,
}

/// What became of each document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Documents there were.
    pub received: usize,
    /// Documents in the index as they were.
    pub indexed: usize,
    /// Documents in the index in degraded form.
    pub degraded: usize,
    /// How many times a document was sent again after a refusal that passes.
    pub retried: usize,
    /// Bytes of the documents received.
    pub bytes: usize,
    /// Documents that are not in the index as far as is known, in order.
    pub failed: Vec<Failure>,
}

/// A document that is not in the index as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Which one of those that were to be delivered.
    pub document: usize,
    /// Why, without what is in it.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Not settled; `is_replaced` by its degraded form, or not.
    Open {
        is_replaced: bool,
    },
    Indexed,
    Failed {
        reason: String,
    },
}

impl Ledger {
    /// All of `documents` still to be sent, in bodies of `body_bytes` at the most where they can be split.
    #[must_use]
    pub(super) fn new(documents: Vec<Document>, body_bytes: usize) -> Self {
        let states = vec![State::Open { is_replaced: false }; documents.len()];
        let all = (0..documents.len()).collect();
        let mut ledger =
            Self { documents, states, queue: VecDeque::new(), body_bytes, retried: 0, refused_in_a_row: 0 };
        ledger.enqueue(all, 0, None);
        ledger
    }

    /// The batch to send next; it must come back by [`Ledger::settle`] or [`Ledger::give_up`].
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        self.queue.pop_front()
    }

    /// The body that brings a batch to the domain.
    #[must_use]
    pub(super) fn body(&self, batch: &Batch, mapping_type: Option<&str>) -> Vec<u8> {
        let mut body =
            Vec::with_capacity(batch.members.iter().map(|&member| bulk::cost(&self.documents[member])).sum());
        for &member in &batch.members {
            bulk::append(&mut body, &self.documents[member], mapping_type);
        }
        body
    }

    /// Enters what became of a batch. `degrade` makes the degraded document of one that does not fit.
    pub(super) fn settle(&mut self, batch: Batch, outcome: Outcome, degrade: &dyn Fn(usize, &str) -> Document) {
        match outcome {
            Outcome::Items(items) => {
                self.refused_in_a_row = 0;
                let count = items.len();
                if let Some(refusals) = self.in_order(&batch, items) {
                    self.settle_items(batch, refusals, degrade);
                } else {
                    // It cannot be told which item is whose.
                    let reason = format!("the reply has {count} items, not those of {} documents", batch.members.len());
                    self.retry(batch, Refusal::no_answer(reason));
                }
            }
            Outcome::Retry(refusal) => self.retry(batch, refusal),
            Outcome::Halve(refusal) if self.is_refused_again() => self.fail_all(batch, &refusal),
            Outcome::Halve(refusal) => self.halve(batch, &refusal, degrade),
            Outcome::Fail(refusal) if self.is_refused_again() => self.fail_all(batch, &refusal),
            Outcome::Fail(refusal) => batch.members.iter().for_each(|&member| self.fail(member, &refusal)),
        }
    }

    /// Counts a request that was refused as a whole, and returns whether it is one too many.
    fn is_refused_again(&mut self) -> bool {
        self.refused_in_a_row += 1;
        self.refused_in_a_row > MAX_REFUSED_IN_A_ROW
    }

    /// Gives up on all that is not on its way: what refuses every request would get thousands more of them.
    fn fail_all(&mut self, batch: Batch, refusal: &Refusal) {
        let queued = std::mem::take(&mut self.queue);
        let reason = format!("{refusal}; {MAX_REFUSED_IN_A_ROW} requests in a row were refused");
        for member in queued.into_iter().chain([batch]).flat_map(|batch| batch.members) {
            self.states[member] = State::Failed { reason: reason.clone() };
        }
    }

    /// The refusals in the order of the batch, by the items' ids where all have one; none if they are other items.
    fn in_order(&self, batch: &Batch, items: Vec<Item>) -> Option<Vec<Option<Refusal>>> {
        if items.len() != batch.members.len() {
            return None;
        }
        let ids: Vec<_> = batch.members.iter().map(|&member| self.documents[member].id.as_deref()).collect();
        let has_ids = ids.iter().all(Option::is_some) && items.iter().all(|item| item.id.is_some());
        if !has_ids || ids.iter().copied().eq(items.iter().map(|item| item.id.as_deref())) {
            return Some(items.into_iter().map(|item| item.refusal).collect());
        }
        // The same id can be there twice, for an event that came twice: one after the other.
        let mut by_id: HashMap<String, VecDeque<Option<Refusal>>> = HashMap::with_capacity(items.len());
        for item in items {
            by_id.entry(item.id?).or_default().push_back(item.refusal);
        }
        ids.into_iter().map(|id| by_id.get_mut(id?)?.pop_front()).collect()
    }

    /// Gives up a batch for which there is no time.
    pub(super) fn give_up(&mut self, batch: Batch) {
        let why = batch.refusal.map_or_else(String::new, |refusal| format!("; before that: {refusal}"));
        for member in batch.members {
            self.states[member] = State::Failed { reason: format!("out of time{why}") };
        }
    }

    /// What became of each document. One that is still open has failed.
    #[must_use]
    pub(super) fn report(self) -> Report {
        let bytes = self.documents.iter().map(|document| document.source.len()).sum();
        let mut report = Report { received: self.states.len(), retried: self.retried, bytes, ..Report::default() };
        for (document, state) in self.states.into_iter().enumerate() {
            match state {
                State::Indexed if self.documents[document].is_degraded => report.degraded += 1,
                State::Indexed => report.indexed += 1,
                State::Failed { reason } => report.failed.push(Failure { document, reason }),
                State::Open { .. } => report.failed.push(Failure { document, reason: "not sent".to_owned() }),
            }
        }
        report
    }

    fn settle_items(&mut self, batch: Batch, items: Vec<Option<Refusal>>, degrade: &dyn Fn(usize, &str) -> Document) {
        let (mut again, mut reason) = (Vec::new(), None);
        let mut degraded = Vec::new();
        for (&member, item) in batch.members.iter().zip(items) {
            let Some(refusal) = item else {
                self.states[member] = State::Indexed;
                continue;
            };
            match refusal.verdict() {
                Verdict::Done => self.states[member] = State::Indexed,
                Verdict::Retry => {
                    again.push(member);
                    reason.get_or_insert(refusal);
                }
                Verdict::Degrade => degraded.extend(self.degrade(member, &refusal, degrade)),
                Verdict::Fail => self.fail(member, &refusal),
            }
        }
        // These two apart: those that fit now need not wait for those that the domain has no room for.
        self.enqueue(degraded, 0, None);
        if let Some(refusal) = reason {
            self.retry(Batch { members: again, ..batch }, refusal);
        }
    }

    fn retry(&mut self, batch: Batch, refusal: Refusal) {
        self.retried += batch.members.len();
        // What the domain said tells more than that it says nothing any more, as when time is up.
        let said = batch.refusal.filter(|said| refusal.status == 0 && said.status != 0);
        self.enqueue(batch.members, batch.attempt.saturating_add(1), Some(said.unwrap_or(refusal)));
    }

    /// Sends two halves at once. A document that is refused all by itself is what the refusal was about.
    fn halve(&mut self, batch: Batch, refusal: &Refusal, degrade: &dyn Fn(usize, &str) -> Document) {
        if let [member] = batch.members[..] {
            if refusal.verdict() != Verdict::Degrade {
                return self.fail(member, refusal);
            }
            let degraded = self.degrade(member, refusal, degrade).into_iter().collect();
            return self.enqueue(degraded, 0, None);
        }
        let mut first = batch.members;
        let second = first.split_off(first.len() / 2);
        self.queue.push_front(Batch { members: second, attempt: 0, refusal: None });
        self.queue.push_front(Batch { members: first, attempt: 0, refusal: None });
    }

    /// Replaces a document by its degraded form, once.
    fn degrade(
        &mut self,
        member: usize,
        refusal: &Refusal,
        degrade: &dyn Fn(usize, &str) -> Document,
    ) -> Option<usize> {
        if self.states[member] == (State::Open { is_replaced: true }) {
            self.fail(member, refusal);
            return None;
        }
        self.documents[member] = degrade(member, &refusal.in_full());
        self.states[member] = State::Open { is_replaced: true };
        Some(member)
    }

    fn fail(&mut self, member: usize, refusal: &Refusal) {
        self.states[member] = State::Failed { reason: refusal.to_string() };
    }

    /// Queues documents in as few bodies as they fit into. One that is larger than a body goes alone.
    fn enqueue(&mut self, members: Vec<usize>, attempt: u32, refusal: Option<Refusal>) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for member in members {
            let cost = bulk::cost(&self.documents[member]);
            if bytes + cost > self.body_bytes && !batch.is_empty() {
                let members = std::mem::take(&mut batch);
                self.queue.push_back(Batch { members, attempt, refusal: refusal.clone() });
                bytes = 0;
            }
            bytes += cost;
            batch.push(member);
        }
        if !batch.is_empty() {
            self.queue.push_back(Batch { members: batch, attempt, refusal });
        }
    }
}

impl Batch {
    /// How many documents.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How often it was tried in vain.
    #[must_use]
    pub(super) fn attempt(&self) -> u32 {
        self.attempt
    }
}
