//! Files of every framing and nesting: what goes in is indexed, or named as failed.

use std::collections::BTreeSet;
use std::io::Read as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use serde_json::{Value, json};
use trailgate_testkit::gzip;

use super::{Rig, record};

/// A value of a file, before its events have ids.
#[derive(Clone, Debug)]
enum Node {
    /// A record with this text in it.
    Record(String),
    /// A delivery of CloudWatch Logs with so many events.
    Delivery(usize),
    /// Something that is no record, and is to be named.
    Unknown,
    /// Something that is known to hold no records.
    Digest,
    Wrapped(Wrapping, Vec<Node>),
}

#[derive(Clone, Copy, Debug)]
enum Wrapping {
    Array,
    Records,
    EventBridge,
    Sqs,
    Sns,
    SnsInLambda,
    Kinesis,
    Firehose,
    OnFailure,
    LookupEvents,
    FilterLogEvents,
}

#[derive(Clone, Copy, Debug)]
enum Framing {
    Lines,
    WindowsLines,
    Concatenated,
    Pretty,
    Array,
    PrettyRecords,
}

#[derive(Clone, Copy, Debug)]
enum Coding {
    Plain,
    Gzip,
    GzipTwice,
    GzipMembers,
    Marked,
    Utf16,
}

#[derive(Clone, Debug)]
struct Case {
    nodes: Vec<Node>,
    framing: Framing,
    coding: Coding,
    /// Before which lines there is a broken one, if values are framed by lines.
    broken: BTreeSet<usize>,
}

fn node() -> impl Strategy<Value = Node> {
    let text = prop_oneof![
        "[ -~]{0,20}",
        Just("}{\"][,:\\\"\n\t".to_owned()),
        Just("\u{1f600}é\u{2028}\u{feff}".to_owned()),
        Just("{\"eventVersion\":\"1\"".to_owned()),
    ];
    let leaf = prop_oneof![
        6 => text.prop_map(Node::Record),
        3 => (0..4_usize).prop_map(Node::Delivery),
        1 => Just(Node::Unknown),
        1 => Just(Node::Digest),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        (wrapping(), prop::collection::vec(inner, 1..4)).prop_map(|(w, n)| Node::Wrapped(w, n))
    })
}

fn wrapping() -> impl Strategy<Value = Wrapping> {
    prop::sample::select(vec![
        Wrapping::Array,
        Wrapping::Records,
        Wrapping::EventBridge,
        Wrapping::Sqs,
        Wrapping::Sns,
        Wrapping::SnsInLambda,
        Wrapping::Kinesis,
        Wrapping::Firehose,
        Wrapping::OnFailure,
        Wrapping::LookupEvents,
        Wrapping::FilterLogEvents,
    ])
}

fn case() -> impl Strategy<Value = Case> {
    let framing = prop::sample::select(vec![
        Framing::Lines,
        Framing::WindowsLines,
        Framing::Concatenated,
        Framing::Pretty,
        Framing::Array,
        Framing::PrettyRecords,
    ]);
    let coding = prop::sample::select(vec![
        Coding::Plain,
        Coding::Gzip,
        Coding::GzipTwice,
        Coding::GzipMembers,
        Coding::Marked,
        Coding::Utf16,
    ]);
    (prop::collection::vec(node(), 1..6), framing, coding, prop::collection::btree_set(0..6_usize, 0..3))
        .prop_map(|(nodes, framing, coding, broken)| Case { nodes, framing, coding, broken })
}

/// Writes a case down, each event under the next id.
struct Writer {
    next: usize,
}

impl Writer {
    fn id(&mut self) -> String {
        self.next += 1;
        format!("event-{}", self.next)
    }

