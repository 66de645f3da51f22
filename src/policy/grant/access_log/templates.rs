//! Search templates: the executed search is built from strings, so only those without doubt pass.

use serde_json::Value;

use super::super::DenyReason;
use super::super::deny_reason::shown;
use super::super::json::parse_once;
use super::members::check_members;

/// Checks a search template: `{"source":…,"params":{…}}`.
///
/// A tag `{{name}}` is replaced by escaped text, so it stays within the string that contains it. Other tags insert JSON.
pub(super) fn check(template: &Value) -> Result<(), DenyReason> {
    let members = template.as_object().ok_or(DenyReason::Unreadable)?;
    for (name, value) in members {
        match (name.as_str(), value) {
            ("source" | "inline", Value::String(text)) => check_source(&parse_once(text.as_bytes())?)?,
            ("source" | "inline", source) => check_source(source)?,
            ("explain" | "params" | "profile", _) => {}
            // A stored template, which may insert a parameter as JSON.
            _ => return Err(DenyReason::Member(shown(name))),
        }
    }
    Ok(())
}

fn check_source(source: &Value) -> Result<(), DenyReason> {
    check_tags(source, false)?;
    check_members(source)
}

/// Rejects tags other than `{{name}}`, and any tag in a name or in a value that names indices.
fn check_tags(value: &Value, names_indices: bool) -> Result<(), DenyReason> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| check_tags(item, names_indices)),
        Value::Object(members) => members.iter().try_for_each(|(name, value)| check_member(name, value)),
        Value::String(text) if !text.contains("{{") => Ok(()),
        Value::String(text) if !names_indices && has_plain_tags(text) => Ok(()),
        Value::String(_) => Err(DenyReason::Named("has a tag that could name the access log (gate-*)")),
        _ => Ok(()),
    }
}

fn check_member(name: &str, value: &Value) -> Result<(), DenyReason> {
    if name.contains("{{") {
        return Err(DenyReason::Named("has a tag that could name the access log (gate-*)"));
    }
    check_tags(value, ["index", "_index", "indices"].contains(&name))
}

fn has_plain_tags(text: &str) -> bool {
    text.split("{{").skip(1).all(|tag| {
        let name = tag.split("}}").next().unwrap_or_default();
        !name.is_empty()
            && name.len() < tag.len()
            && !tag[name.len() + 2..].starts_with('}')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_. ".contains(&byte))
    })
}
