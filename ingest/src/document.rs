//! Builds the document of a log event.
//!
//! The document is the event's JSON, with each number as it is written, and the fields that the stock function of
//! CloudWatch's console adds to it: `@id`, `@timestamp`, `@message`, `@owner`, `@log_group` and `@log_stream`, in place
//! of fields of the event that have these names. Beyond the stock function there are the fields of [`extract`], `@lag`,
//! the seconds from CloudTrail's `eventTime` to `@timestamp`, `source.ip` where `sourceIPAddress` is an address and not
//! the name of a service, and `@aws` with the system fields of a subscription.
//!
//! A part that no engine can index as it is ([`fit`]), or that cannot be read ([`crate::json::repair`]), is left out,
//! and only that part; `@degraded` names it.

pub(crate) mod access_line;
pub(crate) mod extract;
mod fit;
pub(crate) mod identity;
mod members;
mod names;
mod record;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use self::access_line::AccessLine;
use self::fit::Fit;
use self::identity::{UNDATED, event_id, log_event_id, read_event_time};
use self::members::Written;
use self::names::LAG;
use self::record::{find_member, find_string, with_record};
use crate::json::Tape;
use crate::json::text::{write_field, write_key, write_string};
use crate::payload::{LogBatch, LogEvent, MAX_TIMESTAMP};

/// The document of one log event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The index, such as `cwl-2026.01.31`.
    pub index: String,
    /// The id; none where the domain accepts none (time-series collections).
    pub id: Option<String>,
    /// The document: one JSON object without line breaks.
    pub source: Bytes,
    /// True if it lacks a part of the event, which `@degraded` names.
    pub is_degraded: bool,
    /// The time of the event by its own record, if it has one.
    pub event_time: Option<Timestamp>,
}

/// The indices and ids of documents. The default is that of the stock function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DocumentOptions {
    /// The beginning of the names of indices, before the day.
    pub prefix: String,
    /// The source of the id.
    pub id: DocumentId,
    /// The source of the index's day.
    pub day: IndexDay,
    /// Set if access lines of trailgate are indexed. Otherwise they are passed over.
    pub access_log: bool,
}

impl Default for DocumentOptions {
    fn default() -> Self {
        Self { prefix: "cwl-".to_owned(), id: DocumentId::default(), day: IndexDay::default(), access_log: false }
    }
}

/// The source of a document's id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DocumentId {
    /// CloudWatch's id of the log event: one for each delivery by CloudTrail. A hash if it has none.
    #[default]
    LogEvent,
    /// CloudTrail's `eventID`, so that a record that comes twice is one document; that of the log event if it has none.
    EventId,
    /// None, for collections that accept none.
    None,
}

/// The source of the day in an index's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexDay {
    /// That of the log event's timestamp.
    #[default]
    LogTimestamp,
    /// That of CloudTrail's `eventTime`; of the log event's timestamp if it has none.
    EventTime,
}

/// Builds the document of `event`, which is of `batch`.
#[must_use]
pub fn build_document(batch: &LogBatch, event: &LogEvent, options: &DocumentOptions) -> Document {
    if let Some(line) = AccessLine::parse(&event.message) {
        return line.build(batch, &event.message, options, None);
    }
    with_record(&event.message, |record, flaw| {
        // The record, the message with its escapes, and the fields around them.
        let mut out = Vec::with_capacity(event.message.len() * 2 + event.message.len() / 4 + 1024);
        out.push(b'{');
        let mut written = Written::default();
        let has_pattern = event.extracted_fields.iter().any(|(key, value)| members::is_filter_field(key, value));
        // Like the stock function, uses the fields of a pattern that matched. One that did not match loses nothing
        // here.
        if has_pattern {
            members::write_extracted_fields(&mut out, &event.extracted_fields);
        } else if let Some(record) = record {
            written = members::write_record(&mut out, record);
        }
        let id = log_event_id(batch, event);
        let event_time = record.and_then(read_event_time);
        write_log_fields(&mut out, batch, event, &id);
        if let Some(event_time) = event_time {
            write_lag(&mut out, event_time, event);
        }
        if let Some(record) = record {
            write_promoted(&mut out, record);
            if let Some(address) = find_string(record, "sourceIPAddress").filter(|_| !written.has_source)
                && address.parse::<IpAddr>().is_ok()
            {
                out.extend_from_slice(b",\"source\":{\"ip\":");
                write_string(&mut out, &address);
                out.push(b'}');
            }
        }
        let mut reasons = written.left_out;
        if let Some(flaw) = flaw.filter(|_| !has_pattern) {
            reasons.insert(0, flaw.to_string());
        }
        if event.timestamp == UNDATED {
            reasons.push("the event has no time, and is dated 1970-01-01".to_owned());
        }
        let is_degraded = !reasons.is_empty();
        if is_degraded {
            write_field(&mut out, "@degraded", &extract::truncate(reasons.join("; ").into()));
        }
        out.push(b'}');
        finish_document(event, id, record, event_time, options, out, is_degraded)
    })
}

