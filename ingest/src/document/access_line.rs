//! The access lines of trailgate: recognises them, and builds their documents.
//!
//! A line's document has the line's fields under the types of `config/gate-template.json`, the whole line as
//! `@message`, and `indices`, which the path names. Its id is a hash of the line, which holds a random request id: the
//! same line is one document, by whichever way it comes.

use std::borrow::Cow;
use std::net::IpAddr;

use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use super::identity::hash;
use super::{Document, DocumentId, DocumentOptions, index_name, utc};
use crate::payload::LogBatch;

/// The beginning of the names of indices with access lines.
pub(crate) const PREFIX: &str = "gate-";

/// The kind of a log line that trailgate wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GateLine {
    /// An access line: one request.
    Access,
    /// An event, such as a reload, or the number of lost lines.
    Event,
}

/// The members of an access line. A line without one of those that every line has, or with another type, is none.
#[derive(Deserialize)]
pub(crate) struct AccessLine<'a> {
    time: Timestamp,
    #[serde(borrow)]
    id: Cow<'a, str>,
    client: IpAddr,
    #[serde(borrow)]
    entry: Option<Cow<'a, str>>,
    #[serde(borrow)]
    access: Option<Cow<'a, str>>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    target: Cow<'a, str>,
    #[serde(borrow)]
    route: Option<Cow<'a, str>>,
    status: Option<u16>,
    bytes_in: u64,
    bytes_out: u64,
    upstream_ms: Option<f64>,
    total_ms: f64,
    #[serde(borrow)]
    outcome: Cow<'a, str>,
    #[serde(borrow)]
    domain_request_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signer: Option<Cow<'a, str>>,
}

/// An event's members, as the daemon's JSON log has them, or the line that counts lost lines.
#[derive(Deserialize)]
struct EventLine<'a> {
    #[serde(borrow)]
    timestamp: Option<Cow<'a, str>>,
    #[serde(borrow)]
    level: Option<Cow<'a, str>>,
    #[serde(borrow)]
    target: Option<Cow<'a, str>>,
    lost_lines: Option<u64>,
}

/// The document. The engine needs no more than the template's fields.
#[derive(Serialize)]
struct Fields<'a> {
    #[serde(rename = "@timestamp")]
    timestamp: String,
    #[serde(rename = "@message")]
    message: &'a str,
    #[serde(rename = "@degraded", skip_serializing_if = "Option::is_none")]
    degraded: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    instance: &'a str,
    request_id: &'a str,
    client: IpAddr,
    entry: &'a Option<Cow<'a, str>>,
    access: &'a Option<Cow<'a, str>>,
    method: &'a str,
    target: &'a str,
    route: &'a Option<Cow<'a, str>>,
    indices: Vec<String>,
    status: Option<u16>,
    outcome: &'a str,
    bytes_in: u64,
    bytes_out: u64,
    upstream_ms: Option<f64>,
    total_ms: f64,
    domain_request_id: &'a Option<Cow<'a, str>>,
    signer: &'a Option<Cow<'a, str>>,
}

/// Returns the kind of `message` if trailgate wrote it.
pub(crate) fn classify(message: &str) -> Option<GateLine> {
    if AccessLine::parse(message).is_some() {
        return Some(GateLine::Access);
    }
    // The first key shows that a CloudTrail record is none.
    if !message.starts_with("{\"timestamp\":") && !message.starts_with("{\"lost_lines\":") {
        return None;
    }
    let event: EventLine<'_> = serde_json::from_str(message).ok()?;
    let is_event = event.timestamp.is_some()
        && event.level.is_some()
        && event
            .target
            .is_some_and(|target| matches!(target.split(':').next(), Some("trailgate" | "trailgate_client")));
    (is_event || event.lost_lines.is_some()).then_some(GateLine::Event)
}

impl<'a> AccessLine<'a> {
    /// Parses a message, unless it is no access line.
    pub(crate) fn parse(message: &'a str) -> Option<Self> {
        let message = message.trim_ascii();
        // The daemon writes the members in this order.
        message.starts_with("{\"time\":\"").then(|| serde_json::from_str(message).ok())?
    }

