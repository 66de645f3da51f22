//! Decodes UTF-16 to UTF-8 while it is read.

use std::io::{self, Read};

/// A reader of UTF-16. Invalid units become U+FFFD.
#[derive(Debug)]
pub(super) struct Utf16<R> {
    input: R,
    unit: fn([u8; 2]) -> u16,
    /// Bytes that are not decoded yet: half a unit or half a pair.
    rest: Vec<u8>,
    /// Decoded text that was not read yet, from `at`.
    text: String,
    at: usize,
}

impl<R: Read> Utf16<R> {
    /// Reads `input`, whose units `unit` makes of two bytes.
    pub(super) fn new(input: R, unit: fn([u8; 2]) -> u16) -> Self {
        Self { input, unit, rest: Vec::new(), text: String::new(), at: 0 }
    }

    fn decode(&mut self) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.rest);
        let before = bytes.len();
        bytes.resize(before + READ_BYTES, 0);
        let read = self.input.read(&mut bytes[before..])?;
        bytes.truncate(before + read);
        let mut units: Vec<u16> = bytes.chunks_exact(2).map(|pair| (self.unit)([pair[0], pair[1]])).collect();
        let is_end = read == 0;
        // The second half of a pair may be in the next bytes.
        let is_split = !is_end && units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit));
        units.truncate(units.len() - usize::from(is_split));
        self.rest = if is_end { Vec::new() } else { bytes.split_off(units.len() * 2) };
        self.text.clear();
        self.at = 0;
        self.text.extend(char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)));
        if is_end && !bytes.len().is_multiple_of(2) {
            self.text.push(char::REPLACEMENT_CHARACTER);
        }
        if self.text.is_empty() && !is_end { self.decode() } else { Ok(()) }
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.text.len() {
            self.decode()?;
        }
        let rest = &self.text.as_bytes()[self.at..];
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        self.at += length;
        Ok(length)
    }
}

const READ_BYTES: usize = 32 * 1024;
