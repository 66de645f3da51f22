//! Statements of SQL and PPL: no word of them may name the access log.
//!
//! No grammar is parsed, because the plug-ins' versions have several. Every word of the text counts, also within quotes.
//! A lone `*` is a pattern of indices unless the word before it makes it a list of columns or a product.

use super::super::DenyReason;
use super::names::reaches;

/// Rejects a statement that can reach the access log.
pub(in super::super) fn check_statement(statement: &str) -> Result<(), DenyReason> {
    // Comments, escapes and date math could hide a name.
    if ["/*", "--", "\\", "{", "#"].iter().any(|hiding| statement.contains(hiding)) {
        return Err(DenyReason::Named("has a comment, an escape or a brace, which could hide the access log (gate-*)"));
    }
    let mut before = ["", ""];
    for word in words(statement) {
        let is_hidden = if word.ends_with('*') && (word == "*" || word.ends_with(".*")) {
            !is_column_list(before)
        } else {
            names_access_log(word) || word.contains('*') && reaches_by_pattern(word)
        };
        if is_hidden {
            return Err(DenyReason::access_log(Some(word)));
        }
        before = [before[1], word];
    }
    Ok(())
}

/// Returns whether a word contains the first part of the access log's names, after a dot or at its start for example.
fn names_access_log(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    let is_in_name = |c: char| c.is_alphanumeric() || c == '_';
    let is_bare = |at: usize| !word[..at].ends_with(is_in_name) && !word[at + GATE.len()..].starts_with(is_in_name);
    word == "_all"
        || RESULTS.iter().any(|name| word.contains(name))
        || word.match_indices(GATE).any(|(at, _)| is_bare(at))
}

/// Returns whether a word with a `*` can be a pattern that reaches the access log, also behind the name of a catalog.
fn reaches_by_pattern(word: &str) -> bool {
    // Each part is read to its end, which takes quadratic time.
    if word.len() > LONGEST {
        return true;
    }
    let word = word.to_ascii_lowercase();
    // A lexer may split `SELECT*FROM*`.
    let is_glued = |at: usize| ["from", "join", "source", "index"].iter().any(|name| word[..at].ends_with(name));
    let mut parts = word.match_indices(['.', '@']).map(|(at, _)| &word[at + 1..]).chain([word.as_str()]);
    parts.any(|part| reaches([part])) || word.match_indices('*').any(|(at, _)| is_glued(at))
}

/// Returns whether a `*` after these two words stands for columns, or multiplies a number.
fn is_column_list([earlier, before]: [&str; 2]) -> bool {
    let is = |word: &str, names: &[&str]| names.iter().any(|name| word.eq_ignore_ascii_case(name));
    is(before, &["select", "distinct", "fields", ")"])
        || before == "(" && is(earlier, &["count"])
        || before.starts_with(|c: char| c.is_ascii_digit()) && before.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// Splits a text into words and separators. Quotes and blanks separate and are left out.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c.is_control() || "'\"`´".contains(c));
        let first = rest.chars().next()?;
        let end = if SEPARATORS.contains(first) {
            first.len_utf8()
        } else {
            let is_end = |c: char| c.is_whitespace() || c.is_control() || "'\"`´".contains(c) || SEPARATORS.contains(c);
            rest.find(is_end).unwrap_or(rest.len())
        };
        let word;
        (word, rest) = rest.split_at(end);
        Some(word)
    })
}

/// The maximum bytes of a word with a `*`. The name of an index has at most 255.
const LONGEST: usize = 512;

const SEPARATORS: &str = "(),=;|[]:%!<>";

/// Parts of the names of the indices with the results of asynchronous searches.
const RESULTS: [&str; 2] = ["asynchronous-search", "async-search"];

/// The access log's names without their separator.
const GATE: &str = "gate";
