use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

#[track_caller]
fn passes(bytes: &str, passed: &str) {
    assert_eq!(validator().pass(bytes.as_bytes()), Ok(passed.len()), "{bytes:?}");
    assert!(bytes.starts_with(passed), "{bytes:?}");
}

#[track_caller]
fn rejects(bytes: &str, error: HeadError) {
    assert_eq!(validator().pass(bytes.as_bytes()), Err(error), "{bytes:?}");
}

#[test]
fn incomplete_head_passes_nothing() {
    passes("", "");
    passes("\r\n", "");
    passes("GET / HTTP/1.1\r\nhost: a\r\n", "");
    passes("GET / HTTP/1.1\r\nhost: a\r\n\r", "");
}

#[test]
fn head_passes_with_its_body_and_not_the_next_head() {
    passes("GET / HTTP/1.1\r\nhost: a\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    passes("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET", "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    passes("\r\n\r\nGET / HTTP/1.0\r\nhost:\r\n\r\n", "\r\n\r\nGET / HTTP/1.0\r\nhost:\r\n\r\n");
    let head = "PUT /a HTTP/1.1\r\nhost: a\r\nContent-Length: 3\r\n\r\n";
    passes(&format!("{head}ab"), &format!("{head}ab"));
    passes(&format!("{head}abcGET"), &format!("{head}abc"));
}

#[test]
fn bytes_after_the_head_of_a_chunked_body_pass() {
    let all = "PUT /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nGET\n";
    passes(all, all);
}

#[test]
fn body_with_content_length_passes_in_pieces() {
    let mut validator = validator();
    let head = b"PUT /a HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n";
    assert_eq!(validator.pass(head), Ok(head.len()));
    assert!(!validator.is_at_head());
    assert_eq!(validator.pass(b"abc"), Ok(3));
    assert_eq!(validator.pass(b"deGET"), Ok(2));
    assert!(validator.is_at_head());
}

#[test]
fn ambiguous_head_is_rejected() {
    rejects("GET / HTTP/1.1\n", HeadError::BareLf);
    rejects("\n", HeadError::BareLf);
    rejects("GET / HTTP/1.1\r\nhost: a\n", HeadError::BareLf);
    rejects("GET / HTTP/1.1\r\nhost: a\r\n\n", HeadError::BareLf);
    rejects("\r\r\n\r\n", HeadError::RequestLine);
    rejects("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", HeadError::RequestLine);
    rejects("GET / HTTP/1.1\r\r\nhost: a\r\n\r\n", HeadError::RequestLine);
    rejects("GET /#a HTTP/1.1\r\nhost: a\r\n\r\n", HeadError::Target);
    rejects("GET / HTTP/1.1\r\nhost : a\r\n\r\n", HeadError::HeaderName);
    rejects("GET / HTTP/1.1\r\nhost: a\r\n b\r\n\r\n", HeadError::HeaderName);
    rejects("GET / HTTP/1.1\r\nhost: a\r\r\n\r\n", HeadError::HeaderValue);
    rejects("GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n", HeadError::HeaderValue);
    rejects("GET / HTTP/1.1\r\nhost: \u{c}a\r\n\r\n", HeadError::HeaderValue);
    rejects("GET / HTTP/1.1\r\n\r\n", HeadError::Host);
    rejects("GET / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\n", HeadError::ContentLength);
    let both = "transfer-encoding: chunked\r\ncontent-length: 1";
    rejects(&format!("GET / HTTP/1.1\r\nhost: a\r\n{both}\r\n\r\n"), HeadError::TransferEncoding);
}

#[test]
fn head_limit_excludes_the_body() {
    let head = "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n";
    let measured =
        |bytes, headers| HeadValidator::new(HeadLimits { bytes, headers }).pass(format!("{head}123456789").as_bytes());
    assert_eq!(measured(head.len(), 2), Ok(head.len() + 9));
    assert_eq!(measured(head.len() - 1, 2), Err(HeadError::TooLarge));
    assert_eq!(measured(head.len(), 1), Err(HeadError::TooLarge));
}

#[test]
fn unfinished_head_beyond_the_limit_is_too_large() {
    let mut validator = HeadValidator::new(HeadLimits { bytes: 16, headers: 1 });
    assert_eq!(validator.pass(b"GET / HTTP/1.1\r\n"), Ok(0));
    assert_eq!(validator.pass(b"GET / HTTP/1.1\r\nh"), Err(HeadError::TooLarge));
}

#[test]
fn each_byte_of_a_target_passes_if_hyper_accepts_it() {
    for byte in 0..=u8::MAX {
        for before in ["/a", "/?a", "http://a/", "http://a/?"] {
            let target = [before.as_bytes(), &[byte]].concat();
            let sent = if before.starts_with('/') { encode(&target) } else { target.clone() };
            let taken = Uri::try_from(sent.as_slice()).is_ok_and(|uri| uri.to_string().as_bytes() == sent);
            // hyper checks for white space and DEL before it parses the URL.
            let expected = taken && byte != 0x7f;
            assert_eq!(is_target(&target), expected, "{byte:#x} behind {before}");
        }
    }
}

#[test]
fn target_that_is_no_path_passes_if_hyper_accepts_it() {
    for (target, expected) in [
        ("*", true),
        ("a:443", true),
        ("http://a", true),
        ("http://[::1]:80/", true),
        ("/\u{e9}?\u{e9}", true),
        ("", false),
        ("a/b", false),
        ("?a", false),
        ("http://[::1/", false),
        ("http:///a", false),
    ] {
        assert_eq!(is_target(target.as_bytes()), expected, "{target}");
    }
    assert!(is_target(format!("/{}", "a".repeat(65_533)).as_bytes()));
    assert!(!is_target(format!("/{}", "a".repeat(65_534)).as_bytes()));
}

fn is_target(target: &[u8]) -> bool {
    check_target(target).is_ok()
}

#[test]
fn raw_target_is_detected_and_encoded() {
    let mut validator = validator();
    let head = b"\r\nGET /a?q=\"<b>`\" HTTP/1.1\r\nhost: \"<a>\"\r\n\r\n";
    assert_eq!(validator.pass(head), Ok(head.len()));
    assert!(validator.take_raw() && !validator.take_raw());
    let encoded = b"\r\nGET /a?q=%22%3Cb%3E%60%22 HTTP/1.1\r\nhost: \"<a>\"\r\n\r\n";
    assert_eq!(encode_target(head), encoded);
    passes("GET /a?q={}|^ HTTP/1.1\r\nhost: a\r\n\r\n", "GET /a?q={}|^ HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(validator.pass(b"GET /a?q={}|^ HTTP/1.1\r\nhost: a\r\n\r\n"), Ok(35));
    assert!(!validator.take_raw());
    rejects("GET http://a/?\"b HTTP/1.1\r\nhost: a\r\n\r\n", HeadError::Target);
}

#[test]
fn user_name_before_the_host_is_rejected() {
    rejects("GET / HTTP/1.1\r\nhost: user:password@a\r\n\r\n", HeadError::User);
    rejects("GET http://user@a/ HTTP/1.1\r\nhost: a\r\n\r\n", HeadError::User);
    passes("GET /a@b?c@d HTTP/1.1\r\nhost: a\r\n\r\n", "GET /a@b?c@d HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn http_1_0_without_a_host_passes() {
    passes("GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\r\n\r\n");
    rejects("GET / HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n", HeadError::Host);
}

proptest! {
    #[test]
    fn valid_requests_pass_whole_in_pieces_of_any_size(
        requests in proptest::collection::vec(good(), 0..5),
        last in proptest::option::of(chunked()),
        cuts in proptest::collection::vec(any::<Index>(), 0..20),
    ) {
        let stream: Vec<u8> = requests.into_iter().chain(last).flatten().collect();
        let (passed, end) = feed(&stream, &cuts);
        prop_assert_eq!(end, Ok(()));
        prop_assert_eq!(passed, stream);
    }

    #[test]
    fn malformed_head_in_pieces_of_any_size_is_rejected(
        requests in proptest::collection::vec(good(), 0..3),
        (bad, error) in bad(),
        cuts in proptest::collection::vec(any::<Index>(), 0..20),
    ) {
        let good = requests.concat();
        let (passed, end) = feed(&[&good, bad.as_bytes()].concat(), &cuts);
        prop_assert_eq!(end, Err(error));
        prop_assert_eq!(passed, good);
    }
}

/// Returns what a validator passes of a stream that is split at `cuts`, and its final result.
fn feed(stream: &[u8], cuts: &[Index]) -> (Vec<u8>, Result<(), HeadError>) {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).chain([stream.len()]).collect();
    ends.sort_unstable();
    let mut validator = validator();
    let mut passed = 0;
    for end in ends {
        while passed < end {
            match validator.pass(&stream[passed..end]) {
                Ok(0) => break,
                Ok(more) => passed += more,
                Err(error) => return (stream[..passed].to_vec(), Err(error)),
            }
        }
    }
    (stream[..passed].to_vec(), Ok(()))
}

/// Returns a request with empty lines before it, ambiguous-looking headers, and a body that looks like a request.
fn good() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![Just("GET / HTTP/1.1"), Just("POST /_bulk?a=b HTTP/1.1"), Just("M-SEARCH * HTTP/1.0")];
    let header = prop_oneof![
        Just("accept:*/*\r\n"),
        Just("x:\r\n"),
        Just("x-content-length: 7\r\n"),
        Just("te: trailers \t\r\n"),
    ];
    let body = prop_oneof![
        Just("\r\n".to_owned()),
        Just("\n\n".to_owned()),
        Just("GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned()),
        "[a-z\r\n: ]{0,40}",
    ];
    let headers = proptest::collection::vec(header, 0..4);
    (0..3_usize, line, headers, proptest::option::of(body)).prop_map(|(empty, line, headers, body)| {
        let length = body.as_ref().map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
        let head = format!("{}{line}\r\n{}Host: a\r\n{length}\r\n", "\r\n".repeat(empty), headers.concat());
        (head + &body.unwrap_or_default()).into_bytes()
    })
}

/// Returns a request with a chunked body, followed by arbitrary bytes.
fn chunked() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(|behind| {
        let head = b"PUT /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        [&head[..], &behind].concat()
    })
}

fn bad() -> impl Strategy<Value = (&'static str, HeadError)> {
    prop_oneof![
        Just(("GET / HTTP/1.1\nhost: a\r\n\r\n", HeadError::BareLf)),
        Just(("GET / HTTP/1.1\r\nhost: a\r\n\n", HeadError::BareLf)),
        Just(("GET / HTTP/1.1\r\nhost: a\r\n\r\r\n\r\n", HeadError::HeaderName)),
        Just(("GET / HTTP/1.1\r\nhost: a\r\n\tb\r\n\r\n", HeadError::HeaderName)),
        Just(("\r\n\r\r\n\r\n", HeadError::RequestLine)),
        Just(("GET / HTTP/1.1\r\n\r\n", HeadError::Host)),
        Just(("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5,5\r\n\r\n12345", HeadError::ContentLength)),
        Just(("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n", HeadError::TransferEncoding)),
    ]
}

fn validator() -> HeadValidator {
    HeadValidator::new(HeadLimits { bytes: 4096, headers: 10 })
}
