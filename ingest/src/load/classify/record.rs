//! A CloudTrail record by its members.

use super::item::Item;
use super::members::{Members, string_at};
use crate::document::access_line::{AccessLine, line_id};
use crate::document::identity::{Identity, UNDATED};
use crate::payload::LogEvent;

/// Returns whether these are the members of a CloudTrail record: two of those that all records have, and no mark of a
/// record that Lambda's other event sources send, whose members have the same names.
pub(super) fn is_record(members: &Members<'_>) -> bool {
    let marks = MARKS.iter().filter(|fingerprint| members.has(fingerprint)).count();
    marks >= 2 && !string_at(members, "eventSource").is_some_and(|source| source.starts_with("aws:"))
}

/// Returns the record as CloudWatch Logs would have sent it, under its own id, so that it is indexed once however often
/// it is loaded.
pub(super) fn to_item(text: &str) -> Item {
    let Identity { id, timestamp, account } = Identity::of(text);
    let message = text.to_owned();
    Item::Record {
        owner: account,
        event: LogEvent { id, timestamp, message, extracted_fields: Vec::new() },
        is_dated: timestamp != UNDATED,
    }
}

/// Returns an access line of trailgate as a log event.
pub(super) fn access_line_to_item(text: &str) -> Option<Item> {
    let timestamp = AccessLine::parse(text)?.timestamp();
    let event = LogEvent { id: line_id(text), timestamp, message: text.to_owned(), extracted_fields: Vec::new() };
    Some(Item::Record { owner: String::new(), event, is_dated: true })
}

/// Members of all records, or of all of one sort: an aggregated event has `eventId` and `timeWindow`.
const MARKS: [&str; 6] = ["eventVersion", "eventTime", "eventName", "eventID", "eventId", "timeWindow"];
