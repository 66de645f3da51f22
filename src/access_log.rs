//! The access log: one line a request, written when the request is over, however it ends.

use std::io::{self, Write as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hyper::{HeaderMap, Method, StatusCode};
use jiff::Timestamp;
use serde::Serialize;

use crate::allowlist::Entry;
use crate::line_pipe::LinePipe;
use crate::target::Target;

/// Where access lines go, and how they look; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog {
    pipe: Option<LinePipe>,
    format: Format,
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

/// How a request ended, beside the names of [`crate::reject::Reject::kind`].
pub mod outcome {
    /// The domain's whole answer reached the client's socket.
    pub const FORWARDED: &str = "forwarded";
    /// A browser was sent to the home page.
    pub const REDIRECTED: &str = "redirected";
    /// The client went away before the answer's end.
    pub const CLIENT_LEFT: &str = "client_left";
    /// The client's grant ended before the answer did.
    pub const REVOKED: &str = "grant_revoked";
    /// The domain broke off its answer, or said nothing more for too long.
    pub const UPSTREAM_BROKE_OFF: &str = "upstream_broke_off";
    /// The gate panicked.
    pub const PANICKED: &str = "internal_error";
}

/// What is said of one request. Dropping it writes the line, so that a client that leaves is logged, too.
///
/// No credentials, bodies, cookies or signatures have a place here.
#[derive(Debug)]
pub struct AccessLine {
    log: AccessLog,
    started: Instant,
    time: SystemTime,
    id: String,
    client: IpAddr,
    entry: Option<Arc<Entry>>,
    method: Method,
    target: String,
    status: Option<StatusCode>,
    bytes_in: u64,
    bytes_out: u64,
    upstream: Option<Duration>,
    outcome: &'static str,
    domain_request_id: Option<String>,
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
    domain_request_id: Option<&'a str>,
}

impl AccessLog {
    /// A log that writes to `pipe`, or nowhere.
    #[must_use]
    pub fn new(pipe: Option<LinePipe>, format: Format) -> Self {
        Self { pipe, format }
    }

    /// Begins the line of a request from `peer` that arrived at `time`.
    ///
    /// `path` is logged until the canonical target is known; it comes without the query, which can hold a signature.
    #[must_use]
    pub fn begin(&self, time: SystemTime, id: String, peer: IpAddr, method: &Method, path: &str) -> AccessLine {
        AccessLine {
            log: self.clone(),
            started: Instant::now(),
            time,
            id,
            client: peer,
            entry: None,
            method: method.clone(),
            target: path.to_owned(),
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream: None,
            outcome: outcome::CLIENT_LEFT,
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
        target.as_str().clone_into(&mut self.target);
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(crate) fn set_outcome(&mut self, outcome: &'static str) {
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
        let id = headers.get(DOMAIN_REQUEST_ID);
        self.domain_request_id = id.map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
    }

    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        let Some(pipe) = &self.log.pipe else { return };
        let fields = self.fields();
        pipe.push(|lines| {
            match self.log.format {
                // Neither can fail: the keys are strings, and a Vec takes every write.
                Format::Json => drop(serde_json::to_writer(&mut *lines, &fields)),
                Format::Text => drop(fields.write_text(lines)),
            }
            lines.push(b'\n');
        });
    }
}

impl AccessLine {
    fn fields(&self) -> Fields<'_> {
        Fields {
            time: format!("{:.3}", Timestamp::try_from(self.time).unwrap_or_default()),
            id: &self.id,
            client: self.client,
            entry: self.entry.as_ref().map(|entry| entry.name.as_str()),
            method: self.method.as_str(),
            target: &self.target,
            status: self.status.map(|status| status.as_u16()),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            upstream_ms: self.upstream.map(milliseconds),
            total_ms: milliseconds(self.started.elapsed()),
            outcome: if std::thread::panicking() { outcome::PANICKED } else { self.outcome },
            domain_request_id: self.domain_request_id.as_deref(),
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
        self.domain_request_id.map_or(Ok(()), |domain_id| write!(out, ", domain id {}", domain_id.escape_debug()))
    }
}

fn milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

const DOMAIN_REQUEST_ID: &str = "x-amzn-requestid";
