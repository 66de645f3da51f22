//! Repairs JSON that breaks the grammar, as far as it can be read.
//!
//! A caller can put a deeply nested parameter into a call, and a log line can be cut: neither may hide the call. Values
//! before the fault are kept, and those after it where parsing can go on.

use std::fmt::{self, Write as _};

use super::text::{escaped_char, plain_prefix};
use super::{MAX_DEPTH, Tape};

/// A repaired text, which is valid JSON.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Repaired {
    /// The text, nested no deeper than [`MAX_DEPTH`].
    pub(crate) text: String,
    /// The first fault.
    pub(crate) flaw: Flaw,
}

/// The reason why a message is not valid JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// It is nested deeper than [`MAX_DEPTH`].
    TooDeep,
    /// A string has control characters that are not escaped.
    ControlCharacter,
    /// It ends before its object does.
    CutOff,
    /// It breaks the grammar in another way.
    Invalid,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep => write!(f, "the message is nested deeper than {MAX_DEPTH} levels"),
            Self::ControlCharacter => f.write_str("the message has unescaped control characters"),
            Self::CutOff => f.write_str("the message is cut off"),
            Self::Invalid => f.write_str("the message is not valid JSON"),
        }
    }
}

/// Repairs `text`, which begins with a brace: values that are too deep or invalid become `null`, and at a fault that
/// nothing can be read behind, all containers are closed after the last complete value.
pub(crate) fn repair(text: &str) -> Repaired {
    let mut repair =
        Repair { text, at: 0, out: String::with_capacity(text.len()), open: Vec::new(), sound: 0, flaw: None };
    if let Err(flaw) = repair.run() {
        repair.note(flaw);
    }
    repair.out.truncate(repair.sound);
    for bracket in repair.open.iter().rev() {
        repair.out.push(if *bracket == b'{' { '}' } else { ']' });
    }
    Repaired { text: repair.out, flaw: repair.flaw.unwrap_or(Flaw::Invalid) }
}

struct Repair<'a> {
    text: &'a str,
    at: usize,
    out: String,
    /// The brackets that are open.
    open: Vec<u8>,
    /// The length of the output up to which it is valid once the open brackets are closed.
    sound: usize,
    flaw: Option<Flaw>,
}

/// The tokens that may come next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Value,
    ValueOrEnd,
    Key,
    KeyOrEnd,
    Colon,
    CommaOrEnd,
}

