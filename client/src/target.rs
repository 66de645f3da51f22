//! The canonical target: one form of path and query that is both signed and sent.
//!
//! Servers interpret a raw URL differently (dot segments, `//`, `+`, stray `%`), and a signature fails on the
//! difference. A [`Target`] is unambiguous: every byte outside the unreserved set of RFC 3986 is percent-encoded, and
//! dot segments and empty segments are removed. "Create a signed AWS API request" in the IAM User Guide has the rules
//! for signing: the path is encoded once more, and the query is sorted.

use hyper::Uri;
use hyper::http::uri::PathAndQuery;

/// A request target (path and query) in canonical form; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(PathAndQuery);

impl Target {
    /// Returns the canonical form of a raw `path` and `query` (without `?`).
    ///
    /// In the path, `%2F` stays `%2F`, because it is part of a segment. In the query, `+` is a space, a `%` that starts
    /// no escape is itself, and the `X-Amz-*` parameters of a presigned URL are removed.
    ///
    /// # Errors
    ///
    /// Returns an error if the path is not absolute, climbs above the root, has an invalid escape or a control
    /// character, or if the target is too long.
    pub fn canonical(path: &str, query: Option<&str>) -> Result<Self, TargetError> {
        let mut text = Vec::with_capacity(path.len() + query.map_or(0, str::len) + 16);
        push_path(&mut text, path)?;
        if let Some(query) = query {
            push_query(&mut text, query);
        }
        // The canonical form has only characters of a URL, so it can only be too long.
        PathAndQuery::try_from(text).map(Self).map_err(|_| TargetError::TooLong)
    }

    /// Returns path and query as sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Returns the path as sent.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Returns the query as sent, without its `?`; never empty.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.0.query()
    }

    /// Returns the target as a URI in origin form (RFC 9112, section 3.2.1).
    #[must_use]
    pub fn uri(&self) -> Uri {
        self.0.clone().into()
    }

    /// Writes the canonical URI of `SigV4`: the sent path, encoded once more.
    pub(crate) fn push_signed_path(&self, out: &mut String) {
        // A canonical path has only unreserved characters, `/` and escapes, so only `%` is left to encode.
        for (i, piece) in self.path().split('%').enumerate() {
            if i > 0 {
                out.push_str("%25");
            }
            out.push_str(piece);
        }
    }

    /// Writes the canonical query string of `SigV4`: sorted by encoded key, then by value, each with a `=`.
    pub(crate) fn push_signed_query(&self, out: &mut String) {
        let Some(query) = self.query() else { return };
        let mut pairs: Vec<(&str, &str)> =
            query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, ""))).collect();
        pairs.sort_unstable();
        for (i, (key, value)) in pairs.into_iter().enumerate() {
            if i > 0 {
                out.push('&');
            }
            out.push_str(key);
            out.push('=');
            out.push_str(value);
        }
    }
}

/// The reason why a target has no canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// The target is not a path: `*`, or the authority of a `CONNECT`.
    #[error("the request target is not a path")]
    NoPath,
    /// `..` leads above the root.
    #[error("the path climbs above /")]
    Climb,
    /// A `%` in the path is not followed by two hexadecimal digits.
    #[error("a % in the path starts no escape: write %25")]
    BadEscape,
    /// The path holds a control character, raw or as an escape.
    #[error("the path holds a control character")]
    Control,
    /// The target exceeds the length of a URL once it is encoded.
    #[error("the request target is too long")]
    TooLong,
}

fn push_path(out: &mut Vec<u8>, path: &str) -> Result<(), TargetError> {
    let Some(segments) = path.strip_prefix('/') else { return Err(TargetError::NoPath) };
    let start = out.len();
    let mut ends_in_slash = true;
    for segment in segments.as_bytes().split(|&byte| byte == b'/') {
        let before = out.len();
        out.push(b'/');
        push_segment(out, segment)?;
        // Checked after decoding, so that `%2e%2e` is also a dot segment.
        ends_in_slash = match &out[before..] {
            b"/" | b"/." => {
                out.truncate(before);
                true
            }
            b"/.." => {
                let parent = out[start..before].iter().rposition(|&byte| byte == b'/').ok_or(TargetError::Climb)?;
                out.truncate(start + parent);
                true
            }
            _ => false,
        };
    }
    if ends_in_slash {
        out.push(b'/');
    }
    Ok(())
}

