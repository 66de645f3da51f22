use proptest::prelude::*;

use super::text::{plain_prefix, unescape, write_string};
use super::*;

fn keys<'a>(tape: &Tape<'a>) -> Vec<&'a str> {
    tape.members().map(|(_, node)| node.key).collect()
}

#[test]
fn values_are_as_written() {
    let tape = Tape::parse(r#" {"a": 12345678901234567890123, "b":[1.0,{"c":"\u0041"}],"d":{}} "#).unwrap();
    let values: Vec<_> = tape.members().map(|(_, node)| node.value).collect();
    assert_eq!(keys(&tape), ["a", "b", "d"]);
    assert_eq!(values, ["12345678901234567890123", r#"[1.0,{"c":"\u0041"}]"#, "{}"]);
    assert!(tape.is_plain());
    assert_eq!(tape.descendants(2).len(), 3);
}

#[test]
fn text_that_needs_rewriting_is_not_plain() {
    for text in [
        "{\"a\":1,\n\"b\":2}",
        "[1\r]",
        r#"{"a":1,"a":2}"#,
        r#"{"x":[{"a":1,"b":2,"a":3}]}"#,
        r#"{"\u0061":1}"#,
        r#"{"a":{"":1}}"#,
        r#""\ud800""#,
        r#""\udc00\ud800""#,
    ] {
        assert!(!Tape::parse(text).unwrap().is_plain(), "{text}");
    }
    for text in [r#"{"a":{"a":{"a":1}}}"#, r#"[{"a":1},{"a":2}]"#, r#""\ud83d\ude00\n""#, "{}", "[ ]"] {
        assert!(Tape::parse(text).unwrap().is_plain(), "{text}");
    }
    let many: Vec<_> = (0..65).map(|key| format!("\"{key}\":0")).collect();
    assert!(Tape::parse(&format!("{{{}}}", many[..64].join(","))).unwrap().is_plain());
    assert!(!Tape::parse(&format!("{{{}}}", many.join(","))).unwrap().is_plain());
}

#[test]
fn depth_is_bounded() {
    let nested = |depth| "[".repeat(depth) + &"]".repeat(depth);
    assert!(Tape::parse(&nested(100)).is_ok());
    assert_eq!(Tape::parse(&nested(101)).unwrap_err(), JsonError::TooDeep);
    assert_eq!(Tape::parse(&"[".repeat(1 << 20)).unwrap_err(), JsonError::TooDeep);
}

#[test]
fn lone_surrogates_are_replaced_and_pairs_are_not() {
    assert_eq!(unescape(r"a\ud800b\udfff\ud83d\ude00\ud800\u0041"), "a\u{fffd}b\u{fffd}\u{1f600}\u{fffd}A");
    assert_eq!(unescape(r#"\"\\\/\b\f\n\r\t"#), "\"\\/\u{8}\u{c}\n\r\t");
}

proptest! {
    #[test]
    fn validity_of_any_text_equals_serde_json(text in r#"[ \n\[\]{}",:\\u0-9a-fEtrulnse.+-]{0,24}"#) {
        prop_assert_eq!(Tape::parse(&text).is_ok(), serde_json::from_str::<&serde_json::value::RawValue>(&text).is_ok());
    }

    #[test]
    fn any_string_round_trips(said: String) {
        let mut written = Vec::new();
        write_string(&mut written, &said);
        let written = String::from_utf8(written).unwrap();
        prop_assert_eq!(&serde_json::from_str::<String>(&written).unwrap(), &said);
        prop_assert_eq!(unescape(string_content(&written).unwrap()), said.as_str());
        prop_assert!(Tape::parse(&written).unwrap().is_plain());
    }

    #[test]
    fn plain_byte_count_equals_a_byte_by_byte_count(bytes: Vec<u8>) {
        let slow = bytes.iter().take_while(|byte| **byte >= 0x20 && !b"\"\\".contains(byte)).count();
        prop_assert_eq!(plain_prefix(&bytes), slow);
    }

    #[test]
    fn unescaping_equals_serde_json(inside in r#"([a-z\u{e9}]|\\["\\/bfnrt]|\\u00[0-9a-f]{2}|\\ud83d\\ude0[0-9a-f]){0,12}"#) {
        let by_serde: String = serde_json::from_str(&format!("\"{inside}\"")).unwrap();
        prop_assert_eq!(unescape(&inside), by_serde);
    }
}
