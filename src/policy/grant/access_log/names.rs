//! Index expressions: names, patterns, exclusions, date math and names of remote clusters.

/// Returns whether a comma-separated list can reach the access log.
pub(in super::super) fn list_reaches(list: &str) -> bool {
    reaches(list.split(','))
}

/// Returns whether a list of expressions can reach the access log. Without an expression it reaches every index.
///
/// An exclusion of all of it, as in `*,-gate-*`, takes back what patterns before it have reached, and no more: with
/// `expand_wildcards=closed` it would not exclude an open index that is named.
pub(super) fn reaches<'a>(expressions: impl IntoIterator<Item = &'a str>) -> bool {
    let (mut is_empty, mut has_pattern, mut is_reached) = (true, false, false);
    for expression in expressions {
        let expression = expression.trim();
        is_empty = false;
        if expression.starts_with('-') {
            // Without a pattern before it, some engines exclude it from all indices.
            if !has_pattern {
                return true;
            }
            is_reached &= expression != EXCLUSION;
            continue;
        }
        match reach(expression) {
            Reach::None => {}
            Reach::ByPattern => is_reached = true,
            Reach::Always => return true,
        }
        has_pattern |= expression.contains('*');
    }
    is_empty || is_reached
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    None,
    /// By a pattern, from which a later exclusion can take it.
    ByPattern,
    Always,
}

fn reach(expression: &str) -> Reach {
    // Elasticsearch 5 accepts a plus sign.
    let expression = expression.strip_prefix('+').unwrap_or(expression);
    if expression.is_empty() || expression == "_all" || expression.contains('\\') {
        return Reach::Always;
    }
    let is_date_math = expression.starts_with('<');
    if !is_date_math && let Some((_, remote)) = expression.split_once(':') {
        // An exclusion would not apply to another cluster.
        return if reach(remote) == Reach::None { Reach::None } else { Reach::Always };
    }
    let text = expression.trim_start_matches('<');
    // A format in date math can contain any text: `<{now{'gate-'yyyy}}>`.
    let end = text.find(['*', '?', '{', '}', '<', '>']);
    let literal = &text[..end.unwrap_or(text.len())];
    if RESULTS.iter().any(|index| is_results(literal, end.is_some(), index)) {
        return Reach::Always;
    }
    let common = literal.len().min(PREFIX.len());
    let is_near = literal.as_bytes()[..common].eq_ignore_ascii_case(&PREFIX.as_bytes()[..common]);
    let is_whole = common == PREFIX.len();
    match (is_near, end) {
        (true, Some(_)) if is_date_math => Reach::Always,
        (true, Some(_)) => Reach::ByPattern,
        (true, None) if is_whole => Reach::Always,
        _ => Reach::None,
    }
}

/// Returns whether an expression that begins with `literal` names the hidden index. A pattern that begins with a wildcard
/// does not match it; [`begins_with_wildcard`] is for calls that expand patterns to hidden indices.
fn is_results(literal: &str, is_pattern: bool, index: &str) -> bool {
    let begins = index.get(..literal.len()).is_some_and(|start| start.eq_ignore_ascii_case(literal));
    begins && !literal.is_empty() && (is_pattern || literal.len() == index.len())
}

/// Returns whether a list has a pattern that matches every hidden index, if the call expands patterns to them.
pub(super) fn begins_with_wildcard(list: &str) -> bool {
    list.split(',').any(|expression| expression.trim().trim_start_matches(['+', '<']).starts_with(['*', '?', '{']))
}

/// Returns whether a value of `expand_wildcards` expands patterns to hidden indices.
pub(super) fn expands_to_hidden(states: &str) -> bool {
    states.split(',').any(|state| ["all", "hidden"].iter().any(|wide| state.trim().eq_ignore_ascii_case(wide)))
}

/// The hidden indices with the results of asynchronous searches, which can be those of clients that see the access log.
/// Documents have their search's identifier as id, and the result in base64.
const RESULTS: [&str; 2] = [".opendistro-asynchronous-search-response", ".async-search"];

/// The first characters of the access log's indices: see config/gate-template.json.
const PREFIX: &str = "gate-";

const EXCLUSION: &str = "-gate-*";