fn push_segment(out: &mut Vec<u8>, mut segment: &[u8]) -> Result<(), TargetError> {
    while let Some(byte) = push_unreserved(out, &mut segment) {
        let byte = match byte {
            b'%' => take_escape(&mut segment).ok_or(TargetError::BadEscape)?,
            plain => plain,
        };
        if byte.is_ascii_control() {
            return Err(TargetError::Control);
        }
        push_byte(out, byte);
    }
    Ok(())
}

fn push_query(out: &mut Vec<u8>, query: &str) {
    let mut separator = b'?';
    // An empty pair (`a&&b`) has no content, and servers disagree on whether it counts.
    for pair in query.as_bytes().split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
        let before = out.len();
        out.push(separator);
        let mut parts = pair.splitn(2, |&byte| byte == b'=');
        push_component(out, parts.next().unwrap_or_default());
        if is_presigned(&out[before + 1..]) {
            out.truncate(before);
            continue;
        }
        if let Some(value) = parts.next() {
            out.push(b'=');
            push_component(out, value);
        }
        separator = b'&';
    }
}

fn push_component(out: &mut Vec<u8>, mut component: &[u8]) {
    while let Some(byte) = push_unreserved(out, &mut component) {
        let byte = match byte {
            b'%' => take_escape(&mut component).unwrap_or(b'%'),
            b'+' => b' ',
            plain => plain,
        };
        push_byte(out, byte);
    }
}

fn is_presigned(key: &[u8]) -> bool {
    key.get(..PRESIGNED.len()).is_some_and(|start| start.eq_ignore_ascii_case(PRESIGNED))
}

/// Copies the unreserved characters at the start of `rest` at once, and returns the byte after them.
fn push_unreserved(out: &mut Vec<u8>, rest: &mut &[u8]) -> Option<u8> {
    let end = rest.iter().position(|&byte| !is_unreserved(byte)).unwrap_or(rest.len());
    let (unreserved, behind) = rest.split_at(end);
    out.extend_from_slice(unreserved);
    let (&byte, behind) = behind.split_first()?;
    *rest = behind;
    Some(byte)
}

/// Consumes the two hexadecimal digits of an escape, if present, and returns their byte.
fn take_escape(rest: &mut &[u8]) -> Option<u8> {
    let (digits, behind) = rest.split_first_chunk::<2>()?;
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    let byte = u8::try_from(high? * 16 + low?).ok()?;
    *rest = behind;
    Some(byte)
}

