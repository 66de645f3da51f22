//! Which documents are accounted for, and which are to be sent next.

use std::collections::VecDeque;

use crate::bulk::{self, Outcome, Refusal, Verdict};
use crate::document::Document;

/// The account of a set of documents on their way into the index. It decides, and sends nothing itself.
#[derive(Debug)]
pub struct Ledger {
    documents: Vec<Document>,
    states: Vec<State>,
    queue: VecDeque<Batch>,
    body_bytes: usize,
    retried: usize,
}

/// Documents that go into one body.
#[derive(Debug)]
pub struct Batch {
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
    Open { is_degraded: bool },
    Indexed { is_degraded: bool },
    Failed { reason: String },
}

impl Ledger {
    /// All of `documents` still to be sent, in bodies of `body_bytes` at the most where they can be split.
    #[must_use]
    pub fn new(documents: Vec<Document>, body_bytes: usize) -> Self {
        let states = vec![State::Open { is_degraded: false }; documents.len()];
        let all = (0..documents.len()).collect();
        let mut ledger = Self { documents, states, queue: VecDeque::new(), body_bytes, retried: 0 };
        ledger.enqueue(all, 0, None);
        ledger
    }

    /// The batch to send next; it must come back by [`Ledger::settle`] or [`Ledger::give_up`].
    pub fn next_batch(&mut self) -> Option<Batch> {
        self.queue.pop_front()
    }

    /// The body that brings a batch to the domain.
    #[must_use]
    pub fn body(&self, batch: &Batch, mapping_type: Option<&str>) -> Vec<u8> {
        let mut body =
            Vec::with_capacity(batch.members.iter().map(|&member| bulk::cost(&self.documents[member])).sum());
        for &member in &batch.members {
            bulk::append(&mut body, &self.documents[member], mapping_type);
        }
        body
    }

    /// Enters what became of a batch. `degrade` makes the degraded document of one that does not fit.
    pub fn settle(&mut self, batch: Batch, outcome: Outcome, degrade: &dyn Fn(usize, &str) -> Document) {
        match outcome {
            Outcome::Items(items) if items.len() == batch.members.len() => self.settle_items(batch, items, degrade),
            // Which item is whose, nobody knows.
            Outcome::Items(items) => {
                let reason = format!("the reply has {} items for {}", items.len(), batch.members.len());
                self.retry(batch, Refusal::no_answer(reason));
            }
            Outcome::Retry(refusal) => self.retry(batch, refusal),
            Outcome::Halve(refusal) => self.halve(batch, &refusal, degrade),
            Outcome::Fail(refusal) => batch.members.iter().for_each(|&member| self.fail(member, &refusal)),
        }
    }

    /// Gives up a batch for which there is no time.
    pub fn give_up(&mut self, batch: Batch) {
        let why = batch.refusal.map_or_else(String::new, |refusal| format!("; before that: {refusal}"));
        for member in batch.members {
            self.states[member] = State::Failed { reason: format!("out of time{why}") };
        }
    }

