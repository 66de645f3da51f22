use std::io::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;

fn record(id: &str) -> Value {
    json!({ "eventVersion": "1.08", "eventID": id, "eventTime": "2026-03-04T05:06:07Z", "eventName": "GetObject",
        "eventSource": "s3.amazonaws.com", "recipientAccountId": "111122223333" })
}

fn delivery(id: &str) -> Value {
    json!({ "messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": "g", "logStream": "s",
        "logEvents": [{ "id": id, "timestamp": 1, "message": record("not this one").to_string() }] })
}

fn data(value: &Value) -> String {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(value.to_string().as_bytes()).unwrap();
    BASE64_STANDARD.encode(gzip.finish().unwrap())
}

/// Returns the items in short: ids, kinds in brackets, and reasons after an exclamation mark.
fn found(value: &Value) -> Vec<String> {
    let short = |item: Item| match item {
        Item::Record { event, .. } => vec![event.id],
        Item::Delivery(batch) => batch.events.into_iter().map(|event| event.id).collect(),
        Item::Foreign(kind) => vec![format!("[{kind}]")],
        Item::Failed(failed) => vec![format!("! {}", failed.reason)],
    };
    find_items(&value.to_string()).into_iter().flat_map(short).collect()
}

#[track_caller]
fn finds(value: &Value, expected: &[&str]) {
    assert_eq!(found(value), expected, "{value}");
}

#[test]
fn records_are_found_in_every_envelope() {
    let a = record("a");
    finds(&a, &["a"]);
    finds(&json!([a, [record("b")]]), &["a", "b"]);
    finds(&json!({ "Records": [a, record("b")] }), &["a", "b"]);
    finds(&json!({ "version": "0", "detail-type": "AWS API Call via CloudTrail", "detail": a }), &["a"]);
    finds(&json!({ "Events": [{ "EventId": "x", "CloudTrailEvent": a.to_string() }], "NextToken": "x" }), &["a"]);
    finds(&json!({ "Records": [{ "messageId": "m", "body": a.to_string() }] }), &["a"]);
    finds(&json!({ "Messages": [{ "MessageId": "m", "Body": a.to_string() }] }), &["a"]);
    finds(&json!({ "Records": [{ "EventSource": "aws:sns", "Sns": { "Message": a.to_string() } }] }), &["a"]);
    finds(&json!({ "Type": "Notification", "TopicArn": "arn", "Message": a.to_string() }), &["a"]);
    finds(&json!({ "Records": [{ "kinesis": { "sequenceNumber": "1", "data": data(&a) } }] }), &["a"]);
    finds(&json!({ "records": [{ "recordId": "1", "data": BASE64_STANDARD.encode(a.to_string()) }] }), &["a"]);
    finds(&json!({ "events": [{ "eventId": "1", "timestamp": 1, "message": a.to_string() }] }), &["a"]);
    finds(&json!({ "_index": "x", "_source": a, "sort": [1] }), &["a"]);
}

#[test]
fn deliveries_are_found_in_every_envelope() {
    let logs = json!({ "awslogs": { "data": data(&delivery("a")) } });
    finds(&delivery("a"), &["a"]);
    finds(&logs, &["a"]);
    finds(&json!({ "Records": [{ "kinesis": { "sequenceNumber": "1", "data": data(&delivery("a")) } }] }), &["a"]);
    let failed = json!({ "version": "1.0", "requestContext": {}, "requestPayload": logs });
    finds(&failed, &["a"]);
    finds(&json!({ "Records": [{ "messageId": "m", "body": failed.to_string() }] }), &["a"]);
    let control = json!({ "messageType": "CONTROL_MESSAGE", "logEvents": [{ "id": "", "message": "x" }] });
    finds(&control, &[]);
}

#[test]
fn nested_envelopes_are_opened() {
    let event = json!({ "detail-type": "AWS API Call via CloudTrail", "detail": record("a") });
    let topic = json!({ "Type": "Notification", "TopicArn": "arn", "Message": event.to_string() });
    let queue = json!({ "Records": [{ "messageId": "m", "body": topic.to_string() }] });
    let stream = json!({ "Records": [{ "kinesis": { "sequenceNumber": "1", "data": data(&queue) } }] });
    finds(&stream, &["a"]);
}

#[test]
fn string_of_several_values_yields_all() {
    let body = format!("{}\n{}{}", record("a"), record("b"), json!({ "Records": [record("c")] }));
    finds(&json!({ "Records": [{ "messageId": "m", "body": body }] }), &["a", "b", "c"]);
}

