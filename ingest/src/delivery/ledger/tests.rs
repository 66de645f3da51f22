use std::collections::HashSet;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn document(number: usize) -> Document {
    let source = Bytes::from(format!("{{\"number\":{number}}}"));
    Document {
        index: "cwl-2026.01.31".to_owned(),
        id: Some(number.to_string()),
        source,
        is_degraded: false,
        event_time: None,
    }
}

fn degraded(number: usize, reason: &str) -> Document {
    Document { source: Bytes::from(format!("{{\"reason\":\"{reason}\"}}")), is_degraded: true, ..document(number) }
}

fn ledger(count: usize, body_bytes: usize) -> Ledger {
    Ledger::new((0..count).map(document).collect(), body_bytes)
}

fn error(status: u16) -> BulkError {
    BulkError { status, error_type: String::new(), reason: String::new(), is_from_engine: true }
}

fn item(status: u16) -> Option<BulkError> {
    (status != 201).then(|| error(status))
}

/// Returns a response with items in order, without ids.
fn items(errors: Vec<Option<BulkError>>) -> BulkOutcome {
    BulkOutcome::Items(errors.into_iter().map(|error| BulkItem { id: None, error }).collect())
}

/// Returns a response with an item for each id.
fn items_by_id(items: &[(usize, u16)]) -> BulkOutcome {
    let items = items.iter().map(|(id, status)| BulkItem { id: Some(id.to_string()), error: item(*status) });
    BulkOutcome::Items(items.collect())
}

/// Sends batch after batch; `domain` answers for each. Gives the batches and the report.
fn run(
    mut ledger: Ledger,
    mut domain: impl FnMut(&[usize]) -> Option<BulkOutcome>,
) -> (Vec<Vec<usize>>, DeliveryReport) {
    let mut sent = Vec::new();
    while let Some(batch) = ledger.next_batch() {
        match domain(&batch.members) {
            Some(outcome) => {
                sent.push(batch.members.clone());
                ledger.record_outcome(batch, outcome, &degraded);
            }
            None => ledger.give_up(batch),
        }
    }
    (sent, ledger.report())
}

#[test]
fn bulk_body_fills_the_limit_and_large_document_is_single() {
    let cost = bulk::estimate_bytes(&document(0));
    let (sent, report) = run(ledger(5, 2 * cost), |batch| Some(items(vec![None; batch.len()])));
    assert_eq!(sent, [vec![0, 1], vec![2, 3], vec![4]]);
    assert_eq!((report.received, report.indexed), (5, 5));
    let (sent, _) = run(ledger(2, 1), |batch| Some(items(vec![None; batch.len()])));
    assert_eq!(sent, [[0], [1]]);
}

#[test]
fn only_rejected_items_are_retried() {
    let mut answers = [vec![item(201), item(429), item(503)], vec![item(201), item(429)], vec![item(201)]].into_iter();
    let (sent, report) = run(ledger(3, 1000), |_| answers.next().map(items));
    assert_eq!(sent, [vec![0, 1, 2], vec![1, 2], vec![2]]);
    assert_eq!((report.indexed, report.retried, report.failed), (3, 3, vec![]));
}

#[test]
fn document_that_does_not_fit_is_degraded_once() {
    let mut answers = [vec![item(400), item(201)], vec![item(400)]].into_iter();
    let (sent, report) = run(ledger(2, 1000), |_| answers.next().map(items));
    assert_eq!(sent, [vec![0, 1], vec![0]]);
    assert_eq!(report.failed, [FailedDocument { document: 0, reason: "400".to_owned() }]);

    let mut answers = [vec![item(400), item(201)], vec![item(201)]].into_iter();
    let (_, report) = run(ledger(2, 1000), |_| answers.next().map(items));
    assert_eq!((report.indexed, report.degraded, report.failed), (1, 1, vec![]));
}

#[test]
fn rejected_body_is_halved_down_to_the_document_at_fault() {
    let (sent, report) = run(ledger(4, 1000), |batch| {
        let is_refused = batch.contains(&2) && batch.len() > 1;
        Some(if is_refused { BulkOutcome::Halve(error(413)) } else { items(vec![None; batch.len()]) })
    });
    assert_eq!(sent, [vec![0, 1, 2, 3], vec![0, 1], vec![2, 3], vec![2], vec![3]]);
    assert_eq!((report.indexed, report.degraded), (4, 0));

    let (_, report) = run(ledger(4, 1000), |batch| {
        Some(if batch.contains(&2) { BulkOutcome::Halve(error(413)) } else { items(vec![None; batch.len()]) })
    });
    assert_eq!(report.indexed, 3);
    assert_eq!(report.failed, [FailedDocument { document: 2, reason: "413".to_owned() }]);
}

