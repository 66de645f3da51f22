//! One invocation of the Lambda function, from its payload to its response.

mod metrics;
pub mod reload;
pub mod verification;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

pub use self::metrics::InvocationMetrics;
use crate::delivery::{Delivery, DeliveryLimits, DeliveryReport};
use crate::document::access_line::{self, GateLine};
use crate::document::{Document, DocumentOptions, build_degraded, build_document};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::payload::{self, Invocation, LogBatch, LogEvent, PayloadError, Record};
use crate::settings::{Settings, SetupPlan};
use crate::setup::{SetupError, SetupResult, set_up_domain};

/// The state of the function from one invocation to the next.
#[derive(Debug)]
pub struct Function {
    domain: Arc<Domain>,
    delivery: Delivery,
    document_options: DocumentOptions,
    plan: SetupPlan,
    /// The plan for access lines, if they are indexed.
    access_log_plan: Option<SetupPlan>,
    /// The domain's engine, once the domain is set up.
    engine: OnceLock<Engine>,
}

/// The result of an invocation.
#[derive(Debug)]
pub struct InvocationOutcome {
    /// The metrics for CloudWatch.
    pub metrics: InvocationMetrics,
    /// The response for Lambda.
    pub response: Result<BatchResponse, InvocationError>,
}

/// The records that Lambda must keep and send again: `{"batchItemFailures":[{"itemIdentifier":"…"}]}`.
///
/// Lambda reads it where the event source mapping has `ReportBatchItemFailures`. Without events there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchResponse {
    /// One for each record.
    pub batch_item_failures: Vec<BatchItemFailure>,
}

/// A record that Lambda must keep and send again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// The sequence number of a Kinesis record, the id of an SQS message.
    pub item_identifier: String,
}

/// The reason why an invocation failed as a whole. Lambda retries it, then sends it to the dead letter queue and the
/// on-failure destination.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// The payload cannot be read, or has nothing to index.
    #[error("cannot read the payload: {0}")]
    Payload(#[from] PayloadError),
    /// Some events are not in the index as far as is known.
    #[error("{failed} of {received} events not indexed; first reason: {reason}")]
    NotIndexed {
        /// The number of these events.
        failed: usize,
        /// The number of all events.
        received: usize,
        /// The reason of the first of them.
        reason: String,
    },
}

/// The unit that succeeds or fails in an invocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Granularity {
    /// The invocation as a whole.
    Whole,
    /// Each record by itself.
    Records,
}

/// An event, its batch, and the number of its record.
struct EventRef<'a> {
    record: usize,
    batch: &'a LogBatch,
    event: &'a LogEvent,
}

impl Function {
    /// Creates the function that `settings` describe, which writes to `domain`.
    #[must_use]
    pub fn new(settings: &Settings, domain: Arc<Domain>, limits: DeliveryLimits) -> Self {
        Self {
            delivery: Delivery::new(Arc::clone(&domain), limits, settings.gzip),
            domain,
            document_options: settings.document_options.clone(),
            plan: settings.plan.clone(),
            access_log_plan: settings.document_options.access_log.then(|| settings.plan.for_access_log()),
            engine: OnceLock::new(),
        }
    }

    /// Indexes all events of `payload`, and reports those that are not in the index; `now` is the time of day.
    pub async fn invoke(&self, payload: &[u8], deadline: Instant, now: Timestamp) -> InvocationOutcome {
        let (records, granularity) = match payload::decode_payload(payload, now) {
            Ok(Invocation::Subscription(batch)) => {
                (vec![Record { id: String::new(), batch: Ok(batch) }], Granularity::Whole)
            }
            Ok(Invocation::Kinesis(records) | Invocation::Redrive(records)) => (records, Granularity::Records),
            Err(error) => {
                return InvocationOutcome {
                    metrics: InvocationMetrics { undecodable: 1, ..InvocationMetrics::default() },
                    response: Err(error.into()),
                };
            }
        };
        let undecodable = records.iter().filter_map(|record| record.batch.as_ref().err()).inspect(|error| {
            tracing::error!(%error, "cannot read a record");
        });
        let undecodable = undecodable.count();
        let mut events = collect_events(&records);
        let all = events.len();
        events.retain(|found| match access_line::classify(&found.event.message) {
            None => true,
            Some(GateLine::Access) => self.access_log_plan.is_some(),
            Some(GateLine::Event) => false,
        });
        let passed_over = all - events.len();
        if passed_over > 0 {
            tracing::info!(lines = passed_over, "skipped lines of trailgate's log");
        }
        let (report, oldest) = self.deliver(&events, deadline).await;
        InvocationOutcome {
            metrics: InvocationMetrics { passed_over, ..InvocationMetrics::new(&report, undecodable, oldest, now) },
            response: build_response(&records, &events, &report, granularity),
        }
    }

