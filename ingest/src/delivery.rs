//! Sends documents until each is accounted for.

pub mod bulk;
mod gzip;
mod ledger;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until};

use self::bulk::{BulkAction, BulkError, BulkItem, BulkOutcome, Verdict};
use self::gzip::{GzipSupport, compress, may_be_rejected_for_gzip};
use self::ledger::{Batch, Ledger};
pub use self::ledger::{DeliveryReport, FailedDocument};
use crate::document::Document;
use crate::domain::{Domain, DomainError, DomainResponse, RequestBody};

/// A sender of documents to one domain, and what the process has learned about compression there.
#[derive(Debug)]
pub struct Delivery {
    domain: Arc<Domain>,
    limits: DeliveryLimits,
    action: BulkAction,
    gzip: Mutex<GzipSupport>,
    /// A permit for each request in flight.
    requests: Semaphore,
}

/// The size of requests, their number and their pace.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryLimits {
    /// Bytes of a body before compression. The smallest domains accept 10 MiB, and respond slowly long before.
    pub body_bytes: usize,
    /// Requests in flight, over all deliveries of a sender.
    pub parallel: usize,
    /// The longest time for one request.
    pub timeout: Duration,
    /// The longest wait before the first retry; it doubles with each further one.
    pub first_backoff: Duration,
    /// The longest wait before any retry.
    pub longest_backoff: Duration,
    /// The random part of the longest wait, between 0 and 1, so that functions do not retry in step.
    pub jitter: fn() -> f64,
}

impl Default for DeliveryLimits {
    fn default() -> Self {
        Self {
            body_bytes: 5 * 1024 * 1024,
            parallel: 4,
            timeout: Duration::from_secs(30),
            first_backoff: Duration::from_millis(500),
            longest_backoff: Duration::from_secs(10),
            jitter: fastrand::f64,
        }
    }
}

impl Delivery {
    /// Creates a sender to `domain`, which compresses if `gzip` says so and for as long as the domain accepts it.
    #[must_use]
    pub fn new(domain: Arc<Domain>, limits: DeliveryLimits, gzip: bool) -> Self {
        let gzip = if gzip { GzipSupport::Untried { failures: 0 } } else { GzipSupport::Off };
        let requests = Semaphore::new(limits.parallel);
        Self { domain, limits, action: BulkAction::default(), gzip: Mutex::new(gzip), requests }
    }

    /// Sends documents with this action.
    #[must_use]
    pub fn with_action(self, action: BulkAction) -> Self {
        Self { action, ..self }
    }

