//! Writes the members of a document: those of the record, or those that a subscription filter's pattern extracted.

use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::fit::{Fit, UNMAPPED, check_member, check_nested_member, has_fields, is_mapped};
use super::names;
use crate::json::Tape;
use crate::json::text::{unescape, write_key, write_string};

/// The result of writing a record.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// True if `source` is one of its members.
    pub(super) has_source: bool,
    /// The parts that were left out, and why.
    pub(super) left_out: Vec<String>,
}

/// Writes the members of `record`, but for those that no engine could index.
pub(super) fn write_record(out: &mut Vec<u8>, record: &Tape<'_>) -> Written {
    if record.is_plain() && fits_as_is(record) {
        let text = record.root().value;
        out.extend_from_slice(text[1..text.len() - 1].trim_ascii().as_bytes());
        return Written::default();
    }
    let members = record.members().map(|(index, node)| (unescape(node.key), index)).collect();
    let members = prepare_top_level(members, |index| record.node(*index).is_object());
    let mut written = Written { has_source: members.iter().any(|(name, _)| name == "source"), left_out: Vec::new() };
    let (members, too_many) = limit_keys(record, members);
    for (name, index) in members {
        match check_member(&name, record.node(index)) {
            Fit::AsIs => {
                write_key(out, &name);
                write_value(out, record, index, Scope::of_top_level(&name), &mut written.left_out);
            }
            Fit::Rewritten(json) => {
                write_key(out, &name);
                out.extend_from_slice(json.as_bytes());
            }
            Fit::LeftOut(why) => written.left_out.push(format!("{name} is {why}")),
        }
    }
    if too_many > 0 {
        written
            .left_out
            .push(format!("{too_many} of the event's keys are left out, since it has more than {MAX_KEYS}"));
    }
    written
}

/// More keys than this in the indexed parts of one event are left out. The longest real events have some sixty; each
/// new one costs the mapping two fields, of which the template allows 2,000, and Elasticsearch 2 any number until its
/// memory is full.
const MAX_KEYS: usize = 800;

/// Returns the members up to [`MAX_KEYS`], those that the template maps first, and the number of keys that are left
/// out.
fn limit_keys<'a>(record: &Tape<'_>, members: Vec<(Cow<'a, str>, usize)>) -> (Vec<(Cow<'a, str>, usize)>, usize) {
    let costs: Vec<usize> = members.iter().map(|(name, index)| count_keys(record, name, *index)).collect();
    if costs.iter().sum::<usize>() <= MAX_KEYS {
        return (members, 0);
    }
    let (mut room, mut too_many) = (MAX_KEYS, 0);
    let mut is_kept = vec![false; members.len()];
    for wants_mapped in [true, false] {
        for (nth, _) in members.iter().enumerate().filter(|(_, (name, _))| is_mapped(name) == wants_mapped) {
            is_kept[nth] = costs[nth] <= room;
            if is_kept[nth] {
                room -= costs[nth];
            } else {
                too_many += costs[nth];
            }
        }
    }
    let kept = members.into_iter().zip(is_kept).filter(|(_, is_kept)| *is_kept).map(|(member, _)| member).collect();
    (kept, too_many)
}

/// Returns the number of keys that a member adds to the mapping; the elements of a list share theirs.
fn count_keys(record: &Tape<'_>, name: &str, index: usize) -> usize {
    let within = if has_fields(name) { record.descendants(index) } else { &[] };
    1 + within.iter().map(|node| node.key).filter(|key| !key.is_empty()).collect::<HashSet<_>>().len()
}

/// Returns whether a field of the log event was extracted by a subscription filter's pattern, and is not empty.
///
/// Keys that begin with `@` are no pattern's: they are system fields, which a subscription adds to each event.
pub(super) fn is_filter_field(key: &str, value: &str) -> bool {
    !key.starts_with('@') && !value.is_empty()
}

/// Writes the system fields `@aws.account` and `@aws.region` as an object: Elasticsearch 2 has no dots in names.
pub(super) fn write_system_fields(out: &mut Vec<u8>, fields: &[(String, String)]) {
    let mut is_open = false;
    for name in ["account", "region"] {
        let field = fields.iter().rfind(|(key, _)| key.strip_prefix("@aws.") == Some(name));
        let Some((_, value)) = field.filter(|(_, value)| !value.is_empty()) else { continue };
        if !is_open {
            write_key(out, names::SYSTEM_FIELDS);
            out.push(b'{');
            is_open = true;
        }
        write_key(out, name);
        write_string(out, value);
    }
    if is_open {
        out.push(b'}');
    }
}

