//! The payloads that Lambda passes to the function.

use std::ops::Range;

use jiff::Timestamp;
use serde_json::{Value, json};
use trailgate_testkit::pack_log_data;

/// Returns a subscription's invocation with events of these numbers.
pub(crate) fn subscription(numbers: Range<usize>) -> Value {
    json!({ "awslogs": { "data": log_data(numbers) } })
}

/// Returns log data as CloudWatch packs it, with events of these numbers.
pub(crate) fn log_data(numbers: Range<usize>) -> String {
    let messages = numbers.clone().map(|number| {
        json!({
            "eventVersion": "1.08", "eventTime": "2026-01-31T11:58:00Z", "eventName": "AssumeRole",
            "eventID": format!("event-{number}"), "secret": "hunter2",
        })
        .to_string()
    });
    log_data_of(numbers.start, &messages.collect::<Vec<_>>())
}

/// Returns log data with these messages, whose events are numbered from `first`.
pub(crate) fn log_data_of(first: usize, messages: &[String]) -> String {
    let noon: Timestamp = "2026-01-31T12:00:00Z".parse().unwrap();
    log_data_at(first, messages.iter().map(|message| (noon, message.clone())))
}

/// Returns the same, with a time for each message.
pub(crate) fn log_data_at(first: usize, messages: impl Iterator<Item = (Timestamp, String)>) -> String {
    let events = messages.enumerate().map(|(number, (time, message))| {
        json!({ "id": (first + number).to_string(), "timestamp": time.as_millisecond(), "message": message })
    });
    pack_log_data(&json!({
        "messageType": "DATA_MESSAGE", "owner": "123456789012", "logGroup": "trail", "logStream": "stream",
        "subscriptionFilters": ["all"], "logEvents": events.collect::<Vec<_>>(),
    }))
}