    /// Sends the documents of `events`, and returns the result and the time of the oldest event.
    async fn deliver(&self, events: &[EventRef<'_>], deadline: Instant) -> (DeliveryReport, Option<Timestamp>) {
        // CloudWatch invokes the function without events when a subscription is created.
        if events.is_empty() {
            return (DeliveryReport::default(), None);
        }
        let engine = self.set_up_domain(deadline).await;
        let (mut report, mut oldest) = (DeliveryReport::default(), None);
        let mut left = events;
        while !left.is_empty() {
            let window = left.split_off(..window_length(left)).expect("the window is a part of what is left");
            let documents: Vec<Document> =
                window.iter().map(|found| build_document(found.batch, found.event, &self.document_options)).collect();
            oldest = [oldest, oldest_time(&documents, window)].into_iter().flatten().min();
            let degrade = |index: usize, reason: &str| {
                let EventRef { batch, event, .. } = window[index];
                build_degraded(batch, event, &self.document_options, reason)
            };
            report.append(self.delivery.deliver(documents, &degrade, engine.document_type(), deadline).await);
        }
        (report, oldest)
    }

    /// Installs the index template before the first document, and tries again at the next invocation if that failed:
    /// events without a template are better than none.
    async fn set_up_domain(&self, deadline: Instant) -> Engine {
        if let Some(engine) = self.engine.get() {
            return *engine;
        }
        // Most of the time belongs to the events: template and policy cost eight requests at most.
        let timeout = deadline.saturating_duration_since(Instant::now()) / 20;
        let setup = set_up_domain(&self.domain, &self.plan, timeout.min(SETUP_TIMEOUT)).await;
        log_setup(&setup);
        let mut is_settled = setup.template.is_ok()
            && matches!(setup.retention, None | Some(Ok(_) | Err(SetupError::NoStateManagement(_))));
        if let Some(plan) = &self.access_log_plan {
            let setup = set_up_domain(&self.domain, plan, timeout.min(SETUP_TIMEOUT)).await;
            log_setup(&setup);
            is_settled &= setup.template.is_ok();
        }
        if is_settled { *self.engine.get_or_init(|| setup.engine) } else { setup.engine }
    }
}

impl InvocationError {
    /// Returns the error's name, which Lambda passes on as `errorType`.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Payload(_) => "Payload",
            Self::NotIndexed { .. } => "NotIndexed",
        }
    }
}

/// Returns the number of events, at least one, that become documents together. A payload holds 1 MiB in gzip, which can
/// be hundreds of thousands of small events, and a document takes several times the memory of a small event.
fn window_length(events: &[EventRef<'_>]) -> usize {
    let mut bytes = 0;
    let fits = events.iter().take_while(|found| {
        bytes += found.event.message.len() + DOCUMENT_OVERHEAD;
        bytes <= WINDOW_BYTES
    });
    fits.count().max(1)
}

/// Bytes of the events that become documents together: enough for all requests in flight.
const WINDOW_BYTES: usize = 32 * 1024 * 1024;
/// Approximate bytes of a document in addition to its message.
const DOCUMENT_OVERHEAD: usize = 1024;

fn collect_events(records: &[Record]) -> Vec<EventRef<'_>> {
    let batches =
        records.iter().enumerate().filter_map(|(record, Record { batch, .. })| Some((record, batch.as_ref().ok()?)));
    batches
        .flat_map(|(record, batch)| batch.events.iter().map(move |event| EventRef { record, batch, event }))
        .collect()
}

fn build_response(
    records: &[Record],
    events: &[EventRef<'_>],
    report: &DeliveryReport,
    granularity: Granularity,
) -> Result<BatchResponse, InvocationError> {
    if granularity == Granularity::Whole {
        return match report.failed.first() {
            None => Ok(BatchResponse::default()),
            Some(first) => Err(InvocationError::NotIndexed {
                failed: report.failed.len(),
                received: report.received,
                reason: first.reason.clone(),
            }),
        };
    }
    // A record that cannot be read counts as failed, too, although it stops a stream: the event source mapping limits
    // the retries, and the on-failure destination then keeps it. Success would lose it.
    let mut has_failed: Vec<bool> = records.iter().map(|record| record.batch.is_err()).collect();
    for failure in &report.failed {
        has_failed[events[failure.document].record] = true;
    }
    if let Some(first) = report.failed.first() {
        tracing::error!(
            failed = report.failed.len(),
            received = report.received,
            first = first.reason,
            "events not indexed"
        );
    }
    let mut response = BatchResponse::default();
    for (record, _) in records.iter().zip(has_failed).filter(|(_, has_failed)| *has_failed) {
        let failure = BatchItemFailure { item_identifier: record.id.clone() };
        // A message of several records has failed once.
        if response.batch_item_failures.last() != Some(&failure) {
            response.batch_item_failures.push(failure);
        }
    }
    Ok(response)
}

/// Returns the time of the oldest event, by its own record, or else by its log event.
fn oldest_time(documents: &[Document], events: &[EventRef<'_>]) -> Option<Timestamp> {
    let logged = |event: &LogEvent| Timestamp::from_millisecond(event.timestamp).ok();
    let times =
        documents.iter().zip(events).map(|(document, found)| document.event_time.or_else(|| logged(found.event)));
    times.flatten().min()
}

fn log_setup(setup: &SetupResult) {
    let engine = setup.engine;
    match &setup.template {
        Ok(template) => tracing::info!(%engine, %template, "index template in place"),
        Err(error) => {
            tracing::error!(%engine, %error, "cannot install the index template; the engine guesses the mapping");
        }
    }
    match &setup.retention {
        None => {}
        Some(Ok(policy)) => tracing::info!(%engine, %policy, "retention policy in place"),
        Some(Err(error)) => {
            tracing::error!(%engine, %error, "cannot apply the retention policy to all indices; some are not deleted");
        }
    }
}

/// The longest time for each request of the set-up.
const SETUP_TIMEOUT: Duration = Duration::from_secs(5);
