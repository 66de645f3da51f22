//! A strict validator of HTTP/1 request heads. It only checks; hyper parses.

use hyper::Uri;
use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

use super::error::{HeadError, HeadLimits};

/// A validator of one connection's request heads, which also tracks the end of each body.
#[derive(Debug)]
pub struct HeadValidator {
    limits: HeadLimits,
    position: Position,
    /// Set if the target of the last passed head has to be percent-encoded: see [`encode_target`].
    is_raw: bool,
}

/// The position of the next byte in the stream of requests.
#[derive(Clone, Copy, Debug)]
enum Position {
    /// In a head. `scanned` bytes of it hold no end; its last line starts at `line`.
    Head { scanned: usize, line: usize },
    /// In a body with this many bytes left.
    Body(u64),
    /// In a chunked body. It belongs to the connection's last request, so its end is not tracked.
    Last,
}

impl HeadValidator {
    /// Creates a validator for a connection whose next byte starts a head.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, position: HEAD, is_raw: false }
    }

    /// Returns the number of bytes from the front of `bytes` that may pass: part of a body, or a complete head with the
    /// received part of its body.
    ///
    /// Returns 0 for an incomplete head; the next call must pass the same bytes and more.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<usize, HeadError> {
        let mut passed = 0;
        if let Position::Head { scanned, line } = self.position {
            let Some(end) = self.find_end(bytes, scanned, line)? else { return Ok(0) };
            let head = check(&bytes[..end], self.limits.headers)?;
            (self.position, self.is_raw) = (head.body, head.is_raw);
            passed = end;
        }
        passed += match self.position {
            Position::Head { .. } => 0,
            Position::Last => bytes.len() - passed,
            Position::Body(left) => {
                let here = left.min((bytes.len() - passed) as u64);
                self.position = if here == left { HEAD } else { Position::Body(left - here) };
                usize::try_from(here).expect("it is at most the length of a slice")
            }
        };
        Ok(passed)
    }

    /// Returns whether the last passed head has a target that hyper accepts only percent-encoded, and resets the flag.
    pub fn take_raw(&mut self) -> bool {
        std::mem::take(&mut self.is_raw)
    }

    /// Returns whether the next byte is within or after a chunked body.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self.position, Position::Last)
    }

    /// Returns whether a complete request has passed. `tail` is the last part of a chunked body, which has no known
    /// length.
    pub(crate) fn is_behind_request(&self, tail: &[u8]) -> bool {
        match self.position {
            Position::Head { .. } => true,
            Position::Body(_) => false,
            Position::Last => tail.ends_with(b"\r\n\r\n"),
        }
    }

    /// Returns whether the next byte belongs to a head.
    pub(crate) fn is_at_head(&self) -> bool {
        matches!(self.position, Position::Head { .. })
    }

    fn find_end(&mut self, bytes: &[u8], scanned: usize, mut line: usize) -> Result<Option<usize>, HeadError> {
        for end in memchr::memchr_iter(b'\n', &bytes[scanned..]).map(|at| scanned + at) {
            if end == 0 || bytes[end - 1] != b'\r' {
                return Err(HeadError::BareLf);
            }
            let is_empty = end - 1 == line;
            // Empty lines before a request line are skipped (RFC 9112, section 2.2). An empty line is one of them if it
            // is the first line, or follows another empty line.
            let is_first = line <= b"\r\n".len() || bytes[..line].ends_with(b"\n\r\n");
            if is_empty && !is_first {
                return self.within(end + 1).map(Some);
            }
            line = end + 1;
        }
        // A TLS handshake and other binary protocols have lines by chance only; their clients wait for a response.
        let first = bytes.iter().find(|byte| !matches!(byte, b'\r' | b'\n'));
        if first.is_some_and(|&first| !TOKEN[usize::from(first)]) {
            return Err(HeadError::RequestLine);
        }
        self.position = Position::Head { scanned: bytes.len(), line };
        self.within(bytes.len()).map(|_| None)
    }

    fn within(&self, length: usize) -> Result<usize, HeadError> {
        if length > self.limits.bytes { Err(HeadError::TooLarge) } else { Ok(length) }
    }
}

const HEAD: Position = Position::Head { scanned: 0, line: 0 };

/// A valid head.
struct Head {
    body: Position,
    is_raw: bool,
}

/// A valid request line.
struct RequestLine {
    is_http_11: bool,
    is_raw: bool,
}

