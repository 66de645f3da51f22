//! Access lines of trailgate, as three entries and some rejected clients leave them in six days.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// Returns access lines of the six days before `now`, the oldest first.
pub fn sample_access_lines(now: Timestamp) -> anyhow::Result<Vec<Value>> {
    let mut lines = Vec::new();
    for number in 0..SLOTS {
        let time = now.checked_sub(SignedDuration::from_secs((SLOTS - number) * 6 * 86_400 / SLOTS))?;
        let is_night = !(7..19).contains(&TimeZone::UTC.to_datetime(time).hour());
        if !is_night || number % 7 == 0 {
            lines.push(access_line(number, time));
        }
    }
    Ok(lines)
}

fn access_line(number: i64, time: Timestamp) -> Value {
    let pick = |of: usize, step: i64| usize::try_from(number * step).unwrap_or_default() % of;
    let is_rejected = number % 11 == 0;
    let (client, entry, access, call, outcome) = if is_rejected {
        let (reader, call, outcome) = REJECTIONS[pick(REJECTIONS.len(), 3)];
        (reader.0, reader.1, reader.2, call, outcome)
    } else {
        let (client, entry, access) = READERS[pick(7, 5).min(READERS.len() - 1)];
        let call = if access == Some("full") && number % 3 == 0 { SNAPSHOT } else { CALLS[pick(CALLS.len(), 1)] };
        (client, entry, access, call, "forwarded")
    };
    let Call { method, target, route, bytes } = call;
    json!({
        "time": time, "id": format!("{number:016x}"), "client": client, "entry": entry, "access": access,
        "method": method, "target": target, "route": route, "status": if is_rejected { 403 } else { 200 },
        "bytes_in": 120, "bytes_out": bytes * (1 + number % 9), "upstream_ms": (!is_rejected).then_some(12.5),
        "total_ms": 13.0, "outcome": outcome, "domain_request_id": null,
    })
}

#[derive(Clone, Copy)]
struct Call {
    method: &'static str,
    target: &'static str,
    route: &'static str,
    /// The size of a response.
    bytes: i64,
}

impl Call {
    const fn new(method: &'static str, target: &'static str, route: &'static str, bytes: i64) -> Self {
        Self { method, target, route, bytes }
    }
}

/// A client, its entry and its access level.
type Reader = (&'static str, Option<&'static str>, Option<&'static str>);

const HEAD_OFFICE: Reader = ("198.51.100.20", Some("Head office"), Some("read"));
const INCIDENT_RESPONSE: Reader = ("2001:db8:7::12", Some("Incident response"), Some("full"));
const THIRD_PARTY: Reader = ("203.0.113.7", Some("Concurrency Labs"), Some("read"));

const READERS: [Reader; 3] = [HEAD_OFFICE, INCIDENT_RESPONSE, THIRD_PARTY];

const CALLS: [Call; 6] = [
    Call::new("POST", "/_plugin/kibana/elasticsearch/_msearch", "searches", 48_000),
    Call::new("GET", "/cwl-2026.11.28/_search?q=eventName%3ADeleteTrail", "searches", 9_000),
    Call::new("POST", "/_plugin/kibana/api/console/proxy?path=cwl-2026.11.27%2F_search&method=POST", "console", 21_000),
    Call::new("GET", "/_plugin/kibana/app/kibana", "pages", 30_000),
    Call::new("GET", "/cwl-2026.11.28/event/1", "documents", 3_000),
    Call::new("POST", "/_plugin/kibana/elasticsearch/.kibana/search/mine", "saved_objects", 200),
];

const SNAPSHOT: Call = Call::new("PUT", "/_snapshot/evidence/november", "administration", 21);

/// The client, its call, and the type of the rejection.
const REJECTIONS: [(Reader, Call, &str); 4] = [
    (("192.0.2.99", None, None), Call::new("GET", "/_search", "searches", 412), "client_not_allowed"),
    (("192.0.2.44", None, None), Call::new("GET", "/_cat/indices", "status", 412), "client_not_allowed"),
    (THIRD_PARTY, Call::new("DELETE", "/cwl-2026.11.28", "administration", 412), "read_only_grant"),
    (HEAD_OFFICE, Call::new("GET", "/gate-2026.11.28/_search", "searches", 412), "read_only_grant"),
];

const SLOTS: i64 = 1_500;
