//! Saved objects and settings, in every form that Kibana accepts: one, many, or an import.
//!
//! A read grant does not write those that make Kibana's server fetch from an address (server-side request forgery,
//! SSRF), nor those shipped with trailgate.

use serde_json::{Map, Value};

use super::deny_reason::shown;
use super::json::parse;
use super::{DenyReason, timelion};

/// The kind of a saved object, by the checks that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Settings, complete or in part.
    Config,
    /// A short link.
    Link,
    /// Any other object that does not fetch.
    Plain,
}

impl Kind {
    /// Returns the kind of the type `name`. Rejects a type that makes Dashboards connect to a server (SSRF).
    pub(super) fn of(name: &str) -> Result<Self, DenyReason> {
        match name {
            "config" | "config-global" => Ok(Self::Config),
            "url" => Ok(Self::Link),
            "data-source" | "data-connection" | "credential" | "remote-cluster" => {
                Err(DenyReason::Fetches(format!("a {name}")))
            }
            _ => Ok(Self::Plain),
        }
    }

    /// Checks the attributes of an object of this kind.
    pub(super) fn check(self, attributes: &Value) -> Result<(), DenyReason> {
        match (self, attributes) {
            (Self::Config, Value::Object(settings)) => {
                settings.iter().try_for_each(|(name, value)| check_setting(name, value))
            }
            (Self::Link, Value::Object(members)) => check_link(members),
            (Self::Plain, attributes) => check_texts(attributes, 0),
            _ => Err(DenyReason::Unreadable),
        }
    }
}

/// Rejects the id of an object shipped with trailgate: all auditors rely on its query.
///
/// Kibana 6 and later store an object under its type and id, such as `search:trailgate-iam`.
pub(super) fn check_id(id: &str) -> Result<(), DenyReason> {
    let own = id.rsplit(':').next().unwrap_or_default();
    if own.starts_with(SHIPPED) { Err(DenyReason::Shipped(shown(id))) } else { Ok(()) }
}

/// Checks the body of a route that writes one object: `{"attributes":{…},…}`.
pub(super) fn check_one(kind: Kind, body: &Value) -> Result<(), DenyReason> {
    check_members(kind, body.as_object().ok_or(DenyReason::Unreadable)?)
}

/// Checks a list of objects, each with its type and attributes.
pub(super) fn check_many(body: &Value) -> Result<(), DenyReason> {
    let objects = match body {
        Value::Array(objects) => objects,
        // The route that imports complete dashboards.
        Value::Object(members) => members.get("objects").and_then(Value::as_array).ok_or(DenyReason::Unreadable)?,
        _ => return Err(DenyReason::Unreadable),
    };
    objects.iter().try_for_each(check_typed)
}

/// Checks a form with a file of objects, one a line.
///
/// Parsers differ on the end of a form's part, so each line of every part is checked.
pub(super) fn check_import(form: &[u8]) -> Result<(), DenyReason> {
    let text = std::str::from_utf8(form).map_err(|_| DenyReason::Unreadable)?;
    for line in text.split('\n').map(|line| line.trim_matches(['\r', ' ', '\t'])) {
        match line.as_bytes().first() {
            None => {}
            Some(b'-') if line.starts_with("--") => {}
            Some(b'{') => {
                let object = parse(line.as_bytes())?;
                // The last line of an export counts the objects.
                let is_summary = object.get("exportedCount").is_some() && object.get("attributes").is_none();
                if !is_summary {
                    check_typed(&object)?;
                }
            }
            // The retries: the client's resolution of conflicts.
            Some(b'[') => {
                let retries = parse(line.as_bytes())?;
                check_texts(&retries, 0)?;
                let retries = retries.as_array().into_iter().flatten().filter_map(Value::as_object);
                retries.into_iter().try_for_each(check_member_ids)?;
            }
            _ if is_part_header(line) || matches!(line, "true" | "false") => {}
            _ => return Err(DenyReason::Unreadable),
        }
    }
    Ok(())
}

/// Checks the body of a settings route: the value of one setting, or the changes of several.
pub(super) fn check_settings(body: &Value) -> Result<(), DenyReason> {
    for (name, value) in body.as_object().ok_or(DenyReason::Unreadable)? {
        match (name.as_str(), value) {
            ("value", value) => check_value("value", value)?,
            ("changes", Value::Object(changes)) => {
                changes.iter().try_for_each(|(name, value)| check_setting(name, value))?;
            }
            _ => return Err(DenyReason::Member(shown(name))),
        }
    }
    Ok(())
}

/// Checks a document that Kibana 4 to 6 write into their own index, complete or as an update.
pub(super) fn check_document(kind: Kind, is_update: bool, body: &Value) -> Result<(), DenyReason> {
    let document = body.as_object().ok_or(DenyReason::Unreadable)?;
    if !is_update {
        return check_whole_document(kind, body);
    }
    for (name, value) in document {
        match name.as_str() {
            "doc" | "upsert" => check_whole_document(kind, value)?,
            "doc_as_upsert" | "detect_noop" => {}
            _ => return Err(DenyReason::Member(shown(name))),
        }
    }
    Ok(())
}

/// Checks the body of a route that creates short links.
pub(super) fn check_short_link(body: &Value) -> Result<(), DenyReason> {
    check_link(body.as_object().ok_or(DenyReason::Unreadable)?)
}

