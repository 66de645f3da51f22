//! Sends documents until every one is accounted for.

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::{Method, StatusCode};
use tokio::time::{Instant, sleep_until};
use trailgate::reject::Reject;
use trailgate::upstream::SendError;

use crate::bulk::{self, Outcome, Refusal, Verdict};
use crate::document::Document;
use crate::domain::{Body, Domain, DomainError, Reply};
use crate::ledger::{Batch, Ledger, Report};

/// The way into the index, and what was learned about it since the process started.
#[derive(Debug)]
pub struct Delivery {
    domain: Arc<Domain>,
    limits: Limits,
    gzip: Mutex<Gzip>,
}

/// How much is sent at once, and how patiently.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a body before compression. The smallest domains take 10 MiB, and answer slowly long before.
    pub body_bytes: usize,
    /// Requests in flight.
    pub parallel: usize,
    /// How long a request may take.
    pub patience: Duration,
    /// The longest wait before the second try; it doubles with each further one.
    pub first_backoff: Duration,
    /// The longest wait before any try.
    pub longest_backoff: Duration,
    /// What part of the longest wait is waited: between 0 and 1, at random so that functions do not march in step.
    pub jitter: fn() -> f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 5 * 1024 * 1024,
            parallel: 4,
            patience: Duration::from_secs(30),
            first_backoff: Duration::from_millis(500),
            longest_backoff: Duration::from_secs(10),
            jitter: fastrand::f64,
        }
    }
}

/// What is known of the domain and compressed bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gzip {
    Untried,
    Taken,
    /// Not wanted, or refused once.
    Off,
}

impl Delivery {
    /// Deliveries to `domain`; compressed if `gzip`, for as long as the domain takes it.
    #[must_use]
    pub fn new(domain: Arc<Domain>, limits: Limits, gzip: bool) -> Self {
        Self { domain, limits, gzip: Mutex::new(if gzip { Gzip::Untried } else { Gzip::Off }) }
    }

    /// Sends `documents` until each is in the index or refused for good, but not longer than to `deadline`.
    ///
    /// `degrade` makes the degraded form of the document with this number, given why it was refused. `mapping_type` is
    /// for engines that want one.
    pub async fn run(
        &self,
        documents: Vec<Document>,
        degrade: &(dyn Fn(usize, &str) -> Document + Sync),
        mapping_type: Option<&str>,
        deadline: Instant,
    ) -> Report {
        let mut ledger = Ledger::new(documents, self.limits.body_bytes);
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < self.limits.parallel
                && let Some(batch) = ledger.next_batch()
            {
                let start = Instant::now() + self.limits.backoff(batch.attempt());
                if start >= deadline {
                    ledger.give_up(batch);
                    continue;
                }
                let body = ledger.body(&batch, mapping_type).into();
                // A batch that waits keeps its place: a domain that is busy gets fewer requests at once.
                in_flight.push(async move {
                    sleep_until(start).await;
                    (batch, self.attempt(body, deadline).await)
                });
            }
            let Some((batch, outcome)) = in_flight.next().await else { return ledger.report() };
            tell(&batch, &outcome);
            ledger.settle(batch, outcome, degrade);
        }
    }

    async fn attempt(&self, body: Bytes, deadline: Instant) -> Outcome {
        match self.post(body, deadline).await {
            Ok(reply) => bulk::outcome(reply.status, &reply.body),
            Err(error) if error.may_pass() => Outcome::Retry(Refusal::no_answer(error.to_string())),
            Err(error) => Outcome::Fail(Refusal::no_answer(error.to_string())),
        }
    }

    /// Sends a body compressed. Where that may be why it failed, and never went well yet, it is sent plain at once.
    async fn post(&self, plain: Bytes, deadline: Instant) -> Result<Reply, DomainError> {
        let before = self.gzip();
        if before == Gzip::Off {
            return self.send(plain, false, deadline).await;
        }
        let result = self.send(compress(&plain), true, deadline).await;
        if before == Gzip::Taken || !may_be_for_gzip(&result) {
            if result.as_ref().is_ok_and(|reply| reply.status.is_success()) {
                self.learn(Gzip::Taken);
            }
            return result;
        }
        let result = self.send(plain, false, deadline).await;
        if result.as_ref().is_ok_and(|reply| reply.status.is_success()) {
            tracing::warn!("the domain refuses compressed requests: sending plain ones from now on");
            self.learn(Gzip::Off);
        }
        result
    }

    async fn send(&self, bytes: Bytes, is_gzip: bool, deadline: Instant) -> Result<Reply, DomainError> {
        let patience = self.limits.patience.min(deadline.saturating_duration_since(Instant::now()));
        let body = Body { bytes, content_type: bulk::CONTENT_TYPE, is_gzip };
        self.domain.send(Method::POST, bulk::PATH, body, patience).await
    }

    fn gzip(&self) -> Gzip {
        *self.gzip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, gzip: Gzip) {
        *self.gzip.lock().unwrap_or_else(PoisonError::into_inner) = gzip;
    }
}