    /// Returns the milliseconds since 1970 UTC of the request's arrival.
    pub(crate) fn timestamp(&self) -> i64 {
        self.time.as_millisecond()
    }

    /// Builds the document of the line in `message`. `degraded` is why the engine rejected it before.
    pub(super) fn build(
        &self,
        batch: &LogBatch,
        message: &str,
        options: &DocumentOptions,
        degraded: Option<&str>,
    ) -> Document {
        let time = utc(self.timestamp());
        let fields = Fields {
            timestamp: format!("{time:.3}Z"),
            message,
            degraded,
            instance: &batch.log_stream,
            request_id: &self.id,
            client: self.client,
            entry: &self.entry,
            access: &self.access,
            method: &self.method,
            target: &self.target,
            route: &self.route,
            indices: indices(&self.target),
            status: self.status,
            outcome: &self.outcome,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            upstream_ms: self.upstream_ms,
            total_ms: self.total_ms,
            domain_request_id: &self.domain_request_id,
            signer: &self.signer,
        };
        Document {
            index: index_name(PREFIX, time.date()),
            id: (options.id != DocumentId::None).then(|| line_id(message)),
            source: serde_json::to_vec(&fields).unwrap_or_default().into(),
            is_degraded: degraded.is_some(),
            event_time: Some(self.time),
        }
    }
}

/// Returns the id of a line's document.
pub(crate) fn line_id(message: &str) -> String {
    hash(message.trim_ascii().to_owned())
}

/// Returns the indices that a target's path names, or those of the call that the console carries in its query.
fn indices(target: &str) -> Vec<String> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut segments = path.split('/').filter(|segment| !segment.is_empty()).peekable();
    let is_kibana = match segments.peek() {
        Some(&"_plugin") => segments.nth(1) == Some("kibana"),
        Some(&"_dashboards") => segments.next().is_some(),
        _ => false,
    };
    if !is_kibana {
        return names(segments.next().unwrap_or_default());
    }
    if matches!(segments.peek(), Some(&("s" | "w"))) {
        segments.nth(1);
    }
    match (segments.next(), segments.next(), segments.next()) {
        (Some("elasticsearch" | "es_admin"), Some(index), _) => names(index),
        (Some("api"), Some("console"), Some("proxy")) => {
            let nested = query.split('&').find_map(|pair| {
                let (key, value) = pair.split_once('=')?;
                ["path", "uri"].contains(&key).then(|| percent_decode_str(value).decode_utf8_lossy())
            });
            let nested = nested.unwrap_or_default();
            let path = nested.split('?').next().unwrap_or_default();
            names(path.split('/').find(|segment| !segment.is_empty()).unwrap_or_default())
        }
        _ => Vec::new(),
    }
}

/// Returns the index names and patterns of a path's segment; none if it is an API of the engine.
fn names(segment: &str) -> Vec<String> {
    let decoded = percent_decode_str(segment).decode_utf8_lossy();
    let names = decoded.split(',').filter(|name| !name.is_empty() && (*name == "_all" || !name.starts_with('_')));
    names.take(MAX_INDICES).map(str::to_owned).collect()
}