    /// What became of each document. One that is still open has failed.
    #[must_use]
    pub fn report(self) -> Report {
        let bytes = self.documents.iter().map(|document| document.source.len()).sum();
        let mut report = Report { received: self.states.len(), retried: self.retried, bytes, ..Report::default() };
        for (document, state) in self.states.into_iter().enumerate() {
            match state {
                State::Indexed { is_degraded: false } => report.indexed += 1,
                State::Indexed { is_degraded: true } => report.degraded += 1,
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
                self.states[member] = State::Indexed { is_degraded: self.is_degraded(member) };
                continue;
            };
            match refusal.verdict() {
                Verdict::Done => self.states[member] = State::Indexed { is_degraded: self.is_degraded(member) },
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
        if self.is_degraded(member) {
            self.fail(member, refusal);
            return None;
        }
        self.documents[member] = degrade(member, &refusal.in_full());
        self.states[member] = State::Open { is_degraded: true };
        Some(member)
    }

    fn fail(&mut self, member: usize, refusal: &Refusal) {
        self.states[member] = State::Failed { reason: refusal.to_string() };
    }

    fn is_degraded(&self, member: usize) -> bool {
        matches!(self.states[member], State::Open { is_degraded: true } | State::Indexed { is_degraded: true })
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
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none, which a batch never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How often it was tried in vain.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    fn document(number: usize) -> Document {
        let source = Bytes::from(format!("{{\"number\":{number}}}"));
        Document { index: "cwl-2026.01.31".to_owned(), id: Some(number.to_string()), source }
    }

    fn degraded(number: usize, reason: &str) -> Document {
        Document { source: Bytes::from(format!("{{\"reason\":\"{reason}\"}}")), ..document(number) }
    }

    fn ledger(count: usize, body_bytes: usize) -> Ledger {
        Ledger::new((0..count).map(document).collect(), body_bytes)
    }

    fn refusal(status: u16) -> Refusal {
        Refusal { status, kind: String::new(), reason: String::new() }
    }

    fn item(status: u16) -> Option<Refusal> {
        (status != 201).then(|| refusal(status))
    }

    /// Sends batch after batch; `domain` answers for each. Gives the batches and the report.
    fn run(mut ledger: Ledger, mut domain: impl FnMut(&[usize]) -> Option<Outcome>) -> (Vec<Vec<usize>>, Report) {
        let mut sent = Vec::new();
        while let Some(batch) = ledger.next_batch() {
            match domain(&batch.members) {
                Some(outcome) => {
                    sent.push(batch.members.clone());
                    ledger.settle(batch, outcome, &degraded);
                }
                None => ledger.give_up(batch),
            }
        }
        (sent, ledger.report())
    }

    #[test]
    fn a_body_is_as_large_as_allowed_and_a_larger_document_goes_alone() {
        let cost = bulk::cost(&document(0));
        let (sent, report) = run(ledger(5, 2 * cost), |batch| Some(Outcome::Items(vec![None; batch.len()])));
        assert_eq!(sent, [vec![0, 1], vec![2, 3], vec![4]]);
        assert_eq!((report.received, report.indexed), (5, 5));
        let (sent, _) = run(ledger(2, 1), |batch| Some(Outcome::Items(vec![None; batch.len()])));
        assert_eq!(sent, [[0], [1]]);
    }

    #[test]
    fn only_the_items_that_were_refused_are_sent_again() {
        let mut answers =
            [vec![item(201), item(429), item(503)], vec![item(201), item(429)], vec![item(201)]].into_iter();
        let (sent, report) = run(ledger(3, 1000), |_| answers.next().map(Outcome::Items));
        assert_eq!(sent, [vec![0, 1, 2], vec![1, 2], vec![2]]);
        assert_eq!((report.indexed, report.retried, report.failed), (3, 3, vec![]));
    }

    #[test]
    fn a_document_that_does_not_fit_is_degraded_once() {
        let mut answers = [vec![item(400), item(201)], vec![item(400)]].into_iter();
        let (sent, report) = run(ledger(2, 1000), |_| answers.next().map(Outcome::Items));
        assert_eq!(sent, [vec![0, 1], vec![0]]);
        assert_eq!(report.failed, [Failure { document: 0, reason: "400".to_owned() }]);

        let mut answers = [vec![item(400), item(201)], vec![item(201)]].into_iter();
        let (_, report) = run(ledger(2, 1000), |_| answers.next().map(Outcome::Items));
        assert_eq!((report.indexed, report.degraded, report.failed), (1, 1, vec![]));
    }

    #[test]
    fn a_body_that_is_refused_is_halved_until_the_document_that_is_to_blame_stands_alone() {
        let (sent, report) = run(ledger(4, 1000), |batch| {
            let is_refused = batch.contains(&2) && batch.len() > 1;
            Some(if is_refused { Outcome::Halve(refusal(413)) } else { Outcome::Items(vec![None; batch.len()]) })
        });
        assert_eq!(sent, [vec![0, 1, 2, 3], vec![0, 1], vec![2, 3], vec![2], vec![3]]);
        assert_eq!((report.indexed, report.degraded), (4, 0));

        let (_, report) = run(ledger(4, 1000), |batch| {
            Some(if batch.contains(&2) {
                Outcome::Halve(refusal(413))
            } else {
                Outcome::Items(vec![None; batch.len()])
            })
        });
        assert_eq!(report.indexed, 3);
        assert_eq!(report.failed, [Failure { document: 2, reason: "413".to_owned() }]);
    }

    #[test]
    fn what_there_is_no_time_for_has_failed_and_says_what_was_tried() {
        let mut answers = [Outcome::Retry(refusal(503))].into_iter();
        let (_, report) = run(ledger(1, 1000), |_| answers.next());
        assert_eq!(report.failed, [Failure { document: 0, reason: "out of time; before that: 503".to_owned() }]);
    }

    #[test]
    fn what_the_domain_said_is_not_forgotten_when_it_falls_silent() {
        let mut answers = [refusal(503), Refusal::no_answer("silence")].map(Outcome::Retry).into_iter();
        let (_, report) = run(ledger(1, 1000), |_| answers.next());
        assert_eq!(report.failed[0].reason, "out of time; before that: 503");
    }

    #[test]
    fn a_reply_with_too_few_items_accounts_for_none() {
        let mut answers = [Outcome::Items(vec![None]), Outcome::Items(vec![None, None])].into_iter();
        let (sent, report) = run(ledger(2, 1000), |_| answers.next());
        assert_eq!(sent, [[0, 1], [0, 1]]);
        assert_eq!((report.indexed, report.retried), (2, 2));
    }

    /// What a domain may do with a request: the statuses it gives the items in turn, or a status for the whole.
    #[derive(Clone, Debug)]
    enum Answer {
        Items(Vec<u16>),
        Short,
        Whole(u16),
    }

    fn answer() -> impl Strategy<Value = Answer> {
        let status = prop::sample::select(vec![201, 409, 429, 503, 400, 403, 404, 413]);
        prop_oneof![
            4 => prop::collection::vec(status, 1..6).prop_map(Answer::Items),
            1 => Just(Answer::Short),
            2 => prop::sample::select(vec![429, 503, 413, 400, 403]).prop_map(Answer::Whole),
        ]
    }

    proptest! {
        #[test]
        fn every_document_is_accounted_for_once_and_what_is_done_is_not_sent_again(
            count in 0..40_usize,
            body_bytes in 1..1000_usize,
            answers in prop::collection::vec(answer(), 0..60),
        ) {
            let mut answers = answers.into_iter();
            let (mut done, mut failed) = (HashSet::new(), HashSet::new());
            let (sent, report) = run(ledger(count, body_bytes), |batch| {
                assert!(!batch.is_empty());
                assert!(batch.iter().all(|member| !done.contains(member) && !failed.contains(member)), "sent again");
                Some(match answers.next()? {
                    Answer::Items(statuses) => {
                        let items = batch.iter().zip(statuses.into_iter().cycle()).map(|(&member, status)| {
                            if matches!(status, 201 | 409) {
                                done.insert(member);
                            } else if matches!(status, 403 | 404) {
                                failed.insert(member);
                            }
                            item(status)
                        });
                        Outcome::Items(items.collect())
                    }
                    Answer::Short => Outcome::Items(vec![None; batch.len() - 1]),
                    Answer::Whole(413 | 400) => Outcome::Halve(refusal(413)),
                    Answer::Whole(403) => {
                        failed.extend(batch);
                        Outcome::Fail(refusal(403))
                    }
                    Answer::Whole(status) => Outcome::Retry(refusal(status)),
                })
            });
            prop_assert!(sent.iter().all(|batch| batch.iter().collect::<HashSet<_>>().len() == batch.len()));
            prop_assert_eq!(report.received, count);
            prop_assert_eq!(report.indexed + report.degraded, done.len());
            let reported: HashSet<_> = report.failed.iter().map(|failure| failure.document).collect();
            prop_assert_eq!(reported.len(), report.failed.len());
            prop_assert_eq!(reported.len() + done.len(), count);
            prop_assert!(reported.is_disjoint(&done) && reported.is_superset(&failed));
        }
    }
}