    fn value(&mut self, node: &Node) -> Value {
        match node {
            Node::Record(text) => {
                let mut record = record(&self.id(), "2026-01-30");
                record["eventVersion"] = "1.08".into();
                record["requestParameters"] = json!({ "text": text, "nested": [{ "a": text }] });
                record
            }
            Node::Delivery(events) => {
                let event = |_| json!({ "id": self.id(), "timestamp": 1_769_774_400_000_i64, "message": "{\"a\":1}" });
                let events: Vec<_> = (0..*events).map(event).collect();
                json!({ "messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "g", "logStream": "s", "logEvents": events })
            }
            Node::Unknown => json!({ "unknown": 1 }),
            Node::Digest => json!({ "digestS3Bucket": "b", "logFiles": [{ "s3Object": "x" }] }),
            Node::Wrapped(wrapping, nodes) => {
                let values: Vec<Value> = nodes.iter().map(|node| self.value(node)).collect();
                wrapping.wrap(&values)
            }
        }
    }
}

impl Wrapping {
    fn wrap(self, values: &[Value]) -> Value {
        let text = || values.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        let packed = || BASE64_STANDARD.encode(gzip(&text()));
        let each = |wrap: fn(&Value) -> Value| values.iter().map(wrap).collect::<Vec<_>>();
        match self {
            Self::Array => json!(values),
            Self::Records => json!({ "Records": values }),
            Self::EventBridge => json!({ "id": "x", "detail-type": "AWS API Call via CloudTrail", "detail": values }),
            Self::Sqs => json!({ "Records": [{ "messageId": "m", "eventSource": "aws:sqs", "body": text() }] }),
            Self::Sns => json!({ "Type": "Notification", "TopicArn": "arn", "Message": text() }),
            Self::SnsInLambda => json!({ "Records": [{ "EventSource": "aws:sns", "Sns": { "Message": text() } }] }),
            Self::Kinesis => json!({ "Records": [{ "eventSource": "aws:kinesis", "eventID": "x", "eventName": "y",
                "kinesis": { "sequenceNumber": "1", "data": packed() } }] }),
            Self::Firehose => json!({ "records": [{ "recordId": "1", "data": BASE64_STANDARD.encode(text()) }] }),
            Self::OnFailure => json!({ "version": "1.0", "requestPayload": values, "responsePayload": {} }),
            Self::LookupEvents => {
                json!({ "Events": each(|value| json!({ "EventId": "x", "CloudTrailEvent": value.to_string() })) })
            }
            Self::FilterLogEvents => {
                json!({ "events": each(|value| json!({ "eventId": "x", "message": value.to_string() })) })
            }
        }
    }
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer { next: 0 };
        let values: Vec<Value> = self.nodes.iter().map(|node| writer.value(node)).collect();
        let lines = |end: &str| {
            let line = |(nth, value): (usize, &Value)| {
                let broken =
                    if self.broken.contains(&nth) { format!("{{\"eventID\": broken{end}") } else { String::new() };
                format!("{broken}{value}{end}")
            };
            values.iter().enumerate().map(line).collect::<String>()
        };
        let text = match self.framing {
            Framing::Lines => lines("\n"),
            Framing::WindowsLines => lines("\r\n"),
            Framing::Concatenated => values.iter().map(Value::to_string).collect(),
            Framing::Pretty => values.iter().map(|value| format!("{value:#}")).collect::<Vec<_>>().join("\n"),
            Framing::Array => json!(values).to_string(),
            Framing::PrettyRecords => format!("{:#}", json!({ "Records": values })),
        };
        match self.coding {
            Coding::Plain => text.into_bytes(),
            Coding::Gzip => gzip(&text),
            Coding::GzipTwice => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                std::io::Write::write_all(&mut encoder, &gzip(&text)).unwrap();
                encoder.finish().unwrap()
            }
            Coding::GzipMembers => {
                let half = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap();
                [gzip(&text[..half]), gzip(&text[half..])].concat()
            }
            Coding::Marked => format!("\u{feff}{text}").into_bytes(),
            Coding::Utf16 => format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect(),
        }
    }
}

