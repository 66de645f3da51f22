//! What is in a file: CloudTrail records, in whatever they are wrapped.

use std::io::Read as _;

use flate2::read::MultiGzDecoder;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::document::identity::Identity;
use crate::payload::{self, Invocation, LogBatch, LogEvent, PayloadError};

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Log events: those of CloudTrail's log files and Insights files, and what CloudWatch Logs wraps.
    Events(Vec<LogBatch>),
    /// A digest, by which CloudTrail's files are validated. It holds no events.
    Digest,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ContentError {
    /// It is compressed, and broken.
    #[error("is broken gzip data")]
    Gzip(#[source] std::io::Error),
    /// It is larger than any file that CloudTrail writes.
    #[error("holds more than {MAX_BYTES} bytes")]
    TooLarge,
    /// It is JSON, but not of a kind that holds events.
    #[error("is no CloudTrail file: it has neither Records nor the payload of a subscription")]
    Unknown,
    /// It is no JSON.
    #[error("is no JSON")]
    Json(#[from] serde_json::Error),
    /// It is what CloudWatch Logs sends, and broken.
    #[error("is a broken payload")]
    Payload(#[from] PayloadError),
}

/// Reads the bytes of the file `name`, which may be compressed.
pub fn read(name: &str, bytes: &[u8], now: Timestamp) -> Result<Content, ContentError> {
    let bytes = &plain(bytes)?[..];
    match serde_json::from_slice::<File<'_>>(bytes) {
        Ok(File { digest_s3_bucket: Some(_), .. }) => Ok(Content::Digest),
        Ok(File { awslogs: Some(_), .. }) => match payload::decode(bytes, now)? {
            Invocation::Subscription(batch) => Ok(Content::Events(vec![batch])),
            Invocation::Kinesis(records) | Invocation::Redrive(records) => {
                let batches = records.into_iter().map(|record| record.batch);
                Ok(Content::Events(batches.collect::<Result<_, _>>()?))
            }
        },
        Ok(File { log_events: Some(_), .. }) => Ok(Content::Events(vec![payload::decode_delivery(bytes, now)?])),
        Ok(File { records: Some(records), .. }) => Ok(Content::Events(batches(name, &records))),
        Ok(File { event_id: Some(_), .. }) | Err(_) => lines(name, bytes),
        Ok(_) => Err(ContentError::Unknown),
    }
}

/// The keys that tell the kinds of files apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(borrow, rename = "Records")]
    records: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    awslogs: Option<&'a RawValue>,
    #[serde(borrow)]
    log_events: Option<&'a RawValue>,
    #[serde(borrow)]
    digest_s3_bucket: Option<&'a RawValue>,
    #[serde(borrow, rename = "eventID")]
    event_id: Option<&'a RawValue>,
}

/// One record a line.
fn lines(name: &str, bytes: &[u8]) -> Result<Content, ContentError> {
    let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let records = lines.map(serde_json::from_slice::<&RawValue>).collect::<Result<Vec<_>, _>>()?;
    Ok(Content::Events(batches(name, &records)))
}

/// The records as CloudWatch Logs would have sent them, a batch for each account. A record's own id is its event's, so
/// that to load a file twice is to load it once.
fn batches(name: &str, records: &[&RawValue]) -> Vec<LogBatch> {
    let mut batches: Vec<LogBatch> = Vec::new();
    for record in records {
        let text = record.get();
        let Identity { id, timestamp, account: owner } = Identity::of(text);
        let event = LogEvent { id, timestamp, message: text.to_owned(), extracted_fields: Vec::new() };
        match batches.iter_mut().find(|batch| batch.owner == owner) {
            Some(batch) => batch.events.push(event),
            None => batches.push(LogBatch {
                owner,
                log_group: LOG_GROUP.to_owned(),
                log_stream: name.to_owned(),
                events: vec![event],
            }),
        }
    }
    batches
}

fn plain(bytes: &[u8]) -> Result<Vec<u8>, ContentError> {
    if !bytes.starts_with(&GZIP_MAGIC) {
        return Ok(bytes.to_owned());
    }
    let mut plain = Vec::new();
    let limit = MAX_BYTES as u64 + 1;
    MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut plain).map_err(ContentError::Gzip)?;
    if plain.len() > MAX_BYTES { Err(ContentError::TooLarge) } else { Ok(plain) }
}

/// What stands in `@log_group` of events that came by no log group.
const LOG_GROUP: &str = "cloudtrail-files";
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// CloudTrail begins a new file long before this.
const MAX_BYTES: usize = 512 * 1024 * 1024;
