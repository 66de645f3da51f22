use serde_json::json;

use super::*;

#[track_caller]
fn setting(name: &str, value: &Value, passes: bool) {
    assert_eq!(check_setting(name, value).is_ok(), passes, "{name} {value}");
    for body in [json!({ "changes": { name: value } }), json!({ "changes": { "theme": "dark", name: value } })] {
        assert_eq!(check_settings(&body).is_ok(), passes, "{body}");
    }
    let config = json!({ "attributes": { name: value } });
    assert_eq!(check_one(Kind::Config, &config).is_ok(), passes, "{config}");
    let typed = json!([{ "type": "config", "id": "7", "attributes": { name: value } }]);
    assert_eq!(check_many(&typed).is_ok(), passes, "{typed}");
    assert_eq!(check_many(&json!({ "version": "7", "objects": typed })).is_ok(), passes, "{typed}");
    assert_eq!(check_import(format!("--b\r\n\r\n{}\r\n--b--", typed[0]).as_bytes()).is_ok(), passes, "{typed}");
    let document = json!({ name: value });
    assert_eq!(check_document(Kind::Config, false, &document).is_ok(), passes, "{document}");
    assert_eq!(check_document(Kind::Config, true, &json!({ "doc": document })).is_ok(), passes, "{document}");
    let newer = json!({ "type": "config", "config": document });
    assert_eq!(check_document(Kind::Plain, false, &newer).is_ok(), passes, "{newer}");
}

#[test]
fn setting_that_makes_the_server_fetch_is_rejected_everywhere() {
    for name in ["timelion:graphite.url", "timeline:graphite.url", "TIMELION:Graphite.url", "timelion:quandl.key"] {
        setting(name, &json!("x"), false);
        setting(name, &json!(null), false);
    }
    setting("timelion:new.thing", &json!("x"), false);
    setting("visualization:tileMap:WMSdefaults", &json!("{}"), false);
    setting("timelion:max_buckets", &json!(1_000_000), false);
    setting("metrics:max_buckets", &json!(1_000_000), false);
    setting("siem:newsFeedUrl", &json!("x"), false);
    setting("notifications:banner", &json!("see http://127.0.0.1"), false);
    setting("anything", &json!(["//127.0.0.1/x"]), false);
}

#[test]
fn ordinary_setting_passes_everywhere() {
    setting("defaultIndex", &json!("cwl-*"), true);
    setting("defaultIndex", &json!(null), true);
    setting("discover:sampleSize", &json!(250), true);
    setting("timelion:es.timefield", &json!("@timestamp"), true);
    setting("timepicker:quickRanges", &json!("[{\"from\":\"now/d\",\"to\":\"now/d\",\"display\":\"Today\"}]"), true);
}

#[track_caller]
fn object(kind: &str, attributes: &Value, passes: bool) {
    let typed = json!({ "type": kind, "id": "a", "attributes": attributes });
    let found = Kind::of(kind).and_then(|kind| check_one(kind, &typed));
    assert_eq!(found.is_ok(), passes, "{typed}");
    assert_eq!(check_many(&json!([typed])).is_ok(), passes, "{typed}");
}

#[test]
fn shipped_object_is_not_replaced_in_any_form() {
    let shipped = |id: &str| {
        vec![
            json!({ "type": "search", "id": id, "attributes": {} }),
            json!({ "_type": "search", "_id": id, "_source": {} }),
            json!({ "type": "search", "id": "a", "originId": id, "attributes": {} }),
        ]
    };
    for id in ["trailgate-iam", "search:trailgate-iam", "space:search:trailgate-iam"] {
        for object in shipped(id) {
            let is_shipped = |found| matches!(found, Err(DenyReason::Shipped(_)));
            assert!(is_shipped(check_many(&json!([object]))), "{object}");
            assert!(is_shipped(check_many(&json!({ "objects": [object] }))), "{object}");
            assert!(is_shipped(check_import(format!("--b\r\n\r\n{object}\r\n--b--").as_bytes())), "{object}");
        }
    }
    let retries =
        |id| check_import(json!([{ "type": "search", "id": "a", "destinationId": id }]).to_string().as_bytes());
    assert!(retries("trailgate-iam").is_err());
    assert!(retries("b").is_ok());
    for object in shipped("mine-trailgate-iam") {
        assert_eq!(check_many(&json!([object])), Ok(()), "{object}");
    }
    let refers =
        json!([{ "type": "dashboard", "id": "a", "references": [{ "type": "search", "id": "trailgate-iam" }] }]);
    assert_eq!(check_many(&refers), Ok(()));
}

#[test]
fn object_that_makes_a_server_fetch_is_rejected() {
    object("data-source", &json!({ "endpoint": "http://127.0.0.1" }), false);
    object("timelion-sheet", &json!({ "timelion_sheet": [".es(*)", ".graphite(x)"] }), false);
    let state = json!({ "type": "timelion", "params": { "expression": ".es(*).divide(.quandl(a))" } }).to_string();
    object("visualization", &json!({ "visState": state }), false);
    let escaped = state.replace("quandl", "\\u0071uandl");
    object("visualization", &json!({ "visState": escaped }), false);
    let panels = json!([{ "embeddableConfig": { "savedVis": { "params": { "expression": ".wb(a)" } } } }]);
    object("dashboard", &json!({ "panelsJSON": panels.to_string() }), false);
    let twice = r#"{"params":{"expression":".es()","expression":"\u002egraphite(a)"}}"#;
    object("visualization", &json!({ "visState": twice }), false);
    object("visualization", &json!({ "visState": "{\"__proto__\":{\"a\":1}}" }), false);
    object("url", &json!({ "url": "https://evil.test" }), false);
    object("url", &json!({ "url": "//evil.test" }), false);
}

#[test]
fn ordinary_object_passes() {
    object("timelion-sheet", &json!({ "timelion_sheet": [".es(*)"] }), true);
    let vega = "{ // a comment\n $schema: https://vega.github.io/schema/vega/v5.json }";
    let state = json!({ "type": "vega", "params": { "spec": vega } }).to_string();
    object("visualization", &json!({ "visState": state }), true);
    let markdown = json!({ "type": "markdown", "params": { "markdown": "[a](https://a.test) {{b}}" } }).to_string();
    object("visualization", &json!({ "visState": markdown }), true);
    object("url", &json!({ "url": "/app/discover#/?_g=()", "accessCount": 0 }), true);
}

#[test]
fn import_that_cannot_be_read_line_by_line_is_rejected() {
    let import = |part: &str| {
        let form = format!(
            "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.ndjson\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n{part}\r\n--b--\r\n"
        );
        check_import(form.as_bytes())
    };
    let search = r#"{"type":"search","id":"a","attributes":{"title":"a"}}"#;
    assert_eq!(import(&format!("{search}\n{search}\n{{\"exportedCount\":2,\"missingRefCount\":0}}")), Ok(()));
    assert_eq!(import(""), Ok(()));
    for part in [
        "{\n\"type\":\"config\"}",
        "Content-Transfer-Encoding: base64",
        "eyJ0eXBlIjoiY29uZmlnIn0=",
        "{\"attributes\":{}}",
        r#"{"exportedCount":1,"type":"data-source","attributes":{}}"#,
    ] {
        assert!(import(part).is_err(), "{part}");
    }
}

#[test]
fn update_by_script_is_rejected() {
    let script = json!({ "script": "ctx._source.x = 1" });
    assert_eq!(check_document(Kind::Plain, true, &script), Err(DenyReason::Member("script".to_owned())));
}
