//! The log events of CloudWatch Logs.

/// The log events of one CloudWatch Logs delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogBatch {
    /// The account that the events are from.
    pub owner: String,
    /// The log group.
    pub log_group: String,
    /// The log stream.
    pub log_stream: String,
    /// The events, in order.
    pub events: Vec<LogEvent>,
}

/// One log event: for CloudTrail, one API call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// CloudWatch's id of the event.
    pub id: String,
    /// Milliseconds since 1970 UTC.
    pub timestamp: i64,
    /// The text that was logged; for CloudTrail, a JSON object.
    pub message: String,
    /// The fields that a subscription filter's pattern extracted from the message, in order, if it has one.
    pub extracted_fields: Vec<(String, String)>,
}

/// The last millisecond that [`jiff::Timestamp`] accepts, some hours before the end of 9999: engines go further.
pub(crate) const MAX_TIMESTAMP: i64 = 253_402_207_200_000;
