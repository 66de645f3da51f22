use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use bytes::Bytes;
use fake_domain::{Answer, Backend, FakeDomain, Fault, ItemRefusal, Seen, Times};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;
use trailgate_ingest::delivery::DeliveryReport;
use trailgate_ingest::delivery::{Delivery, DeliveryLimits};
use trailgate_ingest::document::Document;
use trailgate_testkit::{StoppedClock, gzip};

use crate::rig::{LIMITS, Rig, signing_key, with_timeout};

/// A delivery to a domain in memory.
struct Sender {
    rig: Rig,
    delivery: Delivery,
}

impl Sender {
    /// Starts a rig that does not compress.
    async fn new() -> Self {
        Self::with(LIMITS, false, signing_key()).await
    }

    async fn with(limits: DeliveryLimits, gzip: bool, provider: SharedCredentialsProvider) -> Self {
        let rig = Rig::with(Backend::Memory, provider).await;
        let delivery = Delivery::new(Arc::clone(&rig.domain), limits, gzip);
        Self { rig, delivery }
    }

    fn stand_in(&self) -> &FakeDomain {
        &self.rig.stand_in
    }

    /// Delivers documents with all the time that they may need.
    async fn deliver(&self, documents: Vec<Document>) -> DeliveryReport {
        let deadline = Instant::now() + Duration::from_mins(1);
        with_timeout(self.delivery.deliver(documents, &degraded, None, deadline)).await
    }

    /// Returns the number of each document in the index, and whether it is degraded, as soon as the domain behaves
    /// again.
    async fn indexed(&self) -> BTreeMap<u64, bool> {
        self.stand_in().clear_faults();
        let reply = self.rig.get("/cwl-*/_search?size=100000").await;
        let hits = reply["hits"]["hits"].as_array().unwrap();
        let sources = hits.iter().map(|hit| &hit["_source"]);
        let indexed: BTreeMap<_, _> =
            sources.map(|source| (source["number"].as_u64().unwrap(), source.get("reason").is_some())).collect();
        assert_eq!(indexed.len(), hits.len(), "a document is there twice");
        indexed
    }
}

/// Documents numbered from 0, of about this many bytes.
fn documents(count: usize, bytes: usize) -> Vec<Document> {
    (0..count).map(|number| with(number, &json!({ "number": number, "padding": "x".repeat(bytes) }))).collect()
}

/// Returns the degraded document of one that does not fit.
fn degraded(number: usize, reason: &str) -> Document {
    Document { is_degraded: true, ..with(number, &json!({ "number": number, "reason": reason })) }
}

fn with(number: usize, source: &Value) -> Document {
    let source = Bytes::from(source.to_string());
    Document {
        index: format!("cwl-2026.01.{:02}", 1 + number % 2),
        id: Some(number.to_string()),
        source,
        is_degraded: false,
        event_time: None,
    }
}

/// Asserts that all of `count` documents are in the index as they were.
#[track_caller]
fn assert_all(report: &DeliveryReport, indexed: &BTreeMap<u64, bool>, count: usize) {
    assert_eq!((report.received, report.indexed, report.degraded), (count, count, 0), "{:?}", report.failed.first());
    assert_eq!(report.failed, []);
    assert_eq!(indexed.len(), count);
    assert!(indexed.values().all(|is_degraded| !is_degraded));
}

#[tokio::test]
async fn documents_are_sent_in_several_bodies_on_few_connections() {
    let sender = Sender::new().await;
    let report = sender.deliver(documents(500, 500)).await;
    assert_eq!(report.retried, 0);
    assert_all(&report, &sender.indexed().await, 500);
    let seen = sender.stand_in().seen();
    assert!(seen.iter().all(|request| request.body.len() <= LIMITS.body_bytes));
    assert!(seen.len() > 10 && sender.stand_in().connections() <= LIMITS.parallel + 1);
}

