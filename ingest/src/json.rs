//! A JSON text as a tape of its values, each as it is written: numbers stay exact, and what need not change is copied.
//!
//! Written by hand, because a document is the event's own text: the tape has the text of each value at every depth,
//! bounds the depth, and notices repeated keys, in one pass. Time to parse the 1,000 events of `tests/data/cloudtrail`
//! (1.26 MB, on one of two shared x86-64 cores, without `target-cpu`, November 2026):
//!
//! | parser | ms |
//! |---|---|
//! | this tape | 0.97 |
//! | `serde_json`, `RawValue` for the top level only | 1.6 |
//! | `serde_json`, `RawValue` at every depth | 9.2 |
//! | `serde_json::Value` | 4.8 |
//! | `sonic-rs`, `LazyValue` at every depth | 2.1 |
//! | `sonic-rs`, `Value`: numbers as `f64`, no text | 0.75 |
//! | `simd-json`, tape with reused buffers: numbers as `f64`, no text | 1.3 |

pub(crate) mod repair;
pub(crate) mod text;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use self::text::{plain_prefix, string_content};

/// The values of one JSON text in the order in which they are written, a container before its elements.
#[derive(Debug)]
pub(crate) struct Tape<'a> {
    nodes: Vec<Node<'a>>,
    is_plain: bool,
}

/// One value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Node<'a> {
    /// The key in the object, as it is written between its quotes; empty for an element of an array.
    pub(crate) key: &'a str,
    /// The value as it is written.
    pub(crate) value: &'a str,
    /// The index of the node after this one and all of its descendants.
    next: usize,
}

/// The reason why a text cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonError {
    /// It is not one valid JSON value.
    Invalid,
    /// It is nested deeper than [`MAX_DEPTH`].
    TooDeep,
}

/// The greatest depth of objects and arrays; no AWS service writes deeper ones, and engines have limits too.
pub(crate) const MAX_DEPTH: usize = 100;

/// The number of keys of an object up to which they are compared with each other; larger objects use a hash table.
const MAX_COMPARED: usize = 64;

impl<'a> Tape<'a> {
    /// Parses `text`, one JSON value with nothing but white space around it.
    pub(crate) fn parse(text: &'a str) -> Result<Self, JsonError> {
        let nodes = Vec::with_capacity(64);
        let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, nodes, is_plain: true };
        parser.skip_blanks();
        parser.parse_value("", 0)?;
        parser.skip_blanks();
        if parser.at < text.len() {
            return Err(JsonError::Invalid);
        }
        Ok(Self { nodes: parser.nodes, is_plain: parser.is_plain })
    }

    /// Returns the outermost value.
    pub(crate) fn root(&self) -> &Node<'a> {
        &self.nodes[0]
    }

    /// Returns the value at `index`.
    pub(crate) fn node(&self, index: usize) -> &Node<'a> {
        &self.nodes[index]
    }

    /// Returns whether the text can be sent as it is: one line, no lone surrogates, no keys that are empty or have
    /// escapes, and no object with a repeated key (or with more than [`MAX_COMPARED`] keys, which are not compared).
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Returns the members of the outermost object.
    pub(crate) fn members(&self) -> Children<'_, 'a> {
        self.children(0)
    }

    /// Returns the elements of the container at `index`; none for other values.
    pub(crate) fn children(&self, index: usize) -> Children<'_, 'a> {
        Children { tape: self, at: index + 1, end: self.nodes[index].next }
    }

    /// Returns the descendants of the value at `index`, at any depth.
    pub(crate) fn descendants(&self, index: usize) -> &[Node<'a>] {
        &self.nodes[index + 1..self.nodes[index].next]
    }
}

impl<'a> Node<'a> {
    /// Returns the text of a string; none for other values.
    pub(crate) fn as_string(&self) -> Option<Cow<'a, str>> {
        string_content(self.value).map(text::unescape)
    }

    /// Returns whether it is an object.
    pub(crate) fn is_object(&self) -> bool {
        self.value.starts_with('{')
    }

    /// Returns whether it is an array.
    pub(crate) fn is_array(&self) -> bool {
        self.value.starts_with('[')
    }
}

/// The elements of a container, with their indices on the tape.
pub(crate) struct Children<'t, 'a> {
    tape: &'t Tape<'a>,
    at: usize,
    end: usize,
}

impl<'t, 'a> Iterator for Children<'t, 'a> {
    type Item = (usize, &'t Node<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let index = self.at;
        let node = &self.tape.nodes[index];
        self.at = node.next;
        Some((index, node))
    }
}

struct Parser<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
    is_plain: bool,
}