/// The maximum number of names: a longer list is a hostile target, and `target` has all of it.
const MAX_INDICES: usize = 100;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::document::{build_degraded, build_document};
    use crate::payload::LogEvent;

    fn line(target: &str) -> String {
        let target = json!(target);
        format!(
            r#"{{"time":"2026-11-29T23:59:59.999Z","id":"00ab","client":"192.0.2.1","entry":"auditor","access":"read","method":"GET","target":{target},"route":"searches","status":200,"bytes_in":0,"bytes_out":12,"upstream_ms":1.5,"total_ms":2.25,"outcome":"forwarded","domain_request_id":null}}"#
        )
    }

    fn event(message: String, id: &str) -> LogEvent {
        LogEvent { id: id.to_owned(), timestamp: 0, message, extracted_fields: Vec::new() }
    }

    fn batch() -> LogBatch {
        LogBatch {
            owner: "1".to_owned(),
            log_group: "/stack/gate".to_owned(),
            log_stream: "i-1".to_owned(),
            events: Vec::new(),
        }
    }

    #[test]
    fn access_line_becomes_a_document_of_its_day() {
        let message = line("/cwl-%2A,-b/_search?q=a");
        let document = build_document(&batch(), &event(message.clone(), "7"), &DocumentOptions::default());
        assert_eq!((document.index.as_str(), document.is_degraded), ("gate-2026.11.29", false));
        let source: Value = serde_json::from_slice(&document.source).unwrap();
        let expected = json!({
            "@timestamp": "2026-11-29T23:59:59.999Z", "@message": message, "instance": "i-1", "request_id": "00ab",
            "client": "192.0.2.1", "entry": "auditor", "access": "read", "method": "GET",
            "target": "/cwl-%2A,-b/_search?q=a", "route": "searches", "indices": ["cwl-*", "-b"], "status": 200, "outcome": "forwarded", "bytes_in": 0,
            "bytes_out": 12, "upstream_ms": 1.5, "total_ms": 2.25, "domain_request_id": null, "signer": null,
        });
        assert_eq!(source, expected);
    }

    #[test]
    fn same_access_line_always_has_the_same_document_id() {
        let of =
            |id: &str, end: &str| build_document(&batch(), &event(line("/") + end, id), &DocumentOptions::default()).id;
        assert_eq!(of("1", ""), of("2", "\n"));
        let other = event(line("/a"), "1");
        assert_ne!(of("1", ""), build_document(&batch(), &other, &DocumentOptions::default()).id);
    }

    #[test]
    fn hostile_target_is_one_whole_document() {
        let injection = "/a\n{\"time\":\"2026-11-29T00:00:00Z\"}\r\n\u{2028}\u{0}";
        for target in [&"/a".repeat(32 * 1024), &format!("/{}", "a,".repeat(32 * 1024)), injection, "/%FF%00/%C0"] {
            let options = DocumentOptions::default();
            let event = event(line(target), "1");
            for document in
                [build_document(&batch(), &event, &options), build_degraded(&batch(), &event, &options, "why")]
            {
                assert!(!document.source.contains(&b'\n'));
                let source: Value = serde_json::from_slice(&document.source).unwrap();
                assert_eq!(source["target"], *target);
                assert!(source["indices"].as_array().unwrap().len() <= MAX_INDICES);
            }
        }
    }

    #[test]
    fn indices_are_those_in_the_path() {
        for (target, expected) in [
            ("/cwl-2026.01.31/_search", &["cwl-2026.01.31"][..]),
            ("/_all/_search", &["_all"]),
            ("/_search?index=a", &[]),
            ("/_plugin/kibana/elasticsearch/gate-%2A/_search", &["gate-*"]),
            ("/_dashboards/s/x/es_admin/.kibana/_search", &[".kibana"]),
            ("/_dashboards/api/console/proxy?method=GET&path=a%2Cb%2F_search%3Fx", &["a", "b"]),
            ("/_dashboards/app/home", &[]),
            ("", &[]),
        ] {
            assert_eq!(indices(target), expected, "{target}");
        }
    }

    #[test]
    fn line_kind_is_detected_by_its_members() {
        assert_eq!(classify(&line("/")), Some(GateLine::Access));
        let started = r#"{"timestamp":"2026-11-29T00:00:00Z","level":"INFO","message":"m","target":"trailgate"}"#;
        assert_eq!(classify(started), Some(GateLine::Event));
        let by_client = started.replace("\"trailgate\"", "\"trailgate_client::credentials::refresh\"");
        assert_eq!(classify(&by_client), Some(GateLine::Event));
        assert_eq!(classify(r#"{"lost_lines":3}"#), Some(GateLine::Event));
        for other in [
            r#"{"eventVersion":"1.08","eventTime":"2026-01-31T11:58:00Z"}"#,
            r#"{"time":"2026-11-29T00:00:00Z","id":"a"}"#,
            r#"{"timestamp":"2026-11-29T00:00:00Z","level":"INFO","target":"other"}"#,
            "text",
        ] {
            assert_eq!(classify(other), None, "{other}");
        }
        assert_eq!(classify(&line("/").replace("192.0.2.1", "unknown")), None);
    }
}