#[tokio::test]
async fn parallel_deliveries_share_the_requests_in_flight() {
    let sender = Sender::new().await;
    let release = Arc::new(Notify::new());
    sender.stand_in().fault(Fault::HoldBody(Arc::clone(&release)), Times::UntilCleared);
    let deliver = || sender.deliver(documents(20, 2_000));
    let hold = async {
        sender.stand_in().wait_for_requests(LIMITS.parallel).await;
        sender.stand_in().clear_faults();
        release.notify_waiters();
    };
    let (first, second, third, ()) = tokio::join!(deliver(), deliver(), deliver(), hold);
    assert_eq!([first, second, third].map(|report| report.indexed), [20; 3]);
    assert!(sender.stand_in().connections() <= LIMITS.parallel);
}

#[tokio::test]
async fn only_items_rejected_for_lack_of_room_are_retried() {
    let sender = Sender::new().await;
    sender.stand_in().judge_items(|number, _| {
        let refusal = ItemRefusal { status: 429, kind: "es_rejected_execution_exception" };
        number.is_multiple_of(3).then_some(refusal)
    });
    let report = sender.deliver(documents(300, 100)).await;
    let items: usize = sender.stand_in().seen().iter().map(|request| lines(request) / 2).sum();
    assert!(report.retried >= 100);
    assert_eq!(items, 300 + report.retried);
    assert_all(&report, &sender.indexed().await, 300);
}

