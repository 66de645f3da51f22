//! Nested calls: engine calls carried inside Kibana's requests, in the console's query or a plug-in's body.

use serde_json::{Map, Value};
use trailgate_client::Target;

use super::access_log::{check_engine_body, check_function};
use super::body_rule::BodyRule;
use super::contexts::{Load, check_searches};
use super::search::{check_plain, known, object};
use super::{AccessLogView, Call, Context, Decision, DenyReason, ReadOnly, of_engine};

/// Decides on the console's nested call.
///
/// Kibana up to 5.1 sends it with the request's method and `uri`. Later versions and Dashboards name both in the query.
pub(super) fn console(call: &Call<'_>) -> Result<Decision, ReadOnly> {
    let (mut uri, mut path, mut method) = (None, None, None);
    let mut context = call.context;
    for (key, value) in call.parameters()? {
        match key.as_str() {
            "uri" => uri = Some(value),
            "path" => path = Some(value),
            "method" => method = Some(value.to_ascii_uppercase()),
            // Another cluster, whose engine is unknown.
            "dataSourceId" if !value.is_empty() => context.engine = None,
            // A cache buster, the local cluster, and a format option.
            "_" | "dataSourceId" | "withProductOrigin" => {}
            _ => return Err(call.deny(DenyReason::Unknown)),
        }
    }
    match (uri, path, method) {
        (Some(uri), None, None) => engine(call, context, call.method, &uri),
        (None, Some(path), Some(method)) if call.method == "POST" => engine(call, context, &method, &path),
        _ => Err(call.deny(DenyReason::Unknown)),
    }
}

/// Decides on the nested call of index management: a function of the engine's client and its parameters.
///
/// Some parameters replace the method, the path or the headers of the client's call, and an unexpected one can crash
/// the process. So only those that the pages send are permitted.
pub(super) fn check_api_call(call: &Value, outer: &str, context: Context) -> Result<Option<Load>, ReadOnly> {
    let deny = |why| ReadOnly { call: format!("a call in {outer}"), why };
    let call = object(call).map_err(deny)?;
    known(call, &["data", "endpoint", "hideLog"]).map_err(deny)?;
    let endpoint = call.get("endpoint").and_then(Value::as_str).ok_or_else(|| deny(DenyReason::Unreadable))?;
    let none = Value::Object(Map::new());
    let data = call.get("data").filter(|data| !data.is_null()).unwrap_or(&none);
    let data = object(data).map_err(deny)?;
    if endpoint == "transport.request" {
        return transport(data, context, deny);
    }
    let (_, parameters) =
        FUNCTIONS.iter().find(|(name, _)| *name == endpoint).ok_or_else(|| deny(DenyReason::Unknown))?;
    known(data, parameters).map_err(deny)?;
    data.iter().try_for_each(|(name, value)| check_plain(name, value)).map_err(deny)?;
    if context.access_log == AccessLogView::Hidden {
        check_function(endpoint, data).map_err(deny)?;
    }
    Ok(None)
}

/// Decides on a nested call that names its method and path.
fn transport(
    data: &Map<String, Value>,
    context: Context,
    deny: impl Fn(DenyReason) -> ReadOnly,
) -> Result<Option<Load>, ReadOnly> {
    known(data, &["body", "method", "path"]).map_err(&deny)?;
    let text = |name: &str| data.get(name).map(|value| value.as_str().ok_or_else(|| deny(DenyReason::Unreadable)));
    let path = text("path").transpose()?.ok_or_else(|| deny(DenyReason::Unknown))?;
    let method = match (text("method").transpose()?, data.get("body")) {
        (Some(method), _) => method.to_ascii_uppercase(),
        (None, None) => "GET".to_owned(),
        // The client's default method depends on the body.
        (None, Some(_)) => return Err(deny(DenyReason::Ambiguous)),
    };
    let target = inner_target(path).ok_or_else(|| deny(DenyReason::Ambiguous))?;
    if !METHODS.contains(&method.as_str()) {
        return Err(deny(DenyReason::Unknown));
    }
    let inner = Call { method: &method, target: &target, context };
    let Decision { body_rule, scope, load } = inner.decide_all_readings(of_engine)?;
    let body = match data.get("body") {
        None | Some(Value::Null) if scope.needs_body() => return Err(inner.deny(DenyReason::access_log(None))),
        None | Some(Value::Null) => return Ok(Some(load)),
        Some(body) if body.is_object() => body.to_string(),
        Some(_) => return Err(deny(DenyReason::Unreadable)),
    };
    if matches!(body_rule, BodyRule::None | BodyRule::Searches | BodyRule::Template) {
        let is_template = body_rule == BodyRule::Template;
        check_engine_body(scope, is_template, body.as_bytes()).map_err(|why| inner.deny(why.of_access_log()))?;
    }
    match body_rule {
        BodyRule::None => Ok(Some(load)),
        BodyRule::Searches | BodyRule::Template => {
            let changed = check_searches(body.as_bytes(), body_rule, context.longest).map_err(|why| inner.deny(why))?;
            Ok(Some(changed.unwrap_or(load)))
        }
        _ => Err(deny(DenyReason::Unknown)),
    }
}

