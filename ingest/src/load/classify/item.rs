//! The items found in a file.

use crate::payload::{LogBatch, LogEvent};

/// An item found in a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A CloudTrail record, of this account, as a log event.
    Record {
        /// The account that received it.
        owner: String,
        /// The record under its own id and time.
        event: LogEvent,
        /// True if the time is the record's own.
        is_dated: bool,
    },
    /// A delivery of CloudWatch Logs.
    Delivery(LogBatch),
    /// A value without CloudTrail records: its kind, in the plural.
    Foreign(&'static str),
    /// A value that should hold records and cannot be read, or that is unknown.
    Failed(FailedValue),
}

/// A value that is not indexed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FailedValue {
    /// The reason why it is not indexed.
    pub(crate) reason: String,
    /// The value.
    pub(in crate::load) text: String,
    /// True if it is unknown, so that it may be a part of an envelope other than its records.
    pub(super) is_unknown: bool,
}

impl FailedValue {
    /// Creates the failure of a file, or of the rest of one, that cannot be read.
    pub(in crate::load) fn unreadable(reason: String) -> Self {
        Self { reason, text: String::new(), is_unknown: false }
    }

    /// Creates the failure of consecutive lines that do not begin as JSON does.
    pub(in crate::load) fn text(text: String) -> Self {
        Self { reason: format!("not JSON: a line of text that begins with {:?}", cut(&text)), text, is_unknown: true }
    }

    /// Creates the failure of a line that begins as JSON and is not JSON.
    pub(in crate::load) fn broken(problem: &'static str, text: String) -> Self {
        Self { reason: format!("invalid JSON: {problem}"), text, is_unknown: false }
    }
}

pub(super) fn cut(key: &str) -> String {
    key.chars().filter(|character| !character.is_control()).take(40).collect()
}
