//! From any payload to documents, each of which must be one line of valid JSON with the message in it.
//!
//! With cargo-fuzz and the stable compiler:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --fuzz-dir tests/fuzz decode -- -max_total_time=60
//! ```
//!
//! The first byte says what the rest is, so that not every input has to be base64 of gzip to get anywhere.
#![no_main]

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use trailgate_ingest::document::{Document, DocumentId, DocumentOptions, IndexDay, build_degraded, build_document};
use trailgate_ingest::payload::{Invocation, LogBatch, LogEvent, decode_delivery, decode_payload};

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    match kind % 4 {
        0 => match decode_payload(rest, Timestamp::UNIX_EPOCH) {
            Ok(Invocation::Subscription(batch)) => check(&batch),
            Ok(Invocation::Kinesis(records) | Invocation::Redrive(records)) => {
                records.iter().filter_map(|record| record.batch.as_ref().ok()).for_each(check);
            }
            Err(_) => {}
        },
        1 => {
            if let Ok(batch) = decode_delivery(rest, Timestamp::UNIX_EPOCH) {
                check(&batch);
            }
        }
        2 => check(&batch_of(String::from_utf8_lossy(rest).into_owned(), Vec::new())),
        _ => {
            let text = String::from_utf8_lossy(rest);
            let fields = text.split('\0').filter_map(|field| field.split_once('\u{1}'));
            let fields = fields.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            check(&batch_of(String::new(), fields));
        }
    }
});

fn batch_of(message: String, extracted_fields: Vec<(String, String)>) -> LogBatch {
    let event = LogEvent { id: "id".to_owned(), timestamp: 0, message, extracted_fields };
    LogBatch { owner: String::new(), log_group: String::new(), log_stream: String::new(), events: vec![event] }
}

fn check(batch: &LogBatch) {
    let options = DocumentOptions { id: DocumentId::EventId, day: IndexDay::EventTime, ..DocumentOptions::default() };
    for event in &batch.events {
        check_document(&build_document(batch, event, &options), event);
        check_document(&build_degraded(batch, event, &options, "refused"), event);
    }
}

fn check_document(document: &Document, event: &LogEvent) {
    assert!(!document.source.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
    let members: Members = serde_json::from_slice(&document.source).expect("a JSON object");
    let message = members.0.iter().filter(|(key, _)| key == "@message").map(|(_, value)| value.get());
    let message: Vec<String> = message.map(|value| serde_json::from_str(value).expect("a string")).collect();
    assert_eq!(message, [event.message.as_str()]);
    assert!(!members.0.iter().any(|(key, _)| key.is_empty() || key == "_id"));
}

/// The members of an object, none of them twice.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members: Vec<(String, Box<RawValue>)> = Vec::new();
                let mut keys = std::collections::HashSet::new();
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    assert!(keys.insert(key.clone()), "{key:?} twice");
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Visitor)
    }
}