/// Decides on the engine call nested in `outer`.
fn engine(outer: &Call<'_>, context: Context, method: &str, path: &str) -> Result<Decision, ReadOnly> {
    let target = inner_target(path).ok_or_else(|| outer.deny(DenyReason::Ambiguous))?;
    if !METHODS.contains(&method) {
        return Err(outer.deny(DenyReason::Unknown));
    }
    Call { method, target: &target, context }.decide_all_readings(of_engine)
}

/// Returns the target that Kibana derives from a path with a query, or `None` if it is ambiguous.
///
/// Kibana resolves the path as browsers do: `\` is a slash, a scheme names another server, `#` ends path and query, and
/// tabs and line ends are removed from both. Versions differ in their removal of dot segments.
fn inner_target(path: &str) -> Option<Target> {
    if path.contains('#') || path.contains(char::is_control) {
        return None;
    }
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    if path.contains("://") || path.contains(['\\', ' ']) {
        return None;
    }
    let target = Target::canonical(&format!("/{path}"), query).ok()?;
    let count = |path: &str| path.split('/').filter(|segment| !segment.is_empty()).count();
    (count(path) == count(target.path())).then_some(target)
}

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"];

/// Functions of the engine's client that only read, each with the parameters that the pages of index management send.
///
/// Compared by their full names, because `cat.client.indices.delete` is a function, too.
const FUNCTIONS: &[(&str, &[&str])] = &[
    ("cat.aliases", &["expand_wildcards", "format", "h", "name", "s"]),
    ("cat.allocation", CAT),
    ("cat.count", CAT),
    ("cat.health", CAT),
    ("cat.indices", &["bytes", "expand_wildcards", "format", "h", "health", "index", "s"]),
    ("cat.nodes", CAT),
    ("cat.recovery", CAT),
    ("cat.segments", CAT),
    ("cat.shards", CAT),
    ("cat.templates", &["format", "h", "name", "s"]),
    ("cluster.health", &["index", "level"]),
    ("cluster.stats", &[]),
    ("count", &["index"]),
    ("indices.exists", &["index"]),
    ("indices.existsAlias", &["index", "name"]),
    ("indices.get", &["expand_wildcards", "flat_settings", "index"]),
    ("indices.getAlias", &["expand_wildcards", "index", "name"]),
    ("indices.getDataStream", &["name"]),
    ("indices.getFieldMapping", &["fields", "index"]),
    ("indices.getIndexTemplate", &["flat_settings", "name"]),
    ("indices.getMapping", &["expand_wildcards", "index"]),
    ("indices.getSettings", &["expand_wildcards", "flat_settings", "index"]),
    ("indices.getTemplate", &["flat_settings", "name"]),
    ("indices.recovery", &["index"]),
    ("indices.segments", &["index"]),
    ("indices.stats", &["index", "metric"]),
    ("tasks.get", &["taskId", "task_id"]),
    ("tasks.list", &["actions", "detailed"]),
];

