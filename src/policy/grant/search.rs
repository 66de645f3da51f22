//! Searches of Kibana's search service: only the members that its pages send are permitted, compared exactly.
//!
//! Kibana converts names to snake case after the proxy's check (`Method` becomes `method`). Some names then replace the
//! method, the path or the headers of the engine client's call. So unknown names are rejected (fails closed).

use serde_json::{Map, Value};

use super::DenyReason;
use super::deny_reason::shown;

/// Checks one search: `{"params":{…}}`.
pub(super) fn check(request: &Value) -> Result<(), DenyReason> {
    let request = object(request)?;
    known(request, REQUEST)?;
    // Some versions insert the id into a path without escaping.
    if request.get("id").is_some_and(|id| !id.as_str().is_some_and(is_name)) {
        return Err(DenyReason::Ambiguous);
    }
    let Some(params) = request.get("params") else { return Ok(()) };
    let params = object(params)?;
    known(params, PARAMS)?;
    for (name, value) in params {
        match name.as_str() {
            "index" => check_index(value)?,
            "body" => known(object(value)?, BODY)?,
            name => check_plain(name, value)?,
        }
    }
    Ok(())
}

/// Checks many searches: `{"batch":[{"request":{…},"options":{…}}]}`.
pub(super) fn check_batch(body: &Value) -> Result<(), DenyReason> {
    let body = object(body)?;
    known(body, &["batch"])?;
    let batch = body.get("batch").and_then(Value::as_array).ok_or(DenyReason::Unreadable)?;
    for item in batch {
        let item = object(item)?;
        known(item, &["options", "request"])?;
        if let Some(options) = item.get("options") {
            let options = object(options)?;
            known(options, OPTIONS)?;
            let is_known = |name: &Value| name.as_str().is_some_and(|name| STRATEGIES.contains(&name));
            if options.get("strategy").is_some_and(|name| !is_known(name)) {
                return Err(DenyReason::Unknown);
            }
        }
        check(item.get("request").ok_or(DenyReason::Unreadable)?)?;
    }
    Ok(())
}

/// Rejects a member that is not in `names`.
pub(super) fn known(members: &Map<String, Value>, names: &[&str]) -> Result<(), DenyReason> {
    match members.keys().find(|name| !names.contains(&name.as_str())) {
        Some(name) => Err(DenyReason::Member(shown(name))),
        None => Ok(()),
    }
}

/// Rejects the value of a parameter unless it is a scalar or a list of scalars.
///
/// The engine's client forwards any value, and an object in place of a string can crash the process.
pub(super) fn check_plain(name: &str, value: &Value) -> Result<(), DenyReason> {
    let is_plain = |value: &Value| !value.is_array() && !value.is_object();
    if is_plain(value) || value.as_array().is_some_and(|items| items.iter().all(is_plain)) {
        Ok(())
    } else {
        Err(DenyReason::Member(shown(name)))
    }
}

pub(super) fn object(value: &Value) -> Result<&Map<String, Value>, DenyReason> {
    value.as_object().ok_or(DenyReason::Unreadable)
}

/// Rejects a list of indices that contains anything but names, such as an action of the engine.
pub(super) fn check_index(value: &Value) -> Result<(), DenyReason> {
    let is_list = |value: &Value| {
        let names = value.as_str().into_iter().flat_map(|list| list.split(','));
        value.is_string() && names.into_iter().all(|name| name == "_all" || is_name(name))
    };
    let is_known = is_list(value) || value.as_array().is_some_and(|items| items.iter().all(is_list));
    if is_known || value.is_null() { Ok(()) } else { Err(DenyReason::Ambiguous) }
}

fn is_name(name: &str) -> bool {
    !name.contains(['/', '?', '#', '%', '\\']) && !name.contains(char::is_control) && !name.starts_with('_')
}

const REQUEST: &[&str] = &["dataSourceId", "id", "indexType", "isRestore", "isStored", "params", "sessionId"];

const OPTIONS: &[&str] = &["isRestore", "isStored", "legacyHitsTotal", "sessionId", "strategy"];

const STRATEGIES: &[&str] = &["es", "ese", "opensearch", "opensearch-with-long-numerals"];

