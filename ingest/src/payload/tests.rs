use std::io::Write as _;

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

fn gzip(text: impl AsRef<[u8]>) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(text.as_ref()).unwrap();
    gzip.finish().unwrap()
}

fn delivery(events: &Value) -> String {
    json!({
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": "trail",
        "logStream": "stream",
        "subscriptionFilters": ["all"],
        "logEvents": events,
    })
    .to_string()
}

fn data(json: impl AsRef<[u8]>) -> String {
    STANDARD.encode(gzip(json))
}

fn awslogs(data: &str) -> Value {
    json!({ "awslogs": { "data": data, "more": 1 }, "more": [] })
}

fn decode_value(payload: &Value) -> Result<Invocation, PayloadError> {
    decode_payload(payload.to_string().as_bytes(), NOW)
}

#[track_caller]
fn subscription(json: impl AsRef<[u8]>) -> LogBatch {
    match decode_value(&awslogs(&data(json))).unwrap() {
        Invocation::Subscription(batch) => batch,
        other => panic!("{other:?}"),
    }
}

/// Returns the id of each record with its messages, or with `None` where decoding fails.
fn outcomes(records: &[Record]) -> Vec<(&str, Option<Vec<&str>>)> {
    let mut outcomes = Vec::new();
    for Record { id, batch } in records {
        outcomes.push((id.as_str(), batch.as_ref().ok().map(messages_of)));
    }
    outcomes
}

fn messages_of(batch: &LogBatch) -> Vec<&str> {
    batch.events.iter().map(|event| event.message.as_str()).collect()
}