/// Writes `fields` as the stock function would, but for numbers that would not print back as they are written.
///
/// - What is a JSON number without an exponent, in the range of a `long`, is that number, digit for digit.
///   `001234567890`, `0x10`, `1e3` and ` 12 ` stay strings: they may well be an account or the start of a hash.
/// - What ends in a JSON object is written twice: as that object under `$key`, and as it is.
/// - Everything else is a string, and what is empty is left out.
pub(super) fn write_extracted_fields(out: &mut Vec<u8>, fields: &[(String, String)]) {
    let mut members = Vec::with_capacity(fields.len());
    for (key, value) in fields.iter().filter(|(key, value)| is_filter_field(key, value)) {
        if is_exact_number(value) {
            members.push((Cow::Borrowed(key.as_str()), Extracted::Number(value)));
            continue;
        }
        if let Some(object) = value.find('{').and_then(|start| Tape::parse(&value[start..]).ok()) {
            members.push((Cow::Owned(format!("${key}")), Extracted::Object(object)));
        }
        members.push((Cow::Borrowed(key), Extracted::Text(value)));
    }
    for (name, value) in prepare_top_level(members, |_| false) {
        write_key(out, &name);
        match value {
            Extracted::Number(number) => out.extend_from_slice(number.as_bytes()),
            Extracted::Object(object) => write_value(out, &object, 0, Scope::Mapped, &mut Vec::new()),
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

/// The place of an object, which decides the names and values that it may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// It is in a part that is indexed, and has fields of its own there.
    Fields,
    /// It is in a part that is indexed as it comes.
    Mapped,
    /// It is in one of [`UNMAPPED`], where any name goes.
    Unmapped,
}

impl Scope {
    fn of_top_level(name: &str) -> Self {
        match name {
            _ if UNMAPPED.contains(&name) => Self::Unmapped,
            _ if has_fields(name) => Self::Fields,
            _ => Self::Mapped,
        }
    }
}

/// Returns whether all engines accept each name and value of a plain record.
///
/// The elements of arrays have no key, and no member of a plain record has an empty one.
fn fits_as_is(record: &Tape<'_>) -> bool {
    let mut count = 0;
    for (index, node) in record.members() {
        if names::may_be_unsafe_at_top(node.key) || check_member(node.key, node) != Fit::AsIs {
            return false;
        }
        count += 1;
        if UNMAPPED.contains(&node.key) {
            continue;
        }
        let has_fields = has_fields(node.key);
        for node in record.descendants(index).iter().filter(|node| !node.key.is_empty()) {
            if names::may_be_unsafe(node.key) || has_fields && check_nested_member(node.key, node) != Fit::AsIs {
                return false;
            }
            count += usize::from(has_fields);
        }
    }
    count <= MAX_KEYS
}

fn write_members(out: &mut Vec<u8>, tape: &Tape<'_>, index: usize, scope: Scope, left_out: &mut Vec<String>) {
    let members = tape.children(index).map(|(index, node)| (unescape(node.key), index)).collect();
    let members = match scope {
        Scope::Fields | Scope::Mapped => names::rename_unsafe(deduplicate(members), |_, _| false),
        Scope::Unmapped => deduplicate(members),
    };
    for (name, index) in members {
        let fit = if scope == Scope::Fields { check_nested_member(&name, tape.node(index)) } else { Fit::AsIs };
        match fit {
            Fit::AsIs => {
                write_key(out, &name);
                write_value(out, tape, index, scope, left_out);
            }
            Fit::Rewritten(json) => {
                write_key(out, &name);
                out.extend_from_slice(json.as_bytes());
            }
            Fit::LeftOut(why) => left_out.push(format!("{name} is {why}")),
        }
    }
}

fn write_value(out: &mut Vec<u8>, tape: &Tape<'_>, index: usize, scope: Scope, left_out: &mut Vec<String>) {
    let node = tape.node(index);
    if node.is_object() {
        out.push(b'{');
        write_members(out, tape, index, scope, left_out);
        out.push(b'}');
    } else if node.is_array() {
        out.push(b'[');
        for (nth, (index, _)) in tape.children(index).enumerate() {
            if nth > 0 {
                out.push(b',');
            }
            write_value(out, tape, index, scope, left_out);
        }
        out.push(b']');
    } else if let Some(said) = node.as_string() {
        write_string(out, &said);
    } else {
        out.extend_from_slice(node.value.as_bytes());
    }
}

/// Removes members that are overwritten, and renames those with the names of added fields.
fn prepare_top_level<T>(members: Vec<(Cow<'_, str>, T)>, is_object: impl Fn(&T) -> bool) -> Vec<(Cow<'_, str>, T)> {
    let mut members = deduplicate(members);
    members.retain(|(name, _)| !names::OVERWRITTEN.contains(&name.as_ref()));
    names::rename_unsafe(members, |name, value| names::is_reserved(name) || name == "source" && !is_object(value))
}

/// Keeps each name once, at its first place and with its last value, as JavaScript does. Engines reject it twice.
fn deduplicate<T>(members: Vec<(Cow<'_, str>, T)>) -> Vec<(Cow<'_, str>, T)> {
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
