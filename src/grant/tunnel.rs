//! Calls of the engine that travel inside Kibana's own: in the console's query, in a plug-in's body.

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::body::Question;
use super::{Call, ReadOnly, Why, of_engine};
use crate::engine::Engine;
use crate::target::Target;

/// Decides on the call that the console carries.
///
/// Kibana up to 5.1 sends it with its own method and `uri`; later ones and Dashboards name both in the query.
pub(super) fn console(call: &Call<'_>) -> Result<Question, ReadOnly> {
    let (mut uri, mut path, mut method) = (None, None, None);
    for (key, value) in call.parameters()? {
        match key.as_str() {
            "uri" => uri = Some(value),
            "path" => path = Some(value),
            "method" => method = Some(value.to_ascii_uppercase()),
            // Against caches; which cluster; how the answer looks.
            "_" | "dataSourceId" | "withProductOrigin" => {}
            _ => return Err(call.refuse(Why::Unknown)),
        }
    }
    match (uri, path, method) {
        (Some(uri), None, None) => engine(call, call.method, &uri),
        (None, Some(path), Some(method)) if call.method == "POST" => engine(call, &method, &path),
        _ => Err(call.refuse(Why::Unknown)),
    }
}

/// What index management passes on: the engine's client by the name of its function.
#[derive(Deserialize)]
pub(super) struct ApiCall {
    endpoint: String,
    #[serde(default)]
    data: Data,
}

#[derive(Default, Deserialize)]
struct Data {
    method: Option<String>,
    path: Option<String>,
    body: Option<IgnoredAny>,
}

impl ApiCall {
    /// Decides on the call.
    pub(super) fn check(&self, outer: &str, engine: Option<Engine>) -> Result<(), ReadOnly> {
        let refuse = |what: &str, why| ReadOnly { call: format!("{what} in {outer}"), why };
        match (self.endpoint.as_str(), &self.data) {
            ("transport.request", Data { method, path: Some(path), body }) => {
                // Without a method it depends on the body.
                let method = match (method, body) {
                    (Some(method), _) => method.to_ascii_uppercase(),
                    (None, None) => "GET".to_owned(),
                    (None, Some(_)) => return Err(refuse("a call", Why::Ambiguous)),
                };
                let ambiguous = || refuse("a call", Why::Ambiguous);
                let target = inner_target(path).ok_or_else(ambiguous)?;
                if !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    return Err(ambiguous());
                }
                match (Call { method: &method, target: &target, engine }).agree(of_engine)? {
                    Question::None => Ok(()),
                    _ => Err(refuse("a call", Why::Unknown)),
                }
            }
            // The client lets `method` stand in for the function's own: `indices.get` becomes a deletion.
            (name, Data { method: None, path: None, .. }) if READING.contains(&name) => Ok(()),
            _ => Err(refuse("a call", Why::Unknown)),
        }
    }
}

/// Decides on a call of the engine inside `outer`.
fn engine(outer: &Call<'_>, method: &str, path: &str) -> Result<Question, ReadOnly> {
    let target = inner_target(path).ok_or_else(|| outer.refuse(Why::Ambiguous))?;
    if !METHODS.contains(&method) {
        return Err(outer.refuse(Why::Unknown));
    }
    Call { method, target: &target, engine: outer.engine }.agree(of_engine)
}

/// The target that Kibana makes of a path with a query, if there is no doubt about it.
///
/// Kibana resolves it as browsers do: `\` is a slash, `#` ends it, and a scheme leads elsewhere. Versions differ in
/// what they do with dot segments.
fn inner_target(path: &str) -> Option<Target> {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    if path.contains("://") || path.contains(['\\', '#', ' ']) {
        return None;
    }
    let target = Target::canonical(&format!("/{path}"), query).ok()?;
    let count = |path: &str| path.split('/').filter(|segment| !segment.is_empty()).count();
    (count(path) == count(target.path())).then_some(target)
}

const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"];

/// Functions of the engine's client that read. By their whole names: `cat.client.indices.delete` is one, too.
const READING: &[&str] = &[
    "cat.aliases",
    "cat.allocation",
    "cat.count",
    "cat.fielddata",
    "cat.health",
    "cat.indices",
    "cat.nodes",
    "cat.recovery",
    "cat.segments",
    "cat.shards",
    "cat.tasks",
    "cat.templates",
    "cat.threadPool",
    "cluster.health",
    "cluster.stats",
    "count",
    "indices.exists",
    "indices.existsAlias",
    "indices.get",
    "indices.getAlias",
    "indices.getDataStream",
    "indices.getFieldMapping",
    "indices.getIndexTemplate",
    "indices.getMapping",
    "indices.getSettings",
    "indices.getTemplate",
    "indices.recovery",
    "indices.segments",
    "indices.stats",
    "search",
    "tasks.get",
    "tasks.list",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn inner(path: &str, expected: Option<&str>) {
        let found = inner_target(path);
        assert_eq!(found.as_ref().map(Target::as_str), expected, "{path}");
    }

    #[test]
    fn an_inner_path_is_taken_where_there_is_no_doubt() {
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
    fn api(body: &str, is_read: bool) {
        let call: Option<ApiCall> = serde_json::from_str(body).ok();
        let passes = call.is_some_and(|call| call.check("POST /_dashboards/api/ism/apiCaller", None).is_ok());
        assert_eq!(passes, is_read, "{body}");
    }

    #[test]
    fn a_plug_ins_call_is_decided_by_what_it_does() {
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
}