#[test]
fn events_are_read_in_order_and_other_keys_ignored() {
    let batch = subscription(delivery(&json!([
        { "id": "1", "timestamp": 1_421_116_143_214_u64, "message": "{\"a\":\"\\u00e9\\n\"}", "new": {} },
        { "id": "2", "timestamp": "1421116143215", "message": "plain", "extractedFields": { "b": "x", "a": null, "c": "" } },
    ])));
    let fields = |fields: &[(&str, &str)]| fields.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let event = |id: &str, timestamp, message: &str, extracted_fields| LogEvent {
        id: id.to_owned(),
        timestamp,
        message: message.to_owned(),
        extracted_fields,
    };
    assert_eq!(
        batch,
        LogBatch {
            owner: "123456789012".to_owned(),
            log_group: "trail".to_owned(),
            log_stream: "stream".to_owned(),
            events: vec![
                event("1", 1_421_116_143_214, r#"{"a":"\u00e9\n"}"#, Vec::new()),
                event("2", 1_421_116_143_215, "plain", fields(&[("b", "x"), ("c", "")])),
            ],
        }
    );
}

#[test]
fn control_messages_and_empty_batches_have_no_events() {
    let control = r#"{"messageType":"CONTROL_MESSAGE","logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL"}]}"#;
    assert_eq!(subscription(control).events, []);
    assert_eq!(subscription(delivery(&json!([]))).events, []);
    assert_eq!(subscription("{}").events, []);
}

#[test]
fn odd_text_in_a_message_keeps_the_batch() {
    let events =
        r#"{"logEvents":[{"id":"1","message":"a\ud800b"},{"id":"2","message":"\udc00"},{"id":3,"message":{"a":1}}]}"#;
    let messages = |batch: LogBatch| batch.events.into_iter().map(|event| event.message).collect::<Vec<_>>();
    assert_eq!(messages(subscription(events)), ["a\u{fffd}b", "\u{fffd}", r#"{"a":1}"#]);
    assert_eq!(messages(subscription(b"{\"logEvents\":[{\"message\":\"a\xff\"}]}")), ["a\u{fffd}"]);
}

#[test]
fn event_without_a_time_gets_its_neighbours() {
    let times = |timestamps: &[Value]| {
        let events: Vec<_> = timestamps.iter().map(|time| json!({ "timestamp": time, "message": "" })).collect();
        let batch = subscription(delivery(&json!(events)));
        batch.events.iter().map(|event| event.timestamp).collect::<Vec<_>>()
    };
    assert_eq!(times(&[json!("x"), json!(5), json!(null), json!(-1), json!(7), json!({})]), [5, 5, 5, 5, 7, 7]);
    assert_eq!(times(&[json!(1e300), json!("NaN"), json!(253_402_300_800_000_u64)]), [NOW.as_millisecond(); 3]);
    assert_eq!(times(&[json!(5.0), json!(" 6 ")]), [5, 6]);
}

#[test]
fn payload_error_does_not_quote_the_payload() {
    let payload = json!({ "awslogs": { "data": 1 }, "Records": "secret" });
    let error = decode_value(&payload).unwrap_err();
    assert!(matches!(error, PayloadError::Json(_)));
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn broken_payload_has_the_error_of_its_layer() {
    let error = |payload: &Value| decode_value(payload).unwrap_err();
    assert!(matches!(error(&awslogs("*")), PayloadError::Base64(_)));
    assert!(matches!(error(&awslogs(&STANDARD.encode("no gzip"))), PayloadError::Gzip(_)));
    let whole = gzip(delivery(&json!([])));
    assert!(matches!(error(&awslogs(&STANDARD.encode(&whole[..whole.len() - 9]))), PayloadError::Gzip(_)));
    assert!(matches!(error(&awslogs(&data("{"))), PayloadError::Json(_)));
    assert!(matches!(error(&awslogs(&data("[1]"))), PayloadError::Json(_)));
    assert!(matches!(error(&json!({ "detail": {} })), PayloadError::Unknown));
    assert!(matches!(decode_payload(b"\xff", NOW).unwrap_err(), PayloadError::Json(_)));
}

#[test]
fn base64_may_lack_its_padding() {
    for length in 0..3 {
        let json = delivery(&json!([{ "message": "x".repeat(length) }]));
        let payload = awslogs(&STANDARD_NO_PAD.encode(gzip(json)));
        assert!(matches!(decode_value(&payload), Ok(Invocation::Subscription(_))));
    }
}

#[test]
fn gzip_members_are_one_text_and_trailing_bytes_ignored() {
    let json = delivery(&json!([{ "message": "x" }]));
    let (one, other) = json.split_at(20);
    let members = [gzip(one), gzip(other)].concat();
    for trailing in [&b""[..], b"\0\0\0", b"trailing"] {
        let payload = awslogs(&STANDARD.encode([&members, trailing].concat()));
        assert!(matches!(decode_value(&payload), Ok(Invocation::Subscription(batch)) if batch.events.len() == 1));
    }
}

#[test]
fn decompression_bomb_is_rejected_at_the_limit() {
    let zeros = vec![0; 1000];
    assert_eq!(gunzip::gunzip(&gzip(&zeros), 1000).unwrap().len(), 1000);
    assert!(matches!(gunzip::gunzip(&gzip(&zeros), 999), Err(PayloadError::TooLarge)));
    let two = [gzip(&zeros), gzip(&zeros)].concat();
    assert!(matches!(gunzip::gunzip(&two, 1999), Err(PayloadError::TooLarge)));

    // A GiB in a MiB, of which no more than the limit is ever there.
    let bomb = gzip(vec![b' '; 1024 * 1024]).repeat(1024);
    assert!(matches!(gunzip::gunzip(&bomb, 1024 * 1024 + 1), Err(PayloadError::TooLarge)));
}

#[test]
fn invalid_kinesis_record_fails_only_itself() {
    let record = |number: &str, data: &str| json!({ "kinesis": { "data": data, "sequenceNumber": number, "partitionKey": "p" }, "eventSource": "aws:kinesis" });
    let good = data(delivery(&json!([{ "message": "x" }])));
    let payload =
        json!({ "Records": [record("1", &good), record("2", "*"), record("3", &data("{")), record("4", &good)] });
    let Ok(Invocation::Kinesis(records)) = decode_value(&payload) else { panic!() };
    assert_eq!(outcomes(&records), [("1", Some(vec!["x"])), ("2", None), ("3", None), ("4", Some(vec!["x"]))]);
    assert!(matches!(decode_value(&json!({ "Records": [] })), Ok(Invocation::Kinesis(records)) if records.is_empty()));
    assert!(matches!(decode_value(&json!({ "Records": [{ "s3": {} }] })), Err(PayloadError::Unknown)));
}

#[test]
fn failed_invocations_are_read_from_queues() {
    let logs = awslogs(&data(delivery(&json!([{ "message": "x" }]))));
    let kinesis = json!({ "Records": [
        { "kinesis": { "data": data(delivery(&json!([{ "message": "y" }]))), "sequenceNumber": "1" } },
        { "kinesis": { "data": "*", "sequenceNumber": "2" } },
    ] });
    let envelope = |payload: &Value| {
        json!({
            "version": "1.0",
            "timestamp": "2026-01-31T00:00:00.000Z",
            "requestContext": { "condition": "RetriesExhausted", "approximateInvokeCount": 3 },
            "requestPayload": payload,
            "responseContext": { "statusCode": 200, "functionError": "Unhandled" },
            "responsePayload": { "errorMessage": "x" },
        })
    };
    let message =
        |id: &str, body: &str| json!({ "messageId": id, "body": body, "eventSource": "aws:sqs", "attributes": {} });
    let payload = json!({ "Records": [
        message("a", &envelope(&logs).to_string()),
        message("b", &logs.to_string()),
        message("c", &envelope(&kinesis).to_string()),
        message("d", "no JSON"),
        message("e", &envelope(&json!(null)).to_string()),
        message("f", &kinesis.to_string()),
        message("g", &envelope(&json!({ "Records": [{ "messageId": "x", "body": "{}" }] })).to_string()),
    ] });
    let Ok(Invocation::Redrive(records)) = decode_value(&payload) else { panic!() };
    assert_eq!(
        outcomes(&records),
        [
            ("a", Some(vec!["x"])),
            ("b", Some(vec!["x"])),
            ("c", Some(vec!["y"])),
            ("c", None),
            ("d", None),
            ("e", None),
            ("f", Some(vec!["y"])),
            ("f", None),
            ("g", None),
        ]
    );
}