/// A reader that knows nothing of envelopes: it looks for events in all that can be decoded.
#[derive(Debug, Default, PartialEq, Eq)]
struct Independent {
    events: BTreeSet<String>,
    unknown: usize,
    broken: usize,
}

impl Independent {
    fn bytes(&mut self, bytes: &[u8]) {
        let mut plain = Vec::new();
        if bytes.starts_with(&[0x1f, 0x8b]) {
            flate2::read::MultiGzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
            return self.bytes(&plain);
        }
        if let Some(units) = bytes.strip_prefix(&[0xff, 0xfe]) {
            let units: Vec<u16> = units.chunks(2).map(|unit| u16::from_le_bytes([unit[0], unit[1]])).collect();
            return self.text(&String::from_utf16(&units).unwrap());
        }
        self.text(str::from_utf8(bytes).unwrap().trim_start_matches('\u{feff}'));
    }

    fn text(&mut self, text: &str) {
        let is_broken = |line: &&str| line.starts_with("{\"eventID\": broken");
        self.broken += text.lines().filter(is_broken).count();
        let sound: String = text.split_inclusive('\n').filter(|line| !is_broken(line)).collect();
        for value in serde_json::Deserializer::from_str(&sound).into_iter::<Value>() {
            self.value(&value.unwrap());
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Object(object) if object.contains_key("eventVersion") => {
                self.events.insert(object["eventID"].as_str().unwrap().to_owned());
            }
            Value::Object(object) if object.contains_key("logEvents") => {
                let events = object["logEvents"].as_array().unwrap();
                self.events.extend(events.iter().map(|event| event["id"].as_str().unwrap().to_owned()));
            }
            Value::Object(object) if object.contains_key("unknown") => self.unknown += 1,
            Value::Object(object) if object.contains_key("digestS3Bucket") => {}
            Value::Object(object) => object.values().for_each(|value| self.value(value)),
            Value::Array(values) => values.iter().for_each(|value| self.value(value)),
            Value::String(said) if said.starts_with(['{', '[']) => self.text(said),
            Value::String(said) => {
                if let Some(bytes) = BASE64_STANDARD.decode(said).ok().filter(|bytes| bytes.len() > 10) {
                    self.bytes(&bytes);
                }
            }
            _ => {}
        }
    }
}

/// Failures that are printed; the rest is only counted.
const SHOWN: usize = 20;

/// Loads a file and compares the index with what the independent reader found.
async fn in_is_out(rig: &Rig, case: &Case) -> Result<(), TestCaseError> {
    let bytes = case.bytes();
    let mut expected = Independent::default();
    expected.bytes(&bytes);
    let ran = rig.load(&["-"], &bytes).await;
    let said = format!("{}{}", ran.stdout, ran.stderr);
    let (events, failed) = (expected.events.len(), expected.unknown + expected.broken);
    prop_assert_eq!(rig.indexed().await, expected.events, "{}", said);
    let first = said.lines().next().unwrap_or_default();
    let counts = match failed {
        0 => format!(", {events} indexed"),
        failed => format!(", {events} indexed, {failed} failed"),
    };
    prop_assert!(first.starts_with(&format!("{events} events in ")) && first.ends_with(&counts), "{}", said);
    let named = (failed + usize::from(failed + events == 0)).min(SHOWN);
    prop_assert_eq!(ran.stdout.matches("\nfailed: ").count(), named, "{}", said);
    prop_assert_eq!(ran.code, Some(i32::from(failed > 0 || events == 0)), "{}", said);
    Ok(())
}

#[test]
fn events_in_files_of_any_format_are_indexed_or_reported() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config { cases: 64, failure_persistence: None, ..Config::default() };
    let run = |case: Case| {
        runtime.block_on(async {
            let rig = Rig::new().await;
            in_is_out(&rig, &case).await
        })
    };
    // The same cases each time, so that a find belongs to the change that made it.
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng).run(&case(), run).unwrap();
}
