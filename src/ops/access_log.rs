//! The access log: one line a request, written when the request is over, however it ends.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode, Uri};
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;
use trailgate_client::Target;

use crate::ops::log_writer::LinePipe;
use crate::ops::metrics::{Ended, Metrics};
use crate::ops::outcome::Outcome;
use crate::ops::request_id::RequestId;
use crate::policy::allowlist::Entry;
use crate::policy::client_address::Address;

/// Where access lines go, how they look, and where requests are counted; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pipe: Option<LinePipe>,
    format: Format,
    on_failure: OnFailure,
    metrics: Arc<Metrics>,
    /// The time to drain is over: requests still in flight are cut.
    is_cut: AtomicBool,
    second: Mutex<Second>,
}

/// A second as it is written, for all lines that are of it.
#[derive(Debug, Default)]
struct Second {
    /// Of Unix time.
    at: i64,
    /// Empty before the first line.
    text: String,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// Words for people.
    Text,
}

/// What happens to requests while the log cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// They are served, and their lines are lost and counted.
    #[default]
    Serve,
    /// They are rejected.
    Refuse,
}

/// The access log cannot be written, and nothing may happen without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access log cannot be written at the moment; try again")]
pub struct LogFailure;

/// What is said of one request. Dropping it writes the line, so that a client that leaves is logged, too.
///
/// No credentials, bodies, cookies or signatures have a place here.
#[derive(Debug)]
pub struct AccessLine {
    log: AccessLog,
    started: Instant,
    time: SystemTime,
    id: RequestId,
    client: Address,
    entry: Option<Arc<Entry>>,
    method: Method,
    asked: Asked,
    status: Option<StatusCode>,
    bytes_in: u64,
    bytes_out: u64,
    upstream: Option<Duration>,
    outcome: Outcome,
    domain_request_id: Option<HeaderValue>,
}

/// What a request asks for, as far as it is known.
#[derive(Debug)]
enum Asked {
    /// Nothing that can be told: its head is malformed.
    Unknown,
    /// The path alone of this, for the query can hold a signature.
    Raw(Uri),
    Canonical(Target),
}

/// The line as it is written.
struct Fields<'a> {
    time: String,
    id: &'a str,
    client: &'a str,
    entry: Option<&'a str>,
    method: &'a str,
    target: &'a str,
    status: Option<u16>,
    bytes_in: u64,
    bytes_out: u64,
    upstream_ms: Option<f64>,
    total_ms: f64,
    outcome: &'a str,
    domain_request_id: Option<Cow<'a, str>>,
}

impl AccessLog {
    /// A log that writes to `pipe`, or nowhere, and counts in `metrics` either way. Requests are served while it fails.
    #[must_use]
    pub fn new(pipe: Option<LinePipe>, format: Format, metrics: Arc<Metrics>) -> Self {
        Self::with_failure_policy(pipe, format, OnFailure::default(), metrics)
    }

    /// The same, with a policy for the time when it cannot be written.
    #[must_use]
    pub fn with_failure_policy(
        pipe: Option<LinePipe>,
        format: Format,
        on_failure: OnFailure,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (is_cut, second) = (AtomicBool::new(false), Mutex::default());
        Self(Arc::new(Shared { pipe, format, on_failure, metrics, is_cut, second }))
    }

    /// From now on requests that end before their answer are not left by their client, but cut.
    pub(crate) fn note_cut(&self) {
        self.0.is_cut.store(true, Ordering::Relaxed);
    }

    /// Rejects a request whose line would be lost, if the log is more important than the answer.
    pub fn check(&self) -> Result<(), LogFailure> {
        let Shared { pipe: Some(pipe), on_failure: OnFailure::Refuse, .. } = &*self.0 else { return Ok(()) };
        if pipe.is_writable() { Ok(()) } else { Err(LogFailure) }
    }

    /// Begins the line of a request from `peer` that arrived at `time`.
    ///
    /// `head` is its method and its URL, unless they are malformed.
    #[must_use]
    pub fn begin(&self, time: SystemTime, id: RequestId, peer: &Address, head: Option<(&Method, &Uri)>) -> AccessLine {
        self.0.metrics.in_flight.inc();
        let (method, asked) =
            head.map_or((Method::default(), Asked::Unknown), |(method, uri)| (method.clone(), Asked::Raw(uri.clone())));
        AccessLine {
            log: self.clone(),
            started: Instant::now(),
            time,
            id,
            client: peer.clone(),
            entry: None,
            method,
            asked,
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream: None,
            outcome: Outcome::ClientLeft,
            domain_request_id: None,
        }
    }
}

impl AccessLine {
    pub(crate) fn set_client(&mut self, client: IpAddr) {
        if client != self.client.ip() {
            self.client = Address::new(client);
        }
    }

    pub(crate) fn set_entry(&mut self, entry: Arc<Entry>) {
        self.entry = Some(entry);
    }

