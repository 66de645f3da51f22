//! Events that engines refuse as they are, and what is made of them.

use super::*;

#[test]
fn no_object_has_a_key_twice_at_any_depth() {
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
fn names_that_engines_refuse_are_changed_and_others_are_not() {
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
fn other_types_than_usual_are_kept() {
    for message in [
        r#"{"requestParameters":"HIDDEN_DUE_TO_SECURITY_REASONS","responseElements":[1,"x"],"additionalEventData":null}"#,
        r#"{"userIdentity":"x","eventName":{"a":[]},"eventTime":1}"#,
    ] {
        assert_eq!(fields(&event(message)), message);
    }
}

#[test]
fn line_breaks_between_values_are_dropped() {
    assert_eq!(fields(&event("{\r\n  \"a\": [\n1.0,\t2]\r\n}\n")), r#"{"a":[1.0,2]}"#);
}

#[test]
fn lone_surrogates_are_replaced_and_the_message_is_whole() {
    let message = r#"{"a":"x\ud800","b":"\ud83d\ude00","\udfff":1}"#;
    let source: Value = serde_json::from_str(&source(&event(message))).unwrap();
    assert_eq!(
        (&source["a"], &source["b"], &source["\u{fffd}"]),
        (&json!("x\u{fffd}"), &json!("\u{1f600}"), &json!(1))
    );
    assert_eq!(source["@message"], json!(message));
}

#[test]
fn what_is_nested_too_deep_is_kept_as_the_message_only() {
    let nested = |depth: usize| r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth);
    assert_eq!(fields(&event(&nested(100))), nested(100));
    assert_eq!(fields(&event(&nested(101))), "{}");
    assert_eq!(fields(&event(&nested(100_000))), "{}");
}

#[test]
fn large_events_are_documents_too() {
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
