//! Events that engines refuse as they are, and what is made of them.

use serde_json::Map;

use super::*;

#[test]
fn duplicate_keys_are_removed_at_any_depth() {
    for (message, wanted) in [
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
        (r#"{"a":1,"\u0061":3}"#, r#"{"a":3}"#),
        (r#"{"requestParameters":{"x":1.0,"x":2.0}}"#, r#"{"requestParameters":{"x":2.0}}"#),
        (
            r#"{"a":[{"b":{"x":1,"x":{"y":1,"y":12345678901234567890123}}}]}"#,
            r#"{"a":[{"b":{"x":{"y":12345678901234567890123}}}]}"#,
        ),
    ] {
        assert_eq!(fields(&event(message)), wanted);
    }
    let many: Vec<_> = (0..200).map(|key| format!(r#""k{}":{key}"#, key % 100)).collect();
    let record: Value = serde_json::from_str(&source(&event(&format!("{{{}}}", many.join(","))))).unwrap();
    assert_eq!((&record["k0"], &record["k99"]), (&json!(100), &json!(199)));
}

#[test]
fn names_invalid_for_engines_are_changed() {
    for (message, wanted) in [
        // By itself a dot is a way to write an object.
        (r#"{"a.b":1,"a.c":2}"#, r#"{"a.b":1,"a.c":2}"#),
        (r#"{"a.b":1,"a":2}"#, r#"{"a_b":1,"a":2}"#),
        (r#"{"a.b":1,"a.b.c":2,"a_b_c":3}"#, r#"{"a.b":1,"a_b_c_":2,"a_b_c":3}"#),
        (r#"{".":1,"..":2,"a.":3,".a":4,"a..b":5,"a. .b":6}"#, r#"{"_":1,"__":2,"a_":3,"_a":4,"a__b":5,"a_ _b":6}"#),
        (r#"{"":1," ":2,"_":3}"#, r#"{"__":1,"___":2,"_":3}"#),
        (r#"{"x":{"":1,"a":2,"a.b":3}}"#, r#"{"x":{"_":1,"a":2,"a_b":3}}"#),
        (r#"{"_id":1,"_source":2,"_mine":3}"#, r#"{"_id_":1,"_source_":2,"_mine":3}"#),
        (r#"{"x":{"_id":1,"ct":2}}"#, r#"{"x":{"_id":1,"ct":2}}"#),
        (
            r#"{"ct":1,"@degraded":2,"ct.x":3,"@id.x":4,"requestParameters.x":5,"source.ip":6}"#,
            r#"{"ct_":1,"@degraded_":2,"ct_x":3,"@id_x":4,"requestParameters_x":5,"source_ip":6}"#,
        ),
        // These are not indexed, and any name goes.
        (
            r#"{"requestParameters":{"":1," ":2,"a.b":3,"a":4,".":5,"_id":6}}"#,
            r#"{"requestParameters":{"":1," ":2,"a.b":3,"a":4,".":5,"_id":6}}"#,
        ),
    ] {
        assert_eq!(fields(&event(message)), wanted);
    }
}

#[test]
fn values_of_unusual_types_are_kept() {
    for message in [
        r#"{"requestParameters":"HIDDEN_DUE_TO_SECURITY_REASONS","responseElements":[1,"x"],"additionalEventData":null}"#,
        r#"{"userAgent":["x","y"],"eventName":17,"apiVersion":null,"eventTime":null}"#,
    ] {
        assert_eq!(fields(&event(message)), message);
    }
}

#[test]
fn line_breaks_between_values_are_dropped() {
    assert_eq!(fields(&event("{\r\n  \"a\": [\n1.0,\t2]\r\n}\n")), r#"{"a":[1.0,2]}"#);
}

#[test]
fn lone_surrogates_are_replaced_except_in_the_message() {
    let message = r#"{"a":"x\ud800","b":"\ud83d\ude00","\udfff":1}"#;
    let source: Value = serde_json::from_str(&source(&event(message))).unwrap();
    assert_eq!(
        (&source["a"], &source["b"], &source["\u{fffd}"]),
        (&json!("x\u{fffd}"), &json!("\u{1f600}"), &json!(1))
    );
    assert_eq!(source["@message"], json!(message));
}

/// Returns the event's own fields, and the reason in `@degraded`.
#[track_caller]
fn fields_and_reason(message: &str) -> (String, String) {
    let event = event(message);
    let source: Value = serde_json::from_str(&source(&event)).unwrap();
    let is_degraded = build_document(&batch(), &event, &DocumentOptions::default()).is_degraded;
    assert_eq!(is_degraded, source.get("@degraded").is_some());
    (fields(&event), source["@degraded"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn part_that_no_engine_indexes_is_omitted_with_the_reason() {
    for (message, kept, reason) in [
        (
            r#"{"userIdentity":"x","eventName":{"a":[]},"eventTime":"soon","readOnly":"x","eventSource":"s"}"#,
            r#"{"eventSource":"s"}"#,
            "userIdentity is no object; eventName is no text; eventTime is no time; readOnly is no boolean",
        ),
        (
            r#"{"userIdentity":{"type":"x","userName":{"first":"A"},"sessionContext":{"attributes":{"creationDate":"20261119T010628Z"}}}}"#,
            r#"{"userIdentity":{"type":"x","sessionContext":{"attributes":{"creationDate":"2026-11-19T01:06:28Z"}}}}"#,
            "userName is no text",
        ),
        (r#"{"readOnly":"False","managementEvent":"true"}"#, r#"{"readOnly":false,"managementEvent":true}"#, ""),
        (r#"{"eventTime":"2024-10-08 17:52:46"}"#, r#"{"eventTime":"2024-10-08T17:52:46Z"}"#, ""),
        (r#"{"eventTime":1728409966,"a":1.0}"#, r#"{"eventTime":"2024-10-08T17:52:46Z","a":1.0}"#, ""),
    ] {
        assert_eq!(fields_and_reason(message), (kept.to_owned(), reason.to_owned()));
    }
}

#[test]
fn invalid_json_message_keeps_its_valid_parts() {
    let deep = "[".repeat(5000) + &"]".repeat(5000);
    let event = format!(
        r#"{{"eventName":"x","requestParameters":{{"deep":{deep},"bucketName":"b"}},"eventTime":"2024-10-08T17:52:46Z"}}"#
    );
    let (kept, reason) = fields_and_reason(&event);
    let kept: Value = serde_json::from_str(&kept).unwrap();
    assert_eq!((&kept["eventName"], &kept["eventTime"]), (&json!("x"), &json!("2024-10-08T17:52:46Z")));
    assert_eq!(kept["requestParameters"]["bucketName"], json!("b"));
    assert_eq!(reason, "the message is nested deeper than 100 levels");
    let document: Value = serde_json::from_str(&source(&super::event(&event))).unwrap();
    assert_eq!((&document["ct"], &document["@lag"]), (&json!({ "bucket": "b" }), &json!(-307_293_823)));

    for (message, kept, reason) in [
        (
            r#"{"eventName":"x","requestParameters":{"a":"cut o"#,
            r#"{"eventName":"x","requestParameters":{}}"#,
            "cut off",
        ),
        ("{\"eventName\":\"x\u{1}\"}", r#"{"eventName":"x\u0001"}"#, "control characters"),
        (r#"{"eventID":"e","x":NaN}"#, r#"{"eventID":"e","x":null}"#, "not valid JSON"),
    ] {
        let (fields, said) = fields_and_reason(message);
        assert_eq!(fields, kept);
        assert!(said.contains(reason), "{said}");
    }
}

#[test]
fn text_that_is_no_event_is_only_the_message() {
    let nested = |depth: usize| r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);
    assert_eq!(fields_and_reason(&nested(100)), (nested(100), String::new()));
    let too_deep = ("{}".to_owned(), "the message is nested deeper than 100 levels".to_owned());
    assert_eq!(fields_and_reason(&nested(101)), too_deep);
    assert_eq!(fields_and_reason(&nested(100_000)), too_deep);
    assert_eq!(fields_and_reason(r#"{"a":"cut o"#), ("{}".to_owned(), String::new()));
}

#[test]
fn keys_beyond_the_mapping_limit_are_omitted() {
    let many = |count: usize, prefix: &str| {
        (0..count).map(|key| format!(r#""{prefix}{key}":1"#)).collect::<Vec<_>>().join(",")
    };
    let (kept, reason) = fields_and_reason(&format!(r#"{{{},"eventName":"x"}}"#, many(10_000, "k")));
    let kept: Map<String, Value> = serde_json::from_str(&kept).unwrap();
    assert_eq!((kept.len(), &kept["eventName"]), (800, &json!("x")));
    assert_eq!(reason, "9201 of the event's keys are left out, since it has more than 800");

    let message = format!(r#"{{"userIdentity":{{{}}},"eventName":"x"}}"#, many(10_000, "k"));
    assert_eq!(fields_and_reason(&message).0, r#"{"eventName":"x"}"#);
    let resource = r#"{"ARN":"arn:aws:s3:::b/k","type":"AWS::S3::Object"}"#;
    let message = format!(r#"{{"resources":[{}]}}"#, vec![resource; 1000].join(","));
    assert_eq!(fields_and_reason(&message), (message, String::new()));
    // In parts that have no fields of their own there may be any number.
    let message = format!(r#"{{"requestParameters":{{{0}}},"unknown":{{{0}}}}}"#, many(2_000, "k"));
    assert_eq!(fields_and_reason(&message), (message, String::new()));
}

#[test]
fn large_event_becomes_a_document() {
    let field = "x".repeat(100 * 1024);
    let message = json!({ "requestParameters": { "bucketName": field, "x": field } }).to_string();
    let source: Value = serde_json::from_str(&source(&event(&message))).unwrap();
    assert_eq!(source["requestParameters"]["x"], json!(field));
    assert_eq!(source["ct"]["bucket"], json!("x".repeat(1024)));

    let members: Vec<_> = (0..60_000).map(|key| format!(r#""key{key}":"\"{key}""#)).collect();
    let message = format!(r#"{{"requestParameters":{{{}}}}}"#, members.join(","));
    assert!(message.len() > 1024 * 1024);
    assert_eq!(fields(&event(&message)), message);
}
