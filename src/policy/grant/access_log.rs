//! The access log's indices: a read grant does not search `gate-*`, unless its entry has `access_log = true`.
//!
//! The rule covers what reveals documents: hits, counts of a query, aggregations, values of fields. Names, sizes and
//! mappings of indices stay visible. The head decides by the path and the query. Where the body can name indices, a
//! [`Scope`] remains, and [`bodies`] decides. A call that could reach the access log is rejected (fails closed): no
//! pattern is rewritten, so the engine gets what the client sent.

mod bodies;
mod members;
pub(super) mod names;
mod searches;
mod statements;
mod templates;

use serde_json::{Map, Value};

use super::rules::{Rule, Verdict};
use super::{Call, DenyReason, ReadOnly};

pub(super) use self::bodies::{check_engine_body, check_page_body};
use self::names::{begins_with_wildcard, expands_to_hidden, list_reaches};
pub(super) use self::statements::check_statement;

/// The visibility of the access log's indices for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLogView {
    /// No call may reach them.
    Hidden,
    /// They are indices as any other, or there are none.
    Visible,
}

/// The indices that a call can reach by its head, which says what the body has to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// Not checked: the call reveals no documents, or the client may see the access log.
    Open,
    /// Permitted indices, unless the body names others.
    Named,
    /// All indices: the body has to name a point in time, or request the names of indices only.
    Search,
    /// All indices: the body has to name a point in time.
    PointInTime,
    /// All indices: each header of the body has to name indices.
    Headers,
    /// All indices: permitted without a body, which would search.
    Fields,
    /// The body of a page's call has to have the member `index`.
    Index,
    /// Each panel of the body has to name indices.
    Panels,
}

impl Scope {
    /// Returns whether a call without a body reaches all indices.
    pub(super) fn needs_body(self) -> bool {
        matches!(self, Self::Search | Self::PointInTime | Self::Headers | Self::Index | Self::Panels)
    }
}

/// Returns the scope of an engine call, or rejects it.
pub(super) fn of_engine(call: &Call<'_>, segments: &[&str]) -> Result<Scope, ReadOnly> {
    if call.context.access_log == AccessLogView::Visible {
        return Ok(Scope::Open);
    }
    let index = match segments {
        ["_cat", "count", list] => Some(*list),
        [first, ..] => Some(*first).filter(|first| is_index(first)),
        [] => None,
    };
    let mut rest = segments.iter().copied().skip_while(|it| is_index(it));
    let (api, action) = (rest.next(), rest.next());
    let scope = match (index, api) {
        // A document by its id.
        (Some(_), None) if segments.len() > 1 => named(call, index)?,
        (_, None) => return Ok(Scope::Open),
        (_, Some(api)) => match of_api(call, index, api, action)? {
            Scope::Open => return Ok(Scope::Open),
            scope => scope,
        },
    };
    check_query(call, scope, segments.contains(&"template"))?;
    if scope == Scope::Named {
        check_hidden(call, index)?;
    }
    Ok(scope)
}

