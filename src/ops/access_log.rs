//! The access log: one line per request, as JSON or text.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use serde::Serialize;

use crate::ops::log_writer::NonBlockingWriter;

/// Writes access lines; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessLog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    writer: Option<NonBlockingWriter>,
    format: LogFormat,
    on_failure: LogFailurePolicy,
    /// Set if targets are logged without their query.
    redact_query: bool,
    second: Mutex<Second>,
}

/// The formatted text of one second, which all lines of that second share.
#[derive(Debug, Default)]
struct Second {
    /// Unix time in seconds.
    at: i64,
    /// Empty before the first line.
    text: String,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// Plain text for people.
    Text,
}

/// The policy for requests while the log cannot be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFailurePolicy {
    /// Requests are served. Their lines are lost and counted.
    #[default]
    Serve,
    /// Requests are rejected (fail closed).
    Refuse,
}

/// The access log cannot be written, and the policy requires it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access log cannot be written at the moment; try again")]
pub struct LogFailure;

/// One access line.
pub(crate) struct AccessLine<'a> {
    pub(crate) time: SystemTime,
    pub(crate) id: &'a str,
    pub(crate) client: &'a str,
    pub(crate) entry: Option<&'a str>,
    /// The access level of the entry.
    pub(crate) access: Option<&'static str>,
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    /// The class of the call; `None` if the head is malformed.
    pub(crate) route: Option<&'static str>,
    pub(crate) status: Option<u16>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) upstream_ms: Option<f64>,
    pub(crate) total_ms: f64,
    pub(crate) outcome: &'a str,
    pub(crate) domain_request_id: Option<Cow<'a, str>>,
    /// Role and session that signed the request, as in the session's ARN: `Auditor/jane`.
    pub(crate) signer: Option<&'a str>,
}

impl AccessLog {
    /// Creates a log that writes to `writer`, or discards all lines if there is none.
    ///
    /// With `redact_query`, targets are logged without their query.
    #[must_use]
    pub fn new(
        writer: Option<NonBlockingWriter>,
        format: LogFormat,
        on_failure: LogFailurePolicy,
        redact_query: bool,
    ) -> Self {
        Self(Arc::new(Shared { writer, format, on_failure, redact_query, second: Mutex::default() }))
    }

    /// Returns an error if a line would be lost and the policy requires it.
    pub fn check_writable(&self) -> Result<(), LogFailure> {
        let Shared { writer: Some(writer), on_failure: LogFailurePolicy::Refuse, .. } = &*self.0 else { return Ok(()) };
        if writer.is_writable() { Ok(()) } else { Err(LogFailure) }
    }

    /// Writes the line that `line` builds, unless the log is off.
    pub(crate) fn write<'a>(&self, line: impl FnOnce() -> AccessLine<'a>) {
        let Some(writer) = &self.0.writer else { return };
        let mut line = line();
        if self.0.redact_query {
            line.target = line.target.split_once('?').map_or(line.target, |(path, _)| path);
        }
        let time = self.0.format_time(line.time);
        writer.push(|lines| {
            match self.0.format {
                LogFormat::Json => line.write_json(&time, lines),
                // Cannot fail: writing to a Vec never does.
                LogFormat::Text => drop(line.write_text(&time, lines)),
            }
            lines.push(b'\n');
        });
    }
}