impl Repair<'_> {
    fn run(&mut self) -> Result<(), Flaw> {
        let mut next = Next::Value;
        loop {
            self.skip_blanks();
            let byte = self.peek().ok_or(Flaw::CutOff)?;
            next = match (next, byte) {
                (Next::Value | Next::ValueOrEnd, b'{' | b'[') => self.open(byte)?,
                (Next::Value | Next::ValueOrEnd, b'"') => {
                    self.string()?;
                    self.complete(Next::CommaOrEnd)
                }
                (Next::ValueOrEnd | Next::CommaOrEnd, b']') | (Next::KeyOrEnd | Next::CommaOrEnd, b'}') => {
                    self.close(byte)?;
                    if self.open.is_empty() {
                        return if self.text[self.at..].trim_ascii().is_empty() { Ok(()) } else { Err(Flaw::Invalid) };
                    }
                    Next::CommaOrEnd
                }
                (Next::Value | Next::ValueOrEnd, _) => {
                    self.scalar()?;
                    self.complete(Next::CommaOrEnd)
                }
                (Next::Key | Next::KeyOrEnd, b'"') => {
                    self.string()?;
                    Next::Colon
                }
                (Next::CommaOrEnd, b',') if self.open.last() == Some(&b'{') => self.copy(Next::Key),
                (Next::Colon, b':') | (Next::CommaOrEnd, b',') => self.copy(Next::Value),
                _ => return Err(Flaw::Invalid),
            };
        }
    }

    fn open(&mut self, bracket: u8) -> Result<Next, Flaw> {
        if self.open.len() == MAX_DEPTH {
            self.note(Flaw::TooDeep);
            self.skip()?;
            self.out.push_str("null");
            return Ok(self.complete(Next::CommaOrEnd));
        }
        self.open.push(bracket);
        self.copy(Next::Value);
        Ok(self.complete(if bracket == b'{' { Next::KeyOrEnd } else { Next::ValueOrEnd }))
    }

    fn close(&mut self, bracket: u8) -> Result<(), Flaw> {
        let opening = if bracket == b'}' { b'{' } else { b'[' };
        self.open.pop_if(|last| *last == opening).ok_or(Flaw::Invalid)?;
        self.copy(Next::CommaOrEnd);
        self.complete(Next::CommaOrEnd);
        Ok(())
    }

    /// Passes over the container that begins here, however deep it is.
    fn skip(&mut self) -> Result<(), Flaw> {
        let (mut depth, mut is_string) = (0_usize, false);
        while let Some(byte) = self.peek() {
            self.at += 1;
            match byte {
                b'\\' if is_string => self.at += 1,
                b'"' => is_string = !is_string,
                b'{' | b'[' if !is_string => depth += 1,
                b'}' | b']' if !is_string => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Ok(());
            }
        }
        Err(Flaw::CutOff)
    }

    fn string(&mut self) -> Result<(), Flaw> {
        self.out.push('"');
        self.at += 1;
        loop {
            let plain = plain_prefix(&self.text.as_bytes()[self.at..]);
            self.out.push_str(&self.text[self.at..self.at + plain]);
            self.at += plain;
            match self.peek().ok_or(Flaw::CutOff)? {
                b'"' => {
                    self.copy(Next::Colon);
                    return Ok(());
                }
                b'\\' => self.escape()?,
                control => {
                    self.note(Flaw::ControlCharacter);
                    let _ = write!(self.out, "\\u{control:04x}");
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self) -> Result<(), Flaw> {
        let rest = &self.text[self.at..];
        if rest.len() < 2 || rest.len() < 6 && rest.starts_with("\\u") {
            return Err(Flaw::CutOff);
        }
        let length = match rest.as_bytes().get(1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => 2,
            Some(b'u') => escaped_char(rest.as_bytes()).map_or(0, |(_, length)| length),
            _ => 0,
        };
        if length == 0 {
            self.note(Flaw::Invalid);
            self.out.push_str("\\\\");
            self.at += 1;
        } else {
            self.out.push_str(&rest[..length]);
            self.at += length;
        }
        Ok(())
    }

    /// Copies a number or a literal. One that ends with the text may go on behind it.
    fn scalar(&mut self) -> Result<(), Flaw> {
        let rest = &self.text[self.at..];
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
        let length = rest.bytes().position(|byte| !is_part(byte)).ok_or(Flaw::CutOff)?;
        if length == 0 {
            return Err(Flaw::Invalid);
        }
        let is_valid = Tape::parse(&rest[..length]).is_ok();
        if !is_valid {
            self.note(Flaw::Invalid);
        }
        self.out.push_str(if is_valid { &rest[..length] } else { "null" });
        self.at += length;
        Ok(())
    }

    fn skip_blanks(&mut self) {
        while let Some(byte @ 0..=b' ') = self.peek() {
            if !byte.is_ascii_whitespace() {
                self.note(Flaw::ControlCharacter);
            }
            self.at += 1;
        }
    }

    /// Copies one byte, which is ASCII.
    fn copy(&mut self, next: Next) -> Next {
        self.out.push_str(&self.text[self.at..=self.at]);
        self.at += 1;
        next
    }

    fn complete(&mut self, next: Next) -> Next {
        self.sound = self.out.len();
        next
    }

    fn note(&mut self, flaw: Flaw) {
        self.flaw.get_or_insert(flaw);
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn test(text: &str, repaired: &str, flaw: Flaw) {
        assert_eq!(repair(text), Repaired { text: repaired.to_owned(), flaw });
    }

    #[test]
    fn truncated_text_is_closed_after_its_last_whole_value() {
        test(r#"{"a":1,"b":{"c":[1,2"#, r#"{"a":1,"b":{"c":[1]}}"#, Flaw::CutOff);
        test(r#"{"a":"x","b":"lon"#, r#"{"a":"x"}"#, Flaw::CutOff);
        test(r#"{"a":"x","b"#, r#"{"a":"x"}"#, Flaw::CutOff);
        test(r#"{"a":"x\"#, "{}", Flaw::CutOff);
        test("{", "{}", Flaw::CutOff);
    }

    #[test]
    fn control_characters_and_wrong_escapes_are_escaped() {
        test("{\"a\":\"x\u{1}\ny\",\"b\":1}", r#"{"a":"x\u0001\u000ay","b":1}"#, Flaw::ControlCharacter);
        test(r#"{"a":"\x\u12","b":1}"#, r#"{"a":"\\x\\u12","b":1}"#, Flaw::Invalid);
    }

    #[test]
    fn values_that_are_too_deep_become_null() {
        let deep = "[".repeat(1 << 20) + "\"]\\\"\"" + &"]".repeat(1 << 20);
        let inner = MAX_DEPTH - 1;
        let wanted = format!(r#"{{"a":{}null{},"b":1}}"#, "[".repeat(inner), "]".repeat(inner));
        test(&format!(r#"{{"a":{deep},"b":1}}"#), &wanted, Flaw::TooDeep);
    }

    #[test]
    fn other_faults_end_the_text_or_become_null() {
        test(r#"{"a":NaN,"b":1}"#, r#"{"a":null,"b":1}"#, Flaw::Invalid);
        test(r#"{"a":1,"b":2] "c""#, r#"{"a":1,"b":2}"#, Flaw::Invalid);
        test(r#"{"a":1} trailing"#, r#"{"a":1}"#, Flaw::Invalid);
    }

    proptest! {
        #[test]
        fn repaired_text_is_always_valid(text in r#"\{[ \n\[\]{}",:\\u0-9a-fé\x01Etrulnse.+-]{0,40}"#) {
            let repaired = repair(&text);
            prop_assert!(Tape::parse(&repaired.text).is_ok(), "{:?}", repaired);
            if Tape::parse(&text).is_ok() {
                prop_assert_eq!(
                    serde_json::from_str::<serde_json::Value>(&repaired.text).ok(),
                    serde_json::from_str::<serde_json::Value>(&text).ok()
                );
            }
        }
    }
}
