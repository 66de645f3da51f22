//! The progress of a run: a bar on a terminal, a line every ten seconds elsewhere.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tracing_subscriber::fmt::MakeWriter;

use super::tally::Summary;

/// A display of progress on stderr, so that stdout has only the summary.
#[derive(Debug)]
pub enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a file or a pipe: a line every ten seconds.
    Lines {
        /// The number of files, and the time of the last line.
        state: Mutex<(usize, Instant)>,
    },
}

impl Progress {
    /// Creates a display on `bar` if stderr is a terminal that can move its cursor.
    #[must_use]
    pub fn new(bar: ProgressBar) -> Self {
        if bar.is_hidden() {
            return Self::Lines { state: Mutex::new((0, Instant::now())) };
        }
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files, {msg}, {elapsed}, {eta} left");
        Self::Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }

    /// Sets the number of files to read.
    pub(crate) fn begin(&self, files: usize) {
        match self {
            Self::Bar(bar) => bar.set_length(files as u64),
            // No holder can panic: the lock guards a number and an instant.
            Self::Lines { state } => state.lock().into_iter().for_each(|mut state| state.0 = files),
        }
    }

    /// Shows the counts; a file counts once its events are indexed.
    pub(super) fn show(&self, summary: &Summary) {
        self.show_count(summary.files_done, &format!("{} events indexed", summary.indexed + summary.degraded));
    }

    /// Shows how many files are done, and a message.
    pub(crate) fn show_count(&self, done: usize, message: &str) {
        match self {
            Self::Bar(bar) => {
                bar.set_position(done as u64);
                bar.set_message(message.to_owned());
            }
            Self::Lines { state } => {
                let Ok(mut state) = state.lock() else { return };
                if state.1.elapsed() >= EVERY {
                    state.1 = Instant::now();
                    let _ = writeln!(io::stderr(), "{done} of {} files, {message}", state.0);
                }
            }
        }
    }

    pub(super) fn finish(&self, summary: &Summary) {
        self.show(summary);
        if let Self::Bar(bar) = self {
            bar.finish();
        }
    }
}

/// Writes log lines to stderr above the bar, which stays where it is.
#[derive(Clone, Debug)]
pub struct AboveBar(pub ProgressBar);

impl<'w> MakeWriter<'w> for AboveBar {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Write for AboveBar {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(line)).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

const EVERY: Duration = Duration::from_secs(10);
