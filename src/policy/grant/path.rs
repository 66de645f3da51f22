//! Path patterns, and the readings of a path by the servers behind the proxy.
//!
//! Some servers split a path at `/` before they percent-decode it, and some after. So `%2F` is a part of a segment for
//! one and a separator for the other. A decision has to hold under both readings. A path that is still escaped after
//! decoding would need a third reading, and is rejected.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use trailgate_client::Target;

/// Returns every reading of `target`'s path as segments, or `None` if one is ambiguous.
pub(super) fn readings(target: &Target) -> Option<Vec<Vec<Cow<'_, str>>>> {
    let segments: Vec<_> = split(target.path()).map(decode).collect::<Option<_>>()?;
    if segments.iter().any(|segment| is_odd(segment)) {
        return None;
    }
    if !segments.iter().any(|segment| segment.contains('/')) {
        return Some(vec![segments]);
    }
    let decoded_first: Vec<Cow<'_, str>> =
        segments.iter().flat_map(|segment| segment.split('/')).map(|part| part.to_owned().into()).collect();
    // The meaning of these depends on the order of decoding and dot-segment removal.
    if decoded_first.iter().any(|segment| matches!(segment.as_ref(), "" | "." | "..")) {
        return None;
    }
    Some(vec![segments, decoded_first])
}

/// Returns the decoded pairs of `target`'s query, or `None` if one is not UTF-8 or a key occurs twice.
pub(super) fn parameters(target: &Target) -> Option<Vec<(String, String)>> {
    let pairs = pairs(target)?;
    let mut names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let is_twice = names.windows(2).any(|two| two[0] == two[1]);
    (!is_twice).then_some(pairs)
}

/// Returns the decoded pairs of `target`'s query, or `None` if one is not UTF-8.
pub(super) fn pairs(target: &Target) -> Option<Vec<(String, String)>> {
    let pairs = target.query().into_iter().flat_map(|query| query.split('&'));
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?.into_owned(), decode(value)?.into_owned()))
        })
        .collect()
}

/// Returns whether the segments match a pattern of the rules.
///
/// `a|b` matches one of two names, a part that ends with `?` is optional, and `…` matches zero or more segments.
pub(super) fn fits(pattern: &str, segments: &[&str]) -> bool {
    if pattern.is_empty() {
        return segments.is_empty();
    }
    let (part, rest) = pattern.split_once('/').unwrap_or((pattern, ""));
    if part == "…" {
        return (0..=segments.len()).any(|skipped| fits(rest, &segments[skipped..]));
    }
    let (part, is_optional) = part.strip_suffix('?').map_or((part, false), |part| (part, true));
    if let Some((first, others)) = segments.split_first()
        && part_fits(part, first)
        && fits(rest, others)
    {
        return true;
    }
    is_optional && fits(rest, segments)
}

/// Returns whether a segment matches a part of a pattern.
///
/// A name must not start with `_`, because that is an action of the engine, now or in a later version.
fn part_fits(part: &str, segment: &str) -> bool {
    match part {
        "{index}" | "{name}" => segment.split(',').all(|name| name == "_all" || !name.starts_with('_')),
        "{type}" | "{doc}" => !segment.starts_with('_'),
        "{cursor}" => !segment.contains("_all"),
        "{build}" => segment.bytes().all(|byte| byte.is_ascii_digit()),
        "{id}" | "{node}" | "{field}" => true,
        "{kibana}" => is_kibanas(segment),
        names => names.split('|').any(|name| name == segment),
    }
}

/// Returns whether `index` is one of Kibana's own indices: not a pattern, and not a list. Only three names match,
/// because a write creates an index that does not exist.
fn is_kibanas(index: &str) -> bool {
    matches!(index, ".kibana" | ".kibana-4" | ".kibana_1")
}

fn split(path: &str) -> impl Iterator<Item = &str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').filter(|segment| !segment.is_empty())
}

