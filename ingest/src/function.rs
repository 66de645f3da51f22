//! One invocation of the function from the payload to the answer.

mod metrics;
pub mod reload;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::Instant;

pub use self::metrics::Measures;
use crate::delivery::{Delivery, DeliveryLimits, DeliveryReport};
use crate::document::{Document, DocumentOptions, build_degraded, build_document};
use crate::domain::Domain;
use crate::engine::Engine;
use crate::payload::{self, Invocation, LogBatch, LogEvent, PayloadError, Record};
use crate::settings::{Settings, SetupPlan};
use crate::setup::{SetupError, SetupResult, set_up_domain};

/// What lives from one invocation to the next.
#[derive(Debug)]
pub struct Function {
    domain: Arc<Domain>,
    delivery: Delivery,
    document_options: DocumentOptions,
    plan: SetupPlan,
    /// What the domain runs, once it has what it is to have.
    engine: OnceLock<Engine>,
}

/// What an invocation came to.
#[derive(Debug)]
pub struct Outcome {
    /// What is to be told to CloudWatch.
    pub measures: Measures,
    /// What is to be told to Lambda.
    pub answer: Result<Answer, InvocationError>,
}

/// The records that Lambda is to keep and send again: `{"batchItemFailures":[{"itemIdentifier":"…"}]}`.
///
/// Lambda heeds it where the event source mapping has `ReportBatchItemFailures`. Without events there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// One for each record.
    pub batch_item_failures: Vec<BatchItemFailure>,
}

/// A record that Lambda is to keep and send again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchItemFailure {
    /// The sequence number of a Kinesis record, the id of an SQS message.
    pub item_identifier: String,
}

/// Why an invocation failed as a whole. Lambda repeats it, and in the end hands it to the on-failure destination.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// There is nothing to index in what the function was called with, or it cannot be read.
    #[error("the payload cannot be read: {0}")]
    Payload(#[from] PayloadError),
    /// Some events are not in the index as far as is known.
    #[error("{failed} of {received} events are not in the index; the first of them: {reason}")]
    NotIndexed {
        /// How many.
        failed: usize,
        /// Out of how many.
        received: usize,
        /// Why the first of them is not.
        reason: String,
    },
}

/// How an invocation is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Granularity {
    /// It succeeds or fails as a whole.
    Whole,
    /// Each record succeeds or fails.
    Records,
}

/// An event where it was found.
struct Found<'a> {
    record: usize,
    batch: &'a LogBatch,
    event: &'a LogEvent,
}

impl Function {
    /// The function that `settings` describe, in front of `domain`.
    #[must_use]
    pub fn new(settings: &Settings, domain: Arc<Domain>, limits: DeliveryLimits) -> Self {
        Self {
            delivery: Delivery::new(Arc::clone(&domain), limits, settings.gzip),
            domain,
            document_options: settings.document_options.clone(),
            plan: settings.plan.clone(),
            engine: OnceLock::new(),
        }
    }

    /// Brings all events of `payload` into the index, or says which are not there; `now` is the time of day.
    pub async fn invoke(&self, payload: &[u8], deadline: Instant, now: Timestamp) -> Outcome {
        let (records, granularity) = match payload::decode(payload, now) {
            Ok(Invocation::Subscription(batch)) => {
                (vec![Record { id: String::new(), batch: Ok(batch) }], Granularity::Whole)
            }
            Ok(Invocation::Kinesis(records) | Invocation::Redrive(records)) => (records, Granularity::Records),
            Err(error) => {
                return Outcome {
                    measures: Measures { undecodable: 1, ..Measures::default() },
                    answer: Err(error.into()),
                };
            }
        };
        let undecodable = records.iter().filter_map(|record| record.batch.as_ref().err()).inspect(|error| {
            tracing::error!(%error, "a record cannot be read");
        });
        let undecodable = undecodable.count();
        let events = events(&records);
        let (report, oldest) = self.deliver(&events, deadline).await;
        Outcome {
            measures: Measures::new(&report, undecodable, oldest, now),
            answer: answer(&records, &events, &report, granularity),
        }
    }

