//! Bodies that carry calls of the engine inside calls of the pages: what passes a read grant has only known members.
//!
//! The first byte says which route the rest is a body of.
#![no_main]

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use trailgate::grant::{Access, AccessLogView, decide};
use trailgate_client::{HashedBody, Target};

const ROUTES: [&str; 6] = [
    "/_dashboards/api/ism/apiCaller",
    "/_dashboards/internal/search/opensearch",
    "/_dashboards/internal/bsearch",
    "/_dashboards/api/timeline/run",
    "/_dashboards/api/opensearch-dashboards/settings",
    "/_dashboards/api/saved_objects/_bulk_create",
];

fuzz_target!(|input: &[u8]| {
    let Some((route, body)) = input.split_first() else { return };
    let route = usize::from(*route) % ROUTES.len();
    let target = Target::canonical(ROUTES[route], None).expect("a route is canonical");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let engine = "OpenSearch_2.19".parse().ok();
    let longest = Duration::from_secs(300);
    let check = decide(Access::Read, AccessLogView::Visible, engine, &Method::POST, &target, &headers, longest)
        .expect("the route is in the table");
    let body = Bytes::copy_from_slice(body);
    if body.is_empty() || check.run(&HashedBody::from(body.clone())).is_err() {
        return;
    }
    let body: Value = serde_json::from_slice(&body).expect("what passes is JSON");
    has_no_inherited_name(&body);
    match route {
        0 => {
            has_only(&body, &["data", "endpoint", "hideLog"]);
            let is_transport = body["endpoint"] == "transport.request";
            if !body["data"].is_null() {
                has_only(&body["data"], if is_transport { &["body", "method", "path"] } else { PARAMETERS });
            }
        }
        1 => is_search(&body),
        2 => body["batch"].as_array().expect("a list").iter().for_each(|item| is_search(&item["request"])),
        3 => {
            has_only(&body, &["extended", "sheet", "time"]);
            for cell in body["sheet"].as_array().expect("a list") {
                let cell = cell.as_str().expect("a text");
                assert!(!cell.contains(".graphite(") && !cell.contains(".quandl(") && !cell.contains("__proto__"));
            }
        }
        4 => {
            has_only(&body, &["changes", "value"]);
            let changes = body["changes"].as_object();
            assert!(!changes.is_some_and(|changes| changes.keys().any(|name| name.ends_with("graphite.url"))));
        }
        _ => {
            for object in body.as_array().or(body["objects"].as_array()).expect("a list") {
                assert_ne!(object["type"], "data-source");
            }
        }
    }
});

fn is_search(request: &Value) {
    has_only(request, &["dataSourceId", "id", "indexType", "isRestore", "isStored", "params", "sessionId"]);
    let Some(params) = request["params"].as_object() else { return };
    for name in params.keys() {
        // Some servers make these of any spelling.
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let dangerous = ["method", "path", "headers", "type", "ignore", "scroll", "keepalive", "requesttimeout"];
        assert!(!dangerous.contains(&plain.to_ascii_lowercase().as_str()), "{name}");
    }
    assert!(params.get("body").is_none_or(|body| body.get("pit").is_none()));
}

#[track_caller]
fn has_only(value: &Value, names: &[&str]) {
    let members = value.as_object().expect("an object");
    assert!(members.keys().all(|name| names.contains(&name.as_str())), "{value}");
}

fn has_no_inherited_name(value: &Value) {
    match value {
        Value::Array(items) => items.iter().for_each(has_no_inherited_name),
        Value::Object(members) => {
            for (name, value) in members {
                assert!(!["__proto__", "constructor", "prototype"].contains(&name.as_str()));
                has_no_inherited_name(value);
            }
        }
        _ => {}
    }
}

/// Parameters of the functions of the engine's client.
const PARAMETERS: &[&str] = &[
    "actions",
    "bytes",
    "detailed",
    "expand_wildcards",
    "fields",
    "flat_settings",
    "format",
    "h",
    "health",
    "index",
    "level",
    "metric",
    "name",
    "s",
    "taskId",
    "task_id",
];