/// Validates a complete head and returns what follows it.
fn check(head: &[u8], max_headers: usize) -> Result<Head, HeadError> {
    let mut start = 0;
    let mut lines = memchr::memchr_iter(b'\n', head).map(|end| {
        let line = &head[start..end];
        start = end + 1;
        line.strip_suffix(b"\r").unwrap_or(line)
    });
    let request_line = lines.find(|line| !line.is_empty()).ok_or(HeadError::RequestLine)?;
    let RequestLine { is_http_11, is_raw } = check_request_line(request_line)?;

    let (mut headers, mut hosts, mut length, mut chunked) = (0, 0, None, false);
    for line in lines.filter(|line| !line.is_empty()) {
        headers += 1;
        if headers > max_headers {
            return Err(HeadError::TooLarge);
        }
        // A token ends at the colon: no white space is allowed between them.
        let colon = line.iter().position(|&byte| !TOKEN[usize::from(byte)]).unwrap_or(line.len());
        let (name, Some((b':', value))) = (&line[..colon], line[colon..].split_first()) else {
            return Err(HeadError::HeaderName);
        };
        if name.is_empty() {
            return Err(HeadError::HeaderName);
        }
        let value = trim(value);
        if has(value, |byte| byte.is_ascii_control() && byte != b'\t') {
            return Err(HeadError::HeaderValue);
        }
        if name.eq_ignore_ascii_case(HOST.as_str().as_bytes()) {
            hosts += 1;
            if has_user(value) {
                return Err(HeadError::User);
            }
        } else if name.eq_ignore_ascii_case(CONTENT_LENGTH.as_str().as_bytes()) {
            let number = parse_length(value).filter(|_| length.is_none());
            length = Some(number.ok_or(HeadError::ContentLength)?);
        } else if name.eq_ignore_ascii_case(TRANSFER_ENCODING.as_str().as_bytes()) {
            if chunked || !is_http_11 || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(HeadError::TransferEncoding);
            }
            chunked = true;
        }
    }
    // `Host` is optional in HTTP/1.0 (RFC 9112, section 3.2).
    let has_host = hosts == 1 || (hosts == 0 && !is_http_11);
    match (has_host, chunked, length) {
        (true, true, None) => Ok(Head { body: Position::Last, is_raw }),
        (true, false, length) => Ok(Head { body: Position::Body(length.unwrap_or(0)), is_raw }),
        (true, true, Some(_)) => Err(HeadError::TransferEncoding),
        (false, ..) => Err(HeadError::Host),
    }
}

fn check_request_line(line: &[u8]) -> Result<RequestLine, HeadError> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(HeadError::RequestLine);
    };
    if !is_token(method) || target.is_empty() {
        return Err(HeadError::RequestLine);
    }
    let is_raw = check_target(target)?;
    match version {
        b"HTTP/1.1" => Ok(RequestLine { is_http_11: true, is_raw }),
        b"HTTP/1.0" => Ok(RequestLine { is_http_11: false, is_raw }),
        _ => Err(HeadError::RequestLine),
    }
}

/// Returns whether `name` is a `token` (RFC 9110, section 5.6.2).
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && !has(name, |byte| !TOKEN[usize::from(byte)])
}

/// The characters of a token: `tchar`.
static TOKEN: [bool; 256] = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

/// The characters of most paths and queries, all of them valid in every URL.
static PLAIN: [bool; 256] = set(b"/?&=%-._~,:*+@0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

const fn set(bytes: &[u8]) -> [bool; 256] {
    let mut set = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        set[bytes[at] as usize] = true;
        at += 1;
    }
    set
}

/// Removes optional white space around a value. `trim_ascii` would also remove CR and form feed.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Parses digits only: a sign, a list or inner white space allows request smuggling.
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|&length| length <= LONGEST)
}

/// hyper reserves larger numbers for bodies of unknown length.
const LONGEST: u64 = u64::MAX - 2;

/// The length in bytes from which hyper rejects a target.
const LONGEST_TARGET: usize = 65_535;

/// Checks that hyper accepts the whole target as a URL, and returns whether it does so only percent-encoded.
fn check_target(target: &[u8]) -> Result<bool, HeadError> {
    // The fast path for most targets.
    let is_plain =
        target.starts_with(b"/") && target.len() < LONGEST_TARGET && !has(target, |byte| !PLAIN[usize::from(byte)]);
    if is_plain {
        return Ok(false);
    }
    // hyper would drop a fragment, and it detects a DEL only in the whole head.
    if has(target, |byte| byte == b'#' || byte.is_ascii_control()) {
        return Err(HeadError::Target);
    }
    let is_raw = target.starts_with(b"/") && has(target, is_encoded);
    let uri = if is_raw { Uri::try_from(encode(target)) } else { Uri::try_from(target) };
    let uri = uri.map_err(|_| HeadError::Target)?;
    if uri.authority().is_some_and(|authority| has_user(authority.as_str().as_bytes())) {
        return Err(HeadError::User);
    }
    Ok(is_raw)
}

/// Returns whether an authority starts with `user:password@`. A client that sends one leaks a password, and parsers
/// differ on where the host begins (RFC 9110, section 4.2.4).
pub(super) fn has_user(authority: &[u8]) -> bool {
    has(authority, |byte| byte == b'@')
}

/// Returns whether `byte` is a character that no URL has and hyper rejects, while many clients send it raw and all
/// servers read it alike. hyper accepts others (`{`, `}`, `|`, `^`), and [`Target`](trailgate_client::Target) encodes
/// them.
fn is_encoded(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'`')
}

fn encode(target: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(target.len() + 16);
    for &byte in target {
        match byte {
            b'"' => encoded.extend_from_slice(b"%22"),
            b'<' => encoded.extend_from_slice(b"%3C"),
            b'>' => encoded.extend_from_slice(b"%3E"),
            b'`' => encoded.extend_from_slice(b"%60"),
            other => encoded.push(other),
        }
    }
    encoded
}

/// Returns `head` with its target percent-encoded where hyper would reject it, and with the bytes that follow the head.
#[must_use]
pub fn encode_target(head: &[u8]) -> Vec<u8> {
    let spaces: Vec<usize> = memchr::memchr_iter(b' ', head).take(2).collect();
    let [before, behind] = spaces[..] else { return head.to_vec() };
    [&head[..before], &encode(&head[before..behind]), &head[behind..]].concat()
}

/// Returns whether one of `bytes` is `such`. Reads all of them, so that the compiler vectorizes the loop.
fn has(bytes: &[u8], such: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, &byte| found | such(byte))
}

#[cfg(test)]
mod tests;
