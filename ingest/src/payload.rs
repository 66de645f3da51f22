//! Decodes the payload of an invocation: data of a CloudWatch Logs subscription, by itself, in Kinesis records, or in
//! SQS messages.

mod delivery;
mod error;
mod gunzip;
mod log_batch;

pub use self::error::{MAX_DECOMPRESSED, PayloadError};
pub(crate) use self::log_batch::MAX_TIMESTAMP;
pub use self::log_batch::{LogBatch, LogEvent};

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::text::scalar_text;

/// A decoded payload.
#[derive(Debug)]
pub enum Invocation {
    /// By CloudWatch Logs itself: it succeeds or fails as a whole.
    Subscription(LogBatch),
    /// By a Kinesis stream: each record succeeds or fails under its sequence number.
    Kinesis(Vec<Record>),
    /// By an SQS queue of invocations that failed before: each message succeeds or fails under its id.
    Redrive(Vec<Record>),
}

/// One batch out of several, each with a name of its own.
#[derive(Debug)]
pub struct Record {
    /// Its id in `batchItemFailures`.
    ///
    /// A message with several Kinesis records yields several records of the same id. It fails if one of them does.
    pub id: String,
    /// The batch, or why there is none.
    pub batch: Result<LogBatch, PayloadError>,
}

/// Decodes the payload of an invocation at `now`.
///
/// An event whose timestamp is invalid gets that of the event before it in its batch, else that of the next one, else
/// `now`. The first two are the same on every retry, so the event's index is the same, too.
pub fn decode_payload(payload: &[u8], now: Timestamp) -> Result<Invocation, PayloadError> {
    let event: Event<'_> = serde_json::from_slice(payload)?;
    if let Some(logs) = event.awslogs {
        return Ok(Invocation::Subscription(batch(logs.data, now)?));
    }
    let records = event.records.ok_or(PayloadError::Unknown)?;
    if records.iter().any(|record| record.body.is_some()) {
        return Ok(Invocation::Redrive(redrive(&records, now)?));
    }
    Ok(Invocation::Kinesis(kinesis(&records, now)?))
}

/// Parses one delivery of CloudWatch Logs, without gzip and base64; see [`decode_payload`] for `now`.
pub fn decode_delivery(json: &[u8], now: Timestamp) -> Result<LogBatch, PayloadError> {
    delivery::read(json, now)
}

fn kinesis(records: &[EventRecord<'_>], now: Timestamp) -> Result<Vec<Record>, PayloadError> {
    let record = |record: &EventRecord<'_>| {
        let kinesis = record.kinesis.as_ref().ok_or(PayloadError::Unknown)?;
        let id = kinesis.sequence_number.as_deref().ok_or(PayloadError::Unknown)?.to_owned();
        Ok(Record { id, batch: batch(kinesis.data, now) })
    };
    records.iter().map(record).collect()
}

fn redrive(messages: &[EventRecord<'_>], now: Timestamp) -> Result<Vec<Record>, PayloadError> {
    let mut records = Vec::with_capacity(messages.len());
    for message in messages {
        let id = message.message_id.as_deref().ok_or(PayloadError::Unknown)?;
        let batches = message.body.map_or(Err(PayloadError::Unknown), |body| batches(&scalar_text(body), now));
        match batches {
            Ok(batches) => records.extend(batches.into_iter().map(|batch| Record { id: id.to_owned(), batch })),
            Err(error) => records.push(Record { id: id.to_owned(), batch: Err(error) }),
        }
    }
    Ok(records)
}

/// Decodes the batches of a message: an invocation's payload as a dead letter queue holds it, or within the record that
/// an on-failure destination gets of the invocation.
fn batches(body: &str, now: Timestamp) -> Result<Vec<Result<LogBatch, PayloadError>>, PayloadError> {
    let mut event: Event<'_> = serde_json::from_str(body)?;
    if let Some(payload) = event.request_payload {
        event = serde_json::from_str(payload.get())?;
    }
    match (event.awslogs, event.records) {
        (Some(logs), _) => Ok(vec![batch(logs.data, now)]),
        (None, Some(records)) => Ok(kinesis(&records, now)?.into_iter().map(|record| record.batch).collect()),
        (None, None) => Err(PayloadError::Unknown),
    }
}

/// Decodes a batch in its transport form: JSON, in gzip, in base64.
fn batch(data: &RawValue, now: Timestamp) -> Result<LogBatch, PayloadError> {
    decode_delivery(&gunzip::gunzip(&decode_base64(data)?, MAX_DECOMPRESSED)?, now)
}

/// Decodes one delivery of CloudWatch Logs from its `data`; see [`decode_payload`] for `now`.
pub(crate) fn decode_data(data: &RawValue, now: Timestamp) -> Result<LogBatch, PayloadError> {
    batch(data, now)
}

/// Decodes a string in base64.
pub(crate) fn decode_base64(data: &RawValue) -> Result<Vec<u8>, PayloadError> {
    Ok(BASE64.decode(scalar_text(data).as_bytes())?)
}

/// Decompresses gzip, and returns all else unchanged.
pub(crate) fn decompress(bytes: Vec<u8>) -> Result<Vec<u8>, PayloadError> {
    if gunzip::is_gzip(&bytes) { gunzip::gunzip(&bytes, MAX_DECOMPRESSED) } else { Ok(bytes) }
}

/// The members of all events that may invoke the function: each key belongs to one kind of event only.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    awslogs: Option<LogData<'a>>,
    #[serde(borrow, rename = "Records")]
    records: Option<Vec<EventRecord<'a>>>,
    #[serde(borrow, rename = "requestPayload")]
    request_payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventRecord<'a> {
    #[serde(borrow)]
    kinesis: Option<KinesisRecord<'a>>,
    #[serde(borrow)]
    message_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KinesisRecord<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    sequence_number: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct LogData<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Standard base64, also without padding, which some tools for test events omit.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
