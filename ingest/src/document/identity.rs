//! The time, the id and the account of a record.

use std::borrow::Cow;
use std::fmt::Write as _;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use trailgate_client::HashedBody;

use super::record::{find_string, with_record};
use crate::json::Tape;
use crate::payload::{LogBatch, LogEvent};

/// The timestamp of an event that has no time: a fixed one, so that the event is in the same index on each run. No
/// event of CloudTrail is from 1970.
pub(crate) const UNDATED: i64 = 0;

/// The identity of a record from a file, which has no log event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// `eventID`, or `eventId` of aggregated events, or else a hash of the record: the same on each run.
    pub(crate) id: String,
    /// Milliseconds since 1970 UTC; [`UNDATED`] without a time that can be read.
    pub(crate) timestamp: i64,
    /// The account that the record was made for; may be empty.
    pub(crate) account: String,
}

impl Identity {
    /// Reads the identity of `record`, the text of one JSON object, as far as it can be read.
    pub(crate) fn of(record: &str) -> Self {
        with_record(record, |tape, _| {
            let text = |key: &str| tape.and_then(|tape| find_string(tape, key)).map(Cow::into_owned);
            let account = text("recipientAccountId").or_else(|| text("accountId")).unwrap_or_default();
            let id = tape.and_then(event_id).map(Cow::into_owned);
            let event_time = tape.and_then(read_event_time).map(Timestamp::as_millisecond);
            Self {
                id: id.unwrap_or_else(|| hash(record.trim_ascii().to_owned())),
                timestamp: event_time.unwrap_or(UNDATED),
                account,
            }
        })
    }
}

/// Returns the id of a record that engines accept: `eventID`, or `eventId` of aggregated events.
pub(super) fn event_id<'a>(record: &Tape<'a>) -> Option<Cow<'a, str>> {
    ["eventID", "eventId"].into_iter().find_map(|key| find_string(record, key).filter(|id| is_valid_id(id)))
}

/// Returns the id of a log event: its own, or else a hash of all that distinguishes it.
pub(super) fn log_event_id(batch: &LogBatch, event: &LogEvent) -> String {
    if is_valid_id(&event.id) {
        return event.id.clone();
    }
    let LogBatch { owner, log_group, log_stream, .. } = batch;
    let mut text = format!("{owner}\n{log_group}\n{log_stream}\n{}\n", event.timestamp);
    let _ = write!(text, "{}", event.message);
    hash(text)
}

/// Returns whether engines accept `id`; they reject longer ones, and make their own for an empty one.
pub(super) fn is_valid_id(id: &str) -> bool {
    (1..=512).contains(&id.len())
}

/// Returns when `record` happened: its `eventTime`, or the start of the window of an aggregated event.
pub(super) fn read_event_time(record: &Tape<'_>) -> Option<Timestamp> {
    let (_, time) = record.members().filter(|(_, node)| node.key == "eventTime").last().unwrap_or((0, record.root()));
    if let Some(text) = time.as_string() {
        return parse_time(&text);
    }
    if !time.is_object() && time.value != "null" {
        return parse_epoch(time.value);
    }
    let (window, _) = record.members().find(|(_, node)| node.key == "timeWindow")?;
    let (_, start) = record.children(window).find(|(_, node)| node.key == "windowStart")?;
    parse_time(&start.as_string()?)
}

/// Parses the time of a record: RFC 3339, as CloudTrail writes it, and the forms that copies of records have.
///
/// Athena and CloudTrail Lake write `2024-10-08 17:52:46.000`, some with `UTC` behind it; the basic form of ISO 8601 is
/// `20241008T175246Z`. A time without a zone is in UTC.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let local = text.strip_suffix("UTC").or_else(|| text.strip_suffix(['Z', 'z'])).unwrap_or(text).trim_end();
    let local: DateTime = local.parse().ok()?;
    Offset::UTC.to_timestamp(local).ok()
}

/// Parses seconds or milliseconds since 1970; 100,000,000,000 seconds would be in the year 5138.
pub(super) fn parse_epoch(number: &str) -> Option<Timestamp> {
    const FIRST_MILLISECONDS: f64 = 1e11;
    let number: f64 = number.parse().ok()?;
    let milliseconds = if number < FIRST_MILLISECONDS { number * 1000.0 } else { number };
    #[expect(clippy::cast_possible_truncation, reason = "a number that is out of range is so after this, too")]
    Timestamp::from_millisecond(milliseconds.round() as i64).ok()
}

pub(super) fn hash(text: String) -> String {
    HashedBody::from(Bytes::from(text)).sha256().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_known_format_are_parsed() {
        let expected: Timestamp = "2024-10-08T17:52:46Z".parse().unwrap();
        for text in [
            "2024-10-08T17:52:46Z",
            "2024-10-08T19:52:46+02:00",
            "2024-10-08T17:52:46",
            "2024-10-08T17:52:46.000",
            "2024-10-08 17:52:46",
            "2024-10-08 17:52:46Z",
            "2024-10-08 17:52:46.000",
            "2024-10-08 17:52:46.000 UTC",
            " 2024-10-08 17:52:46 UTC ",
            "20241008T175246Z",
            "20241008T175246",
        ] {
            assert_eq!(parse_time(text), Some(expected), "{text}");
        }
        for text in ["", "yesterday", "2024-13-08T17:52:46Z", "17:52:46", "1728409966"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
        assert_eq!(parse_epoch("1728409966"), Some(expected));
        assert_eq!(parse_epoch("1728409966.0"), Some(expected));
        assert_eq!(parse_epoch("1728409966000"), Some(expected));
        assert_eq!(parse_epoch("1e300"), None);
        assert_eq!(parse_epoch("true"), None);
    }

    #[test]
    fn record_identity_is_stable() {
        let of = |record: &str| {
            let identity = Identity::of(record);
            (identity.id, identity.timestamp, identity.account)
        };
        let record = r#"{"eventID":"e","eventTime":"2024-10-08 17:52:46","recipientAccountId":"1"}"#;
        assert_eq!(of(record), ("e".to_owned(), 1_728_409_966_000, "1".to_owned()));
        let aggregated = r#"{"eventId":"a","accountId":"2","timeWindow":{"windowStart":"2024-10-08T17:52:46Z"}}"#;
        assert_eq!(of(aggregated), ("a".to_owned(), 1_728_409_966_000, "2".to_owned()));
        let long = "x".repeat(513);
        for without in
            ["{}".to_owned(), r#"{"eventID":"","eventTime":"soon"}"#.to_owned(), format!(r#"{{"eventID":"{long}"}}"#)]
        {
            let (id, timestamp, _) = of(&without);
            assert_eq!((id.len(), timestamp), (64, UNDATED), "{without}");
            assert_eq!(of(&format!("{without}\n")).0, id);
        }
        assert_ne!(of("{}").0, of(r#"{"a":1}"#).0);
        assert_eq!(of(r#"{"eventID":"e","eventName":"cut o"#).0, "e");
    }
}
