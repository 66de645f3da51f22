//! Sends documents until every one is accounted for.

pub mod bulk;
mod ledger;

use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::{Method, StatusCode};
use tokio::time::{Instant, sleep_until};
use trailgate_client::{RequestError, UpstreamError};

use self::bulk::{Item, Outcome, Refusal, Verdict};
use self::ledger::{Batch, Ledger};
pub use self::ledger::{Failure, Report};
use crate::document::Document;
use crate::domain::{Domain, DomainError, DomainResponse, RequestBody};

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
    pub timeout: Duration,
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
            timeout: Duration::from_secs(30),
            first_backoff: Duration::from_millis(500),
            longest_backoff: Duration::from_secs(10),
            jitter: fastrand::f64,
        }
    }
}

/// What is known of the domain and compressed bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gzip {
    /// Not accepted yet, and refused so many times.
    Untried { refusals: u8 },
    /// Accepted once.
    Accepted,
    /// Refused [`GZIP_TRIES`] times, or once for certain: tried again after [`GZIP_PAUSE`].
    Refused { since: Instant },
    /// Not wanted.
    Off,
}

/// How often a compressed body fails where the plain one succeeds before it counts as refused: a domain that just
/// restarts fails once or twice as well.
const GZIP_TRIES: u8 = 3;

/// How long only plain bodies are sent after that.
const GZIP_PAUSE: Duration = Duration::from_mins(10);

impl Delivery {
    /// Deliveries to `domain`; compressed if `gzip`, for as long as the domain takes it.
    #[must_use]
    pub fn new(domain: Arc<Domain>, limits: Limits, gzip: bool) -> Self {
        Self { domain, limits, gzip: Mutex::new(if gzip { Gzip::Untried { refusals: 0 } } else { Gzip::Off }) }
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
        let last_try = deadline - LAST_TRY.min(deadline.saturating_duration_since(Instant::now()) / 4);
        let mut in_flight = FuturesUnordered::new();
        loop {
            while in_flight.len() < self.limits.parallel
                && let Some(batch) = ledger.next_batch()
            {
                let Some(start) = start(Instant::now(), self.limits.backoff(batch.attempt()), last_try, deadline)
                else {
                    ledger.give_up(batch);
                    continue;
                };
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
            Err(error) if error.is_transient() => Outcome::Retry(Refusal::no_answer(error.to_string())),
            Err(error) => Outcome::Fail(Refusal::no_answer(error.to_string())),
        }
    }

    /// Sends a body compressed. Where that may be why it failed, and never succeeded yet, it is sent plain at once.
    async fn post(&self, plain: Bytes, deadline: Instant) -> Result<DomainResponse, DomainError> {
        let before = self.gzip();
        let Some(compressed) = (before.is_worth_a_try(Instant::now())).then(|| compress(&plain)) else {
            return self.send(plain, false, deadline).await;
        };
        let result = self.send(compressed, true, deadline).await;
        if before == Gzip::Accepted || !may_be_for_gzip(&result) {
            if result.as_ref().is_ok_and(|reply| reply.status.is_success()) {
                self.learn(|_| Gzip::Accepted);
            }
            return result;
        }
        let is_certain = result.is_ok_and(|reply| reply.status == StatusCode::UNSUPPORTED_MEDIA_TYPE);
        let result = self.send(plain, false, deadline).await;
        if result.as_ref().is_ok_and(|reply| reply.status.is_success()) {
            // Requests that were in flight together fail together, for one cause: they count once.
            self.learn(|known| if known == before { known.refused(is_certain, Instant::now()) } else { known });
        }
        result
    }

    async fn send(&self, bytes: Bytes, is_gzip: bool, deadline: Instant) -> Result<DomainResponse, DomainError> {
        let timeout = self.limits.timeout.min(deadline.saturating_duration_since(Instant::now()));
        let body = RequestBody { bytes, content_type: bulk::CONTENT_TYPE, is_gzip };
        self.domain.send(Method::POST, bulk::PATH, body, timeout).await
    }

    fn gzip(&self) -> Gzip {
        *self.gzip.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, next: impl FnOnce(Gzip) -> Gzip) {
        let mut known = self.gzip.lock().unwrap_or_else(PoisonError::into_inner);
        *known = next(*known);
    }
}

impl Gzip {
    fn is_worth_a_try(self, now: Instant) -> bool {
        match self {
            Self::Untried { .. } | Self::Accepted => true,
            Self::Refused { since } => now.saturating_duration_since(since) >= GZIP_PAUSE,
            Self::Off => false,
        }
    }

