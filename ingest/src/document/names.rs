//! Renames fields whose names make an engine reject the document.

use std::borrow::Cow;
use std::collections::HashSet;

use super::extract;
use super::fit::UNMAPPED;

/// The field of the seconds from the event to its log entry.
pub(super) const LAG: &str = "@lag";

/// The fields of the log event, which replace fields of the record with these names.
pub(super) const OVERWRITTEN: [&str; 6] = ["@id", "@timestamp", "@message", "@owner", "@log_group", "@log_stream"];

/// The object of the system fields that a subscription adds.
pub(super) const SYSTEM_FIELDS: &str = "@aws";

/// The engines' own fields: a document with one of them is rejected.
const METADATA: [&str; 23] = [
    "_all",
    "_data_stream_timestamp",
    "_doc_count",
    "_feature",
    "_field_names",
    "_id",
    "_ignored",
    "_ignored_source",
    "_index",
    "_index_mode",
    "_nested_path",
    "_parent",
    "_primary_term",
    "_routing",
    "_seq_no",
    "_size",
    "_source",
    "_tier",
    "_timestamp",
    "_tsid",
    "_ttl",
    "_type",
    "_version",
];

/// Returns whether a top-level name belongs to an engine or to a field that this program adds.
pub(super) fn is_reserved(name: &str) -> bool {
    name == extract::OBJECT || name == LAG || name == "@degraded" || name == SYSTEM_FIELDS || METADATA.contains(&name)
}

/// Returns whether [`rename_unsafe`] may change a name. It is quick, and never false for a name that would be changed.
pub(super) fn may_be_unsafe(name: &str) -> bool {
    name.contains('.') || is_blank(name)
}

/// Returns the same for top-level names.
pub(super) fn may_be_unsafe_at_top(name: &str) -> bool {
    may_be_unsafe(name) || name.starts_with(['@', '_']) || name == extract::OBJECT || name == "source"
}

/// Renames the members that an engine would reject, or would read as a path through another member.
///
/// A dot is a step into an object: `a.b` is fine by itself, but not next to `a`, and not with nothing on one side.
/// In such names the dots become `_`. A name that `is_reserved`, or that another has, gets `_` at its end.
pub(super) fn rename_unsafe<T>(
    mut members: Vec<(Cow<'_, str>, T)>,
    is_reserved: impl Fn(&str, &T) -> bool,
) -> Vec<(Cow<'_, str>, T)> {
    let is_unsafe = |name: &str, value: &T, names: &HashSet<String>| {
        is_reserved(name, value) || is_blank(name) || name.contains('.') && is_ambiguous(name, names)
    };
    if !members.iter().any(|(name, value)| may_be_unsafe(name) || is_reserved(name, value)) {
        return members;
    }
    let mut names: HashSet<String> = members.iter().map(|(name, _)| name.clone().into_owned()).collect();
    for (name, value) in &mut members {
        if !is_unsafe(name, value, &names) {
            continue;
        }
        let mut renamed = if is_blank(name) { String::new() } else { name.replace('.', "_") };
        while renamed.is_empty() || is_blank(&renamed) || is_reserved(&renamed, value) || names.contains(&renamed) {
            renamed.push('_');
        }
        names.insert(renamed.clone());
        *name = Cow::Owned(renamed);
    }
    members
}

fn is_ambiguous(name: &str, names: &HashSet<String>) -> bool {
    name.split('.').any(is_blank)
        || name.match_indices('.').any(|(dot, _)| {
            let above = &name[..dot];
            names.contains(above) || above == "source" || ADDED.contains(&above) || UNMAPPED.contains(&above)
        })
}

/// Fields that this program adds, whether or not they are among the members.
const ADDED: [&str; 10] = [
    extract::OBJECT,
    LAG,
    SYSTEM_FIELDS,
    "@degraded",
    "@id",
    "@timestamp",
    "@message",
    "@owner",
    "@log_group",
    "@log_stream",
];

fn is_blank(name: &str) -> bool {
    name.chars().all(|character| character.is_whitespace() || character.is_control())
}
