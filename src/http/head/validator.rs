//! The strict parser of heads, which only checks.

use hyper::Uri;
use hyper::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

use super::error::{HeadError, HeadLimits};

/// A validator of one connection's request heads, which also tracks where each body ends.
#[derive(Debug)]
pub struct HeadValidator {
    limits: HeadLimits,
    place: Place,
    /// Whether the head that passed last has to be written in another spelling: see [`encode_target`].
    is_raw: bool,
}

/// Where in the stream of requests the next byte stands.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a head, of which `scanned` bytes hold no end; its last line starts at `line`.
    Head { scanned: usize, line: usize },
    /// In a body of which this many bytes are to come.
    Body(u64),
    /// In a chunked body. It is the connection's last request, so nobody has to find the body's end.
    Last,
}

impl HeadValidator {
    /// Creates a validator for a connection whose next byte begins a head.
    #[must_use]
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, place: HEAD, is_raw: false }
    }

    /// Returns the number of bytes from the front of `bytes` that may pass: part of a body, or a whole head with what
    /// follows of its body.
    ///
    /// Returns 0 for an incomplete head; the next call must bring the same bytes and more.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<usize, HeadError> {
        let mut passed = 0;
        if let Place::Head { scanned, line } = self.place {
            let Some(end) = self.find_end(bytes, scanned, line)? else { return Ok(0) };
            let head = check(&bytes[..end], self.limits.headers)?;
            (self.place, self.is_raw) = (head.body, head.is_raw);
            passed = end;
        }
        passed += match self.place {
            Place::Head { .. } => 0,
            Place::Last => bytes.len() - passed,
            Place::Body(left) => {
                let here = left.min((bytes.len() - passed) as u64);
                self.place = if here == left { HEAD } else { Place::Body(left - here) };
                usize::try_from(here).expect("it is at most the length of a slice")
            }
        };
        Ok(passed)
    }

    /// Returns whether the target of the head that passed last has bytes that hyper takes only percent-encoded, once.
    pub fn take_raw(&mut self) -> bool {
        std::mem::take(&mut self.is_raw)
    }

    /// Whether the next byte belongs to a chunked body, or is behind it.
    pub(crate) fn is_last(&self) -> bool {
        matches!(self.place, Place::Last)
    }

    /// Whether all of a request has passed, as far as it tells its length. A chunked body is the last: `tail` is what
    /// passed of it last.
    pub(crate) fn is_behind_request(&self, tail: &[u8]) -> bool {
        match self.place {
            Place::Head { .. } => true,
            Place::Body(_) => false,
            Place::Last => tail.ends_with(b"\r\n\r\n"),
        }
    }

    /// Whether the next byte belongs to a head.
    pub(crate) fn is_at_head(&self) -> bool {
        matches!(self.place, Place::Head { .. })
    }

    fn find_end(&mut self, bytes: &[u8], scanned: usize, mut line: usize) -> Result<Option<usize>, HeadError> {
        for end in memchr::memchr_iter(b'\n', &bytes[scanned..]).map(|at| scanned + at) {
            if end == 0 || bytes[end - 1] != b'\r' {
                return Err(HeadError::BareLf);
            }
            let is_empty = end - 1 == line;
            // Empty lines before a request line are to be skipped (RFC 9112, section 2.2): an empty line is one of them
            // when there is none before it, or another empty one.
            let is_first = line <= b"\r\n".len() || bytes[..line].ends_with(b"\n\r\n");
            if is_empty && !is_first {
                return self.within(end + 1).map(Some);
            }
            line = end + 1;
        }
        self.place = Place::Head { scanned: bytes.len(), line };
        self.within(bytes.len()).map(|_| None)
    }

    fn within(&self, length: usize) -> Result<usize, HeadError> {
        if length > self.limits.bytes { Err(HeadError::TooLarge) } else { Ok(length) }
    }
}

const HEAD: Place = Place::Head { scanned: 0, line: 0 };

/// A head that passes.
struct Head {
    body: Place,
    is_raw: bool,
}

/// A request line that passes.
struct RequestLine {
    is_http_11: bool,
    is_raw: bool,
}

/// Checks a whole head and says what follows it.
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
        // A token ends at the colon: there is no white space between them.
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
    // HTTP/1.0 has no Host (RFC 9112, section 3.2).
    let has_host = hosts == 1 || (hosts == 0 && !is_http_11);
    match (has_host, chunked, length) {
        (true, true, None) => Ok(Head { body: Place::Last, is_raw }),
        (true, false, length) => Ok(Head { body: Place::Body(length.unwrap_or(0)), is_raw }),
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

/// A `token` of RFC 9110, section 5.6.2.
fn is_token(name: &[u8]) -> bool {
    !name.is_empty() && !has(name, |byte| !TOKEN[usize::from(byte)])
}

/// What is a `tchar`.
static TOKEN: [bool; 256] = set(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

/// What stands in the path and the query of most URLs, and may stand in those of all.
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

/// Without the white space that may stand around a value; `trim_ascii` would take CR and form feed, too.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Digits alone: a sign, a list or white space inside is somebody's trick.
fn parse_length(value: &[u8]) -> Option<u64> {
    let digits = str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    digits.parse().ok().filter(|&length| length <= LONGEST)
}

/// hyper keeps larger numbers for bodies of unknown length.
const LONGEST: u64 = u64::MAX - 2;

/// Bytes; hyper takes what is shorter.
const LONGEST_TARGET: usize = 65_535;

/// Checks that hyper takes this for a URL, and all of it, and returns whether that is so only once it is encoded.
fn check_target(target: &[u8]) -> Result<bool, HeadError> {
    // Most targets are seen to be good without taking them apart.
    let is_plain =
        target.starts_with(b"/") && target.len() < LONGEST_TARGET && !has(target, |byte| !PLAIN[usize::from(byte)]);
    if is_plain {
        return Ok(false);
    }
    // hyper would drop a fragment; a DEL it finds only in the whole head.
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

/// Whether an authority begins with `user:password@`. A client that sends one sends a password with it, and readers of
/// the host differ on where it begins (RFC 9110, section 4.2.4).
pub(super) fn has_user(authority: &[u8]) -> bool {
    has(authority, |byte| byte == b'@')
}

/// Characters that no URL has and hyper rejects, while many clients send them raw and all servers read them alike. Others
/// (`{`, `}`, `|`, `^`) hyper lets pass, and [`Target`](trailgate_client::Target) encodes them.
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

/// Returns the same head with its target percent-encoded where hyper would reject it, and whatever follows the head.
#[must_use]
pub fn encode_target(head: &[u8]) -> Vec<u8> {
    let spaces: Vec<usize> = memchr::memchr_iter(b' ', head).take(2).collect();
    let [before, behind] = spaces[..] else { return head.to_vec() };
    [&head[..before], &encode(&head[before..behind]), &head[behind..]].concat()
}

/// Whether one of `bytes` is `such`. It looks at all of them, for then the compiler takes many at once.
fn has(bytes: &[u8], such: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(false, |found, &byte| found | such(byte))
}

#[cfg(test)]
mod tests;
