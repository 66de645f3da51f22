//! Classifies a JSON value: a CloudTrail record, an envelope of records, or neither.
//!
//! [`find_items`] alone decides it: for a whole file, a line, an element of an array, and envelopes of these at any
//! depth.

pub(super) mod foreign;
pub(crate) mod item;
mod members;
mod record;

#[cfg(test)]
mod tests;

use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;

use self::item::{FailedValue, Item, cut};
use self::members::{Members, string_at};
use super::values::{PieceKind, ValueReader};
use crate::document::access_line::{self, GateLine};
use crate::json::text::scalar_text;
use crate::payload::{self, LogBatch, PayloadError};

/// Returns the items in `text`, one JSON value. A known empty envelope, such as an empty `Records`, has none.
pub(crate) fn find_items(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    Finder { items: &mut items, depth: 0 }.value(text);
    items
}

/// Returns the kind of a line of text that is no JSON, if it is known.
pub(super) fn classify_line(line: &str) -> Option<Line<'_>> {
    if foreign::is_flow_log(line) {
        return Some(Line::Foreign("VPC flow logs"));
    }
    // A JSON text in a JSON string.
    if line.starts_with('"') && serde_json::from_str::<&RawValue>(line).is_ok() {
        return Some(Line::Json(line));
    }
    // CloudWatch Logs' export to S3: the time, a space, and the message.
    let (time, message) = line.split_once(' ')?;
    let is_export = message.starts_with('{') && time.parse::<jiff::Timestamp>().is_ok();
    is_export.then_some(Line::Json(message))
}

/// The class of a line of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// It holds this JSON value.
    Json(&'a str),
    /// It is of a kind that holds no CloudTrail records.
    Foreign(&'static str),
}

struct Finder<'i> {
    items: &'i mut Vec<Item>,
    depth: usize,
}