fn of_api(call: &Call<'_>, index: Option<&str>, api: &str, action: Option<&str>) -> Result<Scope, ReadOnly> {
    let is_safe = index.is_some_and(|list| !list_reaches(list));
    match (api, action) {
        ("_search", Some("scroll" | "pipeline")) => Ok(Scope::Open),
        ("_search", Some("point_in_time")) if call.method == "DELETE" => Ok(Scope::Open),
        ("_search", None) if !is_safe => Ok(if asks_for_names(call)? { Scope::Search } else { Scope::PointInTime }),
        ("_msearch", _) if !is_safe => Ok(Scope::Headers),
        // Without an index in the path, each document names its own.
        ("_mget" | "_mtermvectors", _) if index.is_none() => Ok(Scope::Named),
        ("_field_caps", _) if !is_safe => Ok(Scope::Fields),
        // With a query, it counts the documents that match.
        ("_cat", Some("count")) if is_safe => Ok(Scope::Named),
        ("_cat", Some("count")) if !call.parameters()?.iter().any(|(name, _)| name == "q") => Ok(Scope::Fields),
        ("_cat", Some("count")) => Err(call.deny(DenyReason::access_log(index))),
        (
            "_search" | "_msearch" | "_mget" | "_mtermvectors" | "_field_caps" | "_count" | "_validate" | "_rank_eval"
            | "_field_stats" | "_suggest" | "_termvectors" | "_explain" | "_doc" | "_source",
            _,
        ) => named(call, index),
        ("_sql", _) | ("_plugins" | "_opendistro", Some("_sql" | "_ppl" | "_alerting" | "_anomaly_detection")) => {
            Ok(Scope::Named)
        }
        ("_plugins" | "_opendistro", Some("_asynchronous_search")) => match call.method {
            "POST" => {
                let parameters = call.parameters()?;
                let index = parameters.iter().find(|(name, _)| name == "index");
                named(call, index.map(|(_, list)| list.as_str()))
            }
            _ => Ok(Scope::Open),
        },
        ("_plugins" | "_opendistro", _) => Ok(Scope::Open),
        ("_tasks", Some(_)) => Err(call.deny(SHOWS_SEARCHES)),
        ("_tasks", None) | ("_cat", Some("tasks")) if asks_for_details(call)? => Err(call.deny(SHOWS_SEARCHES)),
        (api, _) if WITHOUT_DOCUMENTS.contains(&api) => Ok(Scope::Open),
        _ => Err(call.deny(DenyReason::Unknown)),
    }
}

/// Returns the scope of a page's call, or rejects it.
pub(super) fn of_kibana(call: &Call<'_>, rule: &Rule, segments: &[&str]) -> Result<Scope, ReadOnly> {
    if call.context.access_log == AccessLogView::Visible {
        return Ok(Scope::Open);
    }
    if let ["api", "timelion" | "timeline", "validate", "es"] = segments {
        // It shows the first and last value of a field, and any client can set which one.
        return Err(call.deny(DenyReason::access_log(None)));
    }
    match rule.verdict {
        Verdict::Search | Verdict::Batch => Ok(Scope::Index),
        Verdict::Timelion | Verdict::Statement(_) => Ok(Scope::Named),
        Verdict::Json => match segments {
            ["internal", "_msearch"] => Ok(Scope::Headers),
            ["api", "metrics", "vis", "data"] => Ok(Scope::Panels),
            ["api", "kibana" | "opensearch-dashboards", "suggestions", "values", index] => named(call, Some(index)),
            ["api", "kibana", "legacy_scroll_continue"]
            | ["api", "alerting", "_indices" | "_aliases" | "_mappings"]
            | ["api", "geospatial", "_indices"] => Ok(Scope::Open),
            ["api", "alerting", "monitors", "_search"] => Ok(Scope::Named),
            // Searches, and what a later row may add.
            _ => Ok(Scope::Index),
        },
        _ => Ok(Scope::Open),
    }
}

/// Returns [`Scope::Named`] if `index` does not reach the access log.
fn named(call: &Call<'_>, index: Option<&str>) -> Result<Scope, ReadOnly> {
    match index {
        Some(list) if !list_reaches(list) => Ok(Scope::Named),
        list => Err(call.deny(DenyReason::access_log(list))),
    }
}