    /// Sends `documents` until each is in the index or rejected for good, but not past `deadline`.
    ///
    /// `degrade` builds the degraded form of the document with this number, given why it was rejected. `mapping_type`
    /// is for engines that need one.
    pub async fn deliver(
        &self,
        documents: Vec<Document>,
        degrade: &(dyn Fn(usize, &str) -> Document + Sync),
        mapping_type: Option<&str>,
        deadline: Instant,
    ) -> DeliveryReport {
        let mut ledger = Ledger::new(documents, self.limits.body_bytes);
        let last_try = deadline - LAST_TRY.min(deadline.saturating_duration_since(Instant::now()) / 4);
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < self.limits.parallel
                && let Some(batch) = ledger.next_batch()
            {
                let backoff = self.limits.backoff(batch.attempt());
                let Some(start) = start_time(Instant::now(), backoff, last_try, deadline) else {
                    ledger.give_up(batch);
                    continue;
                };
                let body = ledger.body(&batch, mapping_type, self.action).into();
                // A batch that waits counts as in flight: a busy domain gets fewer requests at once.
                in_flight.push(async move {
                    // A timer would let other deliveries build theirs first, even one that is due.
                    if !backoff.is_zero() {
                        sleep_until(start).await;
                    }
                    (batch, self.send_batch(body, deadline).await)
                });
            }
            let Some((batch, outcome)) = in_flight.next().await else { return ledger.report() };
            log_outcome(&batch, &outcome);
            ledger.record_outcome(batch, outcome, degrade);
        }
    }

    async fn send_batch(&self, body: Bytes, deadline: Instant) -> BulkOutcome {
        match self.send_compressed(body, deadline).await {
            Ok(response) => bulk::read_response(response.status, &response.body),
            Err(error) if error.is_transient() => BulkOutcome::Retry(BulkError::no_response(error.to_string())),
            Err(error) => BulkOutcome::Fail(BulkError::no_response(error.to_string())),
        }
    }

    /// Sends a body compressed. If that may be why it failed, and never succeeded yet, it is sent plain at once.
    async fn send_compressed(&self, plain: Bytes, deadline: Instant) -> Result<DomainResponse, DomainError> {
        let before = self.gzip_support();
        let Some(compressed) = (before.is_worth_trying(Instant::now())).then(|| compress(&plain)) else {
            return self.send_body(plain, false, deadline).await;
        };
        // Once compressed bodies are accepted, the plain one is needed no more, and its memory is free while this one waits.
        let plain = (before != GzipSupport::Accepted).then_some(plain);
        let result = self.send_body(compressed, true, deadline).await;
        let Some(plain) = plain.filter(|_| may_be_rejected_for_gzip(&result)) else {
            if result.as_ref().is_ok_and(|response| response.status.is_success()) {
                self.update_gzip_support(|_| GzipSupport::Accepted);
            }
            return result;
        };
        let is_certain = result.is_ok_and(|response| response.status == StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let result = self.send_body(plain, false, deadline).await;
        if result.as_ref().is_ok_and(|response| response.status.is_success()) {
            // Requests that were in flight together fail together, for one cause: they count once.
            self.update_gzip_support(|known| {
                if known == before { known.after_failure(is_certain, Instant::now()) } else { known }
            });
        }
        result
    }

    async fn send_body(&self, bytes: Bytes, is_gzip: bool, deadline: Instant) -> Result<DomainResponse, DomainError> {
        let _permit = self.requests.acquire().await.expect("the semaphore is never closed");
        let timeout = self.limits.timeout.min(deadline.saturating_duration_since(Instant::now()));
        let body = RequestBody { bytes, content_type: bulk::CONTENT_TYPE, is_gzip };
        self.domain.send(Method::POST, bulk::PATH, body, timeout).await
    }

    fn gzip_support(&self) -> GzipSupport {
        *self.gzip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update_gzip_support(&self, update: impl FnOnce(GzipSupport) -> GzipSupport) {
        let mut known = self.gzip.lock().unwrap_or_else(PoisonError::into_inner);
        *known = update(*known);
    }
}

/// Returns the time to send a batch that should wait for `backoff`; none if it would be past the deadline. A wait that
/// would end too late for a response is shortened once, so that the time before the deadline is used.
fn start_time(now: Instant, backoff: Duration, last_try: Instant, deadline: Instant) -> Option<Instant> {
    let start = now + backoff;
    if start > last_try && now < last_try { Some(last_try) } else { (start < deadline).then_some(start) }
}

/// The time from the last try to the deadline, or a quarter of all the time if that is less.
const LAST_TRY: Duration = Duration::from_secs(2);

impl DeliveryLimits {
    pub(crate) fn backoff(&self, attempt: u32) -> Duration {
        let Some(doublings) = attempt.checked_sub(1) else { return Duration::ZERO };
        let longest = self.first_backoff.saturating_mul(2_u32.saturating_pow(doublings)).min(self.longest_backoff);
        longest.mul_f64((self.jitter)())
    }
}

/// Logs what went wrong with a batch: each kind of error once, with a count and without what is in the documents.
fn log_outcome(batch: &Batch, outcome: &BulkOutcome) {
    let (documents, attempt) = (batch.len(), batch.attempt());
    match outcome {
        BulkOutcome::Items(items) => {
            for (verdict, reason, refused) in count_errors(items) {
                let what = match verdict {
                    Verdict::Done => continue,
                    Verdict::Retry => "the domain is overloaded; retrying documents",
                    Verdict::Degrade => "documents do not fit the mapping; indexing them degraded",
                    Verdict::Fail => "the domain rejected documents",
                };
                tracing::warn!(documents, refused, attempt, reason, "{what}");
            }
        }
        BulkOutcome::Retry(error) => tracing::warn!(documents, attempt, reason = %error, "retrying a request"),
        BulkOutcome::Halve(error) => tracing::info!(documents, reason = %error, "splitting a request"),
        BulkOutcome::Fail(error) => tracing::error!(documents, reason = %error, "the domain rejected a request"),
    }
}

/// Returns the different errors of `items` in the order of their first, each with its count.
fn count_errors(items: &[BulkItem]) -> Vec<(Verdict, String, usize)> {
    let mut counts: Vec<(Verdict, String, usize)> = Vec::new();
    for error in items.iter().filter_map(|item| item.error.as_ref()) {
        let (verdict, reason) = (error.verdict(), error.to_string());
        match counts.iter_mut().find(|(other, text, _)| (*other, text.as_str()) == (verdict, &reason)) {
            Some((_, _, count)) => *count += 1,
            None => counts.push((verdict, reason, 1)),
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_a_bound_with_jitter() {
        let limits = |jitter| DeliveryLimits { jitter, ..DeliveryLimits::default() };
        let waits = |limits: DeliveryLimits| [0, 1, 2, 5, 6, 99].map(|attempt| limits.backoff(attempt).as_millis());
        assert_eq!(waits(limits(|| 1.0)), [0, 500, 1_000, 8_000, 10_000, 10_000]);
        assert_eq!(waits(limits(|| 0.5)), [0, 250, 500, 4_000, 5_000, 5_000]);
    }

    #[test]
    fn last_attempt_starts_before_the_deadline() {
        let now = Instant::now();
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        let start = |backoff: u64| start_time(now, Duration::from_secs(backoff), after(6), after(8));
        assert_eq!([0, 5, 6, 7, 60].map(start), [0, 5, 6, 6, 6].map(|seconds| Some(after(seconds))));
        let late = |backoff: u64| super::start_time(after(7), Duration::from_secs(backoff), after(6), after(8));
        assert_eq!([late(0), late(1)], [Some(after(7)), None]);
    }

    #[test]
    fn each_kind_of_item_error_is_listed_once_with_a_count() {
        let item = |status: u16, error_type: &str, reason: &str| BulkItem {
            id: None,
            error: (status != 201).then(|| BulkError {
                status,
                error_type: error_type.to_owned(),
                reason: reason.to_owned(),
                is_from_engine: true,
            }),
        };
        let items = [
            item(429, "es_rejected_execution_exception", "queue full"),
            item(400, "mapper_parsing_exception", "failed to parse [a]"),
            item(201, "", ""),
            item(400, "mapper_parsing_exception", "failed to parse [b]"),
            item(400, "mapper_parsing_exception", "failed to parse [a]"),
        ];
        let counts: Vec<_> = count_errors(&items).into_iter().map(|(_, reason, count)| (reason, count)).collect();
        let named = |reason: &str, count| (reason.to_owned(), count);
        assert_eq!(
            counts,
            [
                named("429 es_rejected_execution_exception queue full", 1),
                named("400 mapper_parsing_exception a", 2),
                named("400 mapper_parsing_exception b", 1),
            ]
        );
    }
}
