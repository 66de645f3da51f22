//! A CloudTrail record by its members.

use std::borrow::Cow;

use bytes::Bytes;
use jiff::Timestamp;
use trailgate::body::Buffered;

use super::{Item, Members, said, said_of};
use crate::payload::LogEvent;

/// Returns whether these are the members of a CloudTrail record: two of those that all records have, and no mark of a
/// record that Lambda's other event sources send, whose members have the same names.
pub(super) fn is_record(members: &Members<'_>) -> bool {
    let marks = MARKS.iter().filter(|mark| members.has(mark)).count();
    marks >= 2 && !said_of(members, "eventSource").is_some_and(|source| source.starts_with("aws:"))
}

/// Returns the record as CloudWatch Logs would have sent it, under its own id, so that it is indexed once however often
/// it is loaded.
pub(super) fn item(members: &Members<'_>, text: &str) -> Item {
    let id = members.get("eventID").or_else(|| members.get("eventId")).filter(|id| id.get() != "null").map(said);
    // Records of the first years have no id. A hash of the record is the same each time, too.
    let hash = || Buffered::from(Bytes::copy_from_slice(text.as_bytes())).sha256().to_owned();
    let id = id.filter(|id| (1..=MAX_ID).contains(&id.len())).map_or_else(hash, Cow::into_owned);
    let time = time(members);
    let account = members.get("recipientAccountId").or_else(|| members.get("accountId"));
    Item::Record {
        owner: account.map(|account| said(account).into_owned()).unwrap_or_default(),
        event: LogEvent {
            id,
            timestamp: time.unwrap_or_default().as_millisecond(),
            message: text.to_owned(),
            extracted_fields: Vec::new(),
        },
        is_dated: time.is_some(),
    }
}

fn time(members: &Members<'_>) -> Option<Timestamp> {
    said_of(members, "eventTime")?.parse().ok()
}

/// Members of all records, or of all of one sort: an aggregated event has `eventId` and `timeWindow`.
const MARKS: [&str; 6] = ["eventVersion", "eventTime", "eventName", "eventID", "eventId", "timeWindow"];

/// The longest id that engines take.
const MAX_ID: usize = 512;
