//! Responses of the in-memory backend.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use super::{Call, Error, Indices, Reply, matches};
use crate::seen::Seen;

#[test]
fn document_is_returned_unchanged() {
    let mut indices = Indices::default();
    let (status, created) = indices.send("PUT", "/cwl/_doc/1", r#"{"a": 1}"#);
    assert_eq!((status, &created["result"]), (201, &json!("created")));
    let (status, found) = indices.send("GET", "/cwl/_doc/1", "");
    assert_eq!((status, &found["_source"]), (200, &json!({ "a": 1 })));
}

#[test]
fn document_put_again_is_updated() {
    let mut indices = Indices::default();
    indices.send("PUT", "/cwl/_doc/1", r#"{"a": 1}"#);
    let (status, updated) = indices.send("PUT", "/cwl/_doc/1", r#"{"a": 2}"#);
    assert_eq!((status, &updated["_version"]), (200, &json!(2)));
    assert_eq!(indices.send("GET", "/cwl/_doc/1", "").1["_source"], json!({ "a": 2 }));
}

#[test]
fn second_create_of_a_document_is_a_conflict() {
    let mut indices = Indices::default();
    indices.send("PUT", "/cwl/_create/1", "{}");
    let (status, answer) = indices.send("PUT", "/cwl/_create/1", "{}");
    assert_eq!((status, &answer["error"]["type"]), (409, &json!("version_conflict_engine_exception")));
}

#[test]
fn deleted_document_is_not_found() {
    let mut indices = Indices::default();
    indices.send("PUT", "/cwl/_doc/1", "{}");
    assert_eq!(indices.send("DELETE", "/cwl/_doc/1", "").1["result"], "deleted");
    assert_eq!(indices.send("GET", "/cwl/_doc/1", "").0, 404);
    assert_eq!(indices.send("DELETE", "/cwl/_doc/1", "").0, 404);
}

#[test]
fn documents_without_an_id_get_unique_ids() {
    let mut indices = Indices::default();
    let first = indices.send("POST", "/cwl/_doc", "{}").1;
    let second = indices.send("POST", "/cwl/_doc", "{}").1;
    assert_ne!(first["_id"], second["_id"]);
}

#[test]
fn escaped_slash_is_part_of_the_id() {
    let mut indices = Indices::default();
    assert_eq!(indices.send("PUT", "/cwl/_doc/a%2Fb", "{}").1["_id"], "a/b");
}

#[test]
fn bulk_request_applies_and_reports_each_action() {
    let mut indices = Indices::default();
    let body = "{\"index\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{\"n\":1}\n\
                {\"create\":{\"_index\":\"a\",\"_id\":\"1\"}}\n{\"n\":2}\n\
                {\"delete\":{\"_index\":\"a\",\"_id\":\"2\"}}\n\
                {\"create\":{}}\n{\"n\":3}\n";
    let (status, answer) = indices.send("POST", "/b/_bulk", body);
    assert_eq!((status, &answer["errors"]), (200, &json!(true)));
    let items = answer["items"].as_array().expect("items");
    let statuses = ["/index/status", "/create/status", "/delete/status", "/create/status"];
    let statuses: Vec<_> = items.iter().zip(statuses).map(|(item, at)| item.pointer(at).cloned()).collect();
    assert_eq!(statuses, [201, 409, 404, 201].map(|status| Some(json!(status))));
    assert_eq!(items[3]["create"]["_index"], "b");
    assert_eq!(indices.send("GET", "/a/_doc/1", "").1["_source"], json!({ "n": 1 }));
}

#[test]
fn gzipped_bulk_request_is_accepted() {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(b"{\"index\":{}}\n{\"n\":1}\n").expect("to write to memory");
    let seen = Seen {
        signer: None,
        body: encoder.finish().expect("to write to memory").into(),
        headers: vec![header("content-type", "application/x-ndjson"), header("content-encoding", "gzip")],
        ..seen("POST", "/cwl/_bulk", "")
    };
    let mut indices = Indices::default();
    assert_eq!(status_and_body(Call::read(&seen).and_then(|call| indices.answer(&call))).0, 200);
    assert_eq!(indices.send("GET", "/cwl/_count", "").1["count"], 1);
}

#[test]
fn bulk_request_without_a_final_newline_is_rejected() {
    let (status, answer) = Indices::default().send("POST", "/cwl/_bulk", "{\"index\":{}}\n{\"n\":1}");
    assert_eq!(status, 400);
    assert_eq!(answer["error"]["reason"], "The bulk request must be terminated by a newline [\\n]");
}

#[test]
fn search_returns_the_newest_first_of_all_indices() {
    assert_eq!(found("/cwl-*/_search", &json!({})), ["c", "b", "a"]);
}

#[test]
fn search_accepts_comma_separated_names_and_patterns() {
    assert_eq!(found("/cwl-2015.08.30,tr*/_search", &json!({})), ["x", "b", "a"]);
}

#[test]
fn search_returns_a_page_of_hits_and_the_total() {
    let answer = events().send("POST", "/cwl-*/_search", r#"{"from": 1, "size": 1}"#).1;
    assert_eq!((ids(&answer), &answer["hits"]["total"]["value"]), (vec!["b".to_owned()], &json!(3)));
}

#[test]
fn search_sorts_as_requested() {
    assert_eq!(found("/cwl-*/_search", &json!({ "sort": [{ "@timestamp": "asc" }] })), ["a", "b", "c"]);
    assert_eq!(found("/cwl-*/_search", &json!({ "sort": [{ "count": { "order": "desc" } }] })), ["b", "a", "c"]);
}

#[test]
fn term_compares_the_whole_value_of_a_nested_field() {
    let query = json!({ "query": { "term": { "user.name.keyword": "alice" } } });
    assert_eq!(found("/cwl-*/_search", &query), ["c", "a"]);
    let query = json!({ "query": { "term": { "user.name": { "value": "ali" } } } });
    assert_eq!(found("/cwl-*/_search", &query), [""; 0]);
}

#[test]
fn range_compares_times_across_zones() {
    let range = json!({ "gte": "2015-08-30T14:00:00+02:00", "lt": "2015-08-31T00:00:00Z" });
    assert_eq!(found("/cwl-*/_search", &json!({ "query": { "range": { "@timestamp": range } } })), ["b"]);
}

#[test]
fn range_compares_numbers_by_size() {
    assert_eq!(found("/cwl-*/_search", &json!({ "query": { "range": { "count": { "gt": 9 } } } })), ["b"]);
}

#[test]
fn all_clauses_of_a_bool_query_must_hold() {
    let query = json!({ "bool": {
        "filter": [{ "term": { "user.name": "alice" } }],
        "must": { "range": { "@timestamp": { "lte": "2015-08-30T23:00:00Z" } } },
    } });
    assert_eq!(found("/cwl-*/_search", &json!({ "query": query })), ["a"]);
}

#[test]
fn count_equals_the_number_of_search_hits() {
    let query = r#"{"query": {"term": {"user.name": "alice"}}}"#;
    assert_eq!(events().send("POST", "/cwl-*/_count", query).1["count"], 2);
}

#[test]
fn pattern_without_a_matching_index_finds_nothing() {
    let (status, answer) = Indices::default().send("GET", "/cwl-*/_search", "");
    assert_eq!((status, &answer["hits"]["hits"]), (200, &json!([])));
}

#[test]
fn search_in_a_missing_index_is_404() {
    let (status, answer) = Indices::default().send("GET", "/cwl/_search", "");
    assert_eq!((status, &answer["error"]["type"]), (404, &json!("index_not_found_exception")));
}

#[test]
fn unsupported_request_is_rejected_with_the_reason() {
    for (method, target, body, expected) in [
        ("POST", "/cwl-*/_search", r#"{"query": {"fuzzy": {}}}"#, "unknown query [fuzzy]"),
        ("POST", "/cwl-*/_search", r#"{"aggs": {}}"#, "Unknown key for a START_OBJECT in [aggs]."),
        ("GET", "/cwl-*/_search?q=a", "", "the parameter [q] is not stood in for"),
        ("DELETE", "/cwl", "", "no handler found for uri [/cwl] and method [DELETE]"),
        ("PUT", "/CWL", "", "Invalid index name [CWL]"),
        (
            "POST",
            "/cwl-*/_search",
            r#"{"query": {"range": {"a": {"gte": "now-1d"}}}}"#,
            "date math is not stood in for: [\"now-1d\"]",
        ),
    ] {
        let (status, answer) = events().send(method, target, body);
        assert_eq!((status, &answer["error"]["reason"], &answer["status"]), (400, &json!(expected), &json!(400)));
    }
}

#[test]
fn body_of_another_type_is_rejected() {
    let mut seen = seen("PUT", "/cwl/_doc/1", "a=b");
    seen.headers = vec![header("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(status_and_body(Call::read(&seen).map(|_| Reply::ok(Value::Null))).0, 406);
}

#[test]
fn index_can_be_created_once() {
    let mut indices = Indices::default();
    assert_eq!(indices.send("HEAD", "/cwl", "").0, 404);
    assert_eq!(indices.send("PUT", "/cwl", "").0, 200);
    assert_eq!(indices.send("HEAD", "/cwl", "").0, 200);
    let again = indices.send("PUT", "/cwl", "").1;
    assert_eq!(again["error"]["type"], "resource_already_exists_exception");
}

#[test]
fn indices_are_listed_as_text_with_a_heading_on_request() {
    let text = events().send("GET", "/_cat/indices/cwl-*?v", "").1;
    let lines: Vec<Vec<&str>> = text.as_str().expect("text").lines().map(|l| l.split_whitespace().collect()).collect();
    let names_and_counts: Vec<_> = lines.iter().map(|line| (line[2], line[6])).collect();
    assert_eq!(names_and_counts, [("index", "docs.count"), ("cwl-2015.08.30", "2"), ("cwl-2015.08.31", "1")]);
    let text = events().send("GET", "/_cat/indices", "").1;
    assert_eq!(text.as_str().expect("text").lines().count(), 3);
}

#[test]
fn indices_are_listed_as_json_on_request() {
    let list = events().send("GET", "/_cat/indices?format=json", "").1;
    assert_eq!((&list[0]["index"], &list[0]["docs.count"]), (&json!("cwl-2015.08.30"), &json!("2")));
}

#[test]
fn banner_health_and_templates_are_served() {
    let mut indices = Indices::default();
    assert_eq!(indices.send("GET", "/", "").1["tagline"], "You Know, for Search");
    assert_eq!(indices.send("GET", "/_cluster/health", "").1["status"], "green");
    assert_eq!(indices.send("PUT", "/_template/cwl", "{}").1["acknowledged"], true);
    assert_eq!(indices.send("PUT", "/_index_template/cwl", "{}").1["acknowledged"], true);
}

#[test]
fn star_matches_any_text_even_empty() {
    for (pattern, name, expected) in [
        ("*", "", true),
        ("cwl-*", "cwl-", true),
        ("cwl-*", "cwl", false),
        ("*-08", "cwl-08", true),
        ("*-08", "cwl-08-08", true),
        ("*-08", "cwl-08x", false),
        ("c*l*8", "cwl-08", true),
        ("cwl", "cwl-", false),
    ] {
        assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
    }
}

/// Returns three events in two indices, and a document in a third.
fn events() -> Indices {
    let mut indices = Indices::default();
    for (target, user, time, count) in [
        ("/cwl-2015.08.30/_doc/a", "alice", "2015-08-30T08:00:00Z", json!(9)),
        ("/cwl-2015.08.30/_doc/b", "bob", "2015-08-30T12:00:00.5Z", json!(10)),
        ("/cwl-2015.08.31/_doc/c", "alice", "2015-08-31T00:00:00Z", Value::Null),
        ("/trail/_doc/x", "carol", "2015-09-01T00:00:00Z", Value::Null),
    ] {
        let mut document = json!({ "@timestamp": time, "user": { "name": user } });
        if !count.is_null() {
            document["count"] = count;
        }
        assert_eq!(indices.send("PUT", target, &document.to_string()).0, 201);
    }
    indices
}

fn found(target: &str, body: &Value) -> Vec<String> {
    ids(&events().send("POST", target, &body.to_string()).1)
}

fn ids(answer: &Value) -> Vec<String> {
    let hits = answer["hits"]["hits"].as_array().unwrap_or_else(|| panic!("no hits: {answer}"));
    hits.iter().map(|hit| hit["_id"].as_str().expect("an id").to_owned()).collect()
}

impl Indices {
    fn send(&mut self, method: &str, target: &str, body: &str) -> (u16, Value) {
        let mut seen = seen(method, target, body);
        seen.headers = vec![header("content-type", "application/json")];
        status_and_body(Call::read(&seen).and_then(|call| self.answer(&call)))
    }
}

fn seen(method: &str, target: &str, body: &str) -> Seen {
    Seen {
        signer: None,
        connection: 1,
        method: method.to_owned(),
        target: target.to_owned(),
        headers: Vec::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
        refusal: None,
    }
}

fn header(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}

fn status_and_body(answer: Result<Reply, Error>) -> (u16, Value) {
    match answer {
        Ok(Reply::Json(status, body)) => (status.as_u16(), body),
        Ok(Reply::Text(text)) => (200, json!(text)),
        Err(error) => (error.status.as_u16(), error.body()),
    }
}
