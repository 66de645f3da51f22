//! A log event as a document.
//!
//! The document is the event's JSON, number for number as it was written, and what the stock function of CloudWatch's
//! console adds to it: `@id`, `@timestamp`, `@message`, `@owner`, `@log_group` and `@log_stream`, in place of fields of
//! the event that have these names. Beyond the stock function there are the fields of [`promote`], `@lag`, the seconds
//! from CloudTrail's `eventTime` to `@timestamp`, and `source.ip` where `sourceIPAddress` is an address and not the name
//! of a service.

mod members;
mod names;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use crate::json::Tape;
use crate::json::text::write_string;
use crate::payload::{LogBatch, LogEvent, MAX_TIMESTAMP};
use crate::promote;

/// The parts of a CloudTrail record that differ from call to call: stored, but not indexed.
pub const UNMAPPED: [&str; 4] = ["requestParameters", "responseElements", "additionalEventData", "serviceEventDetails"];

/// The field that says by how many seconds the log is behind the event.
pub(crate) const LAG: &str = "@lag";

/// What is sent to the index for one log event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The index, such as `cwl-2026.01.31`.
    pub index: String,
    /// The id; none where the domain takes none (time-series collections).
    pub id: Option<String>,
    /// The document: one JSON object without line breaks.
    pub source: Bytes,
}

/// Where documents go, and under which id. The default is what the stock function does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaping {
    /// What names of indices begin with, before the day.
    pub prefix: String,
    /// What becomes the id.
    pub id: DocumentId,
    /// Which day's index it is.
    pub day: IndexDay,
}

impl Default for Shaping {
    fn default() -> Self {
        Self { prefix: "cwl-".to_owned(), id: DocumentId::default(), day: IndexDay::default() }
    }
}

/// What becomes the id of a document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DocumentId {
    /// CloudWatch's id of the log event: one for each delivery by CloudTrail.
    #[default]
    LogEvent,
    /// CloudTrail's `eventID`, so that a record that comes twice is one document; that of the log event if it has none.
    EventId,
    /// None, for collections that take none.
    None,
}

/// Which day's index a document goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexDay {
    /// That of the log event's timestamp.
    #[default]
    LogTimestamp,
    /// That of CloudTrail's `eventTime`; of the log event's timestamp if it has none.
    EventTime,
}

/// The document of `event`, which is of `batch`.
#[must_use]
pub fn document(batch: &LogBatch, event: &LogEvent, shaping: &Shaping) -> Document {
    let record = record(&event.message);
    // The record, the message with its escapes, and the fields around them.
    let mut out = Vec::with_capacity(event.message.len() * 2 + event.message.len() / 4 + 1024);
    out.push(b'{');
    // A pattern that found something is what the stock function goes by; one that found nothing loses nothing here.
    let has_source = if event.extracted_fields.iter().any(|(_, value)| !value.is_empty()) {
        members::write_extracted(&mut out, &event.extracted_fields);
        false
    } else {
        record.as_ref().is_some_and(|record| members::write_record(&mut out, record))
    };
    write_log_fields(&mut out, batch, event);
    if let Some(record) = &record {
        write_lag(&mut out, record, event);
        write_promoted(&mut out, record);
        if let Some(address) = string(record, "sourceIPAddress").filter(|_| !has_source)
            && address.parse::<IpAddr>().is_ok()
        {
            out.extend_from_slice(b",\"source\":{\"ip\":");
            write_string(&mut out, &address);
            out.push(b'}');
        }
    }
    out.push(b'}');
    addressed(event, record.as_ref(), shaping, out)
}

/// What is left of the document of `event` when the domain has refused it for `reason`: only fields that no mapping
/// has in another type, and the whole message to be searched as text.
#[must_use]
pub fn degraded(batch: &LogBatch, event: &LogEvent, shaping: &Shaping, reason: &str) -> Document {
    let record = record(&event.message);
    let mut out = Vec::with_capacity(event.message.len() + event.message.len() / 4 + 2048);
    out.push(b'{');
    if let Some(record) = &record {
        for key in KEPT {
            let value = string(record, key).filter(|value| key != "eventTime" || value.parse::<Timestamp>().is_ok());
            if let Some(value) = value {
                write_field(&mut out, key, &promote::cut(value));
            }
        }
    }
    write_log_fields(&mut out, batch, event);
    if let Some(record) = &record {
        write_promoted(&mut out, record);
    }
    write_field(&mut out, "@degraded", &promote::cut(Cow::Borrowed(reason)));
    out.push(b'}');
    addressed(event, record.as_ref(), shaping, out)
}