/// Parameters of a search, in the spellings of Kibana's pages and of the engine. None keeps a search open.
const PARAMS: &[&str] = &[
    "allowNoIndices",
    "allow_no_indices",
    "batchedReduceSize",
    "batched_reduce_size",
    "body",
    "ccsMinimizeRoundtrips",
    "expandWildcards",
    "expand_wildcards",
    "from",
    "ignoreThrottled",
    "ignoreUnavailable",
    "ignore_throttled",
    "ignore_unavailable",
    "index",
    "maxConcurrentShardRequests",
    "max_concurrent_shard_requests",
    "preFilterShardSize",
    "pre_filter_shard_size",
    "preference",
    "restTotalHitsAsInt",
    "rest_total_hits_as_int",
    "size",
    "terminateAfter",
    "terminate_after",
    "timeout",
    "trackTotalHits",
    "track_total_hits",
    "waitForCompletionTimeout",
    "wait_for_completion_timeout",
];

/// Members of a search's body. Not `pit`, which keeps a search open.
const BODY: &[&str] = &[
    "_source",
    "aggregations",
    "aggs",
    "collapse",
    "docvalue_fields",
    "explain",
    "fields",
    "from",
    "highlight",
    "indices_boost",
    "min_score",
    "post_filter",
    "profile",
    "query",
    "rescore",
    "runtime_mappings",
    "script_fields",
    "search_after",
    "seq_no_primary_term",
    "size",
    "slice",
    "sort",
    "stats",
    "stored_fields",
    "suggest",
    "terminate_after",
    "timeout",
    "track_scores",
    "track_total_hits",
    "version",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn search(request: &Value, passes: bool) {
        assert_eq!(check(request).is_ok(), passes, "{request}");
        let batch = json!({ "batch": [{ "request": request, "options": { "strategy": "es" } }] });
        assert_eq!(check_batch(&batch).is_ok(), passes, "{batch}");
    }

    #[test]
    fn search_of_kibana_pages_passes() {
        search(&json!({ "params": { "index": "cwl-*,-x", "body": { "size": 0 }, "preference": 1 } }), true);
        search(&json!({ "params": { "index": ["a", "_all"], "expand_wildcards": ["open"] }, "id": "abc" }), true);
        search(&json!({}), true);
    }

    #[test]
    fn search_with_an_unknown_member_is_rejected() {
        for name in ["method", "Method", "METHOD", "path", "Path", "type", "Type", "headers", "Headers", "ignore"] {
            search(&json!({ "params": { "index": "a", name: "DELETE" } }), false);
            search(&json!({ "params": {}, name: "DELETE" }), false);
        }
        for name in ["requestTimeout", "maxRetries", "querystring", "bulkBody", "scroll", "keepAlive", "keep_alive"] {
            search(&json!({ "params": { "index": "a", name: 1 } }), false);
        }
        for name in ["pit", "scroll", "keep_alive", "Query", "script"] {
            search(&json!({ "params": { "body": { name: {} } } }), false);
        }
    }

    #[test]
    fn search_with_a_value_of_another_shape_is_rejected() {
        search(&json!({ "params": { "index": "cwl/_delete_by_query?" } }), false);
        search(&json!({ "params": { "index": "_bulk" } }), false);
        search(&json!({ "params": { "index": { "a": 1 } } }), false);
        search(&json!({ "params": { "index": ["a", ["_bulk"]] } }), false);
        search(&json!({ "params": { "preference": { "toString": 1 } } }), false);
        search(&json!({ "params": { "body": "{\"pit\":{}}" } }), false);
        search(&json!({ "params": [] }), false);
        search(&json!({ "id": "../cwl" }), false);
        search(&json!([]), false);
    }

    #[test]
    fn batch_of_another_strategy_is_rejected() {
        let batch = |options: Value| check_batch(&json!({ "batch": [{ "request": {}, "options": options }] }));
        assert_eq!(batch(json!({ "strategy": "ese", "sessionId": "a" })), Ok(()));
        assert!(batch(json!({ "strategy": "sql" })).is_err());
        assert!(batch(json!({ "Strategy": "es" })).is_err());
        assert!(batch(json!({ "strategy": ["es"] })).is_err());
        assert!(check_batch(&json!({ "batch": [], "a": 1 })).is_err());
    }
}
