//! Tests of the rules.

mod recorded;

use bytes::Bytes;
use hyper::header::{self, HeaderValue};
use trailgate_client::HashedBody;

use super::table::TABLE;
use super::*;
use crate::policy::route::Route;

const JSON: &str = "application/json";
const LONGEST: Duration = Duration::from_mins(5);

/// Decides for the most permissive engine: one without mapping types.
fn check(method: &str, target: &str, content_type: Option<&str>, body: &str) -> Result<(), String> {
    check_on("OpenSearch_2.19", method, target, content_type, body)
}

fn check_on(engine: &str, method: &str, target: &str, content_type: Option<&str>, body: &str) -> Result<(), String> {
    check_as(Access::Read, engine, method, target, content_type, body)
}

fn check_as(
    access: Access,
    engine: &str,
    method: &str,
    target: &str,
    content_type: Option<&str>,
    body: &str,
) -> Result<(), String> {
    check_with(access, AccessLogView::Visible, engine, method, target, content_type, body)
}

fn check_with(
    access: Access,
    access_log: AccessLogView,
    engine: &str,
    method: &str,
    target: &str,
    content_type: Option<&str>,
    body: &str,
) -> Result<(), String> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let target = Target::canonical(path, query).map_err(|error| error.to_string())?;
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut headers = HeaderMap::new();
    if let Some(content_type) = content_type {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
    }
    let engine = (engine != "unknown").then(|| engine.parse().unwrap());
    let check =
        decide(access, access_log, engine, &method, &target, &headers, LONGEST).map_err(|error| error.to_string())?;
    check.run(&HashedBody::from(Bytes::from(body.to_owned()))).map(drop).map_err(|error| error.to_string())
}

#[track_caller]
fn passes(method: &str, target: &str) {
    assert_eq!(check(method, target, Some(JSON), ""), Ok(()), "{method} {target}");
}

#[track_caller]
fn rejects(method: &str, target: &str) {
    assert!(check(method, target, Some(JSON), "").is_err(), "{method} {target} passes");
}

#[track_caller]
fn body(method: &str, target: &str, body: &str, is_read: bool) {
    assert_eq!(check(method, target, Some(JSON), body).is_ok(), is_read, "{method} {target} {body}");
}

#[test]
fn kibana_index_is_written_by_kibana_one_object_at_a_time() {
    passes("POST", "/_plugin/kibana/elasticsearch/.kibana/visualization/a-b?op_type=create");
    passes("PUT", "/_plugin/kibana/elasticsearch/.kibana/config/5.1.1");
    passes("POST", "/_plugin/kibana/elasticsearch/.kibana-4/config/4.1.2/_update");
    passes("POST", "/_plugin/kibana/elasticsearch/.kibana_1/_doc");
    passes("DELETE", "/_plugin/kibana/elasticsearch/.kibana/index-pattern/cwl-*");
    passes("POST", "/_plugin/kibana/elasticsearch/.kibana/_refresh");
    for target in [
        "/.kibana/visualization/a",
        "/_plugin/kibana/elasticsearch/.kibana",
        "/_plugin/kibana/elasticsearch/.kibana/",
        "/_plugin/kibana/elasticsearch/.kibana/_delete_by_query",
        "/_plugin/kibana/elasticsearch/.kibana/_update_by_query",
        "/_plugin/kibana/elasticsearch/.kibana/_bulk",
        "/_plugin/kibana/elasticsearch/.kibana/visualization/_bulk",
        "/_plugin/kibana/elasticsearch/.kibana/_close",
        "/_plugin/kibana/elasticsearch/.kibana,cwl-*/visualization/a",
        "/_plugin/kibana/elasticsearch/.kibana%2Ccwl-*/visualization/a",
        "/_plugin/kibana/elasticsearch/.kibana*/visualization/a",
        "/_plugin/kibana/elasticsearch/.kibana%2Fvisualization/a",
        "/_plugin/kibana/elasticsearch/.kibana%2F..%2Fcwl/visualization/a",
        "/_plugin/kibana/elasticsearch/.kibana/visualization%2F..%2Fcwl/a",
        "/_plugin/kibana/elasticsearch/.kibana/visualization/a?pipeline=moves",
        "/_plugin/kibana/elasticsearch/.kibana/visualization/a?refresh=true&refresh=false",
        "/_plugin/kibana/api/console/proxy?uri=.kibana%2Fvisualization%2Fa",
    ] {
        for method in ["POST", "PUT", "DELETE"] {
            rejects(method, target);
        }
    }
}

