//! A file as a sequence of JSON values, read piece by piece: lines, concatenated values, pretty-printed ones, arrays,
//! and the arrays of envelopes such as `{"Records":[…]}`, whose elements are returned one at a time.
//!
//! Memory is bounded by the largest single value, which may have [`MAX_VALUE`] bytes; a file may have any length. Text
//! that is not JSON is a [`PieceKind::Broken`] with its line, and reading continues at the next line.

mod scan;

#[cfg(test)]
mod tests;

use std::io::{self, Read};

use self::scan::{Scan, Step};

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The line where it begins, from 1.
    pub(super) line: u64,
    /// The bytes, of broken JSON no more than the first line.
    pub(crate) bytes: Vec<u8>,
    /// The kind of the bytes.
    pub(crate) kind: PieceKind,
}

/// The kind of a part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PieceKind {
    /// One JSON value, by its brackets and quotes.
    Value,
    /// A member of an envelope, other than the array that holds its events: a token or a count.
    Member,
    /// A line that does not begin as an object or an array does.
    Text,
    /// A line that begins as JSON, and is none for this reason.
    Broken(&'static str),
}

/// The parts of what `input` reads, in order.
#[derive(Debug)]
pub(crate) struct ValueReader<R> {
    input: R,
    buffer: Vec<u8>,
    /// The next byte of the buffer to scan.
    at: usize,
    is_at_end: bool,
    /// An error that a look ahead met: what is before it is read first.
    failed: Option<io::Error>,
    line: u64,
    envelopes: Vec<Envelope>,
    broken: Broken,
    is_blank: bool,
}

/// The broken part found so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Something before the last value: closing brackets without a beginning may belong to it.
    Before,
    /// The last value: the lines after it may belong to it.
    Last,
}

/// An array, or an object that holds one, whose elements are read one at a time.
#[derive(Clone, Copy, Debug)]
struct Envelope {
    line: u64,
    is_array: bool,
}