#[test]
fn documents_past_the_deadline_fail_with_the_last_attempt() {
    let mut answers = [BulkOutcome::Retry(error(503))].into_iter();
    let (_, report) = run(ledger(1, 1000), |_| answers.next());
    assert_eq!(report.failed, [FailedDocument { document: 0, reason: "out of time; before that: 503".to_owned() }]);
}

#[test]
fn timeout_keeps_the_reason_of_the_last_response() {
    let mut answers = [error(503), BulkError::no_response("silence")].map(BulkOutcome::Retry).into_iter();
    let (_, report) = run(ledger(1, 1000), |_| answers.next());
    assert_eq!(report.failed[0].reason, "out of time; before that: 503");
}

#[test]
fn items_are_matched_by_their_ids() {
    let mut answers =
        [items_by_id(&[(2, 201), (0, 400), (1, 429)]), items_by_id(&[(0, 201)]), items_by_id(&[(1, 201)])];
    let mut answers = answers.iter_mut().map(|answer| std::mem::replace(answer, items(Vec::new())));
    let (sent, report) = run(ledger(3, 1000), |_| answers.next());
    assert_eq!(sent, [vec![0, 1, 2], vec![0], vec![1]]);
    assert_eq!((report.indexed, report.degraded, report.failed), (2, 1, vec![]));
}

#[test]
fn items_with_unknown_ids_confirm_no_document() {
    let mut answers = [items_by_id(&[(0, 201), (7, 201)]), items_by_id(&[(1, 201), (0, 201)])].into_iter();
    let (sent, report) = run(ledger(2, 1000), |_| answers.next());
    assert_eq!(sent, [[0, 1], [0, 1]]);
    assert_eq!((report.indexed, report.retried), (2, 2));
}

#[test]
fn document_rejected_by_a_proxy_fails() {
    let by_proxy = BulkError { is_from_engine: false, ..error(400) };
    let (sent, report) = run(ledger(3, 1000), |batch| {
        Some(if batch.contains(&1) { BulkOutcome::Halve(by_proxy.clone()) } else { items(vec![None; batch.len()]) })
    });
    assert_eq!(sent.len(), 5);
    assert_eq!((report.indexed, report.degraded), (2, 0));
    let reason = "400 from a proxy in front of the domain".to_owned();
    assert_eq!(report.failed, [FailedDocument { document: 1, reason }]);
}

#[test]
fn delivery_stops_after_48_rejections_in_a_row() {
    for outcome in [BulkOutcome::Halve, BulkOutcome::Fail] {
        let (sent, report) =
            run(ledger(1000, 100), |_| Some(outcome(BulkError { is_from_engine: false, ..error(400) })));
        assert_eq!(sent.len(), MAX_REJECTED_IN_A_ROW + 1);
        assert_eq!(report.failed.len(), 1000);
        assert!(report.failed[999].reason.ends_with("48 requests in a row were rejected"));
    }
}

#[test]
fn document_built_without_a_part_counts_as_degraded() {
    let documents = vec![Document { is_degraded: true, ..document(0) }, document(1)];
    let mut answers = [vec![item(400), None], vec![None]].into_iter().map(items);
    let (sent, report) = run(Ledger::new(documents, 1000), |_| answers.next());
    assert_eq!(sent, [vec![0, 1], vec![0]]);
    assert_eq!((report.indexed, report.degraded), (1, 1));
}

#[test]
fn response_with_too_few_items_confirms_no_document() {
    let mut answers = [items(vec![None]), items(vec![None, None])].into_iter();
    let (sent, report) = run(ledger(2, 1000), |_| answers.next());
    assert_eq!(sent, [[0, 1], [0, 1]]);
    assert_eq!((report.indexed, report.retried), (2, 2));
}

/// The behaviour of a domain at a request: a status for each item, or one for the whole response.
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
    fn each_document_is_counted_once_and_done_ones_not_resent(
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
                    let errors = batch.iter().zip(statuses.into_iter().cycle()).map(|(&member, status)| {
                        if matches!(status, 201 | 409) {
                            done.insert(member);
                        } else if matches!(status, 403 | 404) {
                            failed.insert(member);
                        }
                        item(status)
                    });
                    items(errors.collect())
                }
                Answer::Short => items(vec![None; batch.len() - 1]),
                Answer::Whole(413 | 400) => BulkOutcome::Halve(error(413)),
                Answer::Whole(403) => {
                    failed.extend(batch);
                    BulkOutcome::Fail(error(403))
                }
                Answer::Whole(status) => BulkOutcome::Retry(error(status)),
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