#[test]
fn read_is_recognised_by_its_whole_route() {
    passes("POST", "/cwl-*/_search?source=%7B%7D&source_content_type=application%2Fjson");
    passes("GET", "/%3Ccwl-%7Bnow%2Fd%7D%3E/_search");
    passes("POST", "/_plugin/kibana/s/auditors/api/saved_objects/search");
    passes("HEAD", "/cwl-2023.07.10/_doc/_a");
    rejects("POST", "/cwl/cloudtrail/_analyze");
    rejects("POST", "/cwl/_delete_by_query/_search");
    rejects("PUT", "/cwl/_search");
    rejects("POST", "/cwl/_SEARCH");
    rejects("POST", "/cwl/_search.");
    rejects("POST", "/cwl/_search%3Bx");
    rejects("POST", "/cwl/_search%20");
    rejects("POST", "/cwl%2F_doc%2F1/_search");
    rejects("GET", "/cwl%2F_flush");
    rejects("GET", "/cwl-x%2F_doc/%255Fbulk");
    rejects("OPTIONS", "/cwl");
    rejects("POST", "/_plugin%2Fkibana/api/saved_objects/search");
    rejects("POST", "/kibana/api/saved_objects/search");
    rejects("GET", "/_plugin/kibana/elasticsearch/bundles/_flush");
    rejects("GET", "/_cat/../_flush");
    rejects("POST", "/_tasks/n1:1/_cancel");
    rejects("POST", "/_reindex");
    rejects("GET", "/_plugin/kibana/api/reporting/generateReport/a");
    rejects("POST", "/_dashboards/api/sample_data/logs");
}

#[test]
fn method_override_header_is_rejected() {
    let target = Target::canonical("/cwl-*/_search", None).unwrap();
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let headers = [(HeaderName::from_static(name), HeaderValue::from_static("DELETE"))].into_iter().collect();
        assert!(decide(Access::Read, AccessLogView::Visible, None, &Method::POST, &target, &headers, LONGEST).is_err());
        assert!(decide(Access::Full, AccessLogView::Hidden, None, &Method::POST, &target, &headers, LONGEST).is_ok());
    }
}

#[test]
fn ambiguous_console_call_is_rejected() {
    let dashboards = |query: &str| format!("/_dashboards/api/console/proxy?{query}");
    passes("POST", &dashboards("path=cwl-*%2F_search%3Fsize%3D1&method=GET"));
    passes("POST", &dashboards("path=/_cat/indices&method=get&dataSourceId=&withProductOrigin=true"));
    rejects("POST", &dashboards("path=_search"));
    rejects("POST", &dashboards("method=GET"));
    rejects("PUT", &dashboards("path=_search&method=GET"));
    rejects("POST", &dashboards("path=_search&method=GET&uri=_search"));
    rejects("POST", &dashboards("path=_search&method=GET&x=1"));
    rejects("POST", &dashboards("path=_search&method=GET%20"));
    rejects("POST", &dashboards("path=http://127.0.0.1:9200/_search&method=GET"));
    rejects("POST", &dashboards("path=.kibana/../cwl/_search&method=GET"));
    rejects("POST", &dashboards("path=%255Fbulk%252Fx&method=GET"));
    rejects("POST", &dashboards("path=/_dashboards/api/saved_objects/search&method=POST"));
    passes("GET", "/_plugin/kibana/api/console/proxy?uri=_cat%2Findices%3Fv&_=1");
    rejects("GET", "/_plugin/kibana/api/console/proxy?uri=cwl%2F_flush");
}

