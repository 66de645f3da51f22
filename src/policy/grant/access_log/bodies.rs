//! Bodies that can name indices: members of a search that read another index, headers of many searches, and what pages
//! send.

use memchr::memmem;
use serde_json::{Map, Value};

use super::super::json::{check_each, parse_once};
use super::super::search::object;
use super::super::{DenyReason, timelion};
use super::members::{STATES, check_member, check_members, check_names, reaches_by};
use super::searches::{asks_for_names_only, check_point_in_time, point_in_time};
use super::{Scope, check_statement, templates};
use crate::policy::grant::body_rule::BodyRule;

/// Checks the body of an engine call whose head has this scope.
pub(in super::super) fn check_engine_body(scope: Scope, is_template: bool, text: &[u8]) -> Result<(), DenyReason> {
    let check = if is_template { templates::check } else { check_members };
    match scope {
        Scope::Open => Ok(()),
        Scope::Search | Scope::PointInTime => {
            let search = parse_once(text)?;
            check_unnamed(&search, scope == Scope::Search)?;
            check(&search)
        }
        Scope::Headers => check_headed(text, check),
        Scope::Fields => {
            if object(&parse_once(text)?)?.is_empty() {
                Ok(())
            } else {
                Err(DenyReason::access_log(None))
            }
        }
        Scope::Named | Scope::Index | Scope::Panels => {
            if !is_template && cannot_name(text) {
                return Ok(());
            }
            // Many searches are many values.
            check_each(text, check)
        }
    }
}

/// Returns whether a text contains no word that a member needs to name an index.
///
/// Only a text that begins with `{` is JSON to every engine. Some detect another format by its first bytes.
fn cannot_name(text: &[u8]) -> bool {
    let holds = |needle: &[u8]| memmem::find(text, needle).is_some();
    text.trim_ascii_start().first().is_none_or(|first| *first == b'{') && !NEEDLES.iter().any(|it| holds(it))
}

/// Checks a search that no path restricts to permitted indices.
fn check_unnamed(search: &Value, may_ask_for_names: bool) -> Result<(), DenyReason> {
    match point_in_time(search) {
        Some(id) => check_point_in_time(id),
        None if may_ask_for_names && asks_for_names_only(search) => Ok(()),
        None => Err(DenyReason::access_log(None)),
    }
}

/// Checks many searches, of which each header has to name indices: lines of header and search, interleaved.
fn check_headed(text: &[u8], check: fn(&Value) -> Result<(), DenyReason>) -> Result<(), DenyReason> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let mut lines = text.split(|byte| *byte == b'\n');
    while let Some(line) = lines.next() {
        // An empty line is a header to some engines, and left out by others.
        let header = parse_once(line)?;
        let search = parse_once(lines.next().unwrap_or_default())?;
        check_header(object(&header)?, &search)?;
        check_members(&header)?;
        check(&search)?;
    }
    Ok(())
}

fn check_header(header: &Map<String, Value>, search: &Value) -> Result<(), DenyReason> {
    let mut named = ["index", "indices"].into_iter().filter_map(|name| header.get(name)).peekable();
    if named.peek().is_none() {
        return check_unnamed(search, true);
    }
    named.try_for_each(|names| {
        let asks_for_names = reaches_by(names) && asks_for_names_only(search);
        if asks_for_names { Ok(()) } else { check_names(names) }
    })
}

