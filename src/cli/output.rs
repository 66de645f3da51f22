//! The output of a command, as text or as JSON.

use std::fmt::Display;
use std::io::{self, Write as _};

use anyhow::Context as _;
use serde::Serialize;

/// Prints a command's report.
pub(crate) fn print_report(report: &(impl Display + Serialize), as_json: bool) -> anyhow::Result<()> {
    let text = if as_json { serde_json::to_string_pretty(report)? } else { report.to_string() };
    writeln!(io::stdout(), "{}", text.trim_end()).context("cannot write to stdout")
}
