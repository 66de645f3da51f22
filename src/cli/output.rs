//! The output of a command, as text or as JSON.

use std::fmt::Display;
use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// Prints a command's report.
pub(crate) fn print_report(report: &(impl Display + Serialize), as_json: bool) -> anyhow::Result<()> {
    let text = if as_json { serde_json::to_string_pretty(report)? } else { report.to_string() };
    print_text(text.trim_end())
}

/// Prints a line to stderr. If nothing reads it, it is lost.
pub(crate) fn print_note(text: &str) {
    let _ = writeln!(io::stderr(), "trailgate: {text}");
}

/// Prints a text and a line end. A reader that closes the pipe early, as `head` does, is not an error.
pub(crate) fn print_text(text: &str) -> anyhow::Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot write to stdout"),
    }
}
