//! What Lambda is called with: CloudWatch Logs subscription data, by itself, in Kinesis records, or in SQS messages.

mod batch;
mod gunzip;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::json::string_content;
use crate::json::text::unescape;

/// The log events of one CloudWatch Logs delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// The account that the events are from.
    pub owner: String,
    /// The log group.
    pub log_group: String,
    /// The log stream.
    pub log_stream: String,
    /// The events, in order.
    pub events: Vec<LogEvent>,
}

/// One log event: for CloudTrail, one API call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// CloudWatch's id of the event.
    pub id: String,
    /// Milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// What was logged; for CloudTrail, a JSON object.
    pub message: String,
    /// The fields that a subscription filter's pattern cut out of the message, in order, if it has one.
    pub extracted_fields: Vec<(String, String)>,
}

/// What the function was called with.
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
    /// What Lambda knows it by in `batchItemFailures`.
    ///
    /// A message that holds Kinesis records gives several of the same id, and failed if one of them did.
    pub id: String,
    /// The batch, or why there is none.
    pub batch: Result<LogBatch, PayloadError>,
}

/// Why a payload has no log events to give.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It is not JSON, or not of the shape that it should have.
    // Without serde's own words, which can quote what stands there: this goes into logs.
    #[error("cannot be read as JSON: {} at line {}, column {}", kind(.0), .0.line(), .0.column())]
    Json(#[from] serde_json::Error),
    /// The data is not base64.
    #[error("the data is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The data is not gzip, or breaks off.
    #[error("the data cannot be decompressed: {0}")]
    Gzip(#[from] std::io::Error),
    /// The data is longer than any delivery, once decompressed.
    #[error("the data is more than {MAX_DECOMPRESSED} bytes when decompressed")]
    TooLarge,
    /// It is JSON, but of no service that is known here.
    #[error("neither log data nor records of Kinesis or SQS that hold log data")]
    Unknown,
}

fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        Category::Io => "unreadable",
        Category::Syntax => "malformed",
        Category::Data => "of another shape",
        Category::Eof => "cut off",
    }
}

/// What a delivery may be after decompression.
///
/// Lambda takes 1 MiB at most in an asynchronous call, a Kinesis record may have 10 MiB, and CloudTrail's events shrink
/// to a tenth: real deliveries are far below this, and the function's memory is above it.
pub const MAX_DECOMPRESSED: usize = 64 * 1024 * 1024;

/// The last millisecond that [`Timestamp`] takes, some hours before the end of 9999: engines go further.
pub(crate) const MAX_TIMESTAMP: i64 = 253_402_207_200_000;

/// Reads what the function was called with at `now`.
///
/// An event whose timestamp is no time is given that of the event before it in its batch, or of the next one, or `now`:
/// the first two are the same on every retry, and so is then the index that the event goes to.
pub fn decode(payload: &[u8], now: Timestamp) -> Result<Invocation, PayloadError> {
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

/// Reads one delivery of CloudWatch Logs as it is without gzip and base64; see [`decode`] for `now`.
pub fn decode_delivery(json: &[u8], now: Timestamp) -> Result<LogBatch, PayloadError> {
    batch::read(json, now)
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
        let batches = message.body.map_or(Err(PayloadError::Unknown), |body| batches(&said(body), now));
        match batches {
            Ok(batches) => records.extend(batches.into_iter().map(|batch| Record { id: id.to_owned(), batch })),
            Err(error) => records.push(Record { id: id.to_owned(), batch: Err(error) }),
        }
    }
    Ok(records)
}

/// The batches of a message: an invocation's payload as a dead-letter queue has it, or within the record of the
/// invocation that an on-failure destination has.
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

/// A batch as it travels: JSON, in gzip, in base64.
fn batch(data: &RawValue, now: Timestamp) -> Result<LogBatch, PayloadError> {
    decode_delivery(&gunzip::gunzip(&decode_base64(data)?, MAX_DECOMPRESSED)?, now)
}

/// Decodes one delivery of CloudWatch Logs from its `data`; see [`decode`] for `now`.
pub(crate) fn decode_data(data: &RawValue, now: Timestamp) -> Result<LogBatch, PayloadError> {
    batch(data, now)
}

/// Decodes what a string says in base64.
pub(crate) fn decode_base64(data: &RawValue) -> Result<Vec<u8>, PayloadError> {
    Ok(BASE64.decode(said(data).as_bytes())?)
}

/// Decompresses what is in gzip, and returns what is not as it is.
pub(crate) fn decompress(bytes: Vec<u8>) -> Result<Vec<u8>, PayloadError> {
    if gunzip::is_gzip(&bytes) { gunzip::gunzip(&bytes, MAX_DECOMPRESSED) } else { Ok(bytes) }
}

/// What a string of JSON says, and any other value as it is written; nothing for `null`.
pub(crate) fn said(value: &RawValue) -> Cow<'_, str> {
    match string_content(value.get()) {
        Some(inside) => unescape(inside),
        None if value.get() == "null" => Cow::Borrowed(""),
        None => Cow::Borrowed(value.get()),
    }
}

/// Everything that the function may be called with: each key is of one kind of event only.
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

/// Standard, and lenient where nothing is lost: without padding too, as some tools that make test events write it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
