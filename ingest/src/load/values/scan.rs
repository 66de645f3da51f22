//! Finds the end of a JSON value in one pass over bytes that arrive piece by piece.

use crate::json::text::plain_prefix;

/// A value that has begun. The scan enforces JSON's order of brackets, keys, colons and commas, so that a value that is
/// cut off at the end of a line does not include the next line. Words and numbers are left to the parser.
#[derive(Debug)]
pub(super) struct Scan {
    /// The open brackets; true for a brace.
    open: Vec<bool>,
    expected: Expected,
    within: Within,
    lines: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    Nothing,
    String { is_key: bool },
    Escape { is_key: bool },
    Word,
}

/// The progress of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value continues.
    More,
    /// The value ends after this number of bytes.
    Complete(usize),
    /// The bytes are not JSON, for this reason.
    Broken(&'static str),
}

impl Default for Scan {
    fn default() -> Self {
        Self { open: Vec::new(), expected: Expected::Value, within: Within::Nothing, lines: 0 }
    }
}

impl Scan {
    /// Returns the number of line breaks within the value.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Scans the next bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while at < bytes.len() {
            if let Within::String { .. } = self.within {
                at += plain_prefix(&bytes[at..]);
            }
            let Some(&byte) = bytes.get(at) else { break };
            match self.step(byte) {
                Ok(Taken::Next) => at += 1,
                Ok(Taken::Last) => return Step::Complete(at + 1),
                Ok(Taken::NotThis) => return Step::Complete(at),
                Err(problem) => return Step::Broken(problem),
            }
        }
        Step::More
    }

    fn step(&mut self, byte: u8) -> Result<Taken, &'static str> {
        match self.within {
            Within::Escape { is_key } => self.within = Within::String { is_key },
            Within::String { is_key } => match byte {
                b'"' => {
                    self.within = Within::Nothing;
                    self.expected = if is_key { Expected::Colon } else { Expected::CommaOrEnd };
                    return Ok(self.after(Taken::Last));
                }
                b'\\' => self.within = Within::Escape { is_key },
                b'\n' | b'\r' => return Err("a line ends within a string"),
                _ => {}
            },
            Within::Word if byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.') => {}
            Within::Word => {
                self.within = Within::Nothing;
                self.expected = Expected::CommaOrEnd;
                if self.open.is_empty() {
                    return Ok(Taken::NotThis);
                }
                return self.between(byte);
            }
            Within::Nothing => return self.between(byte),
        }
        Ok(Taken::Next)
    }

    fn between(&mut self, byte: u8) -> Result<Taken, &'static str> {
        use Expected::{Colon, CommaOrEnd, Key, KeyOrEnd, Value, ValueOrEnd};

        match (byte, self.expected) {
            (b'\n', _) => self.lines += 1,
            (b' ' | b'\t' | b'\r', _) => {}
            (b'"', Key | KeyOrEnd) => self.within = Within::String { is_key: true },
            (b'"', Value | ValueOrEnd) => self.within = Within::String { is_key: false },
            (b'{', Value | ValueOrEnd) => {
                self.open.push(true);
                self.expected = KeyOrEnd;
            }
            (b'[', Value | ValueOrEnd) => {
                self.open.push(false);
                self.expected = ValueOrEnd;
            }
            (b'}', KeyOrEnd | CommaOrEnd) if self.open.last() == Some(&true) => return Ok(self.close()),
            (b']', ValueOrEnd | CommaOrEnd) if self.open.last() == Some(&false) => return Ok(self.close()),
            (b':', Colon) => self.expected = Value,
            (b',', CommaOrEnd) => self.expected = if self.open.last() == Some(&true) { Key } else { Value },
            (b'-' | b'0'..=b'9' | b't' | b'f' | b'n', Value | ValueOrEnd) => self.within = Within::Word,
            (_, Key) => return Err("a key is missing"),
            (_, KeyOrEnd) => return Err("a key or } is missing"),
            (_, Colon) => return Err("a colon is missing"),
            (_, CommaOrEnd) => return Err("a comma or a closing bracket is missing"),
            (_, Value | ValueOrEnd) => return Err("a value is missing"),
        }
        Ok(Taken::Next)
    }

    fn close(&mut self) -> Taken {
        self.open.pop();
        self.expected = Expected::CommaOrEnd;
        self.after(Taken::Last)
    }

    fn after(&self, last: Taken) -> Taken {
        if self.open.is_empty() { last } else { Taken::Next }
    }
}

/// The relation of a byte to the value.
#[derive(Clone, Copy)]
enum Taken {
    Next,
    Last,
    NotThis,
}
