//! Bodies of the engine's calls.

use serde_json::json;

use super::super::super::content::READABLE;
use super::{escaped, passes, rejected};

#[test]
fn body_that_reads_another_index_is_rejected() {
    for list in ["gate-2026.11.29", "<gate-{now/d}>", "*"] {
        for query in [
            json!({ "terms": { "a": { "index": list, "type": "t", "id": "1", "path": "client" } } }),
            json!({ "more_like_this": { "like": [{ "_index": list, "_id": "1" }] } }),
            json!({ "geo_shape": { "a": { "indexed_shape": { "index": list, "id": "1" } } } }),
            json!({ "percolate": { "field": "query", "index": list, "id": "1" } }),
            json!({ "bool": { "filter": [{ "terms": { "a": { "index": list } } }] } }),
        ] {
            let body = json!({ "query": query, "aggs": {} }).to_string();
            for target in ["/cwl-*/_search", "/cwl-*/_count", "/cwl-1/_explain/1", "/cwl-*/_validate/query"] {
                rejected("POST", target, &body);
                rejected("POST", target, &body.replace("index", "\\u0069ndex"));
                rejected("GET", &format!("{target}?source={}", escaped(&body)), "");
            }
            rejected("POST", "/cwl-*/_msearch", &format!("{{}}\n{body}\n"));
            rejected("POST", "/_plugins/_alerting/monitors/_search", &body);
            rejected("POST", "/_plugins/_asynchronous_search?index=cwl-*&keep_alive=1m", &body);
            let nested = json!({ "params": { "index": "cwl-*", "body": { "query": query } } });
            rejected("POST", "/_dashboards/internal/search/opensearch", &nested.to_string());
            rejected(
                "POST",
                "/_plugin/kibana/internal/bsearch",
                &json!({ "batch": [{ "request": nested }] }).to_string(),
            );
            let call = json!({ "method": "POST", "path": "cwl-*/_search", "body": { "query": query } });
            let call = json!({ "endpoint": "transport.request", "data": call });
            rejected("POST", "/_dashboards/api/ism/apiCaller", &call.to_string());
            let values = json!({ "field": "a", "query": "", "boolFilter": [query] });
            rejected("POST", "/_dashboards/api/opensearch-dashboards/suggestions/values/cwl-*", &values.to_string());
        }
        rejected("POST", "/_mget", &json!({ "docs": [{ "_index": list, "_id": "1" }] }).to_string());
        rejected("POST", "/cwl-1/_mget", &json!({ "docs": [{ "_index": list, "_id": "1" }] }).to_string());
        rejected("POST", "/_mtermvectors", &json!({ "docs": [{ "_index": list, "_id": "1" }] }).to_string());
    }
    let lookup = |index: &str| json!({ "query": { "terms": { "a": { "index": index, "id": "1", "path": "b" } } } });
    passes("POST", "/cwl-*/_search", &lookup("accounts").to_string());
    passes("POST", "/_mget", &json!({ "docs": [{ "_index": ".kibana", "_id": "1" }] }).to_string());
    passes(
        "POST",
        "/cwl-*/_search",
        "{\n  \"query\": {\n    \"term\": {\n      \"index\": \"constructor\"\n    }\n  }\n}",
    );
    passes("POST", "/cwl-*/_search", r#"{"query":{"query_string":{"query":"\"gate-1\" OR *"}}}"#);
}

#[test]
fn body_in_another_encoding_of_unicode_is_rejected() {
    let lookup = r#"{"query":{"terms":{"a":{"index":"gate-1","id":"1","path":"b"}}}}"#;
    let documents = r#"{"docs":[{"_index":"gate-1","_id":"1"}]}"#;
    let utf_16: fn(char) -> String = |c| format!("{c}\0");
    for encode in [utf_16, |c| format!("\0{c}"), |c| format!("{c}\0\0\0"), |c| format!("\0\0\0{c}")] {
        let encoded = |text: &str| text.chars().map(encode).collect::<String>();
        for target in ["/cwl-*/_search", "/cwl-*/_count", "/cwl-1/_explain/1", "/cwl-*/_validate/query"] {
            rejected("POST", target, &encoded(lookup));
            rejected("GET", &format!("{target}?source={}", escaped(&encoded(lookup))), "");
        }
        for target in ["/_mget", "/_mtermvectors", "/_dashboards/api/console/proxy?path=_mget&method=GET"] {
            rejected("POST", target, &encoded(documents));
        }
        rejected("GET", &format!("/_mget?source={}", escaped(&encoded(documents))), "");
    }
}

#[test]
fn value_of_more_than_four_mib_is_not_parsed() {
    let values = "0,".repeat(READABLE / 2);
    rejected("POST", "/cwl-1/_count", &format!("{{\"index\":\"cwl-1\",\"a\":[{values}0]}}"));
    rejected("POST", "/cwl-1/_count", &format!("{{\n\"index\":\"cwl-1\",\n\"a\":[{values}0]}}"));
    passes("POST", "/cwl-1/_count", &format!("{{\"a\":[{values}0]}}"));
    let search = "{\"index\":\"cwl-1\"}\n{\"query\":{\"match_all\":{}}}\n";
    let count = READABLE / search.len() + 1;
    passes("POST", "/cwl-1/_msearch", &search.repeat(count));
    passes("POST", "/_msearch", &search.repeat(count));
    rejected("POST", "/cwl-1/_msearch", &(search.repeat(count) + "{\"index\":\"gate-1\"}\n{}\n"));
}

#[test]
fn query_that_is_hidden_in_a_string_is_rejected() {
    let encoded = "eyJ0ZXJtcyI6e319";
    rejected("POST", "/cwl-*/_search", &json!({ "query": { "wrapper": { "query": encoded } } }).to_string());
    rejected("POST", "/cwl-*/_search", &json!({ "query": { "template": { "inline": "{}" } } }).to_string());
    rejected("POST", "/cwl-*/_search", r#"{"suggest":{"a":{"phrase":{"collate":{"query":{"source":"{}"}}}}}}"#);
    rejected("POST", "/cwl-*/_search", "---\nquery: {\"in\\x64ex\": 1}\n");
    rejected("POST", "/cwl-*/_search", "{/* \" */\"query\":{\"terms\":{\"a\":{\"index\":\"cwl\"}}}}");
    let template = |source: serde_json::Value| json!({ "source": source, "params": { "a": "b" } }).to_string();
    passes("POST", "/cwl-*/_search/template", &template(json!({ "query": { "match": { "a": "{{a}}" } } })));
    passes("POST", "/cwl-*/_search/template", &template(json!("{\"query\":{\"match\":{\"a\":\"{{a}}\"}}}")));
    for source in [
        json!({ "query": { "terms": { "a": { "index": "{{a}}" } } } }),
        json!({ "query": { "terms": { "a": { "{{a}}": "b" } } } }),
        json!({ "query": "{{{a}}}" }),
        json!({ "query": "{{&a}}" }),
        json!({ "query": "{{#toJson}}a{{/toJson}}" }),
        json!({ "query": "{{=<% %>=}}<%&a%>" }),
        json!("{\"query\":{{a}}}"),
        json!("{\"query\":{\"terms\":{\"a\":{\"index\":\"gate-1\"}}}}"),
    ] {
        rejected("POST", "/cwl-*/_search/template", &template(source.clone()));
        rejected("POST", "/cwl-*/_msearch/template", &format!("{{}}\n{}\n", template(source)));
    }
    rejected("POST", "/cwl-*/_search/template", r#"{"id":"stored","params":{"a":{"index":"gate-1"}}}"#);
    rejected("POST", "/_search/template", &template(json!({})));
}

#[test]
fn search_of_all_indices_passes_by_point_in_time_or_for_names() {
    let point = |id: &str| json!({ "pit": { "id": id, "keep_alive": "1m" } }).to_string();
    // "…my-index-000001" and "…gate-2026.11.29"
    passes("POST", "/_search", &point("o463QQEPbXktaW5kZXgtMDAwMDAx"));
    rejected("POST", "/_search", &point("o463QQEPZ2F0ZS0yMDI2LjExLjI5"));
    rejected("POST", "/cwl-*/_search", &point("o463QQEPZ2F0ZS0yMDI2LjExLjI5"));
    let names = json!({ "size": 0, "aggs": { "indices": { "terms": { "field": "_index", "size": 200 } } } });
    passes("POST", "/*/_search?ignore_unavailable=true", &names.to_string());
    let page = |body: &serde_json::Value| json!({ "params": { "index": "*:*", "body": body } }).to_string();
    passes("POST", "/_dashboards/internal/search/opensearch", &page(&names));
    rejected("POST", "/*/_search?q=secret", &names.to_string());
    rejected("POST", "/*/_search?size=1", &names.to_string());
    for (name, value) in [("query", json!({ "match_all": {} })), ("size", json!(1)), ("post_filter", json!({}))] {
        let mut asked = names.clone();
        asked[name] = value;
        rejected("POST", "/*/_search", &asked.to_string());
        rejected("POST", "/_dashboards/internal/search/opensearch", &page(&asked));
    }
    for terms in [json!({ "field": "entry" }), json!({ "field": "_index", "include": "gate.*" })] {
        let body = json!({ "size": 0, "aggs": { "a": { "terms": terms } } });
        rejected("POST", "/*/_search", &body.to_string());
    }
    let nested =
        json!({ "size": 0, "aggs": { "a": { "terms": { "field": "_index" }, "aggs": { "b": { "top_hits": {} } } } } });
    rejected("POST", "/*/_search", &nested.to_string());
}
