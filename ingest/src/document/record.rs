//! Finds the CloudTrail record in a message, and members in it.

use std::borrow::Cow;

use crate::json::repair::{Flaw, repair};
use crate::json::{JsonError, Node, Tape};

/// Calls `read` with the JSON object at the end of the message, if there is one: loggers may put text before it.
///
/// A CloudTrail record that is no valid JSON is repaired as far as it can be read, and the flaw is passed on.
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

/// Members by which a CloudTrail record is recognised: one is enough.
const RECORD_KEYS: [&str; 5] = ["eventName", "eventSource", "eventTime", "eventID", "eventVersion"];

/// Returns the last member of `record` with this key.
pub(super) fn find_member<'t, 'a>(record: &'t Tape<'a>, key: &str) -> Option<&'t Node<'a>> {
    record.members().filter(|(_, node)| node.key == key).last().map(|(_, node)| node)
}

/// Returns the text of the last member of `record` with this key, if it is a string.
pub(super) fn find_string<'a>(record: &Tape<'a>, key: &str) -> Option<Cow<'a, str>> {
    find_member(record, key)?.as_string()
}