/// Checks the parameters that name indices, or that replace the body.
fn check_query(call: &Call<'_>, scope: Scope, is_template: bool) -> Result<(), ReadOnly> {
    let query = call.target.query().unwrap_or_default();
    if !["index", "source", "cursor"].iter().any(|name| query.contains(name)) {
        return Ok(());
    }
    for (name, value) in call.parameters()? {
        match name.as_str() {
            // Engines up to 6 also split parameters at `;`.
            _ if name.contains(';') || value.contains(';') => return Err(call.deny(DenyReason::Ambiguous)),
            "index" if list_reaches(&value) => return Err(call.deny(DenyReason::access_log(Some(&value)))),
            "source" if scope == Scope::Named => {
                check_engine_body(scope, is_template, value.as_bytes()).map_err(|why| call.deny(why))?;
            }
            "source" => return Err(call.deny(DenyReason::access_log(None))),
            "cursor" => return Err(call.deny(DenyReason::HIDING_CURSOR)),
            _ => {}
        }
    }
    Ok(())
}

/// Rejects a pattern of all indices in the path or the parameter `index`, if it also matches hidden ones.
fn check_hidden(call: &Call<'_>, index: Option<&str>) -> Result<(), ReadOnly> {
    if !call.target.query().unwrap_or_default().contains("expand_wildcards") {
        return Ok(());
    }
    let parameters = call.parameters()?;
    let all = |wanted: &'static str| parameters.iter().filter(move |(name, _)| name == wanted).map(|(_, value)| value);
    let mut lists = index.into_iter().chain(all("index").map(String::as_str));
    if all("expand_wildcards").any(|states| expands_to_hidden(states))
        && let Some(list) = lists.find(|list| begins_with_wildcard(list))
    {
        return Err(call.deny(DenyReason::access_log(Some(list))));
    }
    Ok(())
}

/// Returns whether the query could belong to a search for the names of indices: nothing in it selects documents.
fn asks_for_names(call: &Call<'_>) -> Result<bool, ReadOnly> {
    Ok(call.parameters()?.iter().all(|(name, _)| NEUTRAL_PARAMETERS.contains(&name.as_str())))
}

/// Rejects a call of the engine's client, by the name of its function and its parameters.
pub(super) fn check_function(function: &str, parameters: &Map<String, Value>) -> Result<(), DenyReason> {
    let has_details = parameters.get("detailed").is_some_and(|value| value != false && value != "false");
    let shows = function == "tasks.get" || function == "tasks.list" && has_details;
    if shows { Err(SHOWS_SEARCHES.of_access_log()) } else { Ok(()) }
}

/// Returns whether the query requests details.
fn asks_for_details(call: &Call<'_>) -> Result<bool, ReadOnly> {
    Ok(call.parameters()?.iter().any(|(name, value)| name == "detailed" && value != "false"))
}

/// Returns whether a segment is a list of indices, and not an action of the engine.
fn is_index(segment: &str) -> bool {
    !segment.starts_with('_') || segment.split(',').next() == Some("_all")
}

/// APIs of the route table that reveal no documents: names, sizes, mappings, settings.
const WITHOUT_DOCUMENTS: &[&str] = &[
    "_alias",
    "_aliases",
    "_analyze",
    "_cat",
    "_cluster",
    "_component_template",
    "_data_stream",
    "_index_template",
    "_ingest",
    "_list",
    "_mapping",
    "_mappings",
    "_nodes",
    "_recovery",
    "_remote",
    "_render",
    "_resolve",
    "_script_context",
    "_script_language",
    "_scripts",
    "_search_shards",
    "_segments",
    "_settings",
    "_shard_stores",
    "_stats",
    "_tasks",
    "_template",
];

/// A client that knows the identifier of a scroll or a point in time can continue it. The identifier of a point in time
/// can be rewritten so that it names another index.
const SHOWS_SEARCHES: DenyReason = DenyReason::Named("shows the searches of all clients with their identifiers");

/// Parameters of a search that select no documents and no fields.
const NEUTRAL_PARAMETERS: &[&str] = &[
    "_",
    "allow_no_indices",
    "expand_wildcards",
    "ignore_unavailable",
    "preference",
    "pretty",
    "rest_total_hits_as_int",
    "timeout",
    "track_total_hits",
];

#[cfg(test)]
mod tests;