#[tokio::test]
async fn brief_outage_of_the_domain_loses_no_document() {
    for fault in [
        Fault::status(503, "<html>Service Unavailable</html>"),
        Fault::status(429, r#"{"message":"429 Too Many Requests /_bulk"}"#),
        Fault::status(403, r#"{"Message":"Request throttled due to too many requests"}"#),
        Fault::status(403, r#"{"message":"The security token included in the request is expired"}"#),
        Fault::status(200, "<html>Welcome!</html>"),
        Fault::status(200, r#"{"errors":false,"items":[]}"#),
        Fault::BreakOff,
        Fault::BreakBody,
        Fault::Garbage("nonsense\r\n\r\n".into()),
    ] {
        let sender = Sender::new().await;
        sender.stand_in().fault(fault.clone(), Times::Next(10));
        let report = sender.deliver(documents(200, 500)).await;
        assert!(report.retried > 0, "{fault:?}");
        assert_all(&report, &sender.indexed().await, 200);
    }
}

#[tokio::test]
async fn ten_second_outage_of_the_domain_loses_no_document() {
    let clock = StoppedClock::stop();
    let sender = Sender::new().await;
    let stand_in = sender.stand_in();
    stand_in.fault(Fault::status(503, ""), Times::UntilCleared);
    let delivering = async {
        tokio::join!(sender.deliver(documents(200, 500)), async {
            tokio::time::sleep(Duration::from_secs(10)).await;
            stand_in.clear_faults();
        })
    };
    let (report, ()) = clock.pass_until(delivering).await;
    assert!(report.retried > 0);
    assert_all(&report, &sender.indexed().await, 200);
}

#[tokio::test]
async fn request_without_a_response_times_out_and_is_retried() {
    let clock = StoppedClock::stop();
    let limits = DeliveryLimits { timeout: Duration::from_secs(10), ..LIMITS };
    let sender = Sender::with(limits, false, signing_key()).await;
    sender.stand_in().fault(Fault::Hang, Times::Next(3));
    let report = clock.pass_until(sender.deliver(documents(200, 500))).await;
    assert!(report.retried > 0);
    assert_all(&report, &sender.indexed().await, 200);
}

#[tokio::test]
async fn body_too_large_for_the_domain_is_halved() {
    let sender = Sender::with(DeliveryLimits { body_bytes: 5 * 1024 * 1024, ..LIMITS }, false, signing_key()).await;
    sender.stand_in().judge_requests(|seen| {
        let answer = r#"{"Message":"Request size exceeded 1048576 bytes"}"#;
        (seen.body.len() > 1024 * 1024).then(|| Fault::status(413, answer))
    });
    let report = sender.deliver(documents(3_000, 1_000)).await;
    assert_eq!(report.retried, 0);
    assert_all(&report, &sender.indexed().await, 3_000);
}

#[tokio::test]
async fn document_too_large_by_itself_is_degraded() {
    let sender = Sender::new().await;
    sender.stand_in().judge_requests(|seen| (seen.body.len() > 10_000).then(|| Fault::status(413, "")));
    let mut all = documents(11, 100);
    all[7] = documents(8, 20_000).remove(7);
    let report = sender.deliver(all).await;
    assert_eq!((report.indexed, report.degraded, report.failed), (10, 1, vec![]));
    assert!(sender.indexed().await[&7]);
}

#[tokio::test]
async fn only_the_document_that_does_not_fit_is_degraded() {
    let sender = Sender::new().await;
    sender.stand_in().judge_items(|_, source| {
        let does_not_fit = source["number"].as_u64()? % 50 == 7 && source.get("reason").is_none();
        does_not_fit.then_some(ItemRefusal { status: 400, kind: "mapper_parsing_exception" })
    });
    let report = sender.deliver(documents(200, 100)).await;
    assert_eq!((report.indexed, report.degraded, report.failed.len()), (196, 4, 0));
    let indexed = sender.indexed().await;
    assert_eq!(indexed.len(), 200);
    assert!(indexed.iter().all(|(number, is_degraded)| (number % 50 == 7) == *is_degraded));
}

#[tokio::test]
async fn rejected_degraded_document_fails_without_a_quote() {
    let sender = Sender::new().await;
    sender.stand_in().judge_items(|_, source| {
        let is_refused = source["number"] == 3;
        is_refused.then_some(ItemRefusal { status: 400, kind: "mapper_parsing_exception" })
    });
    let report = sender.deliver(documents(10, 100)).await;
    assert_eq!((report.indexed, report.degraded, report.failed.len()), (9, 0, 1));
    assert_eq!((report.failed[0].document, report.failed[0].reason.as_str()), (3, "400 mapper_parsing_exception"));
    assert_eq!(sender.indexed().await.len(), 9);
}

#[tokio::test]
async fn lasting_write_block_fails_at_the_deadline() {
    let clock = StoppedClock::stop();
    let sender = Sender::new().await;
    let block = |_, _: &Value| Some(ItemRefusal { status: 403, kind: "cluster_block_exception" });
    sender.stand_in().judge_items(block);
    let deadline = Instant::now() + Duration::from_secs(1);
    let report = clock.pass_until(sender.delivery.deliver(documents(100, 500), &degraded, None, deadline)).await;
    assert_eq!((report.received, report.failed.len()), (100, 100));
    assert!(report.retried > 0);
    let reason = &report.failed[0].reason;
    assert!(reason.starts_with("out of time; before that: 403 cluster_block_exception"), "{reason}");
    assert_eq!(sender.stand_in().seen().iter().filter(|request| request.refusal.is_some()).count(), 0);
}

#[tokio::test]
async fn unresponsive_domain_fails_delivery_at_the_deadline() {
    let clock = StoppedClock::stop();
    let sender = Sender::new().await;
    sender.stand_in().fault(Fault::Hang, Times::UntilCleared);
    let deadline = Instant::now() + Duration::from_secs(5);
    let report = clock.pass_until(sender.delivery.deliver(documents(100, 500), &degraded, None, deadline)).await;
    assert_eq!(report.failed.len(), 100);
    assert!(Instant::now() < deadline + Duration::from_millis(100));
}

#[tokio::test]
async fn missing_permission_fails_at_once_with_its_principal() {
    let sender = Sender::new().await;
    let answer = r#"{"Message":"User: arn:aws:sts::1:assumed-role/x is not authorized to perform: es:ESHttpPost"}"#;
    sender.stand_in().fault(Fault::status(403, answer), Times::UntilCleared);
    let report = sender.deliver(documents(10, 100)).await;
    assert_eq!((report.failed.len(), sender.stand_in().seen().len()), (10, 1));
    assert!(report.failed[0].reason.contains("assumed-role/x is not authorized"));
}

#[tokio::test]
async fn rejected_signature_fails_at_once() {
    let wrong = Credentials::new("AKIDEXAMPLE", "wrong", None, None, "test");
    let sender = Sender::with(LIMITS, false, SharedCredentialsProvider::new(wrong)).await;
    let report = sender.deliver(documents(10, 100)).await;
    assert_eq!(report.failed.len(), 10);
    assert_eq!(report.failed[0].reason, "the domain did not accept the signature");
}

#[tokio::test]
async fn expired_credentials_are_renewed_and_used() {
    /// Expired ones first, then those that the domain takes.
    #[derive(Debug)]
    struct Expired(AtomicUsize);

    impl ProvideCredentials for Expired {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            if self.0.fetch_add(1, Ordering::SeqCst) > 0 {
                return future::ProvideCredentials::new(async { signing_key().provide_credentials().await });
            }
            let expired = Credentials::new("AKIDOLD", "secret", None, Some(SystemTime::UNIX_EPOCH), "test");
            future::ProvideCredentials::ready(Ok(expired))
        }
    }

    let sender = Sender::with(LIMITS, false, SharedCredentialsProvider::new(Expired(AtomicUsize::new(0)))).await;
    let report = sender.deliver(documents(10, 100)).await;
    assert_all(&report, &sender.indexed().await, 10);
    assert!(sender.stand_in().seen().iter().all(|request| request.refusal.is_none()));
}

#[tokio::test]
async fn bodies_are_compressed_if_the_domain_accepts_gzip() {
    let sender = Sender::with(LIMITS, true, signing_key()).await;
    let report = sender.deliver(documents(200, 500)).await;
    assert_all(&report, &sender.indexed().await, 200);
    let bulks: Vec<Seen> = sender.stand_in().seen().into_iter().filter(|request| request.method == "POST").collect();
    assert!(bulks.iter().all(is_gzip));
    assert!(bulks.iter().map(|request| request.body.len()).sum::<usize>() < report.bytes / 10);
}

#[tokio::test]
async fn domain_that_rejects_gzip_gets_plain_bodies() {
    for rule in [
        (|seen| is_gzip(seen).then_some(Fault::BreakOff)) as fn(&Seen) -> Option<Fault>,
        |seen| is_gzip(seen).then(|| Fault::status(415, "")),
        |seen| is_gzip(seen).then(|| Fault::status(502, "")),
        |seen| is_gzip(seen).then(|| Fault::status(400, r#"{"error":{"type":"illegal_argument_exception"}}"#)),
        |seen| {
            let message = "The request signature we calculated does not match the signature you provided.";
            is_gzip(seen).then(|| Fault::status(403, format!("{{\"message\":\"{message}\"}}")))
        },
    ] {
        let sender = Sender::with(LIMITS, true, signing_key()).await;
        sender.stand_in().judge_requests(rule);
        // Those that are in flight together count once.
        for _ in 0..2 {
            sender.deliver(documents(10, 500)).await;
        }
        let report = sender.deliver(documents(200, 500)).await;
        assert_eq!(report.retried, 0);
        let before = sender.stand_in().seen().len();
        let again = sender.deliver(documents(200, 500)).await;
        assert!(sender.stand_in().seen().iter().skip(before).all(|request| !is_gzip(request)));
        assert_eq!(again.indexed, 200);
        assert_all(&report, &sender.indexed().await, 200);
    }
}

#[tokio::test]
async fn gzip_accepted_once_is_used_after_a_failure() {
    let sender = Sender::with(LIMITS, true, signing_key()).await;
    assert_eq!(sender.deliver(documents(1, 100)).await.indexed, 1);
    sender.stand_in().fault(Fault::BreakOff, Times::Next(2));
    let report = sender.deliver(documents(200, 500)).await;
    assert!(sender.stand_in().seen().iter().all(is_gzip));
    assert_all(&report, &sender.indexed().await, 200);
}

#[tokio::test]
async fn one_early_failure_does_not_end_compression() {
    for fault in [Fault::status(502, ""), Fault::status(403, ""), Fault::BreakOff] {
        let sender = Sender::with(LIMITS, true, signing_key()).await;
        sender.stand_in().fault(fault.clone(), Times::Next(1));
        let report = sender.deliver(documents(1, 100)).await;
        assert_eq!((report.indexed, report.retried), (1, 0), "{fault:?}");
        let before = sender.stand_in().seen().len();
        let report = sender.deliver(documents(200, 500)).await;
        assert!(sender.stand_in().seen().iter().skip(before).all(is_gzip), "{fault:?}");
        assert_all(&report, &sender.indexed().await, 200);
    }
}

#[tokio::test]
async fn requests_that_fail_together_do_not_end_compression() {
    let sender = Sender::with(LIMITS, true, signing_key()).await;
    sender.stand_in().fault(Fault::status(502, ""), Times::Next(LIMITS.parallel));
    sender.deliver(documents(200, 500)).await;
    let before = sender.stand_in().seen().len();
    let report = sender.deliver(documents(200, 500)).await;
    assert!(sender.stand_in().seen().iter().skip(before).all(is_gzip));
    assert_all(&report, &sender.indexed().await, 200);
}

#[tokio::test]
async fn proxy_400_degrades_nothing_and_ends_delivery() {
    for answer in ["<html>Bad Request</html>", r#"{"message":"Bad Request"}"#] {
        let sender = Sender::new().await;
        sender.stand_in().fault(Fault::status(400, answer), Times::UntilCleared);
        let report = sender.deliver(documents(2_500, 500)).await;
        assert_eq!((report.indexed, report.degraded, report.failed.len()), (0, 0, 2_500));
        assert!(report.failed[0].reason.starts_with("400 from a proxy"), "{}", report.failed[0].reason);
        assert!(sender.stand_in().seen().len() < 60, "{}", sender.stand_in().seen().len());
    }
}

#[tokio::test]
async fn compressed_response_is_read() {
    let sender = Sender::new().await;
    let reply = gzip(r#"{"errors":false,"items":[{"index":{"_id":"0","status":201}}]}"#);
    let headers = vec![("content-encoding".to_owned(), "gzip".to_owned())];
    sender.stand_in().fault(Fault::Answer(Answer { status: 200, headers, body: reply.into() }), Times::Once);
    let report = sender.deliver(documents(1, 100)).await;
    assert_eq!((report.indexed, report.retried, report.failed), (1, 0, vec![]));
    assert_eq!(sender.stand_in().seen().len(), 1);
}

#[tokio::test]
async fn batch_is_retried_once_more_before_the_deadline() {
    let limits =
        DeliveryLimits { first_backoff: Duration::from_mins(1), longest_backoff: Duration::from_mins(1), ..LIMITS };
    let clock = StoppedClock::stop();
    let sender = Sender::with(limits, false, signing_key()).await;
    sender.stand_in().fault(Fault::status(503, ""), Times::Next(1));
    let deadline = Instant::now() + Duration::from_secs(8);
    let report = clock.pass_until(sender.delivery.deliver(documents(1, 100), &degraded, None, deadline)).await;
    assert_eq!((report.indexed, report.retried, report.failed), (1, 1, vec![]));
}

#[tokio::test]
async fn engine_that_requires_a_type_gets_one() {
    let sender = Sender::new().await;
    let deadline = Instant::now() + Duration::from_mins(1);
    let report = sender.delivery.deliver(documents(1, 10), &degraded, Some("event"), deadline).await;
    assert_eq!(report.indexed, 1);
    let body = sender.stand_in().seen()[0].body.clone();
    assert!(body.starts_with(br#"{"index":{"_index":"cwl-2026.01.01","_type":"event","_id":"0"}}"#));
}

fn is_gzip(request: &Seen) -> bool {
    request.header("content-encoding") == Some("gzip")
}

fn lines(request: &Seen) -> usize {
    request.body.split(|byte| *byte == b'\n').count() - 1
}
