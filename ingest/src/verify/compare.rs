//! Compares a document with the one that the event's file gives.

use serde_json::Value;

use crate::document::{DocumentOptions, build_degraded, build_document};
use crate::payload::{LogBatch, LogEvent};

/// Returns the fields in which `found` differs from the document of `event`.
///
/// A degraded document is compared with the degraded form of the event, which has the whole message.
pub(super) fn differences(batch: &LogBatch, event: &LogEvent, options: &DocumentOptions, found: &Value) -> Vec<String> {
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

/// The fields of the delivery, which a file does not have.
const OF_DELIVERY: [&str; 7] = ["@id", "@timestamp", "@lag", "@owner", "@log_group", "@log_stream", "@aws"];