/// Rejects a setting by its name, or because its value contains an address.
pub(super) fn check_setting(name: &str, value: &Value) -> Result<(), DenyReason> {
    check_setting_name(name)?;
    check_value(name, value)
}

/// Rejects a setting that makes the server fetch (SSRF), or that lifts a limit of its work.
pub(super) fn check_setting_name(name: &str) -> Result<(), DenyReason> {
    let lower = name.to_ascii_lowercase();
    let of_timelion = lower.strip_prefix("timelion:").or(lower.strip_prefix("timeline:"));
    if of_timelion.is_some_and(|setting| !OF_TIMELION.contains(&setting))
        || lower.ends_with("max_buckets")
        || lower.ends_with("url")
        || lower.contains("wmsdefaults")
    {
        return Err(DenyReason::Setting(shown(name)));
    }
    Ok(())
}

fn check_typed(object: &Value) -> Result<(), DenyReason> {
    let members = object.as_object().ok_or(DenyReason::Unreadable)?;
    // The member names of old exports begin with an underscore.
    let name = members.get("type").or(members.get("_type")).and_then(Value::as_str).ok_or(DenyReason::Unreadable)?;
    check_members(Kind::of(name)?, members)
}

fn check_members(kind: Kind, members: &Map<String, Value>) -> Result<(), DenyReason> {
    check_member_ids(members)?;
    for (name, value) in members {
        match name.as_str() {
            "attributes" | "_source" => kind.check(value)?,
            _ => check_texts(value, 0)?,
        }
    }
    Ok(())
}

/// Rejects an object that would replace a shipped one. Its `references` may name shipped ones.
fn check_member_ids(members: &Map<String, Value>) -> Result<(), DenyReason> {
    // An import also replaces the object with the same origin, or the one that a retry names.
    let ids = ["id", "_id", "originId", "destinationId"].into_iter().filter_map(|name| members.get(name));
    ids.filter_map(Value::as_str).try_for_each(check_id)
}

/// Checks a complete document. Kibana 6 stores the type in it, and the attributes in a member named after the type.
fn check_whole_document(kind: Kind, document: &Value) -> Result<(), DenyReason> {
    let members = document.as_object().ok_or(DenyReason::Unreadable)?;
    kind.check(document)?;
    for (name, value) in members {
        // `url` and `config` are also names of ordinary members, which are not objects.
        if let (kind @ (Kind::Config | Kind::Link), Value::Object(_)) = (Kind::of(name)?, value) {
            kind.check(value)?;
        }
    }
    Ok(())
}

/// Rejects a short link whose target is not a page of the same server (open redirect).
fn check_link(members: &Map<String, Value>) -> Result<(), DenyReason> {
    let Some(url) = members.get("url") else { return Ok(()) };
    let is_own = url.as_str().is_some_and(|url| {
        url.starts_with('/') && !url.starts_with("//") && !url.contains('\\') && !url.contains(char::is_control)
    });
    if is_own { Ok(()) } else { Err(DenyReason::Named("has a link to another host")) }
}

/// Rejects an address in the value of a setting: the server, or every user's page, would fetch it.
fn check_value(name: &str, value: &Value) -> Result<(), DenyReason> {
    match value {
        Value::String(text) if text.contains("://") || text.trim_start().starts_with("//") => {
            Err(DenyReason::Fetches(format!("the address in {}", shown(name))))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_value(name, item)),
        Value::Object(members) => members.values().try_for_each(|item| check_value(name, item)),
        _ => check_texts(value, 0),
    }
}

/// Rejects functions that fetch, in any string and in JSON within strings, as which visualizations are saved.
fn check_texts(value: &Value, depth: usize) -> Result<(), DenyReason> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_texts(item, depth)),
        Value::Object(members) => members.values().try_for_each(|item| check_texts(item, depth)),
        Value::String(text) => {
            timelion::check_text(text)?;
            if !text.trim_start().starts_with(['{', '[']) {
                return Ok(());
            }
            if depth == NESTING {
                return Err(DenyReason::Unreadable);
            }
            match parse(text.as_bytes()) {
                Ok(inner) => check_texts(&inner, depth + 1),
                // Not JSON, such as a Vega specification. Only an escape could hide a function there.
                Err(DenyReason::Unreadable) if !text.contains("\\u") => Ok(()),
                Err(why) => Err(why),
            }
        }
        _ => Ok(()),
    }
}

/// Returns whether a line is a header that browsers send in a form's part. Not `Content-Transfer-Encoding`.
fn is_part_header(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    ["content-disposition", "content-type"].iter().any(|header| name.eq_ignore_ascii_case(header))
}

/// The id prefix of shipped objects; `dashboards/` contains them.
const SHIPPED: &str = "trailgate-";

/// Settings of Timelion that neither fetch nor lift a limit.
const OF_TIMELION: &[&str] = &[
    "default_columns",
    "default_rows",
    "es.default_index",
    "es.timefield",
    "legacychartslibrary",
    "min_interval",
    "showtutorial",
    "target_buckets",
];

/// The limit of nested levels of JSON within strings.
const NESTING: usize = 4;

#[cfg(test)]
mod tests;