fn decode(text: &str) -> Option<Cow<'_, str>> {
    percent_decode_str(text).decode_utf8().ok()
}

/// Returns whether a decoded segment is ambiguous: to a server that decodes it again, or that reads `\` as `/`.
fn is_odd(segment: &str) -> bool {
    let is_escape =
        |at: usize| segment.as_bytes()[at + 1..].iter().take(2).filter(|it| it.is_ascii_hexdigit()).count() == 2;
    // Fast path: most segments are plain.
    !segment.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        && (segment.contains(['\\', '?', '#'])
            || segment.contains(char::is_control)
            || segment.match_indices('%').any(|(at, _)| is_escape(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Option<Vec<Vec<String>>> {
        let owned = |segments: Vec<Cow<'_, str>>| segments.into_iter().map(Cow::into_owned).collect();
        Some(readings(&Target::canonical(path, None).unwrap())?.into_iter().map(owned).collect())
    }

    #[track_caller]
    fn fit(pattern: &str, path: &str, expected: bool) {
        let segments = &read(path).unwrap()[0];
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        assert_eq!(fits(pattern, &segments), expected, "{pattern} {path}");
    }

    #[test]
    fn path_with_an_encoded_slash_has_two_readings() {
        assert_eq!(read("/cwl-*/_search/"), Some(vec![vec!["cwl-*".to_owned(), "_search".to_owned()]]));
        assert_eq!(read("/"), Some(vec![vec![]]));
        assert_eq!(
            read("/a%2Fb/c"),
            Some(vec![vec!["a/b".to_owned(), "c".to_owned()], vec!["a".to_owned(), "b".to_owned(), "c".to_owned()]])
        );
        for path in ["/a%2F..%2Fb", "/a%2F", "/%2Fa", "/a%252Fb", "/%255Fbulk", "/a%5Cb", "/a%3Fb", "/a%23b", "/%FF"] {
            assert_eq!(read(path), None, "{path}");
        }
        assert!(read("/100%25").is_some());
    }

    #[test]
    fn pattern_matches_only_whole_paths() {
        fit("{index}?/{type}?/_search", "/_search", true);
        fit("{index}?/{type}?/_search", "/a,-b/t/_search", true);
        fit("{index}?/{type}?/_search", "/a/_delete_by_query/_search", false);
        fit("{index}?/{type}?/_search", "/_bulk/_search", false);
        fit("{index}?/{type}?/_search", "/a/_search/b", false);
        fit("{index}?/{type}?/_search", "/a/_SEARCH", false);
        fit("{index}", "/_all", true);
        fit("{index}", "/a,_bulk", false);
        fit("_nodes/…/hot_threads|hotthreads", "/_nodes/hot_threads", true);
        fit("_nodes/…/hot_threads|hotthreads", "/_nodes/a/hotthreads", true);
        fit("_nodes/…/hot_threads|hotthreads", "/_nodes/a/hotthreads/b", false);
        fit("_cat/…", "/_cat", true);
        fit("", "/", true);
        fit("", "/a", false);
    }

    #[test]
    fn kibana_pattern_matches_only_the_single_index() {
        for index in [".kibana", ".kibana_1", ".kibana-4"] {
            fit("{kibana}", &format!("/{index}"), true);
        }
        for index in [
            ".kibana*",
            ".kibana,cwl-*",
            "cwl-*,.kibana",
            ".kibana_",
            ".kibana_2",
            ".kibana_1,",
            ".KIBANA",
            ".kibana.",
            "kibana",
        ] {
            fit("{kibana}", &format!("/{index}"), false);
        }
    }

    #[test]
    fn duplicate_parameter_invalidates_the_query() {
        let read = |query| parameters(&Target::canonical("/", Some(query)).unwrap());
        assert_eq!(read("p%61th=a%2Fb&v"), Some(vec![("path".into(), "a/b".into()), ("v".into(), String::new())]));
        assert_eq!(read("path=a&p%61th=b"), None);
        assert_eq!(read("q=%FF"), None);
    }
}
