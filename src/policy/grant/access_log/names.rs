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

/// The first characters of the access log's indices: see config/gate-template.json.
const PREFIX: &str = "gate-";

const EXCLUSION: &str = "-gate-*";