fn push_byte(out: &mut Vec<u8>, byte: u8) {
    if is_unreserved(byte) {
        out.push(byte);
    } else {
        out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Returns whether a byte is unreserved (RFC 3986, section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const HEX: &[u8; 16] = b"0123456789ABCDEF";

const PRESIGNED: &[u8] = b"X-Amz-";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn path(raw: &str, canonical: &str) {
        assert_eq!(Target::canonical(raw, None).as_ref().map(Target::as_str), Ok(canonical), "{raw}");
    }

    #[track_caller]
    fn query(raw: &str, canonical: &str) {
        let target = Target::canonical("/", Some(raw)).unwrap();
        assert_eq!(target.query().unwrap_or_default(), canonical, "{raw}");
    }

    #[track_caller]
    fn refuse(raw: &str, error: TargetError) {
        assert_eq!(Target::canonical(raw, None), Err(error), "{raw}");
    }

    #[test]
    fn a_path_is_resolved_and_encoded_strictly() {
        path("/", "/");
        path("/_plugin/kibana/", "/_plugin/kibana/");
        path("/a/b", "/a/b");
        path("/a//b///", "/a/b/");
        path("///", "/");
        path("/i/./x/../_doc/1", "/i/_doc/1");
        path("/a/.", "/a/");
        path("/a/b/..", "/a/");
        path("/a/..", "/");
        path("/a//../b", "/b");
        path("/a/%2e%2E/b", "/b");
        path("/a/.%2e/b/%2e", "/b/");
        path("/...", "/...");
        path("/logs%2Fx/", "/logs%2Fx/");
        path("/i/..%2fx", "/i/..%2Fx");
        path("/cwl-*/a,b:c@d", "/cwl-%2A/a%2Cb%3Ac%40d");
        path("/%3Clogstash-%7Bnow%2Fd%7D%3E/_search", "/%3Clogstash-%7Bnow%2Fd%7D%3E/_search");
        path("/a+b%20c", "/a%2Bb%20c");
        path("/%252e%252e/x", "/%252e%252e/x");
        path("/%7euser/%41", "/~user/A");
        path("/é/%FF", "/%C3%A9/%FF");
        path(r"/a\..\b", "/a%5C..%5Cb");
    }

    #[test]
    fn a_path_with_no_safe_reading_is_refused() {
        refuse("*", TargetError::NoPath);
        refuse("", TargetError::NoPath);
        refuse("/..", TargetError::Climb);
        refuse("/a/../../b", TargetError::Climb);
        refuse("/%2e%2e/b", TargetError::Climb);
        refuse("//..", TargetError::Climb);
        refuse("/100%", TargetError::BadEscape);
        refuse("/a%2/b", TargetError::BadEscape);
        refuse("/a%zz", TargetError::BadEscape);
        refuse("/a%+1", TargetError::BadEscape);
        refuse("/a%00", TargetError::Control);
        refuse("/a%0d%0a", TargetError::Control);
        refuse("/a%7F", TargetError::Control);
    }

    #[test]
    fn a_query_keeps_every_pair_in_its_order() {
        query("b=2&a=1&b=1", "b=2&a=1&b=1");
        query("v", "v");
        query("v=", "v=");
        query("=x", "=x");
        query("q=a+b%20c", "q=a%20b%20c");
        query("q=a%2Bb", "q=a%2Bb");
        query("q=100%", "q=100%25");
        query("q=%zz%4", "q=%25zz%254");
        query("q=a;b=c", "q=a%3Bb%3Dc");
        query("q=%FF%0a", "q=%FF%0A");
        query("a&&b&", "a&b");
        query("&&&", "");
        query("_g=(time:(from:now-7d,to:now))", "_g=%28time%3A%28from%3Anow-7d%2Cto%3Anow%29%29");
        query("q=漢?/", "q=%E6%BC%A2%3F%2F");
    }

    #[test]
    fn a_presigned_urls_parameters_are_left_out() {
        query("X-Amz-Algorithm=AWS4-HMAC-SHA256&q=1&X-Amz-Signature=abc", "q=1");
        query("x-amz-date=1&%58-Amz-Token=2", "");
        query("x-amzn=1&y=X-Amz-Date", "x-amzn=1&y=X-Amz-Date");
    }

    #[test]
    fn an_empty_query_leaves_no_question_mark() {
        assert_eq!(Target::canonical("/a", Some("")).unwrap().as_str(), "/a");
        assert_eq!(Target::canonical("/a", Some("x-amz-date=1")).unwrap().as_str(), "/a");
    }

    #[test]
    fn an_eight_kibibyte_query_passes_whole() {
        let long = "x".repeat(8192);
        query(&format!("q={long}"), &format!("q={long}"));
    }

    #[test]
    fn what_is_too_long_for_a_url_once_it_is_encoded_is_refused() {
        refuse(&format!("/{}", "*".repeat(22_000)), TargetError::TooLong);
    }

    #[test]
    fn signed_path_is_encoded_twice_and_query_sorted() {
        let target = Target::canonical("/cwl-*/x%2Fy", Some("b=2&a&b=1&a-b=3&A=4")).unwrap();
        let (mut path, mut query) = (String::new(), String::new());
        target.push_signed_path(&mut path);
        target.push_signed_query(&mut query);
        assert_eq!(path, "/cwl-%252A/x%252Fy");
        assert_eq!(query, "A=4&a=&a-b=3&b=1&b=2");
    }

    /// Returns paths and queries of parts that servers interpret differently.
    fn tricky() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just("/".to_owned()),
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just("%2e".to_owned()),
            Just("%2F".to_owned()),
            Just("%25".to_owned()),
            Just("%".to_owned()),
            Just("+".to_owned()),
            Just("&".to_owned()),
            Just("=".to_owned()),
            Just("?".to_owned()),
            Just("X-Amz-Date=1".to_owned()),
            "[ -~]{0,3}",
            "\\PC{0,3}",
            "%[0-9a-fA-F]{2}",
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn a_canonical_target_is_its_own_canonical_target(path in tricky(), query in proptest::option::of(tricky())) {
            if let Ok(once) = Target::canonical(&format!("/{path}"), query.as_deref()) {
                let twice = Target::canonical(once.path(), once.query());
                prop_assert_eq!(twice.as_ref(), Ok(&once));
            }
        }

        #[test]
        fn a_canonical_target_has_no_second_reading(path in tricky(), query in proptest::option::of(tricky())) {
            if let Ok(target) = Target::canonical(&format!("/{path}"), query.as_deref()) {
                prop_assert!(target.path().split('/').skip(1).all(|segment| segment != "." && segment != ".."));
                prop_assert!(!target.path().contains("//"));
                prop_assert!(!target.as_str().contains(['+', ';', ' ']));
            }
        }
    }
}
