use std::io::Read;

use super::*;

/// A reader that returns no more than so many bytes at a time.
struct Slowly<'a>(&'a [u8], usize);

impl Read for Slowly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.1.min(buffer.len());
        self.0.read(&mut buffer[..length])
    }
}

fn pieces(text: &[u8], at_once: usize) -> Vec<(u64, String, PieceKind)> {
    let mut values = ValueReader::new(Slowly(text, at_once));
    let mut pieces = Vec::new();
    while let Some(Piece { line, bytes, kind }) = values.next().unwrap() {
        pieces.push((line, String::from_utf8(bytes).unwrap(), kind));
    }
    pieces
}

/// Asserts that the pieces are these, wherever the reads end.
#[track_caller]
fn reads(text: impl AsRef<[u8]>, expected: &[(u64, &str, PieceKind)]) {
    let sizes: &[usize] = if text.as_ref().len() < 1_000 { &[1, 2, 3, 7, 1 << 20] } else { &[999, 1 << 20] };
    for &at_once in sizes {
        let pieces = pieces(text.as_ref(), at_once);
        let pieces: Vec<_> = pieces.iter().map(|(line, text, kind)| (*line, text.as_str(), *kind)).collect();
        assert_eq!(pieces, expected, "{at_once} bytes at once");
    }
}

use PieceKind::{Broken, Member, Text, Value};

#[test]
fn framing_lines_and_concatenation_yield_each_value() {
    reads("{\"a\":1}\n{\"b\":[2]}\r\n", &[(1, "{\"a\":1}", Value), (2, "{\"b\":[2]}", Value)]);
    reads("{}{}\n\n {}", &[(1, "{}", Value), (1, "{}", Value), (3, "{}", Value)]);
    reads("{},\n{}", &[(1, "{}", Value), (2, "{}", Value)]);
    reads("\u{1e}{}\n\u{1e}{}\n", &[(1, "{}", Value), (2, "{}", Value)]);
    reads("", &[]);
    reads(" \n\u{feff}\n", &[]);
}

#[test]
fn byte_order_marks_between_values_are_skipped() {
    reads("\u{feff}{\"a\":1}\u{feff}{}", &[(1, "{\"a\":1}", Value), (1, "{}", Value)]);
}

#[test]
fn pretty_printed_value_has_its_first_line() {
    reads("{\n \"a\": \"}\\\"{\"\n}\n{}", &[(1, "{\n \"a\": \"}\\\"{\"\n}", Value), (4, "{}", Value)]);
}

#[test]
fn arrays_and_envelopes_yield_their_elements() {
    reads("[{\"a\":1},\n{}]", &[(1, "{\"a\":1}", Value), (2, "{}", Value)]);
    reads("{ \"Records\" : [ {} , [ {} ] ] }\n{}", &[(1, "{}", Value), (1, "{}", Value), (2, "{}", Value)]);
    reads("{\"Records\":[{}],\"Records\":[{}]}", &[(1, "{}", Value), (1, "{}", Value)]);
    reads("{\"Events\":[{}],\"NextToken\":\"x\"}", &[(1, "{}", Value), (1, "\"x\"", Member)]);
    reads("{\"Records\":[1,\"]\",null]}", &[(1, "1", Value), (1, "\"]\"", Value), (1, "null", Value)]);
    reads("{\"Records\":[]}", &[]);
    reads("{\"a\":1,\"Records\":[]}", &[(1, "{\"a\":1,\"Records\":[]}", Value)]);
}

#[test]
fn broken_line_keeps_the_next_one() {
    let next = (2, "{}", Value);
    reads("{\"a\":\"b\n{}", &[(1, "{\"a\":\"b", Broken("a line ends within a string")), next]);
    reads("{\"a\":1,\n{}", &[(1, "{\"a\":1,", Broken("a key is missing")), next]);
    reads(
        "{\"a\":\n{}\n{}",
        &[(1, "{\"a\":", Broken("a comma or a closing bracket is missing")), next, (3, "{}", Value)],
    );
    reads("{\"a\" broken\n{}", &[(1, "{\"a\" broken", Broken("a colon is missing")), next]);
    reads("{\"Records\":[{}, x]}\n{}", &[(1, "{}", Value), (1, "x]}", Broken("a value is missing")), next]);
}

#[test]
fn text_line_differs_from_broken_json() {
    reads("no JSON {\n{}\n2 1234", &[(1, "no JSON {", Text), (2, "{}", Value), (3, "2 1234", Text)]);
}

#[test]
fn records_after_a_broken_one_are_read_in_a_pretty_array() {
    let text = "{\"Records\":[\n {\n  \"a\": tru,\n  \"b\": [\n  ]\n  \"c\": 1\n },\n {\"d\":1}\n]}\n";
    let pieces = pieces(text.as_bytes(), 64);
    assert_eq!(pieces.iter().filter(|(_, _, kind)| *kind == Value).count(), 1, "{pieces:?}");
    assert!(pieces.contains(&(8, "{\"d\":1}".to_owned(), Value)), "{pieces:?}");
    assert!(matches!(pieces[0], (2, _, Broken(_))), "{pieces:?}");
}

#[test]
fn truncated_file_is_reported() {
    reads("{\"Records\":[{}", &[(1, "{}", Value), (1, "", Broken("the array that begins here is not closed"))]);
    reads("{\"a\":[", &[(1, "{\"a\":[", Broken("it is cut off"))]);
}

#[test]
fn value_of_many_reads_is_complete() {
    let value = format!("{{\"a\":\"{}\"}}", "x".repeat(300_000));
    reads(format!("{value}\n{value}"), &[(1, value.as_str(), Value), (2, value.as_str(), Value)]);
}

/// Reads `text`, and then fails.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() { Err(io::Error::other("broken")) } else { self.0.read(buffer) }
    }
}

#[test]
fn values_before_an_error_are_read() {
    for text in ["{\"a\":1}", "{\"Records\":[{\"a\":1}]}"] {
        let mut values = ValueReader::new(Failing(text.as_bytes()));
        assert_eq!(values.next().unwrap().unwrap().bytes, b"{\"a\":1}", "{text}");
        assert_eq!(values.next().unwrap_err().to_string(), "broken", "{text}");
        assert_eq!(values.next().unwrap(), None, "{text}");
    }
}
