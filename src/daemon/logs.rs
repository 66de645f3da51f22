//! The logs of the process: events on stderr, access lines on stdout.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::LogConfig;
use crate::ops::access_log::LogFormat;
use crate::ops::log_writer::{Loss, NonBlockingWriter};

/// The event log and the access log. They outlive the runtime, so that the last lines are written.
#[derive(Debug)]
pub struct Logs {
    pub(super) events: NonBlockingWriter,
    pub(super) access: NonBlockingWriter,
}

impl Logs {
    /// Redirects events to stderr, and opens stdout for access lines.
    pub fn start(config: &LogConfig) -> io::Result<Self> {
        let notice = match config.format {
            LogFormat::Json => |lines| format!("{{\"lost_lines\":{lines}}}\n"),
            LogFormat::Text => |lines| format!("{lines} lines were lost: this log could not be written\n"),
        };
        // Bypasses the standard library's streams: their buffers hold back failed writes, and lost lines could not be
        // counted.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let access = NonBlockingWriter::start_reporting(stdout, notice, report_outage)?;
        let logs = Self { events: NonBlockingWriter::start(stderr, notice)?, access };
        let writer = logs.events.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let targets = Targets::new().with_target("trailgate", config.level).with_default(tracing::Level::WARN);
        let registry = tracing_subscriber::registry().with(targets);
        match config.format {
            LogFormat::Json => registry.with(lines.json().flatten_event(true)).init(),
            LogFormat::Text => registry.with(lines).init(),
        }
        Ok(logs)
    }

    /// Writes the lines that are still queued.
    pub fn finish(self) {
        if let Some(lost) = self.access.drain(LAST_LINES) {
            tracing::error!(lost_lines = lost, "the access log could not be written to its end");
        }
        self.events.drain(LAST_LINES);
    }
}

/// Logs the start and the end of an outage of the access log.
fn report_outage(loss: &Loss) {
    match loss {
        Loss::Begins { reason } => tracing::error!(reason, "the access log cannot be written: its lines are lost"),
        Loss::Ends { lost, lasted } => {
            tracing::warn!(lost_lines = lost, lasted_s = lasted.as_secs(), "the access log is written again");
        }
    }
}

/// The maximum time for which each log delays the exit. Together with the default of `limits.drain` it stays below the
/// unit's `TimeoutStopSec`.
const LAST_LINES: Duration = Duration::from_secs(5);
