//! The output of a command.

use std::io::{self, Write as _};

use anyhow::Context as _;

/// Prints a line to stderr. If nothing reads it, it is lost.
pub(super) fn print_note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints lines of text. A reader that closes the pipe early, as `head` does, is not an error.
pub(super) fn print_text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        printed => printed.context("cannot write to stdout"),
    }
}
