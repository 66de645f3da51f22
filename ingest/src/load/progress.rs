//! How far a run is: a bar on a terminal, a line now and then elsewhere.

use std::io::IsTerminal as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Summary;

/// Where progress is shown: on stderr, so that the summary on stdout stays clean.
#[derive(Debug)]
pub enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// In a file or a pipe: a line every ten seconds.
    Lines {
        /// How many files there are.
        files: usize,
        /// When the last line was written.
        last: Mutex<Instant>,
    },
}

impl Progress {
    /// Progress over so many files.
    #[must_use]
    pub fn new(files: usize) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::Lines { files, last: Mutex::new(Instant::now()) };
        }
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len} files, {msg}, {elapsed}, {eta} left");
        let bar = ProgressBar::new(files as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self::Bar(bar)
    }

    /// One more file is read, or passed over.
    pub(super) fn advance(&self, summary: &Summary) {
        if let Self::Bar(bar) = self {
            bar.inc(1);
        }
        self.show(summary);
    }

    pub(super) fn show(&self, summary: &Summary) {
        let message = format!("{} events indexed", summary.indexed + summary.degraded);
        match self {
            Self::Bar(bar) => bar.set_message(message),
            Self::Lines { files, last } => {
                // Nobody can have panicked while holding it: it holds an instant.
                let Ok(mut last) = last.lock() else { return };
                if last.elapsed() >= EVERY {
                    *last = Instant::now();
                    eprintln!(
                        "{} of {files} files, {message}",
                        summary.files + summary.passed_over.values().sum::<usize>()
                    );
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

const EVERY: Duration = Duration::from_secs(10);