impl Shared {
    /// Formats `time` as RFC 3339 with milliseconds.
    fn format_time(&self, time: SystemTime) -> String {
        let timestamp = Timestamp::try_from(time).unwrap_or_default();
        // A poisoned lock still holds a complete second: the assignment below cannot stop half-way.
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

impl AccessLine<'_> {
    /// Appends the keys unescaped: they are constant, and escaping them would double the work.
    fn write_json(&self, time: &str, out: &mut Vec<u8>) {
        member(out, "{\"time\":", time);
        member(out, ",\"id\":", self.id);
        member(out, ",\"client\":", self.client);
        member(out, ",\"entry\":", &self.entry);
        member(out, ",\"access\":", &self.access);
        member(out, ",\"method\":", self.method);
        member(out, ",\"target\":", self.target);
        member(out, ",\"route\":", &self.route);
        member(out, ",\"status\":", &self.status);
        member(out, ",\"bytes_in\":", &self.bytes_in);
        member(out, ",\"bytes_out\":", &self.bytes_out);
        member(out, ",\"upstream_ms\":", &self.upstream_ms);
        member(out, ",\"total_ms\":", &self.total_ms);
        member(out, ",\"outcome\":", self.outcome);
        member(out, ",\"domain_request_id\":", &self.domain_request_id);
        if let Some(signer) = self.signer {
            member(out, ",\"signer\":", signer);
        }
        out.push(b'}');
    }

    /// Quotes values that may hold blanks, so that the fields of a line can be separated.
    fn write_text(&self, time: &str, out: &mut Vec<u8>) -> io::Result<()> {
        let Self { id, client, method, target, bytes_in, bytes_out, total_ms, outcome, .. } = self;
        let entry = self.entry.unwrap_or("-");
        let status = self.status.map_or("-".to_owned(), |status| status.to_string());
        let upstream = self.upstream_ms.map_or("-".to_owned(), |upstream| format!("{upstream} ms"));
        write!(out, "{time} {id} {client} {entry:?} {method} {} {status} {outcome}", target.escape_debug())?;
        write!(out, " in {bytes_in} B, out {bytes_out} B, upstream {upstream}, total {total_ms} ms")?;
        if let Some(domain_id) = &self.domain_request_id {
            write!(out, ", domain id {}", domain_id.escape_debug())?;
        }
        if let Some(route) = self.route {
            write!(out, ", route {route}")?;
        }
        if let Some(access) = self.access {
            write!(out, ", access {access}")?;
        }
        self.signer.map_or(Ok(()), |signer| write!(out, ", signed as {signer}"))
    }
}

fn member(out: &mut Vec<u8>, key: &str, value: &(impl Serialize + ?Sized)) {
    out.extend_from_slice(key.as_bytes());
    // Cannot fail: the values are strings and numbers, and writing to a Vec never fails.
    let _ = serde_json::to_writer(out, value);
}

const SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn redacted_query_is_in_no_format() {
        for format in [LogFormat::Json, LogFormat::Text] {
            let write = |redact_query| {
                let (reader, writer) = io::pipe().unwrap();
                let writer = NonBlockingWriter::start(writer, |_| String::new()).unwrap();
                let log = AccessLog::new(Some(writer.clone()), format, LogFailurePolicy::Serve, redact_query);
                log.write(line);
                let mut text = String::new();
                io::BufRead::read_line(&mut io::BufReader::new(reader), &mut text).unwrap();
                text
            };
            assert!(write(false).contains("secret"), "{format:?}");
            let text = write(true);
            assert!(text.contains("/_search") && !text.contains("secret"), "{text}");
        }
    }

    fn line() -> AccessLine<'static> {
        AccessLine {
            time: SystemTime::UNIX_EPOCH,
            id: "a",
            client: "192.0.2.1",
            entry: None,
            access: None,
            method: "GET",
            target: "/_search?q=secret?secret",
            route: Some("searches"),
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream_ms: None,
            total_ms: 0.0,
            outcome: "forwarded",
            domain_request_id: None,
            signer: None,
        }
    }

    #[test]
    fn time_is_written_to_the_millisecond() {
        let log = AccessLog::new(None, LogFormat::Json, LogFailurePolicy::Serve, false);
        let milliseconds = DateTimePrinter::new().precision(Some(3));
        for at in [0, 1, 999, 1_000, 1_795_939_013_007, 1_795_939_013_070, 1_795_939_012_700, 1_795_939_199_999] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
            let expected = milliseconds.timestamp_to_string(&Timestamp::try_from(time).unwrap());
            assert_eq!(log.0.format_time(time), expected);
        }
    }
}