impl<'a> Parser<'a> {
    fn parse_value(&mut self, key: &'a str, depth: usize) -> Result<(), JsonError> {
        let start = self.at;
        let index = self.nodes.len();
        self.nodes.push(Node { key, value: "", next: 0 });
        match self.peek() {
            Some(b'"') => {
                self.parse_string()?;
            }
            Some(b'{') => self.parse_object(depth + 1)?,
            Some(b'[') => self.parse_array(depth + 1)?,
            Some(b'-' | b'0'..=b'9') => self.parse_number()?,
            Some(b't') => self.parse_literal("true")?,
            Some(b'f') => self.parse_literal("false")?,
            Some(b'n') => self.parse_literal("null")?,
            _ => return Err(JsonError::Invalid),
        }
        let next = self.nodes.len();
        let node = &mut self.nodes[index];
        node.value = &self.text[start..self.at];
        node.next = next;
        Ok(())
    }

    fn parse_object(&mut self, depth: usize) -> Result<(), JsonError> {
        self.open(depth)?;
        if self.consume(b'}') {
            return Ok(());
        }
        let first = self.nodes.len();
        // One bit for each class of keys seen: most keys are new by that alone, without a comparison.
        let mut seen = 0u64;
        for count in 0.. {
            if self.peek() != Some(b'"') {
                return Err(JsonError::Invalid);
            }
            let key = self.parse_string()?;
            let bit = key_bit(key.as_bytes());
            let is_new = count < MAX_COMPARED && (seen & bit == 0 || !self.has_key(first, key));
            self.is_plain &= is_new && !key.is_empty() && !key.contains('\\');
            seen |= bit;
            self.skip_blanks();
            self.expect(b':')?;
            self.skip_blanks();
            self.parse_value(key, depth)?;
            self.skip_blanks();
            if self.consume(b'}') {
                break;
            }
            self.expect(b',')?;
            self.skip_blanks();
        }
        Ok(())
    }

    fn has_key(&self, first: usize, key: &str) -> bool {
        let mut at = first;
        while let Some(node) = self.nodes.get(at).filter(|_| self.is_plain) {
            if node.key == key {
                return true;
            }
            at = node.next;
        }
        false
    }

    fn parse_array(&mut self, depth: usize) -> Result<(), JsonError> {
        self.open(depth)?;
        if self.consume(b']') {
            return Ok(());
        }
        loop {
            self.parse_value("", depth)?;
            self.skip_blanks();
            if self.consume(b']') {
                return Ok(());
            }
            self.expect(b',')?;
            self.skip_blanks();
        }
    }

    fn open(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(JsonError::TooDeep);
        }
        self.at += 1;
        self.skip_blanks();
        Ok(())
    }

    /// Returns the text between the quotes as it is written.
    fn parse_string(&mut self) -> Result<&'a str, JsonError> {
        self.at += 1;
        let start = self.at;
        loop {
            self.at += plain_prefix(&self.bytes[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.parse_escape()?,
                _ => return Err(JsonError::Invalid),
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at - 1])
    }

    fn parse_escape(&mut self) -> Result<(), JsonError> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let (unit, pair) = text::escaped_char(&self.bytes[self.at..]).ok_or(JsonError::Invalid)?;
                self.is_plain &= unit.is_some();
                self.at += pair;
            }
            _ => return Err(JsonError::Invalid),
        }
        Ok(())
    }

    fn parse_number(&mut self) -> Result<(), JsonError> {
        self.consume(b'-');
        if !self.consume(b'0') {
            self.parse_digits()?;
        }
        if self.consume(b'.') {
            self.parse_digits()?;
        }
        if self.consume(b'e') || self.consume(b'E') {
            let _ = self.consume(b'+') || self.consume(b'-');
            self.parse_digits()?;
        }
        Ok(())
    }

    fn parse_digits(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { Err(JsonError::Invalid) } else { Ok(()) }
    }

    fn parse_literal(&mut self, word: &str) -> Result<(), JsonError> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(JsonError::Invalid);
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_blanks(&mut self) {
        while let Some(byte @ (b' ' | b'\t' | b'\n' | b'\r')) = self.peek() {
            self.is_plain &= byte != b'\n' && byte != b'\r';
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn consume(&mut self, byte: u8) -> bool {
        let is_there = self.peek() == Some(byte);
        self.at += usize::from(is_there);
        is_there
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.consume(byte) { Ok(()) } else { Err(JsonError::Invalid) }
    }
}

/// Returns one bit of 64, the same for the same key.
fn key_bit(key: &[u8]) -> u64 {
    let of = |byte: Option<&u8>| byte.map_or(0, |byte| usize::from(*byte));
    let mix = key.len().wrapping_mul(7) ^ of(key.first()).wrapping_mul(5) ^ of(key.last()).wrapping_mul(11);
    1 << (mix % 64)
}