    /// Sends the documents of `events`, and returns what became of them and the time of the oldest event.
    async fn deliver(&self, events: &[Found<'_>], deadline: Instant) -> (DeliveryReport, Option<Timestamp>) {
        // CloudWatch calls the function without events when a subscription is made.
        if events.is_empty() {
            return (DeliveryReport::default(), None);
        }
        let engine = self.prepare(deadline).await;
        let documents: Vec<Document> =
            events.iter().map(|found| build_document(found.batch, found.event, &self.document_options)).collect();
        let oldest = oldest(&documents, events);
        let degrade = |index: usize, reason: &str| {
            let Found { batch, event, .. } = events[index];
            build_degraded(batch, event, &self.document_options, reason)
        };
        let report = self.delivery.deliver(documents, &degrade, engine.document_type(), deadline).await;
        (report, oldest)
    }

    /// Gives the domain its index template before the first document, and tries again next time where that went wrong:
    /// events without a template are better than none.
    async fn prepare(&self, deadline: Instant) -> Engine {
        if let Some(engine) = self.engine.get() {
            return *engine;
        }
        // Of the time that there is, most belongs to the events: template and policy cost eight requests at the most.
        let timeout = deadline.saturating_duration_since(Instant::now()) / 20;
        let setup = set_up_domain(&self.domain, &self.plan, timeout.min(SETUP_TIMEOUT)).await;
        log_setup(&setup);
        let is_settled = setup.template.is_ok()
            && matches!(setup.retention, None | Some(Ok(_) | Err(SetupError::NoStateManagement(_))));
        if is_settled { *self.engine.get_or_init(|| setup.engine) } else { setup.engine }
    }
}

impl InvocationError {
    /// The error's name: `errorType` of what Lambda passes on.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Payload(_) => "Payload",
            Self::NotIndexed { .. } => "NotIndexed",
        }
    }
}

fn events(records: &[Record]) -> Vec<Found<'_>> {
    let batches =
        records.iter().enumerate().filter_map(|(record, Record { batch, .. })| Some((record, batch.as_ref().ok()?)));
    batches.flat_map(|(record, batch)| batch.events.iter().map(move |event| Found { record, batch, event })).collect()
}

fn answer(
    records: &[Record],
    events: &[Found<'_>],
    report: &DeliveryReport,
    granularity: Granularity,
) -> Result<Answer, InvocationError> {
    if granularity == Granularity::Whole {
        return match report.failed.first() {
            None => Ok(Answer::default()),
            Some(first) => Err(InvocationError::NotIndexed {
                failed: report.failed.len(),
                received: report.received,
                reason: first.reason.clone(),
            }),
        };
    }
    // A record that cannot be read counts as failed, too, though a stream stops at it: the event source mapping says how
    // often it is repeated before it goes to the on-failure destination, where it can be looked at. Here it would be gone.
    let mut has_failed: Vec<bool> = records.iter().map(|record| record.batch.is_err()).collect();
    for failure in &report.failed {
        has_failed[events[failure.document].record] = true;
    }
    if let Some(first) = report.failed.first() {
        tracing::error!(
            failed = report.failed.len(),
            received = report.received,
            first = first.reason,
            "events failed"
        );
    }
    let mut answer = Answer::default();
    for (record, _) in records.iter().zip(has_failed).filter(|(_, has_failed)| *has_failed) {
        let failure = BatchItemFailure { item_identifier: record.id.clone() };
        // A message of several records has failed once.
        if answer.batch_item_failures.last() != Some(&failure) {
            answer.batch_item_failures.push(failure);
        }
    }
    Ok(answer)
}

/// Returns the time of the oldest event, by its own record, or else by its log event.
fn oldest(documents: &[Document], events: &[Found<'_>]) -> Option<Timestamp> {
    let logged = |event: &LogEvent| Timestamp::from_millisecond(event.timestamp).ok();
    let times =
        documents.iter().zip(events).map(|(document, found)| document.event_time.or_else(|| logged(found.event)));
    times.flatten().min()
}

fn log_setup(setup: &SetupResult) {
    let engine = setup.engine;
    match &setup.template {
        Ok(template) => tracing::info!(%engine, %template, "the index template is there"),
        Err(error) => tracing::error!(%engine, %error, "no index template: the engine guesses the mapping"),
    }
    match &setup.retention {
        None => {}
        Some(Ok(policy)) => tracing::info!(%engine, %policy, "the retention policy is there"),
        Some(Err(error)) => {
            tracing::error!(%engine, %error, "no retention policy for all indices: some may stay for ever");
        }
    }
}

/// How long each request may take that the index template costs.
const SETUP_TIMEOUT: Duration = Duration::from_secs(5);
