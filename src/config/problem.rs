//! A mistake in the configuration, by its place in the text.

use serde_spanned::Spanned;

/// A mistake at a byte of the text.
pub(super) struct Problem {
    pub(super) at: usize,
    pub(super) message: String,
}

/// Returns the problem of a value.
pub(super) fn problem_at<T>(value: &Spanned<T>, message: impl Into<String>) -> Problem {
    Problem { at: value.span().start, message: message.into() }
}