impl Finder<'_> {
    fn value(&mut self, text: &str) {
        if self.depth == MAX_DEPTH {
            return self.fail(format!("nested in more than {MAX_DEPTH} envelopes"), text);
        }
        self.depth += 1;
        match text.trim_start().as_bytes().first() {
            Some(b'{') => match serde_json::from_str::<Members<'_>>(text) {
                Ok(members) => self.object(&members, text),
                Err(error) => self.fail(not_json(&error), text),
            },
            Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(text) {
                Ok(elements) if is_series(&elements) => {
                    self.unknown("not a CloudTrail record: an array of numbers or words", text);
                }
                Ok(elements) => elements.iter().for_each(|element| self.value(element.get())),
                Err(error) => self.fail(not_json(&error), text),
            },
            Some(b'"') => match serde_json::from_str::<&RawValue>(text) {
                Ok(string) => self.string(string),
                Err(error) => self.fail(not_json(&error), text),
            },
            Some(b'n') => self.unknown("not a CloudTrail record: null", text),
            _ => self.unknown("not a CloudTrail record: a number or a word", text),
        }
        self.depth -= 1;
    }

    fn object(&mut self, members: &Members<'_>, text: &str) {
        if members.has("digestS3Bucket") {
            return self.items.push(Item::Foreign("digest files"));
        }
        if record::is_record(members) {
            return self.items.push(record::to_item(text));
        }
        match access_line::classify(text) {
            Some(GateLine::Access) => return self.items.extend(record::access_line_to_item(text)),
            Some(GateLine::Event) => return self.items.push(Item::Foreign(GATE_EVENTS)),
            None => {}
        }
        if let Some(failure) = members.get(FAILURE) {
            return self.failure(failure, text);
        }
        if members.has("logEvents") {
            return self.delivery(payload::decode_delivery(text.as_bytes(), jiff::Timestamp::UNIX_EPOCH), text);
        }
        if self.wrapped(members, text) {
            return;
        }
        if let Some(place) = s3_object(members) {
            return self.fail(format!("a notification without events; load the object it names: {place}"), text);
        }
        if let Some(kind) = foreign::kind_of_object(members) {
            return self.items.push(Item::Foreign(kind));
        }
        let lists = members.iter().filter(|(key, value)| LISTS.contains(&key.as_ref()) && value.get().starts_with('['));
        let mut has_list = false;
        for (_, list) in lists {
            has_list = true;
            self.value(list.get());
        }
        if has_list || self.search(members) {
            return;
        }
        let keys: Vec<_> = members.iter().take(SHOWN_KEYS).map(|(key, _)| cut(key)).collect();
        let more = if members.len() > SHOWN_KEYS { ", …" } else { "" };
        self.unknown(format!("not a CloudTrail record: an object with the keys {}{more}", keys.join(", ")), text);
    }

    /// Looks into the envelopes that are known by their members; returns whether this is one.
    fn wrapped(&mut self, members: &Members<'_>, text: &str) -> bool {
        if let Some(logs) = members.object("awslogs") {
            match logs.get("data") {
                Some(data) => self.delivery(payload::decode_data(data, jiff::Timestamp::UNIX_EPOCH), text),
                None => self.fail("a subscription event without awslogs.data", text),
            }
            return true;
        }
        if let Some(payload) = members.get("requestPayload") {
            self.value(payload.get());
            return true;
        }
        let is_numbered = |members: &Members<'_>| members.has("sequenceNumber") || members.has("recordId");
        let kinesis = members.object("kinesis");
        let kinesis = kinesis.as_ref().or_else(|| is_numbered(members).then_some(members));
        if let Some(data) = kinesis.and_then(|kinesis| kinesis.get("data").or_else(|| kinesis.get("Data"))) {
            self.data(data, text);
            return true;
        }
        let sns = members.object("Sns");
        let sns = sns.as_ref().or_else(|| members.has("TopicArn").then_some(members));
        if let Some(message) = sns.and_then(|sns| sns.get("Message")) {
            self.string(message);
            return true;
        }
        let is_message =
            ["messageId", "MessageId", "receiptHandle", "ReceiptHandle"].iter().any(|key| members.has(key));
        if let Some(body) = members.get("body").or_else(|| members.get("Body")).filter(|_| is_message) {
            self.string(body);
            return true;
        }
        if let Some(event) = members.get("CloudTrailEvent") {
            self.string(event);
            return true;
        }
        // An event of `aws logs filter-log-events`.
        let is_log_event = ["eventId", "ingestionTime", "logStreamName"].iter().any(|key| members.has(key));
        let holds_json = |message: &&RawValue| scalar_text(message).trim_start().starts_with(['{', '[']);
        if let Some(message) = members.get("message").filter(|message| is_log_event && holds_json(message)) {
            self.string(message);
            return true;
        }
        self.event_bridge(members, text)
    }

    /// Adds the items of an event of `EventBridge`, whose detail is a CloudTrail record.
    fn event_bridge(&mut self, members: &Members<'_>, text: &str) -> bool {
        let (Some(kind), Some(detail)) = (members.get("detail-type"), members.get("detail")) else { return false };
        let kind = scalar_text(kind);
        if string_at(members, "source").as_deref() == Some("aws.s3")
            && let Some(place) = s3_object(&members.object("detail").unwrap_or_default())
        {
            self.fail(format!("a notification without events; load the object it names: {place}"), text);
        } else if kind.contains("CloudTrail") {
            self.value(detail.get());
        } else {
            let before = self.items.len();
            self.value(detail.get());
            if matches!(self.items[before..], [Item::Failed(_)]) {
                self.items.truncate(before);
                self.items.push(Item::Foreign("EventBridge events of other services"));
            }
        }
        true
    }

    /// Looks for records in the members of an object of which nothing is known; returns whether there are any.
    ///
    /// A member without any is taken for the envelope's own. Next to a record within one member, an unknown value is
    /// one that cannot be read, and stays.
    fn search(&mut self, members: &Members<'_>) -> bool {
        let start = self.items.len();
        for (_, value) in members.iter() {
            let before = self.items.len();
            let is_text = |value: &&RawValue| scalar_text(value).trim_start().starts_with(['{', '[']);
            match value.get().as_bytes().first() {
                Some(b'{' | b'[') => self.value(value.get()),
                Some(b'"') if is_text(value) => self.string(value),
                _ => {}
            }
            let is_unknown = |item: &Item| matches!(item, Item::Failed(FailedValue { is_unknown: true, .. }));
            if self.items[before..].iter().all(is_unknown) {
                self.items.truncate(before);
            }
        }
        self.items.len() > start
    }

    /// Looks into a string that holds JSON, one value or several.
    fn string(&mut self, string: &RawValue) {
        let text = scalar_text(string);
        self.bytes(text.as_bytes(), string.get());
    }

    /// Looks into data as Kinesis and Firehose have it: base64, and mostly gzip.
    fn data(&mut self, data: &RawValue, text: &str) {
        match payload::decode_base64(data).and_then(payload::decompress) {
            Ok(bytes) => self.bytes(&bytes, text),
            Err(error) => self.fail(format!("stream data: {error}"), text),
        }
    }

    fn bytes(&mut self, bytes: &[u8], text: &str) {
        let mut values = ValueReader::new(bytes);
        let mut has_any = false;
        while let Ok(Some(piece)) = values.next() {
            has_any = true;
            let inner = String::from_utf8_lossy(&piece.bytes);
            match piece.kind {
                PieceKind::Value => self.value(&inner),
                PieceKind::Member => {}
                PieceKind::Text => match classify_line(&inner) {
                    Some(Line::Foreign(kind)) => self.items.push(Item::Foreign(kind)),
                    Some(Line::Json(json)) if json.len() < inner.len() => self.value(json),
                    _ => self.unknown("not JSON: text in an envelope", &inner),
                },
                PieceKind::Broken(problem) => self.fail(format!("invalid JSON in an envelope: {problem}"), &inner),
            }
        }
        if !has_any && !values.has_values() {
            self.fail("an empty envelope", text);
        }
    }

    fn delivery(&mut self, batch: Result<LogBatch, PayloadError>, text: &str) {
        match batch {
            Ok(mut batch) => {
                batch.events.retain(|event| match foreign::kind_of_message(&event.message) {
                    Some(kind) => {
                        self.items.push(Item::Foreign(kind));
                        false
                    }
                    None => true,
                });
                self.items.push(Item::Delivery(batch));
            }
            Err(error) => self.fail(format!("CloudWatch Logs delivery: {error}"), text),
        }
    }

    /// Adds the items of a line of a failure file, which contains the failed text.
    fn failure(&mut self, failure: &RawValue, text: &str) {
        let failure: Members<'_> = serde_json::from_str(failure.get()).unwrap_or_default();
        if let Some(inner) = failure.get("text") {
            return self.string(inner);
        }
        let text_of = |key| string_at(&failure, key).unwrap_or_default();
        self.fail(format!("failed in an earlier run: {}: {}", text_of("file"), text_of("reason")), text);
    }

    fn fail(&mut self, reason: impl Into<String>, text: &str) {
        self.items.push(Item::Failed(FailedValue { reason: reason.into(), text: text.to_owned(), is_unknown: false }));
    }

    fn unknown(&mut self, reason: impl Into<String>, text: &str) {
        self.items.push(Item::Failed(FailedValue { reason: reason.into(), text: text.to_owned(), is_unknown: true }));
    }
}