#[test]
fn duplicate_key_yields_both_lists() {
    let text = format!(r#"{{"x":1,"Records":[{}],"Records":[{}]}}"#, record("a"), record("b"));
    assert_eq!(find_items(&text).len(), 2);
}

#[test]
fn unknown_value_next_to_a_record_is_reported() {
    let message = json!([{ "x": 1 }, record("a")]).to_string();
    let unknown = "! not a CloudTrail record: an object with the keys x";
    finds(&json!({ "eventId": "e", "message": message }), &[unknown, "a"]);
    finds(&json!({ "eventId": "e", "message": "[{\"x\":1},{\"x\":2}]" }), &[unknown, unknown]);
    finds(&json!({ "text": message }), &[unknown, "a"]);
    finds(&json!({ "own": { "x": 1 }, "inner": [{ "x": 1 }, record("a")] }), &[unknown, "a"]);
    finds(&json!({ "own": [{ "x": 1 }], "inner": record("a") }), &["a"]);
}

#[test]
fn value_kind_without_events_is_reported() {
    finds(&json!({ "digestS3Bucket": "b", "logFiles": [] }), &["[digest files]"]);
    finds(&json!({ "configSnapshotId": "s", "configurationItems": [{ "a": 1 }] }), &["[AWS Config items]"]);
    let finding =
        json!({ "schemaVersion": "2.0", "service": {}, "severity": 2, "arn": "arn:aws:guardduty:eu-west-1:1:d" });
    finds(&finding, &["[GuardDuty findings]"]);
    finds(&json!({ "detail-type": "GuardDuty Finding", "detail": finding }), &["[GuardDuty findings]"]);
    finds(&json!({ "class_uid": 6003, "category_uid": 6, "metadata": {} }), &["[OCSF events]"]);
    let state = json!({ "detail-type": "EC2 Instance State-change Notification", "detail": { "state": "running" } });
    finds(&state, &["[EventBridge events of other services]"]);
    assert_eq!(classify_line("2 111122223333 eni-0 192.0.2.1 192.0.2.2 443 1"), Some(Line::Foreign("VPC flow logs")));
    assert_eq!(classify_line("version account-id interface-id srcaddr dstaddr"), Some(Line::Foreign("VPC flow logs")));
}

#[test]
fn notification_of_an_object_names_the_object() {
    let expected = "! a notification without events; load the object it names: s3://b/k.json.gz";
    let object = json!({ "bucket": { "name": "b" }, "object": { "key": "k.json.gz" } });
    // As a CloudTrail record, it has an eventVersion, an eventTime and an eventName.
    let notified = json!({ "eventVersion": "2.1", "eventSource": "aws:s3", "eventTime": "2026-03-04T05:06:07Z",
        "eventName": "ObjectCreated:Put", "s3": object });
    finds(&json!({ "Records": [&notified] }), &[expected]);
    finds(&json!({ "s3Bucket": "b", "s3ObjectKey": ["k.json.gz"] }), &[expected]);
    finds(&json!({ "source": "aws.s3", "detail-type": "Object Created", "detail": object }), &[expected]);
}

/// Notifications of S3 encode the key as a form does, and those of `EventBridge` do not.
#[test]
fn key_in_a_notification_is_decoded() {
    let object = |key: &str| json!({ "bucket": { "name": "b" }, "object": { "key": key } });
    let notified = json!({ "eventSource": "aws:s3", "s3": object("a+b/c%2Bd=%E2%82%AC.json.gz") });
    let named = |key: &str| format!("! a notification without events; load the object it names: s3://b/{key}");
    finds(&json!({ "Records": [notified] }), &[&named("a b/c+d=€.json.gz")]);
    let event = json!({ "source": "aws.s3", "detail-type": "Object Created", "detail": object("a+b/%2B.json.gz") });
    finds(&event, &[&named("a+b/%2B.json.gz")]);
}

#[test]
fn value_of_unknown_kind_is_reported() {
    finds(&json!({ "a": 1, "eventName": "x" }), &["! not a CloudTrail record: an object with the keys a, eventName"]);
    finds(
        &json!({ "Records": [{ "a": 1 }, record("b")] }),
        &["! not a CloudTrail record: an object with the keys a", "b"],
    );
    finds(&json!([null, 1]), &["! not a CloudTrail record: null", "! not a CloudTrail record: a number or a word"]);
    let stream = json!({ "eventID": "1", "eventName": "INSERT", "eventVersion": "1.1", "eventSource": "aws:dynamodb" });
    assert!(found(&stream)[0].starts_with("! not a CloudTrail record"));
}

#[test]
fn broken_data_is_reported_with_its_kind() {
    let broken = json!({ "awslogs": { "data": "*" } });
    assert!(found(&broken)[0].starts_with("! CloudWatch Logs delivery: data is not base64"));
    assert!(found(&json!({ "wrapped": broken }))[0].starts_with("! CloudWatch Logs delivery"));
}

#[test]
fn record_without_an_id_gets_a_stable_id() {
    for id in [json!(null), json!(""), json!("x".repeat(513))] {
        let mut record = record("");
        record["eventID"] = id;
        let ids = found(&record);
        assert_eq!(ids, found(&record));
        assert_eq!(ids[0].len(), 64);
    }
    let aggregated = json!({ "eventVersion": "1.0", "eventId": "a", "timeWindow": {}, "accountId": "111122223333" });
    finds(&aggregated, &["a"]);
}

#[test]
fn export_line_of_cloudwatch_logs_is_the_message() {
    assert_eq!(classify_line("2026-03-04T05:06:07.000Z {\"a\":1}"), Some(Line::Json("{\"a\":1}")));
    assert_eq!(classify_line("INFO {\"a\":1}"), None);
}

#[test]
fn deep_nesting_is_a_failure() {
    let mut value = record("a");
    for _ in 0..MAX_DEPTH {
        value = json!({ "Records": [value] });
    }
    assert!(found(&value)[0].starts_with("! nested in more than"));
}

#[test]
fn long_array_of_numbers_is_one_unknown_value() {
    finds(&json!({ "Records": vec![1; 101] }), &["! not a CloudTrail record: an array of numbers or words"]);
    assert_eq!(found(&json!({ "Records": vec![1; 100] })).len(), 100);
}
