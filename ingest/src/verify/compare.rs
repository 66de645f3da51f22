//! Compares documents with those that are built from the events' files.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::files::DELIVERY_DAYS;
use super::report::{DayCounts, Finding, Kind};
use super::search::Hit;
use crate::document::identity::UNDATED;
use crate::document::{DocumentOptions, build_degraded, build_document};
use crate::payload::{LogBatch, LogEvent};

/// An event of a file, and the batch that its document names.
#[derive(Debug)]
pub(super) struct FileEvent {
    pub(super) day: Date,
    pub(super) batch: Arc<LogBatch>,
    pub(super) event: LogEvent,
    pub(super) evidence: FileEvidence,
}

/// The evidence of digests for a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileEvidence {
    /// It is as CloudTrail delivered it.
    Proven,
    /// No valid digest covers it.
    Unproven,
    /// It differs: documents of its events are found, but not compared.
    Changed,
}

/// The result of comparing events with their documents.
#[derive(Debug, Default)]
pub(super) struct Compared {
    pub(super) days: BTreeMap<Date, DayCounts>,
    pub(super) findings: Vec<(Date, Finding)>,
    /// The documents that have an event of these days.
    pub(super) matched: Vec<(Date, MatchedDocument)>,
    /// Events of proven files that have no document.
    pub(super) missing: Vec<FileEvent>,
}

/// A document that has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MatchedDocument {
    pub(super) key: u128,
    /// The day of its index.
    pub(super) index: Option<Date>,
    /// True if it differs, or is one of several: it may be found for two events.
    pub(super) is_uncertain: bool,
    /// True if it differs in such a way that the scan of another day may find it.
    pub(super) is_elsewhere: bool,
}

/// Compares events with the documents that were found, by event id.
pub(super) fn compare_events(
    events: Vec<FileEvent>,
    found: &HashMap<String, Vec<Hit>>,
    options: &DocumentOptions,
) -> Compared {
    let mut compared = Compared::default();
    for event in events {
        let hits = found.get(&event.event.id).map_or(&[][..], Vec::as_slice);
        compared.add(event, hits, options);
    }
    compared
}

impl Compared {
    fn add(&mut self, event: FileEvent, hits: &[Hit], options: &DocumentOptions) {
        let day = event.day;
        let counts = self.days.entry(day).or_default();
        let id = &event.event.id;
        if hits.is_empty() {
            if event.evidence == FileEvidence::Changed {
                return;
            }
            counts.missing += 1;
            let finding = Finding::new(Kind::MissingEvent, Some(day), id, "no document has this event");
            self.findings.push((day, finding));
            if event.evidence == FileEvidence::Proven {
                self.missing.push(event);
            }
            return;
        }
        counts.in_domain += 1;
        if let [first, rest @ ..] = hits
            && !rest.is_empty()
        {
            counts.duplicated += rest.len() as u64;
            let places: Vec<_> = rest.iter().take(NAMED).map(Hit::place).collect();
            let more = if rest.len() > NAMED { ", …" } else { "" };
            let reason = format!("{} and {}{more} have the same event", first.place(), places.join(", "));
            self.findings.push((day, Finding::new(Kind::DuplicateEvent, Some(day), id, reason)));
        }
        for hit in hits {
            let mut fields = Vec::new();
            if event.evidence != FileEvidence::Changed {
                if hit.source.get("@degraded").is_some() {
                    counts.degraded += 1;
                }
                fields = differences(&event.batch, &event.event, options, &hit.source);
                if !is_delivered_after(&event.event, &hit.source) {
                    fields.push("@timestamp".to_owned());
                }
                if !is_expected_index(&hit.index, &options.prefix, day, &hit.source) {
                    fields.push("_index".to_owned());
                }
            }
            if !fields.is_empty() {
                counts.altered += 1;
                let more = if fields.len() > NAMED { ", …" } else { "" };
                let named = fields.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
                let reason = format!("{} differs in {named}{more}", hit.place());
                self.findings.push((day, Finding::new(Kind::AlteredEvent, Some(day), id, reason)));
            }
            let index = day_of_index(&hit.index, &options.prefix);
            let matched = MatchedDocument {
                key: hit.key(),
                index,
                is_uncertain: !fields.is_empty() || hits.len() > 1 || event.evidence == FileEvidence::Changed,
                is_elsewhere: !fields.is_empty()
                    && (index != Some(day)
                        || event_day(&hit.source) != Some(day)
                        || !is_delivered_after(&event.event, &hit.source)),
            };
            self.matched.push((day, matched));
        }
    }
}