    /// What is known after a compressed body failed and the plain one did not.
    fn refused(self, is_certain: bool, now: Instant) -> Self {
        match self {
            Self::Untried { refusals } if !is_certain && refusals + 1 < GZIP_TRIES => {
                Self::Untried { refusals: refusals + 1 }
            }
            Self::Untried { .. } => {
                tracing::warn!("the domain refuses compressed requests: sending plain ones for the next ten minutes");
                Self::Refused { since: now }
            }
            Self::Refused { .. } => Self::Refused { since: now },
            // Other requests were compressed, and accepted.
            Self::Accepted | Self::Off => self,
        }
    }
}

/// Returns when a batch is sent that is to wait for `backoff`; none if there is no time. A wait that would end too late
/// for an answer is shortened once, so that the time before the deadline is not left unused.
fn start(now: Instant, backoff: Duration, last_try: Instant, deadline: Instant) -> Option<Instant> {
    let start = now + backoff;
    if start > last_try && now < last_try { Some(last_try) } else { (start < deadline).then_some(start) }
}

/// How long before the deadline the last try is made, or a quarter of all the time there is.
const LAST_TRY: Duration = Duration::from_secs(2);

impl Limits {
    fn backoff(&self, attempt: u32) -> Duration {
        let Some(doublings) = attempt.checked_sub(1) else { return Duration::ZERO };
        let longest = self.first_backoff.saturating_mul(2_u32.saturating_pow(doublings)).min(self.longest_backoff);
        longest.mul_f64((self.jitter)())
    }
}

/// Whether a compressed request may have failed for being compressed: a service in front of the engine may take the
/// signature as broken, or just hang up; Elasticsearch 2 hangs up on the service, which then says 502.
fn may_be_for_gzip(result: &Result<DomainResponse, DomainError>) -> bool {
    match result {
        Ok(reply) => matches!(
            reply.status,
            StatusCode::BAD_REQUEST
                | StatusCode::FORBIDDEN
                | StatusCode::NOT_ACCEPTABLE
                | StatusCode::UNSUPPORTED_MEDIA_TYPE
                | StatusCode::BAD_GATEWAY
        ),
        Err(DomainError::Request(error)) => {
            matches!(error, RequestError::SignatureRejected | RequestError::Upstream(UpstreamError::Broken(_)))
        }
        Err(DomainError::Target(_) | DomainError::BrokeOff(_) | DomainError::Undecodable | DomainError::TimedOut) => {
            false
        }
    }
}

fn compress(plain: &[u8]) -> Bytes {
    // Events are much alike: the fastest level makes a tenth of them, and a function's share of a processor is small.
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 8), Compression::fast());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("memory can be written to").into()
}

/// Logs what went wrong with a batch: each kind of refusal once, with a count and without what is in the documents.
fn tell(batch: &Batch, outcome: &Outcome) {
    let (documents, attempt) = (batch.len(), batch.attempt());
    match outcome {
        Outcome::Items(items) => {
            for (verdict, reason, refused) in kinds(items) {
                let what = match verdict {
                    Verdict::Done => continue,
                    Verdict::Retry => "the domain has no room for some documents",
                    Verdict::Degrade => "some documents do not fit into the index",
                    Verdict::Fail => "the domain refuses some documents",
                };
                tracing::warn!(documents, refused, attempt, reason, "{what}");
            }
        }
        Outcome::Retry(refusal) => tracing::warn!(documents, attempt, reason = %refusal, "a request is to be repeated"),
        Outcome::Halve(refusal) => tracing::info!(documents, reason = %refusal, "a request is to be split"),
        Outcome::Fail(refusal) => tracing::error!(documents, reason = %refusal, "a request is refused"),
    }
}

/// The kinds of refusals among `items` in the order of their first, each with its count.
fn kinds(items: &[Item]) -> Vec<(Verdict, String, usize)> {
    let mut kinds: Vec<(Verdict, String, usize)> = Vec::new();
    for refusal in items.iter().filter_map(|item| item.refusal.as_ref()) {
        let (verdict, reason) = (refusal.verdict(), refusal.to_string());
        match kinds.iter_mut().find(|(other, text, _)| (*other, text.as_str()) == (verdict, &reason)) {
            Some((_, _, count)) => *count += 1,
            None => kinds.push((verdict, reason, 1)),
        }
    }
    kinds
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

    #[test]
    fn the_last_try_is_before_the_deadline() {
        let now = Instant::now();
        let after = |seconds: u64| now + Duration::from_secs(seconds);
        let start = |backoff: u64| start(now, Duration::from_secs(backoff), after(6), after(8));
        assert_eq!([0, 5, 6, 7, 60].map(start), [0, 5, 6, 6, 6].map(|seconds| Some(after(seconds))));
        let late = |backoff: u64| super::start(after(7), Duration::from_secs(backoff), after(6), after(8));
        assert_eq!([late(0), late(1)], [Some(after(7)), None]);
    }

    #[test]
    fn gzip_is_given_up_after_three_failures_and_retried_later() {
        let now = Instant::now();
        let once = Gzip::Untried { refusals: 0 }.refused(false, now);
        assert_eq!(once, Gzip::Untried { refusals: 1 });
        let refused = once.refused(false, now).refused(false, now);
        assert_eq!(refused, Gzip::Refused { since: now });
        assert_eq!(once.refused(true, now), refused);
        assert!(!refused.is_worth_a_try(now) && refused.is_worth_a_try(now + GZIP_PAUSE));
        assert_eq!(Gzip::Accepted.refused(false, now), Gzip::Accepted);
    }

    #[test]
    fn each_kind_of_item_error_is_named_once_with_a_count() {
        let item = |status: u16, kind: &str, reason: &str| Item {
            id: None,
            refusal: (status != 201).then(|| Refusal {
                status,
                kind: kind.to_owned(),
                reason: reason.to_owned(),
                is_of_engine: true,
            }),
        };
        let items = [
            item(429, "es_rejected_execution_exception", "queue full"),
            item(400, "mapper_parsing_exception", "failed to parse [a]"),
            item(201, "", ""),
            item(400, "mapper_parsing_exception", "failed to parse [b]"),
            item(400, "mapper_parsing_exception", "failed to parse [a]"),
        ];
        let kinds: Vec<_> = kinds(&items).into_iter().map(|(_, reason, count)| (reason, count)).collect();
        let named = |reason: &str, count| (reason.to_owned(), count);
        assert_eq!(
            kinds,
            [
                named("429 es_rejected_execution_exception queue full", 1),
                named("400 mapper_parsing_exception a", 2),
                named("400 mapper_parsing_exception b", 1),
            ]
        );
    }
}
