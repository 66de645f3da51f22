//! Members of a body by which a search reads another index than the one that it searches.

use serde_json::Value;

use super::super::DenyReason;
use super::names::{self, reaches};
use super::searches::check_point_in_time;

/// Rejects members by which a search reads another index than the one it searches, at any depth.
pub(super) fn check_members(value: &Value) -> Result<(), DenyReason> {
    match value {
        Value::Array(items) => items.iter().try_for_each(check_members),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| {
            check_member(name, value)?;
            check_members(value)
        }),
        _ => Ok(()),
    }
}

/// Checks one member, and not what it contains.
pub(super) fn check_member(name: &str, value: &Value) -> Result<(), DenyReason> {
    match (name, value) {
        // Lookups of terms, shapes and documents, documents by their ids, headers.
        ("index" | "_index" | "indices", Value::String(_) | Value::Array(_)) => check_names(value),
        (name, states) if STATES.contains(&name) && expands_to_hidden(states) => Err(DenyReason::Named(
            "expands patterns to hidden indices, which can have results of the access log (gate-*)",
        )),
        ("wrapper" | "template" | "collate", Value::Object(_) | Value::Array(_)) => {
            Err(DenyReason::Named("has a query within a string, which could read the access log (gate-*)"))
        }
        ("pit", Value::Object(point)) => {
            let id = point.get("id").and_then(Value::as_str).ok_or(DenyReason::Unreadable)?;
            check_point_in_time(id)
        }
        _ => Ok(()),
    }
}

fn expands_to_hidden(states: &Value) -> bool {
    let mut texts = states.as_array().into_iter().flatten().chain([states]).filter_map(Value::as_str);
    texts.any(names::expands_to_hidden)
}

/// The names of the parameter that says which indices a pattern matches.
pub(super) const STATES: [&str; 2] = ["expand_wildcards", "expandWildcards"];

/// Rejects a value that names indices of the access log: a list with commas, or an array of names.
pub(super) fn check_names(names: &Value) -> Result<(), DenyReason> {
    if reaches_by(names) { Err(DenyReason::access_log(names.as_str())) } else { Ok(()) }
}

/// Returns whether a value that names indices can reach the access log.
pub(super) fn reaches_by(names: &Value) -> bool {
    match names {
        Value::String(list) => reaches(list.split(',')),
        Value::Array(items) => {
            let names: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            // Engines differ on a comma within an item, so an exclusion there counts for nothing.
            names.is_none_or(|names| {
                let has_list = names.iter().any(|name| name.contains(','));
                let parts = names.iter().flat_map(|name| name.split(','));
                if has_list { parts.into_iter().any(|part| reaches([part])) } else { reaches(parts) }
            })
        }
        _ => true,
    }
}