/// Returns whether a document may be in this index: that of the event's day, or of the delivery's.
pub(super) fn is_expected_index(index: &str, prefix: &str, day: Date, source: &Value) -> bool {
    let index = day_of_index(index, prefix);
    index == Some(day) || index.is_some() && index == time_of(source, "@timestamp").map(day_of)
}

/// Returns whether a document's `@timestamp` may be the delivery's: at another time, searches by time would not find it.
fn is_delivered_after(event: &LogEvent, source: &Value) -> bool {
    let event_time = Timestamp::from_millisecond(event.timestamp.max(0)).unwrap_or_default();
    let Some(delivered) = time_of(source, "@timestamp") else { return false };
    let lag = delivered.duration_since(event_time);
    let latest = SignedDuration::from_hours(24 * i64::from(DELIVERY_DAYS));
    event.timestamp == UNDATED || (-CLOCK_SKEW..=latest).contains(&lag)
}

fn day_of_index(index: &str, prefix: &str) -> Option<Date> {
    let day = Date::strptime("%Y.%m.%d", index.strip_prefix(prefix)?).ok()?;
    // Other spellings of a day are other indices.
    (index == format!("{prefix}{}", day.strftime("%Y.%m.%d"))).then_some(day)
}

/// Returns the day of a document by its `eventTime`.
pub(super) fn event_day(source: &Value) -> Option<Date> {
    time_of(source, "eventTime").map(day_of)
}

/// Returns the day of an aggregated event's document, which has a window and no `eventTime`, if it is in the index of
/// that day: the window is not indexed.
pub(super) fn window_day(index: &str, prefix: &str, source: &Value) -> Option<Date> {
    let day = time_of(&source["timeWindow"], "windowStart").map(day_of);
    day_of_index(index, prefix).filter(|index_day| day == Some(*index_day))
}

/// Returns a time of a document.
pub(super) fn time_of(source: &Value, field: &str) -> Option<Timestamp> {
    source[field].as_str()?.parse().ok()
}

/// Returns the day of a time, in UTC.
pub(super) fn day_of(time: Timestamp) -> Date {
    Offset::UTC.to_datetime(time).date()
}

/// Returns the fields in which `found` differs from the document of `event`.
///
/// A degraded document is compared with the degraded form of the event, which has the whole message.
fn differences(batch: &LogBatch, event: &LogEvent, options: &DocumentOptions, found: &Value) -> Vec<String> {
    let whole = fields_that_differ(&build_document(batch, event, options).source, found);
    let Some(reason) = found["@degraded"].as_str().filter(|_| !whole.is_empty()) else { return whole };
    let degraded = fields_that_differ(&build_degraded(batch, event, options, reason).source, found);
    if degraded.len() < whole.len() { degraded } else { whole }
}

fn fields_that_differ(expected: &[u8], found: &Value) -> Vec<String> {
    let expected: Value = serde_json::from_slice(expected).unwrap_or_default();
    let mut fields = Vec::new();
    let (Some(expected), Some(found)) = (expected.as_object(), found.as_object()) else {
        return vec!["_source".to_owned()];
    };
    let keys = expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
    for key in keys.filter(|key| !OF_DELIVERY.contains(&key.as_str())) {
        match (expected.get(key), found.get(key)) {
            (Some(expected), Some(found)) if key == "@message" => {
                if expected != found && (parsed(expected).is_none() || parsed(expected) != parsed(found)) {
                    fields.push(key.clone());
                }
            }
            (Some(expected), Some(found)) => walk(key, expected, found, &mut fields),
            _ => fields.push(key.clone()),
        }
    }
    fields
}

/// Adds the paths of values that differ within two values.
fn walk(path: &str, expected: &Value, found: &Value, fields: &mut Vec<String>) {
    if expected == found {
        return;
    }
    let (Some(expected), Some(found)) = (expected.as_object(), found.as_object()) else {
        return fields.push(path.to_owned());
    };
    for key in expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key))) {
        let path = format!("{path}.{key}");
        match (expected.get(key), found.get(key)) {
            (Some(expected), Some(found)) => walk(&path, expected, found, fields),
            _ => fields.push(path),
        }
    }
}

/// Returns the JSON value in a message; none for another message.
fn parsed(message: &Value) -> Option<Value> {
    serde_json::from_str(message.as_str()?).ok()
}

/// The time by which the clock of a service may be ahead of that of CloudWatch Logs.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(1);
/// The documents or fields that a finding names.
const NAMED: usize = 10;
/// The fields of the delivery, which a file does not have.
const OF_DELIVERY: [&str; 7] = ["@id", "@timestamp", "@lag", "@owner", "@log_group", "@log_stream", "@aws"];