/// Checks the parsed body of a page's call whose head has this scope.
pub(in super::super) fn check_page_body(scope: Scope, rule: BodyRule, body: &Value) -> Result<(), DenyReason> {
    match (scope, rule) {
        (Scope::Open, _) => Ok(()),
        (_, BodyRule::Search) => check_search(body),
        (_, BodyRule::Batch) => {
            let batch = body.get("batch").and_then(Value::as_array).ok_or(DenyReason::Unreadable)?;
            batch.iter().try_for_each(|item| check_search(item.get("request").ok_or(DenyReason::Unreadable)?))
        }
        (_, BodyRule::Timelion) => {
            let sheet = body.get("sheet").and_then(Value::as_array).ok_or(DenyReason::Unreadable)?;
            let mut cells = sheet.iter().filter_map(Value::as_str);
            cells.try_for_each(timelion::check_indices)?;
            body.get("extended").map_or(Ok(()), check_members)
        }
        (_, BodyRule::Statement(_)) => check_statements(body),
        (Scope::Headers, _) => {
            let searches = body.get("searches").and_then(Value::as_array).ok_or(DenyReason::Unreadable)?;
            searches.iter().try_for_each(|search| {
                let header = object(search.get("header").ok_or(DenyReason::Unreadable)?)?;
                check_header(header, search.get("body").unwrap_or(&Value::Null))
            })?;
            check_members(body)
        }
        (Scope::Index, _) => {
            check_names(body.get("index").unwrap_or(&Value::Null))?;
            check_members(body)
        }
        (Scope::Panels, _) => {
            let panels = body.get("panels").and_then(Value::as_array).ok_or(DenyReason::Unreadable)?;
            // Without a pattern, Kibana searches the default one, which any client can set.
            panels.iter().try_for_each(|panel| check_names(panel.get("index_pattern").unwrap_or(&Value::Null)))?;
            check_panels(body)
        }
        _ => check_members(body),
    }
}

/// Checks a search of Kibana's search service: `{"params":{"index":…,"body":{…}}}`.
fn check_search(request: &Value) -> Result<(), DenyReason> {
    let Some(params) = request.get("params") else {
        // Without parameters it continues the search with this id.
        return if request.get("id").is_some() { Ok(()) } else { Err(DenyReason::access_log(None)) };
    };
    let body = params.get("body").unwrap_or(&Value::Null);
    let names = params.get("index").unwrap_or(&Value::Null);
    let asks_for_names = asks_for_names_only(body) && params.get("size").or(params.get("from")).is_none();
    if !asks_for_names {
        check_names(names)?;
    }
    for (name, value) in object(params)?.iter().filter(|(name, _)| STATES.contains(&name.as_str())) {
        check_member(name, value)?;
    }
    check_members(body)
}

/// Checks the panels of Kibana's time series, in which annotations and series can have patterns of their own.
fn check_panels(value: &Value) -> Result<(), DenyReason> {
    match value {
        Value::Array(items) => items.iter().try_for_each(check_panels),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| match name.as_str() {
            "series_index_pattern" if value == "" && !overrides(members) => Ok(()),
            name if name.ends_with("index_pattern") && !name.starts_with("override") => check_names(value),
            name => check_member(name, value).and_then(|()| check_panels(value)),
        }),
        _ => Ok(()),
    }
}

/// Returns whether a series replaces the pattern of its panel.
fn overrides(series: &Map<String, Value>) -> bool {
    let is_off = |value: &Value| value == 0 || value == false || value == "0" || value.is_null() || value == "";
    series.get("override_index_pattern").is_some_and(|value| !is_off(value))
}

/// Checks every text in the body of a statement, because the plug-ins insert parameters into the statement.
fn check_statements(value: &Value) -> Result<(), DenyReason> {
    match value {
        Value::Array(items) => items.iter().try_for_each(check_statements),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| match name.as_str() {
            // It contains a plan, which the plug-in runs as it stands.
            "cursor" if !value.is_null() => Err(DenyReason::HIDING_CURSOR),
            name => check_member(name, value).and_then(|()| check_statements(value)),
        }),
        Value::String(text) => check_statement(text),
        _ => Ok(()),
    }
}

/// Parts of the members that [`check_members`] rejects, the escape that could spell them otherwise, and the zero byte of
/// UTF-16 and UTF-32, which the engines' parsers detect and in which none of the others would be found.
const NEEDLES: [&[u8]; 10] = [
    b"index",
    b"indices",
    b"expand_wildcards",
    b"expandWildcards",
    b"wrapper",
    b"template",
    b"collate",
    b"\"pit\"",
    b"\\",
    b"\0",
];
