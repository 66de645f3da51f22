//! Tests of the rule for the access log: tables of calls that reach it, and of similar ones that do not.

mod bodies;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use hyper::header::{self, HeaderMap, HeaderValue};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde::Deserialize;
use serde_json::json;
use trailgate_client::{HashedBody, Target};

use super::super::table::TABLE;
use super::super::{Access, Backend, decide};
use super::*;

/// Decides on the strictest engine that has every route of the table.
fn check(method: &str, target: &str, body: &str) -> Result<(), ReadOnly> {
    check_as(AccessLogView::Hidden, "OpenSearch_2.19", method, target, "application/json", body)
}

fn check_as(
    view: AccessLogView,
    engine: &str,
    method: &str,
    target: &str,
    media: &str,
    body: &str,
) -> Result<(), ReadOnly> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let target = Target::canonical(path, query).unwrap();
    let headers: HeaderMap = [(header::CONTENT_TYPE, HeaderValue::from_str(media).unwrap())].into_iter().collect();
    let (method, engine) = (method.parse().unwrap(), engine.parse().ok());
    let check = decide(Access::Read, view, engine, &method, &target, &headers, Duration::from_mins(5))?;
    check.run(&HashedBody::from(Bytes::from(body.to_owned()))).map(drop)
}

#[track_caller]
fn passes(method: &str, target: &str, body: &str) {
    assert_eq!(check(method, target, body), Ok(()), "{method} {target} {body}");
}

#[track_caller]
fn rejected(method: &str, target: &str, body: &str) {
    assert!(check(method, target, body).is_err(), "{method} {target} {body} passes");
}

const REACHING: &[&str] = &[
    "gate-2026.11.29",
    "gate-*",
    "gate*",
    "GATE-1",
    "g*",
    "*",
    "**",
    "*-2026.11.29",
    "_all",
    "cwl-*,gate-1",
    "cwl-*,*",
    "-x,*",
    "-x",
    "cwl-1,-x",
    "+gate-1",
    "*,-cwl-*",
    "*,-gate-1",
    "-gate-*,*",
    "*,-gate-*,gate-1",
    "*,-gate-*,g*",
    "gate-1,*,-gate-*",
    "_all,-gate-*",
    "<gate-{now/d}>",
    "<g{now/d}>",
    "<{now{'gate-'yyyy.MM.dd}}>",
    "<ga{now{'te-'}}>",
    "*,<gate-{now/d}>,-gate-*",
    "x:gate-1",
    "x:*",
    "*:*",
    "*:*,-gate-*",
    "cwl-*,",
    "",
    " gate-1",
    ".opendistro-asynchronous-search-response",
    ".OPENDISTRO-asynchronous-search-response",
    ".opendistro-*",
    ".*",
    ".*,-gate-*",
    "cwl-*,.opendistro-a*",
    ".async-search",
    ".async-s*",
    "<.async-search{now/d}>",
];

const PERMITTED: &[&str] = &[
    "cwl-*",
    "cwl-2026.11.29",
    "cwl-*,-x",
    "cwl*,-cwl-1",
    "<cwl-{now/d}>",
    "<cwl-{now/d{HH:mm}}>",
    ".kibana",
    ".kibana*",
    "*,-gate-*",
    "cwl-*,*,-cwl-1,-gate-*",
    "gateway",
    "gates-1",
    "x:cwl-*",
    "logs-gate-1",
    ".opendistro-alerting-alerts*",
    ".opendistro-alerting-config",
    "async-search",
];

#[test]
fn expression_that_can_match_the_access_log_reaches_it() {
    for list in REACHING {
        assert!(list_reaches(list), "{list}");
    }
    for list in PERMITTED {
        assert!(!list_reaches(list), "{list}");
    }
}

/// Escapes a list for a path.
fn escaped(list: &str) -> String {
    percent_encode(list.as_bytes(), NON_ALPHANUMERIC).to_string()
}