impl<R: Read> ValueReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            buffer: Vec::new(),
            at: 0,
            is_at_end: false,
            failed: None,
            line: 1,
            envelopes: Vec::new(),
            broken: Broken::Nothing,
            is_blank: true,
        }
    }

    /// Returns whether there was anything but blanks so far.
    pub(super) fn has_values(&self) -> bool {
        !self.is_blank
    }

    /// Returns the line that is being read.
    pub(super) fn line(&self) -> u64 {
        self.line
    }

    /// Returns the next part; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let Some(byte) = self.skip_blanks()? else {
                let Some(envelope) = self.envelopes.pop() else { return Ok(None) };
                self.envelopes.clear();
                let problem = "the array that begins here is not closed";
                return Ok(Some(Piece { line: envelope.line, bytes: Vec::new(), kind: PieceKind::Broken(problem) }));
            };
            self.is_blank = false;
            let is_in_object = self.envelopes.last().is_some_and(|envelope| !envelope.is_array);
            match byte {
                b',' => self.at += 1,
                b']' if self.envelopes.last().is_some_and(|envelope| envelope.is_array) => self.close(),
                b'}' if is_in_object => self.close(),
                b']' | b'}' if self.broken != Broken::Nothing => self.at += 1,
                b'"' if is_in_object && self.broken != Broken::Last => {
                    if let Some(piece) = self.key()? {
                        return Ok(Some(piece));
                    }
                }
                b'[' if self.envelopes.len() < MAX_ENVELOPES => self.open(true),
                b'{' if self.envelopes.len() < MAX_ENVELOPES && self.is_envelope() => {
                    self.open(false);
                    self.skip_blanks()?;
                    self.skip_key()?;
                }
                _ => return self.value(PieceKind::Value).map(Some),
            }
        }
    }

    fn open(&mut self, is_array: bool) {
        self.envelopes.push(Envelope { line: self.line, is_array });
        self.at += 1;
    }

    fn close(&mut self) {
        self.envelopes.pop();
        self.at += 1;
    }

    /// Returns whether an object begins here whose first member is an array of events.
    fn is_envelope(&mut self) -> bool {
        self.fill_to(LOOKAHEAD);
        let rest = self.buffer[self.at + 1..].trim_ascii_start();
        let Some(rest) = rest.strip_prefix(b"\"") else { return false };
        let Some(key) = ENVELOPE_KEYS.iter().find(|key| rest.starts_with(key.as_bytes())) else { return false };
        let rest = rest[key.len()..].strip_prefix(b"\"").map(<[u8]>::trim_ascii_start);
        let rest = rest.and_then(|rest| rest.strip_prefix(b":")).map(<[u8]>::trim_ascii_start);
        rest.is_some_and(|rest| rest.starts_with(b"["))
    }

    /// Skips a key and its colon within the lookahead of [`Self::is_envelope`].
    fn skip_key(&mut self) -> io::Result<()> {
        while let Some(byte) = self.peek()? {
            self.at += 1;
            self.line += u64::from(byte == b'\n');
            if byte == b':' {
                break;
            }
        }
        Ok(())
    }

    /// Reads a further member of an envelope: goes into it if it is an array of events, and else returns it.
    fn key(&mut self) -> io::Result<Option<Piece>> {
        self.fill_to(LOOKAHEAD);
        let rest = &self.buffer[self.at + 1..];
        let end = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | b'\n')).filter(|end| rest[*end] == b'"');
        let Some(end) = end else { return Ok(Some(self.broken("a key is too long or has escapes")?)) };
        let is_envelope_key = ENVELOPE_KEYS.iter().any(|key| key.as_bytes() == &rest[..end]);
        self.at += end + 2;
        if self.skip_blanks()? != Some(b':') {
            return Ok(Some(self.broken("a key has no colon")?));
        }
        self.at += 1;
        match self.skip_blanks()? {
            Some(b'[') if is_envelope_key => {
                self.open(true);
                Ok(None)
            }
            Some(b'}' | b']' | b',') | None => Ok(Some(self.broken("a key has no value")?)),
            Some(_) => self.value(if is_envelope_key { PieceKind::Value } else { PieceKind::Member }).map(Some),
        }
    }

    /// Reads the value, or at the top level the line, that begins at the next byte.
    fn value(&mut self, kind: PieceKind) -> io::Result<Piece> {
        let is_line = self.envelopes.is_empty() || self.broken == Broken::Last;
        if is_line && !matches!(self.peek()?, Some(b'{' | b'[')) {
            return self.text();
        }
        let mut scan = Scan::default();
        let mut scanned = 0;
        loop {
            match scan.feed(&self.buffer[self.at + scanned..]) {
                Step::Complete(length) => {
                    let end = self.at + scanned + length;
                    let piece = Piece { line: self.line, bytes: self.buffer[self.at..end].to_vec(), kind };
                    self.line += scan.lines();
                    self.at = end;
                    if self.broken == Broken::Last {
                        self.broken = Broken::Before;
                    }
                    return Ok(piece);
                }
                Step::Broken(problem) => return self.broken(problem),
                Step::More => scanned = self.buffer.len() - self.at,
            }
            if scanned > MAX_VALUE {
                return self.broken("a value is larger than 64 MiB");
            }
            if !self.fill()? {
                return self.broken("it is cut off");
            }
        }
    }

    /// Returns the rest of the line as broken, and continues at the next line, outside of the envelopes that begin on
    /// this one.
    fn broken(&mut self, problem: &'static str) -> io::Result<Piece> {
        let piece = self.rest_of_line(PieceKind::Broken(problem))?;
        self.envelopes.retain(|envelope| envelope.line < piece.line);
        self.broken = Broken::Last;
        Ok(piece)
    }

    fn text(&mut self) -> io::Result<Piece> {
        self.rest_of_line(PieceKind::Text)
    }

    fn rest_of_line(&mut self, kind: PieceKind) -> io::Result<Piece> {
        let mut piece = Piece { line: self.line, bytes: Vec::new(), kind };
        loop {
            let rest = &self.buffer[self.at..];
            let end = rest.iter().position(|&byte| byte == b'\n');
            let part = &rest[..end.unwrap_or(rest.len())];
            let room = MAX_LINE.saturating_sub(piece.bytes.len());
            piece.bytes.extend_from_slice(&part[..part.len().min(room)]);
            self.at += part.len();
            if end.is_some() || !self.fill()? {
                piece.bytes.truncate(piece.bytes.trim_ascii_end().len());
                return Ok(piece);
            }
        }
    }

    /// Skips blanks, and byte order marks, which concatenated files have in the middle.
    fn skip_blanks(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.peek()? {
                Some(b'\n') => self.line += 1,
                Some(b' ' | b'\t' | b'\r' | RECORD_SEPARATOR) => {}
                Some(0xef) => {
                    self.fill_to(BYTE_ORDER_MARK.len());
                    if !self.buffer[self.at..].starts_with(&BYTE_ORDER_MARK) {
                        return Ok(Some(0xef));
                    }
                    self.at += BYTE_ORDER_MARK.len() - 1;
                }
                other => return Ok(other),
            }
            self.at += 1;
        }
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        if self.at == self.buffer.len() {
            self.fill()?;
        }
        Ok(self.buffer.get(self.at).copied())
    }

    /// Reads ahead, as far as there is more.
    fn fill_to(&mut self, bytes: usize) {
        while self.buffer.len() - self.at < bytes {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return self.failed = Some(error),
            }
        }
    }

    /// Reads more, and returns whether there was more. Drops the bytes that are scanned.
    fn fill(&mut self) -> io::Result<bool> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.is_at_end {
            return Ok(false);
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let before = self.buffer.len();
        self.buffer.resize(before + READ_BYTES, 0);
        let read = loop {
            match self.input.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(before + *read.as_ref().unwrap_or(&0));
        // A reader that failed is not read again.
        self.is_at_end = !matches!(read, Ok(1..));
        Ok(read? > 0)
    }
}

/// The largest value that is read; CloudTrail's own records end at 1 MiB.
pub(super) const MAX_VALUE: usize = 64 * 1024 * 1024;
/// Bytes that are kept of a line that is no JSON.
const MAX_LINE: usize = 1024 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// Arrays and envelopes within each other whose elements are read one at a time.
const MAX_ENVELOPES: usize = 4;
/// Bytes within which an envelope has to show its first key.
const LOOKAHEAD: usize = 512;
/// Keys whose arrays hold events: of CloudTrail and Lambda, of Firehose, of `lookup-events`, `filter-log-events` and
/// `receive-message`.
const ENVELOPE_KEYS: [&str; 5] = ["Records", "records", "Events", "events", "Messages"];
const BYTE_ORDER_MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
/// Begins each value in a JSON text sequence (RFC 7464).
const RECORD_SEPARATOR: u8 = 0x1e;
