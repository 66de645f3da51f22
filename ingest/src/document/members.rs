//! The members of a document's object: those of the record, or those that a subscription filter's pattern cut out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{UNMAPPED, names, write_key};
use crate::json::Tape;
use crate::json::text::write_string;

/// Writes the members of `record`; says whether `source` is one of them.
pub(super) fn write_record(out: &mut Vec<u8>, record: &Tape<'_>) -> bool {
    if !record.is_plain() || names_are_odd(record) {
        return write_members(out, record, 0, Scope::Top);
    }
    let text = record.root().value;
    out.extend_from_slice(text[1..text.len() - 1].trim_ascii().as_bytes());
    false
}

/// Writes `fields` as the stock function would, but for numbers that would not print back as they are written.
///
/// - What is a JSON number without an exponent, in the range of a `long`, is that number, digit for digit.
///   `001234567890`, `0x10`, `1e3` and ` 12 ` stay strings: they may well be an account or the start of a hash.
/// - What ends in a JSON object is written twice: as that object under `$key`, and as it is.
/// - Everything else is a string, and what is empty is left out.
pub(super) fn write_extracted(out: &mut Vec<u8>, fields: &[(String, String)]) {
    let mut members = Vec::with_capacity(fields.len());
    for (key, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        if is_exact_number(value) {
            members.push((Cow::Borrowed(key.as_str()), Extracted::Number(value)));
            continue;
        }
        if let Some(object) = super::record(value) {
            members.push((Cow::Owned(format!("${key}")), Extracted::Object(object)));
        }
        members.push((Cow::Borrowed(key), Extracted::Text(value)));
    }
    for (name, value) in top_level(members, |_| false) {
        write_key(out, &name);
        match value {
            Extracted::Number(number) => out.extend_from_slice(number.as_bytes()),
            Extracted::Object(object) => write_value(out, &object, 0, Scope::Mapped),
            Extracted::Text(text) => write_string(out, text),
        }
    }
}

enum Extracted<'a> {
    Number(&'a str),
    Object(Tape<'a>),
    Text(&'a str),
}

fn is_exact_number(value: &str) -> bool {
    // A long has 19 digits, of which 18 are free.
    let integer = value.split('.').next().unwrap_or_default().trim_start_matches('-');
    integer.len() <= 18
        && value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.' || byte == b'-')
        && Tape::parse(value).is_ok()
}

/// Where an object is: what its names may be depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// It is the document.
    Top,
    /// It is in a part that is indexed.
    Mapped,
    /// It is in one of [`UNMAPPED`], where any name goes.
    Unmapped,
}

impl Scope {
    fn of_member(self, name: &str) -> Self {
        match self {
            Self::Top if UNMAPPED.contains(&name) => Self::Unmapped,
            Self::Top => Self::Mapped,
            below => below,
        }
    }
}

/// The elements of arrays have no key, and no member of a plain record has an empty one.
fn names_are_odd(record: &Tape<'_>) -> bool {
    record.members().any(|(index, node)| {
        names::is_odd_at_top(node.key)
            || !UNMAPPED.contains(&node.key)
                && record.descendants(index).iter().any(|node| !node.key.is_empty() && names::is_odd(node.key))
    })
}

fn write_members(out: &mut Vec<u8>, tape: &Tape<'_>, index: usize, scope: Scope) -> bool {
    let members = tape.children(index).map(|(index, node)| (crate::json::text::unescape(node.key), index)).collect();
    let members = match scope {
        Scope::Top => top_level(members, |index| tape.node(*index).is_object()),
        Scope::Mapped => names::safe(distinct(members), |_, _| false),
        Scope::Unmapped => distinct(members),
    };
    for (name, index) in &members {
        write_key(out, name);
        write_value(out, tape, *index, scope.of_member(name));
    }
    members.iter().any(|(name, _)| name == "source")
}

fn write_value(out: &mut Vec<u8>, tape: &Tape<'_>, index: usize, scope: Scope) {
    let node = tape.node(index);
    if node.is_object() {
        out.push(b'{');
        write_members(out, tape, index, scope);
        out.push(b'}');
    } else if node.is_array() {
        out.push(b'[');
        for (nth, (index, _)) in tape.children(index).enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            write_value(out, tape, index, scope);
        }
        out.push(b']');
    } else if let Some(said) = node.as_string() {
        write_string(out, &said);
    } else {
        out.extend_from_slice(node.value.as_bytes());
    }
}

/// Without what is overwritten, and with the names of our own fields left to these.
fn top_level<T>(members: Vec<(Cow<'_, str>, T)>, is_object: impl Fn(&T) -> bool) -> Vec<(Cow<'_, str>, T)> {
    let mut members = distinct(members);
    members.retain(|(name, _)| !names::OVERWRITTEN.contains(&name.as_ref()));
    names::safe(members, |name, value| names::is_taken(name) || name == "source" && !is_object(value))
}

/// Each name once, where it stood first and with the last value: as JavaScript has it. Engines refuse it twice.
fn distinct<T>(members: Vec<(Cow<'_, str>, T)>) -> Vec<(Cow<'_, str>, T)> {
    let mut places: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(members.len());
    let mut kept: Vec<(Cow<'_, str>, T)> = Vec::with_capacity(members.len());
    for (name, value) in members {
        match places.entry(name.clone()) {
            Entry::Occupied(place) => kept[*place.get()].1 = value,
            Entry::Vacant(place) => {
                place.insert(kept.len());
                kept.push((name, value));
            }
        }
    }
    kept
}