/// What a degraded document keeps of the record, where it is a string: always keywords, and one date.
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

/// The JSON object that the message ends in, if it does: loggers like to put something before it.
fn record(message: &str) -> Option<Tape<'_>> {
    Tape::parse(&message[message.find('{')?..]).ok()
}

/// The last member of `record` that has the key, if it is a string.
fn string<'a>(record: &Tape<'a>, key: &str) -> Option<Cow<'a, str>> {
    record.members().filter(|(_, node)| node.key == key).last()?.1.as_string()
}

fn event_time(record: &Tape<'_>) -> Option<Timestamp> {
    string(record, "eventTime")?.parse().ok()
}

fn write_log_fields(out: &mut Vec<u8>, batch: &LogBatch, event: &LogEvent) {
    let time = utc(event.timestamp);
    let mut timestamp = String::with_capacity(24);
    let _ = write!(timestamp, "{time:.3}Z");
    write_field(out, "@id", &event.id);
    write_field(out, "@timestamp", &timestamp);
    write_field(out, "@message", &event.message);
    write_field(out, "@owner", &batch.owner);
    write_field(out, "@log_group", &batch.log_group);
    write_field(out, "@log_stream", &batch.log_stream);
}

/// By the event alone, so that it says the same when the event comes once more.
fn write_lag(out: &mut Vec<u8>, record: &Tape<'_>, event: &LogEvent) {
    if let Some(happened) = event_time(record) {
        let lag = event.timestamp.clamp(0, MAX_TIMESTAMP).saturating_sub(happened.as_millisecond());
        write_key(out, LAG);
        out.extend_from_slice(lag.div_euclid(1000).to_string().as_bytes());
    }
}

fn write_promoted(out: &mut Vec<u8>, record: &Tape<'_>) {
    let start = out.len();
    write_key(out, promote::OBJECT);
    if !promote::write_object(record, out) {
        out.truncate(start);
    }
}

fn write_field(out: &mut Vec<u8>, key: &str, value: &str) {
    write_key(out, key);
    write_string(out, value);
}

fn write_key(out: &mut Vec<u8>, key: &str) {
    if !out.ends_with(b"{") {
        out.push(b',');
    }
    write_string(out, key);
    out.push(b':');
}

fn addressed(event: &LogEvent, record: Option<&Tape<'_>>, shaping: &Shaping, source: Vec<u8>) -> Document {
    let log_id = || Some(event.id.clone());
    let id = match shaping.id {
        DocumentId::LogEvent => log_id(),
        DocumentId::EventId => record
            .and_then(|record| string(record, "eventID"))
            .filter(|id| is_id(id))
            .map_or_else(log_id, |id| Some(id.into_owned())),
        DocumentId::None => None,
    };
    let event_day = || Some(utc(event_time(record?)?.as_millisecond()).date());
    let day = match shaping.day {
        IndexDay::LogTimestamp => None,
        IndexDay::EventTime => event_day(),
    };
    let index = index(&shaping.prefix, day.unwrap_or_else(|| utc(event.timestamp).date()));
    Document { index, id: id.filter(|id| is_id(id)), source: source.into() }
}

/// Engines refuse other ids; without one they make one themselves.
fn is_id(id: &str) -> bool {
    (1..=512).contains(&id.len())
}

fn index(prefix: &str, day: Date) -> String {
    let mut index = String::with_capacity(prefix.len() + 10);
    let _ = write!(index, "{prefix}{:04}.{:02}.{:02}", day.year(), day.month(), day.day());
    index
}

/// The time in UTC, within the years that all engines know.
fn utc(milliseconds: i64) -> DateTime {
    let time = Timestamp::from_millisecond(milliseconds.clamp(0, MAX_TIMESTAMP));
    Offset::UTC.to_datetime(time.unwrap_or(Timestamp::UNIX_EPOCH))
}