#[test]
fn path_that_reaches_the_access_log_is_rejected() {
    let routes = ["_search", "_count", "_msearch", "_validate/query?explain=true", "_search/template", "t/_search"];
    let documents = ["_mget", "_doc/1", "_source/1", "_explain/1", "_termvectors/1", "t/1", "_rank_eval"];
    for list in REACHING.iter().filter(|list| !list.is_empty()) {
        for route in routes.iter().chain(&documents) {
            let method = if route.ends_with('1') { "GET" } else { "POST" };
            rejected(method, &format!("/{}/{route}", escaped(list)), "{}");
            rejected("GET", &format!("/_plugin/kibana/elasticsearch/{}/{route}", escaped(list)), "{}");
        }
        rejected("GET", &format!("/{}/_search", escaped(list)), "");
        rejected("POST", &format!("/{}/_search/point_in_time?keep_alive=1m", escaped(list)), "");
        rejected("POST", &format!("/_plugins/_asynchronous_search?keep_alive=1m&index={}", escaped(list)), "{}");
        rejected("POST", &format!("/cwl-*/_search?index={}", escaped(list)), "{}");
        rejected("POST", &format!("/_mget?index={}", escaped(list)), r#"{"ids":["1"]}"#);
    }
    for list in PERMITTED {
        passes("POST", &format!("/{}/_search", escaped(list)), r#"{"query":{"match_all":{}}}"#);
        passes("GET", &format!("/{}/_count", escaped(list)), "");
        passes("POST", &format!("/_plugins/_asynchronous_search?keep_alive=1m&index={}", escaped(list)), "{}");
    }
    for target in ["/_search", "/_count", "/_search?q=a", "/_validate/query", "/_field_stats?fields=target"] {
        rejected("GET", target, "");
        rejected("GET", &format!("/_plugin/kibana/api/console/proxy?uri={}", escaped(target)), "");
    }
    rejected("POST", "/_plugins/_asynchronous_search?keep_alive=1m", "{}");
    rejected("POST", "/_dashboards/api/console/proxy?path=gate-*%2F_search&method=GET", "{}");
    rejected("POST", "/_dashboards/api/console/proxy?path=_search&method=GET", "{}");
}

#[test]
fn pattern_that_matches_hidden_indices_is_rejected() {
    let search = r#"{"query":{"match_all":{}}}"#;
    for states in ["all", "open,hidden", "HIDDEN"] {
        for list in ["*,-gate-*", "cwl-*,*,-gate-*", "+*,-gate-*", "*response,-gate-*"] {
            rejected("POST", &format!("/{}/_search?expand_wildcards={}", escaped(list), escaped(states)), search);
            let parameters = format!("expand_wildcards={}&index={}", escaped(states), escaped(list));
            rejected("POST", &format!("/_plugins/_asynchronous_search?keep_alive=1m&{parameters}"), search);
            let header = json!({ "index": list, "expand_wildcards": states });
            rejected("POST", "/_msearch", &format!("{header}\n{search}\n"));
            let header = json!({ "expand_wildcards": states });
            rejected("POST", &format!("/{}/_msearch", escaped(list)), &format!("{header}\n{search}\n"));
            for name in ["expand_wildcards", "expandWildcards"] {
                let body =
                    json!({ "params": { "index": list, name: states.split(',').collect::<Vec<_>>(), "body": {} } });
                rejected("POST", "/_dashboards/internal/search/opensearch", &body.to_string());
            }
        }
        passes("POST", &format!("/cwl-*/_search?expand_wildcards={}", escaped(states)), search);
    }
    passes("POST", "/*,-gate-*/_search?expand_wildcards=open,closed", search);
    let header = json!({ "index": "*,-gate-*", "expand_wildcards": ["open", "closed"] });
    passes("POST", "/_msearch", &format!("{header}\n{search}\n"));
}

#[test]
fn names_sizes_and_mappings_stay_visible() {
    for target in [
        "/",
        "/_cat/indices",
        "/_cat/count/gate-*",
        "/_mapping",
        "/gate-*/_mapping",
        "/gate-*",
        "/_aliases",
        "/_all/_settings",
        "/_stats",
        "/_resolve/index/*",
        "/_field_caps?fields=*",
        "/gate-*/_field_caps?fields=*",
        "/_dashboards/internal/index-pattern-management/resolve_index/*",
        "/_dashboards/api/index_patterns/_fields_for_wildcard?pattern=*",
    ] {
        passes("GET", target, "");
    }
    rejected("POST", "/_field_caps?fields=*", r#"{"index_filter":{"term":{"entry":"a"}}}"#);
    passes("POST", "/cwl-*/_field_caps?fields=*", r#"{"index_filter":{"term":{"entry":"a"}}}"#);
}

#[test]
fn count_of_a_query_over_the_access_log_is_rejected() {
    let query = r#"{"query":{"prefix":{"entry":"a"}}}"#;
    for target in ["/_cat/count", "/_cat/count/gate-*", "/_cat/count/*,-gate-*,gate-1", "/_cat/count/_all"] {
        passes("GET", &format!("{target}?v&format=json"), "");
        rejected("GET", &format!("{target}?q=entry:a"), "");
        rejected("GET", &format!("{target}?source={}", escaped(query)), "");
        rejected("GET", target, query);
        let nested = percent_encode(format!("{target}?q=a").as_bytes(), NON_ALPHANUMERIC).to_string();
        rejected("POST", &format!("/_dashboards/api/console/proxy?method=GET&path={nested}"), "");
    }
    for list in ["cwl-*", "*,-gate-*"] {
        passes("GET", &format!("/_cat/count/{list}?q=a"), "");
        passes("GET", &format!("/_cat/count/{list}"), query);
        rejected("GET", &format!("/_cat/count/{list}"), r#"{"query":{"terms":{"a":{"index":"gate-1"}}}}"#);
    }
}

#[test]
fn identifiers_of_searches_are_hidden() {
    let call = |endpoint: &str, data: &str| format!(r#"{{"endpoint":"{endpoint}","data":{data}}}"#);
    for target in ["/_tasks?detailed", "/_tasks?detailed=true&actions=*search*", "/_tasks/a:1", "/_cat/tasks?detailed"]
    {
        rejected("GET", target, "");
        rejected("GET", &format!("/_plugin/kibana/api/console/proxy?uri={}", escaped(target)), "");
    }
    rejected("POST", "/_dashboards/api/ism/apiCaller", &call("tasks.list", r#"{"detailed":true}"#));
    rejected("POST", "/_dashboards/api/ism/apiCaller", &call("tasks.get", r#"{"taskId":"a:1"}"#));
    for target in ["/_tasks", "/_tasks?detailed=false", "/_cat/tasks?v", "/_cat/shards?detailed"] {
        passes("GET", target, "");
    }
    passes("POST", "/_dashboards/api/ism/apiCaller", &call("tasks.list", r#"{"actions":"*"}"#));
}

#[test]
fn values_of_a_field_that_any_client_sets_are_rejected() {
    rejected("GET", "/_plugin/kibana/api/timelion/validate/es", "");
    rejected("GET", "/_dashboards/api/timeline/validate/es", "");
}

#[test]
fn headers_of_many_searches_name_their_indices() {
    let search = "{\"query\":{\"match_all\":{}}}\n";
    for list in REACHING {
        for target in ["/_msearch", "/cwl-*/_msearch", "/_plugin/kibana/elasticsearch/_msearch"] {
            rejected("POST", target, &format!("{}\n{search}", json!({ "index": list })));
            rejected("POST", target, &format!("{}\n{search}", json!({ "index": [list] })));
            rejected(
                "POST",
                target,
                &format!("{{\"index\":\"cwl-*\"}}\n{search}{}\n{search}", json!({ "indices": list })),
            );
        }
        let body = json!({ "searches": [{ "header": { "index": list }, "body": {} }] }).to_string();
        rejected("POST", "/_dashboards/internal/_msearch", &body);
    }
    for list in PERMITTED {
        passes("POST", "/_msearch", &format!("{}\n{search}", json!({ "index": list, "ignore_unavailable": true })));
    }
    passes("POST", "/cwl-*/_msearch", &format!("{{}}\n{search}\n{search}"));
    for body in [
        format!("{{}}\n{search}"),
        format!("\n{search}"),
        format!("\n{{\"index\":\"cwl-*\"}}\n{search}"),
        format!("{{\"index\":null}}\n{search}"),
        format!("{{\"index\":[]}}\n{search}"),
        format!("{{\"index\":\"cwl-*\",\"index\":\"*\"}}\n{search}"),
        format!("{{\"index\":\"cwl-*\"}}\n{search}{{}}\n{search}"),
        format!("{{\"index\":[\"*\",\"x,-gate-*\"]}}\n{search}"),
        format!("{{\"type\":\"a\"}}\n{search}"),
    ] {
        rejected("POST", "/_msearch", &body);
    }
    passes("POST", "/_msearch", &format!("{{\"index\":[\"*\",\"-gate-*\"]}}\n{search}"));
}

#[test]
fn pages_name_the_indices_that_they_search() {
    for list in REACHING.iter().filter(|list| !list.contains(':')) {
        let index =
            json!({ "index": list, "size": 1, "body": {}, "query": {}, "name": "a", "script": "1" }).to_string();
        rejected("POST", "/_dashboards/api/kibana/legacy_scroll_start", &index);
        rejected("POST", "/_dashboards/internal/index-pattern-management/preview_scripted_field", &index);
        rejected("POST", "/_dashboards/api/home/hits_status", &index);
        rejected("POST", "/_dashboards/api/alerting/_search", &index);
        let search = json!({ "params": { "index": list, "body": {} } }).to_string();
        rejected("POST", "/_dashboards/internal/search/opensearch", &search);
        let panel = json!({ "panels": [{ "index_pattern": list, "series": [] }] }).to_string();
        rejected("POST", "/_dashboards/api/metrics/vis/data", &panel);
        let series = json!({ "series_index_pattern": list, "override_index_pattern": 1 });
        let panel = json!({ "panels": [{ "index_pattern": "cwl-*", "series": [series] }] }).to_string();
        rejected("POST", "/_dashboards/api/metrics/vis/data", &panel);
    }
    passes("POST", "/_dashboards/api/home/hits_status", r#"{"index":"cwl-*","query":{}}"#);
    passes("POST", "/_dashboards/api/alerting/_indices", r#"{"index":"*"}"#);
    passes("POST", "/_dashboards/api/geospatial/_indices", r#"{"index":"*-map"}"#);
    rejected("POST", "/_dashboards/internal/search/opensearch", "{}");
    rejected("POST", "/_dashboards/internal/search/opensearch", "");
    passes("POST", "/_dashboards/internal/search/ese/abc", r#"{"id":"abc"}"#);
    let series = json!({ "series_index_pattern": "", "override_index_pattern": 0, "metrics": [] });
    let panels = json!({ "panels": [{ "index_pattern": "cwl-*", "series": [series] }], "filters": [] });
    passes("POST", "/_dashboards/api/metrics/vis/data", &panels.to_string());
    rejected("POST", "/_dashboards/api/metrics/vis/data", r#"{"panels":[{"index_pattern":""}]}"#);
    rejected("POST", "/_dashboards/api/metrics/vis/data", r#"{"panels":[{}]}"#);
}

#[test]
fn expression_of_timelion_names_its_index() {
    let run = |expression: &str| json!({ "sheet": [".es(index=cwl-*)", expression], "time": { "from": "now-1d" } });
    for expression in [
        ".es(index='cwl-*',timefield='@timestamp')",
        ".es(index=cwl-*, timefield=@timestamp).lines(fill=1)",
        ".es(q='a, index=gate-*', index = \"cwl-*,x\").divide(.es(index=cwl-2026.11.29))",
        "(.es(index=cwl-*), .static(1))",
        ".es(a, count, b, index=cwl-*)",
    ] {
        passes("POST", "/_plugin/kibana/api/timelion/run", &run(expression).to_string());
    }
    for expression in [
        ".es(*)",
        ".es()",
        ".es(index=gate-*)",
        ".es(index=_all)",
        ".es(index='*')",
        ".es(index=\"gate-2026.11.29\")",
        ".es( index  =  gate-*)",
        ".es(index=cwl-*,index=gate-*)",
        ".es(q='index=cwl-*')",
        ".es(*, count, a, gate-*)",
        ".es(*, count, a, gate-*, index=cwl-*)",
        ".es(index=null)",
        ".es(index='g\\\\u0061te-*')",
        ".es(index=cwl-*).divide(.es(*))",
        ".elasticsearch(*)",
        ".opensearch(index=gate-*)",
        ".es(index=.static(1))",
    ] {
        rejected("POST", "/_plugin/kibana/api/timelion/run", &run(expression).to_string());
    }
    let filter = json!({ "sheet": [".es(index=cwl-*)"], "time": {},
        "extended": { "es": { "filter": { "terms": { "a": { "index": "gate-1", "id": "1", "path": "b" } } } } } });
    rejected("POST", "/_plugin/kibana/api/timelion/run", &filter.to_string());
}

#[test]
fn statement_that_can_reach_the_access_log_is_rejected() {
    for statement in [
        "SELECT * FROM gate-2026.11.29",
        "SELECT response FROM `.opendistro-asynchronous-search-response`",
        "SELECT result FROM .async-search",
        "select * from `gate-*`",
        "SELECT * FROM \"gate-2026.11.29\"",
        "SELECT a FROM cwl-1, gate",
        "SELECT a FROM cwl JOIN g* ON 1 = 1",
        "SELECT * FROM *",
        "SELECT * FROM `*`",
        "SELECT*FROM*",
        "SELECT * FROM x:gate-1",
        "SELECT * FROM x:*",
        "SELECT * FROM <gate-{now/d}>",
        "SELECT * FROM cwl, *",
        "SELECT * FROM @opensearch.default.gate-1",
        "SELECT * FROM @opensearch.default.g*",
        "SELECT * FROM default.*",
        "SELECT * FROM/**/gate-1",
        "SELECT * FROM _all",
        "SELECT a FROM cwl UNION SELECT target FROM GATE-1",
    ] {
        rejected("POST", "/_plugins/_sql", &json!({ "query": statement }).to_string());
        rejected("POST", "/_dashboards/api/sql_console/sqlquery", &json!({ "query": statement }).to_string());
        rejected("GET", &format!("/_opendistro/_sql?sql={}", escaped(statement)), "");
    }
    for statement in
        ["source=gate-*", "source = `gate-1`", "source=*", "search source=g*", "source=cwl | lookup gate-1 a"]
    {
        rejected("POST", "/_plugins/_ppl", &json!({ "query": statement }).to_string());
    }
    for statement in [
        "SELECT * FROM `cwl-*` WHERE eventName = 'DeleteTrail' AND a <> b",
        "SELECT COUNT(*), eventName FROM cwl-2026.11.29 WHERE eventName LIKE 'Delete%' GROUP BY eventName",
        "SELECT t.eventName, bytes - 5 FROM cwl-* t",
        "SELECT t.* FROM cwl-* t WHERE x = 'gateway'",
        "SHOW TABLES LIKE cwl%",
    ] {
        passes("POST", "/_plugins/_sql", &json!({ "query": statement }).to_string());
    }
    passes("POST", "/_plugins/_ppl", r#"{"query":"source=cwl-* | stats count() by eventName"}"#);
    passes("POST", "/_plugins/_ppl", &json!({ "query": format!("source=cwl-{}b*", "a.".repeat(200)) }).to_string());
    // Without a limit of a word's length it would take minutes.
    rejected("POST", "/_plugins/_ppl", &json!({ "query": format!("source={}b*", "a.".repeat(500_000)) }).to_string());
    rejected("POST", "/_plugins/_sql", r#"{"cursor":"n:1f8b"}"#);
    rejected("POST", "/_plugins/_sql", r#"{"query":"SELECT 1","filter":{"terms":{"a":{"index":"gate-1"}}}}"#);
    rejected(
        "POST",
        "/_plugins/_sql",
        r#"{"query":"SELECT a FROM ?","parameters":[{"type":"integer","value":"gate-1"}]}"#,
    );
}

#[test]
fn every_row_of_the_engine_has_a_scope() {
    for rule in TABLE.iter().filter(|rule| rule.backend == Backend::Engine) {
        if rule.verdict == Verdict::Refuse {
            continue;
        }
        for pattern in rule.paths {
            let fill = |part: &str| match part.trim_end_matches('?') {
                "{index}" => "cwl-1".to_owned(),
                part => part.trim_matches(['{', '}', '…']).split('|').next().unwrap_or_default().to_owned(),
            };
            let path = pattern.split('/').map(fill).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/");
            let path = format!("/{path}?keep_alive=1m&index=cwl-1");
            for method in rule.methods.split(' ') {
                let text = check(method, &path, "").err().map(|why| why.to_string()).unwrap_or_default();
                assert!(!text.contains("not known to read"), "{method} {path}: {text}");
            }
        }
    }
}

#[derive(Deserialize)]
struct Exchange {
    method: String,
    target: String,
    request_headers: Vec<(String, String)>,
    request_body: Option<String>,
}

#[test]
fn recorded_sessions_pass_but_for_searches_of_all_indices() {
    let mut rejected = BTreeSet::new();
    let mut count = 0;
    for (recording, engine) in [(KIBANA, "Elasticsearch_5.6"), (DASHBOARDS, "OpenSearch_2.19")] {
        for line in BufReader::new(GzDecoder::new(recording)).lines() {
            let exchange: Exchange = serde_json::from_str(&line.unwrap()).unwrap();
            let (method, target, body) =
                (&exchange.method, &exchange.target, exchange.request_body.unwrap_or_default());
            let media = exchange.request_headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-type"));
            let media = media.map_or("text/plain", |(_, value)| value);
            let check = |view| check_as(view, engine, method, target, media, &body);
            count += 1;
            if check(AccessLogView::Visible).is_ok() && check(AccessLogView::Hidden).is_err() {
                rejected.insert(format!("{method} {target} {}", body.get(..40).unwrap_or(&body)));
            }
        }
    }
    assert!(count > 500, "{count} exchanges");
    assert_eq!(rejected.into_iter().collect::<Vec<_>>(), SEARCHES_OF_ALL);
}

/// The defaults of the console and of Timelion in Kibana 5.
const SEARCHES_OF_ALL: &[&str] = &[
    "POST /_plugin/kibana/api/console/proxy?uri=_search {\n  \"query\": { \"match_all\": {} }\n}\n",
    "POST /_plugin/kibana/api/timelion/run {\"sheet\":[\".es(*)\"],\"time\":{\"from\":\"2023",
];

const KIBANA: &[u8] = include_bytes!("../../../../tests/data/kibana-traffic/kibana-5.1.jsonl.gz");
const DASHBOARDS: &[u8] = include_bytes!("../../../../tests/data/kibana-traffic/dashboards-2.8.jsonl.gz");
