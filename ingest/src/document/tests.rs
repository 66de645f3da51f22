use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use proptest::prelude::*;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::*;

mod hostile;
mod strict;

use strict::Strict;

fn batch() -> LogBatch {
    LogBatch {
        owner: "123456789012".to_owned(),
        log_group: "trail".to_owned(),
        log_stream: "stream".to_owned(),
        events: Vec::new(),
    }
}

fn event(message: &str) -> LogEvent {
    LogEvent { id: "7".to_owned(), timestamp: 1_421_116_143_214, message: message.to_owned(), extracted_fields: vec![] }
}

fn extracted(fields: &[(&str, &str)]) -> LogEvent {
    let extracted_fields = fields.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    LogEvent { extracted_fields, ..event(r#"{"message":"is not read"}"#) }
}

/// Returns the source of the document, which must be one line of JSON in which no object has a key twice.
#[track_caller]
fn source(event: &LogEvent) -> String {
    strict(&build_document(&batch(), event, &DocumentOptions::default()))
}

#[track_caller]
fn strict(document: &Document) -> String {
    let source = str::from_utf8(&document.source).unwrap();
    assert!(!source.contains(['\n', '\r']), "{source}");
    serde_json::from_str::<Strict>(source).unwrap_or_else(|error| panic!("{error}: {source}"));
    source.to_owned()
}

/// Returns the event's own members of the document: everything before `@id`, as it is written.
#[track_caller]
fn fields(event: &LogEvent) -> String {
    let source = source(event);
    let end = source.find(r#""@id":"7","@timestamp":"#).unwrap();
    source[..end].trim_end_matches(',').to_owned() + "}"
}

#[test]
fn document_equals_that_of_the_stock_function() {
    let message = r#"{"eventName":"x","@id":1,"@timestamp":"x"}"#;
    let document = build_document(&batch(), &event(message), &DocumentOptions::default());
    assert_eq!(document.index, "cwl-2015.01.13");
    assert_eq!(document.id.as_deref(), Some("7"));
    let wanted = r#"{"eventName":"x","@id":"7","@timestamp":"2015-01-13T02:29:03.214Z","@message":"{\"eventName\":\"x\",\"@id\":1,\"@timestamp\":\"x\"}","@owner":"123456789012","@log_group":"trail","@log_stream":"stream"}"#;
    assert_eq!(strict(&document), wanted);
}

#[test]
fn lag_is_the_delay_of_the_log_in_seconds() {
    let lag = |time: &str| {
        let source: Value = serde_json::from_str(&source(&event(&json!({ "eventTime": time }).to_string()))).unwrap();
        source["@lag"].clone()
    };
    assert_eq!(lag("2015-01-13T02:24:00Z"), 303);
    assert_eq!(lag("2015-01-13T02:29:03Z"), 0);
    assert_eq!(lag("2015-01-13T02:29:04Z"), -1);
    assert_eq!(lag("yesterday"), Value::Null);
    assert_eq!(fields(&event(r#"{"@lag":"theirs"}"#)), r#"{"@lag_":"theirs"}"#);
}

#[test]
fn record_is_the_object_at_the_first_brace() {
    for (message, wanted) in [
        (r#"prefix {"a":1}"#, r#"{"a":1}"#),
        (r#"{"a":1} trailing"#, "{}"),
        (r#"[{"a":1}]"#, "{}"),
        ("plain text", "{}"),
        ("", "{}"),
        ("{", "{}"),
        ("{ }", "{}"),
        (" {\"a\":1}\n ", r#"{"a":1}"#),
        (r#"{"a":1,"a":2}"#, r#"{"a":2}"#),
        // The stock function has 12345678901234567000 and 1 here.
        (r#"{"big":12345678901234567890,"f":1.0}"#, r#"{"big":12345678901234567890,"f":1.0}"#),
        (r#"{"huge":12345678901234567890123,"b":1,"b":-0.10}"#, r#"{"huge":12345678901234567890123,"b":-0.10}"#),
    ] {
        assert_eq!(fields(&event(message)), wanted, "{message}");
    }
}

#[test]
fn number_beyond_every_engines_range_is_kept() {
    // The stock function makes a null of it. An engine may refuse it, and then gets the degraded document.
    let message = r#"{"e":1e400,"e":-1e400}"#;
    let document = build_document(&batch(), &event(message), &DocumentOptions::default());
    assert!(document.source.starts_with(br#"{"e":-1e400,"@id":"7""#));
}

#[test]
fn extracted_fields_replace_the_record() {
    // The stock function makes numbers of all of these, and loses digits.
    let numbers = [("n", "42"), ("d", "4.50"), ("x", "0x10"), ("e", "1e3"), ("sp", " 12 "), ("z", "0")];
    assert_eq!(fields(&extracted(&numbers)), r#"{"n":42,"d":4.50,"x":"0x10","e":"1e3","sp":" 12 ","z":0}"#);
    let numbers = [("acct", "001234567890"), ("long", "-999999999999999999"), ("longer", "1234567890123456789")];
    assert_eq!(
        fields(&extracted(&numbers)),
        r#"{"acct":"001234567890","long":-999999999999999999,"longer":"1234567890123456789"}"#
    );

    let texts = [("inf", "Infinity"), ("nan", "NaN"), ("mix", "12abc"), ("no", ""), ("-", "-"), ("dot", "1.")];
    assert_eq!(fields(&extracted(&texts)), r#"{"inf":"Infinity","nan":"NaN","mix":"12abc","-":"-","dot":"1."}"#);

    let objects = [("j", r#"{"q":1}"#), ("pj", r#"foo {"q":1.0,"q":2.0}"#), ("bj", "{bad"), ("arr", "[1,2]")];
    let wanted =
        r#"{"$j":{"q":1},"j":"{\"q\":1}","$pj":{"q":2.0},"pj":"foo {\"q\":1.0,\"q\":2.0}","bj":"{bad","arr":"[1,2]"}"#;
    assert_eq!(fields(&extracted(&objects)), wanted);

    let names = [("a", "1"), ("a", "2"), ("@id", "x"), ("", "x"), ("source", "x"), ("_id", "x")];
    assert_eq!(fields(&extracted(&names)), r#"{"a":2,"_":"x","source_":"x","_id_":"x"}"#);
}

#[test]
fn extracted_fields_without_a_value_are_ignored() {
    let message = r#"{"a":1}"#;
    assert_eq!(fields(&event(message)), message);
    let empty = LogEvent { extracted_fields: vec![("x".to_owned(), String::new())], ..event(message) };
    assert_eq!(fields(&empty), message);
}

#[test]
fn document_id_and_day_follow_the_options() {
    let shaped = |message: &str, id, day| {
        let document = build_document(
            &batch(),
            &event(message),
            &DocumentOptions { prefix: "p-".to_owned(), id, day, access_log: false },
        );
        (document.index, document.id)
    };
    let message = r#"{"eventID":"e","eventTime":"2015-01-12T23:59:59Z"}"#;
    let of = |index: &str, id: Option<&str>| (index.to_owned(), id.map(str::to_owned));
    assert_eq!(shaped(message, DocumentId::EventId, IndexDay::EventTime), of("p-2015.01.12", Some("e")));
    assert_eq!(shaped(message, DocumentId::None, IndexDay::LogTimestamp), of("p-2015.01.13", None));
    let aggregated = r#"{"eventId":"a","timeWindow":{"windowStart":"2015-01-12T23:55:00Z"}}"#;
    assert_eq!(shaped(aggregated, DocumentId::EventId, IndexDay::EventTime), of("p-2015.01.12", Some("a")));
    for odd in [r#"{"eventTime":"x"}"#, r#"{"eventID":"","eventTime":true}"#, r#"{"eventID":{}}"#, "x"] {
        assert_eq!(shaped(odd, DocumentId::EventId, IndexDay::EventTime), of("p-2015.01.13", Some("7")), "{odd}");
    }
    for (timestamp, index) in [(i64::MIN, "cwl-1970.01.01"), (i64::MAX, "cwl-9999.12.30")] {
        let event = LogEvent { timestamp, ..event("") };
        assert_eq!(build_document(&batch(), &event, &DocumentOptions::default()).index, index);
    }
}

#[test]
fn event_without_an_id_gets_a_stable_id() {
    let id = |event: &LogEvent, options: &DocumentOptions| build_document(&batch(), event, options).id;
    let default = DocumentOptions::default();
    let by_event_id = DocumentOptions { id: DocumentId::EventId, ..DocumentOptions::default() };
    for odd in [String::new(), "x".repeat(513)] {
        let event = LogEvent { id: odd.clone(), ..event(&json!({ "eventID": odd }).to_string()) };
        let made = id(&event, &default);
        assert_eq!(made.as_ref().map(String::len), Some(64));
        assert_eq!((id(&event, &default), id(&event, &by_event_id)), (made.clone(), made.clone()));
        assert_eq!(build_degraded(&batch(), &event, &default, "").id, made);
        let source: Value = serde_json::from_str(&source(&event)).unwrap();
        assert_eq!(source["@id"], json!(made));
        assert_ne!(id(&LogEvent { timestamp: 1, ..event }, &default), made, "another event");
    }
}

#[test]
fn system_fields_do_not_replace_the_record() {
    let message = r#"{"eventName":"RunInstances","requestParameters":{"a.b":1}}"#;
    let system = [("@aws.account", "111122223333"), ("@aws.region", "eu-west-1")];
    let system = system.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let event = LogEvent { extracted_fields: system.clone(), ..event(message) };
    assert_eq!(fields(&event), message);
    let alone: Value = serde_json::from_str(&source(&event)).unwrap();
    assert_eq!(alone["@aws"], json!({ "account": "111122223333", "region": "eu-west-1" }));

    let both = [vec![("n".to_owned(), "42".to_owned())], system].concat();
    let both: Value = serde_json::from_str(&source(&LogEvent { extracted_fields: both, ..event })).unwrap();
    assert_eq!((&both["n"], &both["@aws"]["region"]), (&json!(42), &json!("eu-west-1")));
    assert_eq!(both.get("eventName"), None);
}

#[test]
fn event_without_a_time_is_degraded_with_the_reason() {
    let event = LogEvent { timestamp: identity::UNDATED, ..event(r#"{"eventName":"x"}"#) };
    let document = build_document(&batch(), &event, &DocumentOptions::default());
    let source: Value = serde_json::from_slice(&document.source).unwrap();
    assert_eq!((document.index.as_str(), document.is_degraded), ("cwl-1970.01.01", true));
    assert_eq!(source["@degraded"], "the event has no time, and is dated 1970-01-01");
}

#[test]
fn source_ip_is_added_if_it_is_an_address() {
    let with = |record: &str| {
        let source: Value = serde_json::from_str(&source(&event(record))).unwrap();
        (source["source"].clone(), source["source_"].clone(), source["sourceIPAddress"].clone())
    };
    let address = json!({ "ip": "10.0.0.1" });
    assert_eq!(with(r#"{"sourceIPAddress":"10.0.0.1"}"#), (address.clone(), json!(null), json!("10.0.0.1")));
    assert_eq!(with(r#"{"sourceIPAddress":"2001:db8::1"}"#).0, json!({ "ip": "2001:db8::1" }));
    assert_eq!(with(r#"{"sourceIPAddress":"cloudtrail.amazonaws.com"}"#).0, json!(null));
    assert_eq!(with(r#"{"sourceIPAddress":1}"#).0, json!(null));
    // An object stays, and is the event's alone; anything else would be refused where the index has an object.
    assert_eq!(with(r#"{"source":{"a":1},"sourceIPAddress":"10.0.0.1"}"#).0, json!({ "a": 1 }));
    let scalar = with(r#"{"source":"aws.s3","sourceIPAddress":"10.0.0.1"}"#);
    assert_eq!(scalar, (address, json!("aws.s3"), json!("10.0.0.1")));
}

#[test]
fn degraded_document_keeps_the_parts_that_always_fit() {
    let record = json!({
        "eventTime": "2023-07-10T12:00:00Z", "eventName": "RunInstances", "eventSource": "ec2.amazonaws.com",
        "errorCode": { "odd": 1 }, "awsRegion": 1, "sourceIPAddress": "10.0.0.1", "x": "y",
        "userIdentity": { "arn": "arn:aws:iam::1:user/x" }, "requestParameters": { "bucketName": "b" },
    });
    let event = event(&record.to_string());
    let degraded =
        build_degraded(&batch(), &event, &DocumentOptions::default(), &("no\n".to_owned() + &"\u{e9}".repeat(1000)));
    let whole = build_document(&batch(), &event, &DocumentOptions::default());
    assert_eq!((&degraded.index, &degraded.id), (&whole.index, &whole.id));
    let kept: Value = serde_json::from_str(&strict(&degraded)).unwrap();
    assert_eq!(
        kept,
        json!({
            "eventTime": "2023-07-10T12:00:00Z", "eventName": "RunInstances", "eventSource": "ec2.amazonaws.com",
            "sourceIPAddress": "10.0.0.1", "@id": "7", "@timestamp": "2015-01-13T02:29:03.214Z",
            "@message": event.message, "@owner": "123456789012", "@log_group": "trail", "@log_stream": "stream",
            "ct": { "principal": "user/x", "user_arn": "arn:aws:iam::1:user/x", "bucket": "b" },
            "@degraded": format!("no\n{}", "\u{e9}".repeat(510)),
        })
    );
    let no_time = super::build_degraded(
        &batch(),
        &super::tests::event(r#"{"eventTime":"soon"}"#),
        &DocumentOptions::default(),
        "",
    );
    assert!(!strict(&no_time).contains(r#""eventTime":"#));
}

#[test]
fn every_real_event_keeps_all_its_values_byte_for_byte() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/cloudtrail/events.jsonl.gz");
    let mut events = String::new();
    GzDecoder::new(&std::fs::read(sample).unwrap()[..]).read_to_string(&mut events).unwrap();
    assert_eq!(events.lines().count(), 1000);
    for message in events.lines() {
        let source = source(&event(message));
        let made: BTreeMap<String, &RawValue> = serde_json::from_str(&source).unwrap();
        let record: BTreeMap<String, &RawValue> = serde_json::from_str(message).unwrap();
        for (key, value) in &record {
            assert_eq!(made[key].get(), value.get(), "{key} of {message}");
        }
        let added: Vec<_> = made.keys().filter(|key| !record.contains_key(*key) && !key.starts_with('@')).collect();
        assert!(added.iter().all(|key| *key == "ct" || *key == "source"), "{added:?}");
        assert_eq!(serde_json::from_str::<String>(made["@message"].get()).unwrap(), message);
    }
}

/// Generates JSON of all kinds, much of it with few keys so that these collide.
fn json() -> impl Strategy<Value = String> {
    let key = prop_oneof![
        "[a-c]?",
        r"[ac]\.[bc](\.[ab])?|\.|\.a|a\.|a\.\.b| |_id|_id_|ct|source|@id|@id\.x|requestParameters|userIdentity|eventID",
        r"\\u006[1-3]|\\ud800|\\n",
    ];
    let scalar = prop_oneof![
        Just("null".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        r#""([a-z\u{e9}]|\\["\\/bfnrt]|\\u00[01][0-9a-f]|\\ud[8-d]0[0-9a-f]){0,6}""#,
    ];
    scalar.prop_recursive(4, 32, 6, move |value| {
        let member = (key.clone(), "[ \t\r\n]?", value.clone())
            .prop_map(|(key, blank, value)| format!("\"{key}\":{blank}{value}"));
        prop_oneof![
            3 => prop::collection::vec(member, 0..6).prop_map(|members| format!("{{{}}}", members.join(","))),
            1 => prop::collection::vec(value, 0..4).prop_map(|values| format!("[{}]", values.join(","))),
        ]
    })
}

proptest! {
    #[test]
    fn any_message_yields_a_strict_document_with_log_fields(message in prop_oneof![any::<String>(), json()]) {
        let event = event(&message);
        let source: Value = serde_json::from_str(&source(&event)).unwrap();
        prop_assert_eq!(&source["@message"], &json!(message));
        prop_assert_eq!(&source["@id"], &json!("7"));
        prop_assert_eq!(&source["@timestamp"], &json!("2015-01-13T02:29:03.214Z"));
        prop_assert_eq!(&source["@owner"], &json!("123456789012"));
        prop_assert_eq!(&source["@log_group"], &json!("trail"));
        prop_assert_eq!(&source["@log_stream"], &json!("stream"));
        let degraded: Value = serde_json::from_str(&strict(&build_degraded(&batch(), &event, &DocumentOptions::default(), "x"))).unwrap();
        prop_assert_eq!(&degraded["@message"], &json!(message));
    }

    #[test]
    fn any_extracted_fields_yield_a_strict_document(fields in prop::collection::vec(("[a-c.$]{0,2}|@id|ct|.*", prop_oneof![any::<String>(), json()]), 0..6)) {
        let event = LogEvent { extracted_fields: fields, ..event("{}") };
        source(&event);
    }

    #[test]
    fn indexed_names_are_valid_for_every_engine(message in json()) {
        let source: Value = serde_json::from_str(&source(&event(&message))).unwrap();
        strict::assert_names(&source);
    }
}