/// Builds the degraded document of `event` after the domain rejected the whole one for `reason`: only fields that every
/// mapping has in the same type, and the whole message to be searched as text.
#[must_use]
pub fn build_degraded(batch: &LogBatch, event: &LogEvent, options: &DocumentOptions, reason: &str) -> Document {
    if let Some(line) = AccessLine::parse(&event.message) {
        return line.build(batch, &event.message, options, Some(&extract::truncate(Cow::Borrowed(reason))));
    }
    with_record(&event.message, |record, _| {
        let mut out = Vec::with_capacity(event.message.len() + event.message.len() / 4 + 2048);
        out.push(b'{');
        for key in KEPT {
            let Some(node) = record.and_then(|record| find_member(record, key)) else { continue };
            match fit::check_member(key, node) {
                Fit::AsIs => {
                    if let Some(value) = node.as_string() {
                        write_field(&mut out, key, &extract::truncate(value));
                    }
                }
                Fit::Rewritten(json) => {
                    write_key(&mut out, key);
                    out.extend_from_slice(json.as_bytes());
                }
                Fit::LeftOut(_) => {}
            }
        }
        let id = log_event_id(batch, event);
        write_log_fields(&mut out, batch, event, &id);
        if let Some(record) = record {
            write_promoted(&mut out, record);
        }
        write_field(&mut out, "@degraded", &extract::truncate(Cow::Borrowed(reason)));
        out.push(b'}');
        finish_document(event, id, record, record.and_then(read_event_time), options, out, true)
    })
}

/// The members of the record that a degraded document keeps, where they are strings: keywords, and one date.
const KEPT: [&str; 9] = [
    "eventTime",
    "eventSource",
    "eventName",
    "awsRegion",
    "sourceIPAddress",
    "errorCode",
    "eventID",
    "eventType",
    "recipientAccountId",
];

fn write_log_fields(out: &mut Vec<u8>, batch: &LogBatch, event: &LogEvent, id: &str) {
    let time = utc(event.timestamp);
    let mut timestamp = String::with_capacity(24);
    let _ = write!(timestamp, "{time:.3}Z");
    write_field(out, "@id", id);
    write_field(out, "@timestamp", &timestamp);
    write_field(out, "@message", &event.message);
    write_field(out, "@owner", &batch.owner);
    write_field(out, "@log_group", &batch.log_group);
    write_field(out, "@log_stream", &batch.log_stream);
    members::write_system_fields(out, &event.extracted_fields);
}

/// Writes the lag by the event alone, so that it is the same when the event is delivered again.
fn write_lag(out: &mut Vec<u8>, event_time: Timestamp, event: &LogEvent) {
    let lag = event.timestamp.clamp(0, MAX_TIMESTAMP).saturating_sub(event_time.as_millisecond());
    write_key(out, LAG);
    out.extend_from_slice(lag.div_euclid(1000).to_string().as_bytes());
}

fn write_promoted(out: &mut Vec<u8>, record: &Tape<'_>) {
    let start = out.len();
    write_key(out, extract::OBJECT);
    if !extract::write_promoted_fields(record, out) {
        out.truncate(start);
    }
}

fn finish_document(
    event: &LogEvent,
    log_id: String,
    record: Option<&Tape<'_>>,
    event_time: Option<Timestamp>,
    options: &DocumentOptions,
    source: Vec<u8>,
    is_degraded: bool,
) -> Document {
    let id = match options.id {
        DocumentId::LogEvent => Some(log_id),
        DocumentId::EventId => Some(record.and_then(event_id).map_or(log_id, Cow::into_owned)),
        DocumentId::None => None,
    };
    let time = match options.day {
        IndexDay::LogTimestamp => None,
        IndexDay::EventTime => event_time.map(Timestamp::as_millisecond),
    };
    let index = index_name(&options.prefix, utc(time.unwrap_or(event.timestamp)).date());
    Document { index, id, source: source.into(), is_degraded, event_time }
}

fn index_name(prefix: &str, day: Date) -> String {
    let mut index = String::with_capacity(prefix.len() + 10);
    let _ = write!(index, "{prefix}{:04}.{:02}.{:02}", day.year(), day.month(), day.day());
    index
}

/// Returns the time in UTC, within the years that all engines accept.
fn utc(milliseconds: i64) -> DateTime {
    let time = Timestamp::from_millisecond(milliseconds.clamp(0, MAX_TIMESTAMP));
    Offset::UTC.to_datetime(time.unwrap_or(Timestamp::UNIX_EPOCH))
}