    pub(crate) fn set_target(&mut self, target: &Target) {
        self.asked = Asked::Canonical(target.clone());
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(crate) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    pub(crate) fn add_bytes_in(&mut self, bytes: u64) {
        self.bytes_in += bytes;
    }

    pub(crate) fn add_bytes_out(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// Notes how long the domain took to begin its answer, and what it calls the request.
    pub(crate) fn set_upstream(&mut self, took: Duration, headers: &HeaderMap) {
        self.upstream = Some(took);
        self.domain_request_id = headers.get(DOMAIN_REQUEST_ID).cloned();
    }

    pub(crate) fn id(&self) -> &RequestId {
        &self.id
    }

    /// When the request came.
    pub(crate) fn time(&self) -> SystemTime {
        self.time
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.outcome = Outcome::Internal;
        } else if self.outcome == Outcome::ClientLeft && self.log.0.is_cut.load(Ordering::Relaxed) {
            self.outcome = Outcome::CutAtShutdown;
        }
        let total = self.started.elapsed();
        self.count(total);
        let Some(pipe) = &self.log.0.pipe else { return };
        let fields = self.fields(total);
        pipe.push(|lines| {
            match self.log.0.format {
                Format::Json => fields.write_json(lines),
                // It cannot fail: a Vec takes every write.
                Format::Text => drop(fields.write_text(lines)),
            }
            lines.push(b'\n');
        });
    }
}

impl AccessLine {
    fn count(&self, total: Duration) {
        let metrics = &self.log.0.metrics;
        metrics.in_flight.dec();
        metrics.count(&Ended {
            outcome: self.outcome,
            status: self.status,
            total,
            upstream: self.upstream,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        });
        if self.outcome == Outcome::NotAllowed {
            metrics.refused.note(self.client.ip(), self.time);
        }
    }

    fn fields(&self, total: Duration) -> Fields<'_> {
        Fields {
            time: self.log.0.written(self.time),
            id: self.id.as_str(),
            client: self.client.as_str(),
            entry: self.entry.as_ref().map(|entry| entry.name.as_str()),
            method: self.method.as_str(),
            target: match &self.asked {
                Asked::Unknown => "",
                Asked::Raw(uri) => uri.path(),
                Asked::Canonical(target) => target.as_str(),
            },
            status: self.status.map(|status| status.as_u16()),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            upstream_ms: self.upstream.map(milliseconds),
            total_ms: milliseconds(total),
            outcome: self.outcome.name(),
            domain_request_id: self.domain_request_id.as_ref().map(|id| String::from_utf8_lossy(id.as_bytes())),
        }
    }
}

impl Shared {
    /// `time` by RFC 3339, with milliseconds.
    fn written(&self, time: SystemTime) -> String {
        let timestamp = Timestamp::try_from(time).unwrap_or_default();
        // A poisoned lock holds a whole second: the assignment below cannot stop half-way.
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if second.at != timestamp.as_second() || second.text.is_empty() {
            *second = Second { at: timestamp.as_second(), text: SECONDS.timestamp_to_string(&timestamp) };
        }
        let mut text = String::with_capacity(32);
        text.push_str(second.text.trim_end_matches('Z'));
        write!(text, ".{:03}Z", timestamp.subsec_millisecond()).expect("a string takes every write");
        text
    }
}

impl Fields<'_> {
    /// The keys are written as they are: they are the same in each line, and to write them is as much work as the rest.
    fn write_json(&self, out: &mut Vec<u8>) {
        member(out, "{\"time\":", &self.time);
        member(out, ",\"id\":", self.id);
        member(out, ",\"client\":", self.client);
        member(out, ",\"entry\":", &self.entry);
        member(out, ",\"method\":", self.method);
        member(out, ",\"target\":", self.target);
        member(out, ",\"status\":", &self.status);
        member(out, ",\"bytes_in\":", &self.bytes_in);
        member(out, ",\"bytes_out\":", &self.bytes_out);
        member(out, ",\"upstream_ms\":", &self.upstream_ms);
        member(out, ",\"total_ms\":", &self.total_ms);
        member(out, ",\"outcome\":", self.outcome);
        member(out, ",\"domain_request_id\":", &self.domain_request_id);
        out.push(b'}');
    }

    /// Quotes what may hold blanks, so that the words of a line can be told apart.
    fn write_text(&self, out: &mut Vec<u8>) -> io::Result<()> {
        let Self { time, id, client, method, target, bytes_in, bytes_out, total_ms, outcome, .. } = self;
        let entry = self.entry.unwrap_or("-");
        let status = self.status.map_or("-".to_owned(), |status| status.to_string());
        let upstream = self.upstream_ms.map_or("-".to_owned(), |upstream| format!("{upstream} ms"));
        write!(out, "{time} {id} {client} {entry:?} {method} {} {status} {outcome}", target.escape_debug())?;
        write!(out, " in {bytes_in} B, out {bytes_out} B, upstream {upstream}, total {total_ms} ms")?;
        self.domain_request_id
            .as_ref()
            .map_or(Ok(()), |domain_id| write!(out, ", domain id {}", domain_id.escape_debug()))
    }
}

fn member(out: &mut Vec<u8>, key: &str, value: &(impl Serialize + ?Sized)) {
    out.extend_from_slice(key.as_bytes());
    // It cannot fail: the values are texts and numbers, and a Vec takes every write.
    let _ = serde_json::to_writer(out, value);
}

fn milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

const SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));
const DOMAIN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_to_the_millisecond_whatever_was_written_before() {
        let log = AccessLog::new(None, Format::Json, Arc::default());
        let milliseconds = DateTimePrinter::new().precision(Some(3));
        for at in [0, 1, 999, 1_000, 1_795_939_013_007, 1_795_939_013_070, 1_795_939_012_700, 1_795_939_199_999] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
            let expected = milliseconds.timestamp_to_string(&Timestamp::try_from(time).unwrap());
            assert_eq!(log.0.written(time), expected);
        }
    }
}
