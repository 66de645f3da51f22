//! A path as the servers behind the gate may read it, and the patterns that it is held against.
//!
//! Some servers split a path at `/` before they decode it, some after, so that `%2F` belongs to a segment for the one
//! and ends it for the other. A decision has to hold under both readings. What would need a third one, because it is
//! still escaped once it is decoded, is refused.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use trailgate_client::Target;

/// All ways in which `target`'s path is cut into segments, or nothing if one of them is not to be trusted.
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
    // What a server makes of these depends on when it resolves them.
    if decoded_first.iter().any(|segment| matches!(segment.as_ref(), "" | "." | "..")) {
        return None;
    }
    Some(vec![segments, decoded_first])
}

/// The pairs of `target`'s query, decoded, or nothing if one is no text or a key is there twice.
pub(super) fn parameters(target: &Target) -> Option<Vec<(String, String)>> {
    let pairs = pairs(target)?;
    let is_known = |at: usize, name: &String| pairs[..at].iter().any(|(earlier, _)| earlier == name);
    let is_twice = pairs.iter().enumerate().any(|(at, (name, _))| is_known(at, name));
    (!is_twice).then_some(pairs)
}

/// Returns the pairs of `target`'s query, decoded, or nothing if one is no text.
pub(super) fn pairs(target: &Target) -> Option<Vec<(String, String)>> {
    let pairs = target.query().into_iter().flat_map(|query| query.split('&'));
    pairs
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((decode(key)?.into_owned(), decode(value)?.into_owned()))
        })
        .collect()
}

/// Whether the segments fit a pattern of the rules.
///
/// `a|b` is one of two names, a part with `?` behind it may be missing, `…` is any number of segments, none included.
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

/// What starts with `_` is an action of the engine where it would else be a name, or will be one in its next version.
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

/// Returns whether `index` is one in which Kibana keeps its objects: alone, no pattern and no list. Three names only,
/// since the first write makes an index that does not exist.
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

/// Whether a decoded segment would mean something else to a server that decodes it again, or that takes `\` for `/`.
fn is_odd(segment: &str) -> bool {
    let is_escape =
        |at: usize| segment.as_bytes()[at + 1..].iter().take(2).filter(|it| it.is_ascii_hexdigit()).count() == 2;
    // Most segments are plain, and that is soon seen.
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
    fn a_path_has_one_reading_unless_a_segment_holds_a_slash() {
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
    fn a_pattern_fits_whole_paths_alone() {
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
    fn kibanas_index_is_named_alone() {
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
    fn a_parameter_that_is_there_twice_makes_all_of_them_void() {
        let read = |query| parameters(&Target::canonical("/", Some(query)).unwrap());
        assert_eq!(read("p%61th=a%2Fb&v"), Some(vec![("path".into(), "a/b".into()), ("v".into(), String::new())]));
        assert_eq!(read("path=a&p%61th=b"), None);
        assert_eq!(read("q=%FF"), None);
    }
}
