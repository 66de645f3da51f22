//! An error in the configuration, by its location in the text.

use serde_spanned::Spanned;

/// An error at byte `at` of the text.
pub(super) struct Problem {
    pub(super) at: usize,
    pub(super) message: String,
}

/// Returns a problem at the location of `value`.
pub(super) fn problem_at<T>(value: &Spanned<T>, message: impl Into<String>) -> Problem {
    Problem { at: value.span().start, message: message.into() }
}