#[test]
fn statement_is_checked_in_every_member() {
    for path in ["/_plugins/_sql", "/_opendistro/_sql", "/_sql", "/_dashboards/api/sql_console/sqlquery"] {
        body("POST", path, r#"{"query":"SELECT * FROM cwl"}"#, true);
        body("POST", path, r#"{"cursor":"abc"}"#, true);
        body("POST", path, r#"{"query":"DELETE FROM cwl"}"#, false);
        body("POST", path, r#"{"query":"SELECT 1","query":"DELETE FROM cwl"}"#, false);
        body("POST", path, r#"{"query":"SELECT 1","sql":"DELETE FROM cwl"}"#, false);
        body("POST", path, r#"{"cursor":"abc","query":"DELETE FROM cwl"}"#, false);
        body("POST", path, "DELETE FROM cwl", false);
        body("POST", path, "{}", false);
    }
    passes("GET", "/_opendistro/_sql?sql=SELECT%20*%20FROM%20cwl&format=csv");
    rejects("GET", "/_opendistro/_sql?sql=DELETE%20FROM%20cwl");
    rejects("GET", "/_opendistro/_sql?sql=SELECT%201&sql=DELETE%20FROM%20cwl");
    rejects("GET", "/_opendistro/_sql?format=csv;sql=DELETE%20FROM%20cwl");
    rejects("POST", "/_plugins/_sql?source=%7B%22query%22%3A%22DELETE%20FROM%20cwl%22%7D");
    rejects("POST", "/_dashboards/api/console/proxy?path=_opendistro/_sql%3Fsql%3DDELETE%20FROM%20cwl&method=GET");
    body("POST", "/_dashboards/api/console/proxy?path=_plugins/_sql&method=POST", r#"{"query":"SHOW TABLES"}"#, true);
    body("POST", "/_dashboards/api/console/proxy?path=_plugins/_sql&method=POST", r#"{"query":"DELETE"}"#, false);
    body("POST", "/_plugins/_ppl", r#"{"query":"source=cwl"}"#, true);
    body("POST", "/_plugins/_ppl", r#"{"query":"delete cwl"}"#, false);
}

#[test]
fn only_plain_json_bodies_are_checked() {
    let select = r#"{"query":"SELECT 1"}"#;
    let sql = |content_type| check("POST", "/_plugins/_sql", content_type, select);
    assert!(sql(Some("application/json")).is_ok());
    assert!(sql(Some("Application/JSON; charset=UTF-8")).is_ok());
    for other in ["text/plain", "application/x-www-form-urlencoded", "application/yaml", "application/json, text/plain"]
    {
        assert!(sql(Some(other)).is_err(), "{other}");
    }
    assert!(sql(None).is_err());
}

#[test]
fn body_that_is_form_and_json_is_rejected() {
    let both = r#"{"endpoint":"cat.indices","x":"&endpoint=indices.delete&data[index]=cwl&y="}"#;
    assert!(check("POST", "/_dashboards/api/ism/apiCaller", Some("application/x-www-form-urlencoded"), both).is_err());
}

#[test]
fn body_member_in_the_query_is_rejected() {
    let call = "endpoint=indices.delete&data=%7B%22index%22%3A%22cwl%22%7D";
    for method in ["GET", "HEAD", "POST"] {
        rejects(method, &format!("/_dashboards/api/ism/apiCaller?{call}"));
        rejects(method, &format!("/_dashboards/api/ism/accountInfo?{call}"));
    }
    body("POST", &format!("/_dashboards/api/ism/apiCaller?{call}"), "null", false);
    body("POST", "/_dashboards/api/ism/apiCaller?dataSourceId=", r#"{"endpoint":"cat.indices"}"#, true);
    rejects("POST", "/_dashboards/api/sql_console/sqlquery?query=DELETE%20FROM%20cwl");
    rejects("POST", "/_dashboards/api/sql_console/sqlquery?statement=DELETE%20FROM%20cwl");
    rejects("POST", "/_dashboards/internal/search/opensearch?params=1");
}

#[test]
fn search_that_is_another_call_is_rejected() {
    let search = "/_dashboards/internal/search/opensearch";
    body("POST", search, r#"{"params":{"index":"cwl-*,-x","body":{"size":0}}}"#, true);
    body("POST", search, r#"{"params":{"index":["a","b"]},"id":"abc"}"#, true);
    body("POST", search, r#"{"params":{"index":"cwl/_delete_by_query?"}}"#, false);
    body("POST", search, r#"{"params":{"index":"_bulk"}}"#, false);
    body("POST", search, r#"{"params":{"index":"cwl","method":"DELETE"}}"#, false);
    body("POST", search, r#"{"params":{"index":"cwl","index":"a/b"}}"#, false);
    body("POST", search, r#"{"id":"../cwl","params":{}}"#, false);
    body("POST", "/_dashboards/internal/search/sql", "{}", false);
    let batch = "/_plugin/kibana/internal/bsearch";
    body("POST", batch, r#"{"batch":[{"request":{"params":{"index":"a"}},"options":{"strategy":"ese"}}]}"#, true);
    body("POST", batch, r#"{"batch":[{"request":{"params":{"index":"a"}},"options":{"strategy":"sql"}}]}"#, false);
    body("POST", batch, r#"{"batch":[{"request":{}},{"request":{"params":{"index":"a/b"}}}]}"#, false);
}

#[test]
fn ending_all_searches_is_rejected() {
    passes("DELETE", "/_search/scroll/abc");
    body("DELETE", "/_search/scroll", r#"{"scroll_id":["abc"]}"#, true);
    body("DELETE", "/_search/scroll", r#"{"scroll_id":"_all"}"#, false);
    body("DELETE", "/_search/scroll", r#"{"scroll_id":["abc","\u005fall"]}"#, false);
    rejects("DELETE", "/_search/scroll/_all");
    rejects("DELETE", "/_search/scroll?scroll_id=_all");
    rejects("DELETE", "/_search/point_in_time/_all");
}

#[test]
fn rejection_names_the_call_that_decided() {
    let reason = |method, target| check(method, target, None, "").unwrap_err();
    let unknown = "writes, or is not known to read: this address may read only";
    assert_eq!(reason("POST", "/cwl-*/_doc"), format!("POST /cwl-*/_doc {unknown}"));
    assert_eq!(
        reason("POST", "/_dashboards/api/console/proxy?path=cwl%2F_doc%2F1&method=put"),
        format!("PUT /cwl/_doc/1 {unknown}")
    );
    assert_eq!(
        reason("GET", "/_nodes/hot_threads"),
        "GET /_nodes/hot_threads stops or slows down every node: this address may read only"
    );
    assert_eq!(reason("PUT", &format!("/{}", "a".repeat(5000))).len(), "PUT ".len() + 200 + "… ".len() + unknown.len());
}

#[test]
fn post_passes_only_on_engines_with_its_route() {
    let engines = [
        "unknown",
        "Elasticsearch_1.5",
        "Elasticsearch_2.3",
        "Elasticsearch_5.3",
        "Elasticsearch_5.6",
        "Elasticsearch_6.8",
        "Elasticsearch_7.10",
        "OpenSearch_1.3",
        "OpenSearch_2.3",
        "OpenSearch_3.1",
    ];
    // One digit for each engine: 1 is permitted, 0 is rejected.
    for (target, expected) in [
        ("/nowhere/_search", "1011111111"),
        ("/nowhere/_field_caps", "0000111111"),
        ("/nowhere/_rank_eval", "0000011111"),
        ("/nowhere/_field_stats", "0011100011"),
        ("/nowhere/_suggest", "0011100011"),
        ("/nowhere/_termvectors/1", "0000001111"),
        ("/nowhere/_explain/1", "0000001111"),
        ("/nowhere/_search/point_in_time?keep_alive=1m", "0000000011"),
        ("/nowhere/_pit?keep_alive=1m", "0000000000"),
        ("/nowhere/_async_search", "0000000000"),
        ("/_plugin/kibana/elasticsearch/nowhere/_field_caps", "0000111111"),
        ("/_dashboards/api/console/proxy?path=nowhere/_field_caps&method=POST", "0000111111"),
        ("/_dashboards/api/console/proxy?path=nowhere/_field_caps&method=GET", "1111111111"),
    ] {
        let digit = |engine: &&str| if check_on(engine, "POST", target, Some(JSON), "").is_ok() { '1' } else { '0' };
        assert_eq!(engines.iter().map(digit).collect::<String>(), expected, "{target}");
    }
    for engine in engines {
        for route in ["_field_caps", "_rank_eval", "_field_stats", "_termvectors/1", "_explain/1"] {
            assert_eq!(check_on(engine, "GET", &format!("/nowhere/{route}"), Some(JSON), "{}"), Ok(()), "{route}");
        }
    }
}

#[test]
fn shipped_object_is_read_only_on_every_route() {
    let writes = [
        ("POST", "/_dashboards/api/saved_objects/search/ID?overwrite=true"),
        ("PUT", "/_dashboards/api/saved_objects/search/ID"),
        ("DELETE", "/_plugin/kibana/api/saved_objects/search/ID"),
        ("DELETE", "/_plugin/kibana/s/space/api/saved_objects/search/ID"),
        ("POST", "/_plugin/kibana/elasticsearch/.kibana/search/ID"),
        ("PUT", "/_plugin/kibana/elasticsearch/.kibana/search/ID/_create"),
        ("POST", "/_plugin/kibana/elasticsearch/.kibana/search/ID/_update"),
        ("POST", "/_plugin/kibana/es_admin/.kibana_1/_update/ID"),
        ("PUT", "/_plugin/kibana/elasticsearch/.kibana/_create/ID"),
        ("PUT", "/_plugin/kibana/elasticsearch/.kibana/doc/search:ID"),
        ("PUT", "/_plugin/kibana/elasticsearch/.kibana/doc/search%3AID"),
        ("DELETE", "/_plugin/kibana/elasticsearch/.kibana/search/ID"),
        ("DELETE", "/_plugin/kibana/elasticsearch/.kibana/_doc/search:ID"),
    ];
    for (method, target) in writes {
        passes(method, &target.replace("ID", "mine"));
        rejects(method, &target.replace("ID", "trailgate-iam"));
        rejects(method, &target.replace("ID", "%74railgate-iam"));
    }
    let many = |id: &str| format!(r#"[{{"type":"search","id":"{id}","attributes":{{"title":"a"}}}}]"#);
    for route in ["_bulk_create?overwrite=true", "_bulk_update", "_bulk_delete"] {
        let target = format!("/_dashboards/api/saved_objects/{route}");
        body("POST", &target, &many("mine"), true);
        body("POST", &target, &many("trailgate-iam"), false);
        body("POST", &target, &many(r"\u0074railgate-iam"), false);
    }
    passes("GET", "/_dashboards/api/saved_objects/search/trailgate-iam");
    passes("GET", "/_plugin/kibana/elasticsearch/.kibana/search/trailgate-iam");
}

#[test]
fn write_to_a_new_kibana_index_is_rejected() {
    rejects("POST", "/_plugin/kibana/elasticsearch/.kibana_2/_doc");
    rejects("PUT", "/_plugin/kibana/elasticsearch/.kibana_77/search/a");
}

#[test]
fn every_row_of_the_table_has_a_route_class() {
    for rule in TABLE {
        for pattern in rule.paths {
            let segments = pattern.split('/').filter(|part| *part != "…").map(|part| {
                let part = part.trim_end_matches('?');
                if part == "{kibana}" { ".kibana" } else { part.split('|').next().unwrap_or_default() }
            });
            let path = segments.collect::<Vec<_>>().join("/");
            let prefix = if rule.backend == Backend::Kibana { "/_dashboards/" } else { "/" };
            let route = Route::of(&format!("{prefix}{path}")).name();
            let expected: &[&str] = match rule.what {
                "searches" => &["searches", "open_searches", "plugins"],
                "documents" => &["documents"],
                "searches that stay open" => &["open_searches"],
                "the end of a search" => &["open_searches", "statements", "searches"],
                "indices and their metadata" => &["metadata"],
                "state of the cluster" => &["status"],
                "state of plug-ins" => &["plugins", "statements"],
                "pages and their assets" => &["pages"],
                "saved objects of Kibana 4 to 6" | "short links to pages of the same server" => &["saved_objects"],
                what if what.starts_with("the console") => &["console"],
                what if what.starts_with("index management") => &["nested_calls"],
                what if what.starts_with("saved objects") || what.starts_with("settings") => &["saved_objects"],
                _ => &[],
            };
            assert!(route != "other" && (expected.is_empty() || expected.contains(&route)), "{path}: {route}");
        }
    }
}
