//! The text of JSON strings: unescaped, escaped, written.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// Returns the number of bytes at the start of `bytes` that stand for themselves in a JSON string.
pub(crate) fn plain_prefix(bytes: &[u8]) -> usize {
    let mut at = 0;
    // Finds the first quote, backslash or control character in eight bytes at a time.
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let special =
            (bytes_below(word ^ splat(b'"'), 1) | bytes_below(word ^ splat(b'\\'), 1) | bytes_below(word, 0x20))
                & splat(0x80);
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + bytes[at..].iter().take_while(|byte| **byte >= 0x20 && **byte != b'"' && **byte != b'\\').count()
}

/// Returns the high bit of each byte that is less than `limit`, exact up to and including the first such byte.
fn bytes_below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(splat(limit)) & !word
}

fn splat(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Reads `\uXXXX`, or two of them for a pair of surrogates: the character, none for a lone surrogate, and the length.
pub(crate) fn escaped_char(bytes: &[u8]) -> Option<(Option<char>, usize)> {
    let high = hex_unit(bytes)?;
    if !(0xd800..0xdc00).contains(&high) {
        return Some((char::from_u32(high), 6));
    }
    match hex_unit(&bytes[6..]) {
        Some(low @ 0xdc00..0xe000) => Some((char::from_u32(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00)), 12)),
        _ => Some((None, 6)),
    }
}

fn hex_unit(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.first_chunk::<4>()?;
    digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
}

/// Returns the text of a valid JSON string, given without its quotes. A lone surrogate, which no text can have, becomes
/// U+FFFD.
pub(crate) fn unescape(inside: &str) -> Cow<'_, str> {
    let first = plain_prefix(inside.as_bytes());
    if first == inside.len() {
        return Cow::Borrowed(inside);
    }
    let mut text = String::with_capacity(inside.len());
    let mut rest = inside;
    let mut plain = first;
    loop {
        text.push_str(&rest[..plain]);
        rest = &rest[plain..];
        let (character, length) = match rest.as_bytes() {
            [b'\\', byte @ (b'"' | b'\\' | b'/'), ..] => (char::from(*byte), 2),
            [b'\\', b'b', ..] => ('\u{8}', 2),
            [b'\\', b'f', ..] => ('\u{c}', 2),
            [b'\\', b'n', ..] => ('\n', 2),
            [b'\\', b'r', ..] => ('\r', 2),
            [b'\\', b't', ..] => ('\t', 2),
            bytes => match escaped_char(bytes) {
                Some((character, length)) => (character.unwrap_or(char::REPLACEMENT_CHARACTER), length),
                // The end; no valid string has anything else here.
                None => return Cow::Owned(text),
            },
        };
        text.push(character);
        rest = &rest[length..];
        plain = plain_prefix(rest.as_bytes());
    }
}

/// Returns the text of a string, any other value as it is written, and nothing for `null`.
pub(crate) fn scalar_text(value: &RawValue) -> Cow<'_, str> {
    match string_content(value.get()) {
        Some(inside) => unescape(inside),
        None if value.get() == "null" => Cow::Borrowed(""),
        None => Cow::Borrowed(value.get()),
    }
}

/// Returns the text between the quotes of `value`, if it is a string.
pub(crate) fn string_content(value: &str) -> Option<&str> {
    value.strip_prefix('"')?.strip_suffix('"')
}

/// Writes `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_prefix(rest));
        out.extend_from_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => {
                let digit = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(control >> 4), digit(control & 15)]);
            }
        }
        rest = after;
    }
    out.push(b'"');
}

/// Writes a member of an object, whose value is a string.
pub(crate) fn write_field(out: &mut Vec<u8>, key: &str, value: &str) {
    write_key(out, key);
    write_string(out, value);
}

/// Writes a key, with the comma between it and the member before it.
pub(crate) fn write_key(out: &mut Vec<u8>, key: &str) {
    if !out.ends_with(b"{") {
        out.push(b',');
    }
    write_string(out, key);
    out.push(b':');
}
