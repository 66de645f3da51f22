//! The canonical request, under each reading of the URL.

use super::{Request, sha256};

/// One reading of a URL.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    /// The name of the reading in a rejection.
    pub(super) name: &'static str,
    path: fn(&[u8]) -> Vec<u8>,
    query: fn(&[u8]) -> Vec<u8>,
}

/// Path and query as on the wire.
pub(super) const RAW: Reading = Reading { name: "raw path, raw query", path: raw_path, query: raw_query };

/// Path and query decoded; `+` in the query is a plus sign.
pub(super) const DECODED: Reading =
    Reading { name: "decoded path, decoded query", path: decoded_path, query: decoded_query };

/// All readings. Path and query are on different lines, so varying one at a time finds every disagreement.
pub(super) const READINGS: [Reading; 4] = [
    RAW,
    Reading { name: "decoded path, raw query", path: decoded_path, query: raw_query },
    DECODED,
    Reading { name: "decoded path, decoded query, + as a space", path: decoded_path, query: decoded_query_plus_space },
];

pub(super) fn canonical_request(request: &Request, signed: &[String], reading: Reading) -> Vec<u8> {
    let (path, query) = request.target.split_once('?').unwrap_or((request.target, ""));
    let mut out = Vec::new();
    let mut line = |bytes: &[u8]| {
        out.extend_from_slice(bytes);
        out.push(b'\n');
    };
    line(request.method.as_bytes());
    line(&(reading.path)(path.as_bytes()));
    line(&(reading.query)(query.as_bytes()));
    for name in signed {
        let values: Vec<Vec<u8>> = request.values(name).map(collapse).collect();
        line(&[name.as_bytes(), b":", &values.join(&b","[..])].concat());
    }
    line(b"");
    line(signed.join(";").as_bytes());
    out.extend_from_slice(sha256(request.body).as_bytes());
    out
}

/// Encodes the path once more, without normalizing it.
fn raw_path(path: &[u8]) -> Vec<u8> {
    encode(path, b"/")
}

/// Decodes the path, resolves dot segments and double slashes, encodes it strictly, and encodes it once more.
fn decoded_path(path: &[u8]) -> Vec<u8> {
    let segments: Vec<Vec<u8>> = path.split(|&byte| byte == b'/').map(decode).collect();
    let mut kept: Vec<&[u8]> = Vec::new();
    for segment in &segments {
        match segment.as_slice() {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let ends_in_slash = matches!(segments.last().map(Vec::as_slice), Some(b"" | b"." | b".."));
    let mut normalized = Vec::new();
    for segment in &kept {
        normalized.push(b'/');
        normalized.extend(encode(segment, b""));
    }
    if ends_in_slash || kept.is_empty() {
        normalized.push(b'/');
    }
    encode(&normalized, b"/")
}

/// Sorts the query's pairs without decoding them.
fn raw_query(query: &[u8]) -> Vec<u8> {
    if query.is_empty() { Vec::new() } else { sorted(query.split(|&byte| byte == b'&').map(pair).collect()) }
}

/// Decodes the query's pairs, encodes them strictly, and sorts them.
fn decoded_query(query: &[u8]) -> Vec<u8> {
    let pairs = query.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()).map(pair);
    sorted(pairs.map(|(key, value)| (encode(&decode(&key), b""), encode(&decode(&value), b""))).collect())
}

fn decoded_query_plus_space(query: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = query.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    decoded_query(&spaced)
}

fn pair(pair: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut parts = pair.splitn(2, |&byte| byte == b'=').map(<[u8]>::to_vec);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}

/// Sorts pairs by key and then by value, and joins them. Each keeps its `=`, even without a value.
fn sorted(mut pairs: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    pairs.sort_unstable();
    let pairs: Vec<Vec<u8>> = pairs.into_iter().map(|(key, value)| [key, value].join(&b'=')).collect();
    pairs.join(&b'&')
}

/// Trims a header value, and collapses inner blanks to single spaces.
fn collapse(value: &[u8]) -> Vec<u8> {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

/// Percent-encodes all bytes except RFC 3986's unreserved ones and those in `keep`.
fn encode(bytes: &[u8], keep: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || keep.contains(byte) {
            out.push(*byte);
        } else {
            out.extend(format!("%{byte:02X}").into_bytes());
        }
    }
    out
}

/// Decodes each `%XX`. A `%` that starts no such escape is a literal `%`.
pub(crate) fn decode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%');
        if let Some((high, low)) = digits.and_then(|digits| Some((hex_digit(digits[0])?, hex_digit(digits[1])?))) {
            out.push(high * 16 + low);
            rest = &after[2..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}

fn hex_digit(byte: u8) -> Option<u8> {
    u8::try_from(char::from(byte).to_digit(16)?).ok()
}
