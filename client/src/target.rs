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
mod tests;