/// Returns the S3 object that a notification is about, as `s3://BUCKET/KEY`.
fn s3_object(members: &Members<'_>) -> Option<String> {
    if let (Some(bucket), Some(keys)) = (string_at(members, "s3Bucket"), members.get("s3ObjectKey")) {
        let keys = serde_json::from_str::<Vec<&RawValue>>(keys.get()).unwrap_or_default();
        let keys: Vec<_> = keys.iter().map(|key| format!("s3://{bucket}/{}", scalar_text(key))).collect();
        return Some(keys.join(", "));
    }
    let s3 = members.object("s3");
    let name = string_at(&s3.as_ref().unwrap_or(members).object("bucket")?, "name")?;
    let key = string_at(&s3.as_ref().unwrap_or(members).object("object")?, "key")?;
    // S3's own notifications have the key as a form has it; those of EventBridge have it as it is.
    let key = if s3.is_some() { decode_form(&key) } else { key.into_owned() };
    Some(format!("s3://{name}/{key}"))
}

/// Decodes a value of a form: `+` is a space, and `%2B` a plus.
fn decode_form(value: &str) -> String {
    let spaced = value.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

/// Returns whether an array has numbers and words alone, and more than can be listed: a file of another program can have
/// millions.
fn is_series(elements: &[&RawValue]) -> bool {
    elements.len() > LISTED && elements.iter().all(|element| !element.get().starts_with(['{', '[', '"']))
}

fn not_json(error: &serde_json::Error) -> String {
    // Without serde's own words, which can quote what stands there.
    format!("invalid JSON at line {}, column {} of the value", error.line(), error.column())
}

/// The kind of the lines that trailgate logs besides access lines.
pub(super) const GATE_EVENTS: &str = "events of trailgate";

/// The key of a line in a file of failures.
pub(super) const FAILURE: &str = "trailgateFailure";

/// Arrays of records, in envelopes that are known and in some that are not.
const LISTS: [&str; 5] = ["Records", "records", "Events", "events", "Messages"];

/// Envelopes within each other: an SQS message of an SNS notification of an event in a stream has four.
const MAX_DEPTH: usize = 12;

const SHOWN_KEYS: usize = 6;

/// Numbers and words of one array that are listed one by one.
const LISTED: usize = 100;