const CAT: &[&str] = &["bytes", "format", "h", "index", "s"];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::json;
    use super::*;

    #[track_caller]
    fn inner(path: &str, expected: Option<&str>) {
        let found = inner_target(path);
        assert_eq!(found.as_ref().map(Target::as_str), expected, "{path}");
    }

    #[test]
    fn ambiguous_inner_path_is_rejected() {
        inner("_search", Some("/_search"));
        inner("/cwl-*/_search?size=1", Some("/cwl-%2A/_search?size=1"));
        inner("//cwl/_search", Some("/cwl/_search"));
        inner("", Some("/"));
        inner("%3Ccwl-%7Bnow%2Fd%7D%3E/_search", Some("/%3Ccwl-%7Bnow%2Fd%7D%3E/_search"));
        for path in [
            "http://127.0.0.1:9200/_search",
            ".kibana/../cwl/_doc/1",
            "cwl/./_doc",
            "a/%2e%2e/b",
            r"a\..\b",
            "cwl/_doc#/_search",
            "a b",
            "a\tb",
            "a%",
        ] {
            inner(path, None);
        }
    }

    #[track_caller]
    fn api(body: &str, passes: bool) {
        let engine = Some("OpenSearch_2.19".parse().unwrap());
        let access_log = crate::policy::grant::AccessLogView::Visible;
        let access = crate::policy::grant::Access::Read;
        let context = Context { access, access_log, engine, longest: Duration::from_mins(5) };
        let check = |call: Value| check_api_call(&call, "POST /_dashboards/api/ism/apiCaller", context);
        let found = json::parse(body.as_bytes()).ok().map(check);
        assert_eq!(matches!(found, Some(Ok(_))), passes, "{body} {found:?}");
    }

    #[test]
    fn plug_in_call_is_decided_by_its_nested_call() {
        api(r#"{"endpoint":"cat.indices","data":{"format":"json"}}"#, true);
        api(r#"{"endpoint":"indices.getSettings","data":{"index":"cwl-*"}}"#, true);
        api(r#"{"data":{"path":"/_plugins/_security/api/account"},"endpoint":"transport.request"}"#, true);
        api(r#"{"endpoint":"transport.request","data":{"method":"POST","path":"cwl-*/_search","body":{}}}"#, true);
        api(r#"{"endpoint":"indices.close","data":{"index":"cwl-2023.07.10"}}"#, false);
        api(r#"{"endpoint":"indices.get","data":{"index":"cwl-2023.07.10","method":"DELETE"}}"#, false);
        api(r#"{"endpoint":"indices.get","endpoint":"indices.delete","data":{"index":"a"}}"#, false);
        api(r#"{"endpoint":"transport.request","data":{"method":"put","path":"/a/_doc/1","body":{}}}"#, false);
        api(r#"{"endpoint":"transport.request","data":{"method":"GET","method":"PUT","path":"/a/_doc/1"}}"#, false);
        api(r#"{"endpoint":"transport.request","data":{"path":"/a/_search","body":{}}}"#, false);
        api(r#"{"endpoint":"transport.request","data":{"method":"POST","path":"/_plugins/_sql","body":{}}}"#, false);
        api(r#"{"endpoint":"transport.request"}"#, false);
        api(r#"{"endpoint":"Cat.indices"}"#, false);
        api(r#"{"endpoint":"indices.clearCache"}"#, false);
        api(r#"{"endpoint":"cat.client.indices.delete","data":{"index":"a"}}"#, false);
        api(r#"{"endpoint":"cat.transport.request"}"#, false);
        api("[]", false);
    }

    #[test]
    fn unknown_parameter_of_a_nested_call_is_rejected() {
        api(r#"{"endpoint":"cat.aliases","data":{"format":"json","name":"**","s":"alias:desc"}}"#, true);
        api(r#"{"endpoint":"indices.get","data":{"index":["a"],"flat_settings":true},"hideLog":true}"#, true);
        api(r#"{"endpoint":"cat.indices","data":null}"#, true);
        for name in ["headers", "method", "path", "ignore", "requestTimeout", "maxRetries", "body", "Method", "source"]
        {
            let value = if name == "headers" { r#"{"a b":"x"}"# } else { r#""x""# };
            api(&format!(r#"{{"endpoint":"cat.indices","data":{{"{name}":{value}}}}}"#), false);
            api(&format!(r#"{{"endpoint":"cat.indices","{name}":{value}}}"#), false);
        }
        for name in ["headers", "querystring", "query", "ignore", "requestTimeout", "bulkBody", "Path", "auth"] {
            let data = format!(r#"{{"method":"GET","path":"/_cat/indices","{name}":{{}}}}"#);
            api(&format!(r#"{{"endpoint":"transport.request","data":{data}}}"#), false);
        }
        api(r#"{"endpoint":"search","data":{"index":"a","headers":{"a b":"x"},"body":{"size":0}}}"#, false);
        api(r#"{"endpoint":"indices.get","data":{"index":{"toString":1}}}"#, false);
        api(r#"{"endpoint":"cat.indices","data":{"constructor":1}}"#, false);
        api(r#"{"endpoint":"cat.indices","data":[]}"#, false);
    }

    #[test]
    fn search_in_a_nested_call_is_bounded() {
        let call = |path: &str, body: &str| {
            let data = format!(r#"{{"method":"POST","path":"{path}","body":{body}}}"#);
            format!(r#"{{"endpoint":"transport.request","data":{data}}}"#)
        };
        api(&call("a/_search?scroll=1m", "{}"), true);
        api(&call("a/_search?scroll=24h", "{}"), false);
        api(&call("_search", r#"{"pit":{"id":"a","keep_alive":"24h"}}"#), false);
        api(&call("_search", r#""{\"pit\":{}}""#), false);
        api(&call("_search/scroll", r#"{"scroll":"24h","scroll_id":"a"}"#), false);
    }
}
