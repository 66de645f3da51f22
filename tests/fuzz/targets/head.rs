//! The head validator against httparse, the parser that hyper reads the same bytes with: what the validator passes,
//! httparse must read as the same head with the same body, or a request could be smuggled.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trailgate::{HeadError, HeadLimits, HeadValidator, encode_target};

const LIMITS: HeadLimits = HeadLimits { bytes: 8 * 1024, headers: 64 };

fuzz_target!(|input: (u16, &[u8])| {
    let (cut, bytes) = input;
    let mut validator = HeadValidator::new(LIMITS);
    let passed = validator.pass(bytes);
    match passed {
        // hyper reads this head only as the proxy encodes it.
        Ok(passed) if validator.take_raw() => {
            let encoded = encode_target(&bytes[..passed]);
            check_against_httparse(&[&encoded[..], &bytes[passed..]].concat(), Ok(encoded.len()));
        }
        passed => check_against_httparse(bytes, passed),
    }
    check_in_two_pieces(bytes, usize::from(cut) % (bytes.len() + 1), passed);
});

fn check_against_httparse(bytes: &[u8], passed: Result<usize, HeadError>) {
    let mut headers = [httparse::EMPTY_HEADER; LIMITS.headers];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes);
    // A rejected head never reaches hyper.
    let Ok(passed) = passed else { return };
    if passed == 0 {
        assert!(!matches!(parsed, Ok(httparse::Status::Complete(_))), "hyper has a head that the validator waits for");
        return;
    }
    let Ok(httparse::Status::Complete(end)) = parsed else {
        panic!("{parsed:?}: hyper does not read what the validator passed")
    };
    assert!(end <= passed, "the validator ends the head {} bytes early", end - passed);
    let values = |name: &str| -> Vec<&[u8]> {
        let of_name = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        of_name.map(|header| header.value).collect()
    };
    // HTTP/1.0 has none.
    assert!(values("host").len() == 1 || (values("host").is_empty() && request.version == Some(0)), "not one Host");
    let rest = bytes.len() - end;
    match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => assert_eq!(passed, end),
        ([length], []) => {
            let length: u64 = str::from_utf8(length).expect("is text").parse().expect("is a number");
            assert_eq!((passed - end) as u64, length.min(rest as u64));
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"));
            assert_eq!(passed - end, rest);
        }
        (lengths, codings) => panic!("{lengths:?} {codings:?}: two ways to find the end of the body"),
    }
}

/// Asserts that a head that arrives in two pieces has the verdict of the same head in one.
fn check_in_two_pieces(bytes: &[u8], cut: usize, whole: Result<usize, HeadError>) {
    let mut validator = HeadValidator::new(LIMITS);
    match validator.pass(&bytes[..cut]) {
        Ok(0) => assert_eq!(validator.pass(bytes), whole),
        // The whole head was in the first piece; with more bytes only more of its body passes.
        Ok(first) => assert!(whole.is_ok_and(|whole| first <= whole)),
        Err(_) => assert!(whole.is_err(), "the first piece is rejected and the whole is not"),
    }
}
