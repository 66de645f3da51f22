//! The access log: one line a request, written when the request is over, however it ends.

use std::borrow::Cow;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode, Uri};
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::allowlist::Entry;
use crate::line_pipe::LinePipe;
use crate::metrics::{Ended, Metrics};
use crate::outcome::Outcome;
use crate::request_id::RequestId;
use crate::target::Target;

/// Where access lines go, how they look, and where requests are counted; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pipe: Option<LinePipe>,
    format: Format,
    metrics: Arc<Metrics>,
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

/// What is said of one request. Dropping it writes the line, so that a client that leaves is logged, too.
///
/// No credentials, bodies, cookies or signatures have a place here.
#[derive(Debug)]
pub struct AccessLine {
    log: AccessLog,
    started: Instant,
    time: SystemTime,
    id: RequestId,
    client: IpAddr,
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
#[derive(Serialize)]
struct Fields<'a> {
    time: String,
    id: &'a str,
    client: IpAddr,
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
    /// A log that writes to `pipe`, or nowhere, and counts in `metrics` either way.
    #[must_use]
    pub fn new(pipe: Option<LinePipe>, format: Format, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared { pipe, format, metrics }))
    }

    /// Begins the line of a request from `peer` that arrived at `time`.
    ///
    /// `head` is its method and its URL, unless they are malformed.
    #[must_use]
    pub fn begin(&self, time: SystemTime, id: RequestId, peer: IpAddr, head: Option<(&Method, &Uri)>) -> AccessLine {
        self.0.metrics.in_flight.inc();
        let (method, asked) =
            head.map_or((Method::default(), Asked::Unknown), |(method, uri)| (method.clone(), Asked::Raw(uri.clone())));
        AccessLine {
            log: self.clone(),
            started: Instant::now(),
            time,
            id,
            client: peer,
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
        self.client = client;
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
        }
        let total = self.started.elapsed();
        self.count(total);
        let Some(pipe) = &self.log.0.pipe else { return };
        let fields = self.fields(total);
        pipe.push(|lines| {
            match self.log.0.format {
                // Neither can fail: the keys are strings, and a Vec takes every write.
                Format::Json => drop(serde_json::to_writer(&mut *lines, &fields)),
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
            metrics.refused.note(self.client, self.time);
        }
    }

    fn fields(&self, total: Duration) -> Fields<'_> {
        let mut time = String::with_capacity(32);
        let timestamp = Timestamp::try_from(self.time).unwrap_or_default();
        MILLISECONDS.print_timestamp(&timestamp, &mut time).expect("a string takes every write");
        Fields {
            time,
            id: self.id.as_str(),
            client: self.client,
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

impl Fields<'_> {
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

fn milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

const MILLISECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
const DOMAIN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
