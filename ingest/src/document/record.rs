//! The CloudTrail record in a message.

use std::borrow::Cow;

use crate::json::repair::{Flaw, repair};
use crate::json::{JsonError, Node, Tape};

/// Calls `read` with the JSON object that the message ends in, if it does: loggers like to put something before it.
///
/// A record of CloudTrail that is no valid JSON is read as far as it goes, and the flaw is passed on.
pub(super) fn with_record<T>(message: &str, read: impl FnOnce(Option<&Tape<'_>>, Option<Flaw>) -> T) -> T {
    let Some(start) = message.find('{') else { return read(None, None) };
    let text = &message[start..];
    let why = match Tape::parse(text) {
        Ok(record) => return read(Some(&record), None),
        Err(why) => why,
    };
    let repaired = repair(text);
    match Tape::parse(&repaired.text) {
        Ok(record) if record.members().any(|(_, node)| RECORD_KEYS.contains(&node.key)) => {
            read(Some(&record), Some(repaired.flaw))
        }
        _ => read(None, (why == JsonError::TooDeep).then_some(Flaw::TooDeep)),
    }
}

/// The members by one of which a record of CloudTrail is recognised.
const RECORD_KEYS: [&str; 5] = ["eventName", "eventSource", "eventTime", "eventID", "eventVersion"];

/// The last member of `record` that has the key.
pub(super) fn find_member<'t, 'a>(record: &'t Tape<'a>, key: &str) -> Option<&'t Node<'a>> {
    record.members().filter(|(_, node)| node.key == key).last().map(|(_, node)| node)
}

/// What the last member of `record` that has the key says, if it is a string.
pub(super) fn find_string<'a>(record: &Tape<'a>, key: &str) -> Option<Cow<'a, str>> {
    find_member(record, key)?.as_string()
}