impl Limits {
    fn backoff(&self, attempt: u32) -> Duration {
        let Some(doublings) = attempt.checked_sub(1) else { return Duration::ZERO };
        let longest = self.first_backoff.saturating_mul(2_u32.saturating_pow(doublings)).min(self.longest_backoff);
        longest.mul_f64((self.jitter)())
    }
}

/// Whether a compressed request may have failed for being compressed: a service in front of the engine may take the
/// signature as broken, or just hang up; Elasticsearch 2 hangs up on the service, which then says 502.
fn may_be_for_gzip(result: &Result<Reply, DomainError>) -> bool {
    match result {
        Ok(reply) => matches!(
            reply.status,
            StatusCode::BAD_REQUEST
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_ACCEPTABLE
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::BAD_GATEWAY
        ),
        Err(DomainError::Rejected(reject)) => {
            matches!(reject, Reject::Signature | Reject::Upstream(SendError::Broken(_)))
        }
        Err(DomainError::BrokeOff(_) | DomainError::TimedOut) => false,
    }
}

fn compress(plain: &[u8]) -> Bytes {
    // Events are much alike: the fastest level makes a tenth of them, and a function's share of a processor is small.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("memory can be written to").into()
}

/// Logs what went wrong with a batch, once for all items, without what is in them.
fn tell(batch: &Batch, outcome: &Outcome) {
    let (documents, attempt) = (batch.len(), batch.attempt());
    match outcome {
        Outcome::Items(items) => {
            for (verdict, what) in [
                (Verdict::Retry, "the domain has no room for some documents"),
                (Verdict::Degrade, "some documents do not fit into the index"),
                (Verdict::Fail, "the domain refuses some documents"),
            ] {
                let mut refused = items.iter().flatten().filter(|refusal| refusal.verdict() == verdict);
                if let Some(first) = refused.next() {
                    tracing::warn!(documents, refused = 1 + refused.count(), attempt, first = %first, "{what}");
                }
            }
        }
        Outcome::Retry(refusal) => tracing::warn!(documents, attempt, reason = %refusal, "a request is to be repeated"),
        Outcome::Halve(refusal) => tracing::info!(documents, reason = %refusal, "a request is to be split"),
        Outcome::Fail(refusal) => tracing::error!(documents, reason = %refusal, "a request is refused"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_bound_and_is_cut_at_random() {
        let limits = |jitter| Limits { jitter, ..Limits::default() };
        let waits = |limits: Limits| [0, 1, 2, 5, 6, 99].map(|attempt| limits.backoff(attempt).as_millis());
        assert_eq!(waits(limits(|| 1.0)), [0, 500, 1_000, 8_000, 10_000, 10_000]);
        assert_eq!(waits(limits(|| 0.5)), [0, 250, 500, 4_000, 5_000, 5_000]);
    }
}
