//! Requests that a signing proxy must not forward.

use trailgate::HeadError;

use super::rig::{TestProxy, post};
use crate::support::RawAnswer;

#[test]
fn head_without_exactly_one_host_is_rejected() {
    let proxy = TestProxy::start();
    proxy.refuses("GET / HTTP/1.1\r\n\r\n", HeadError::Host);
    proxy.refuses("GET / HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n", HeadError::Host);
    proxy.refuses("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", HeadError::Host);
    proxy.refuses("GET / HTTP/1.1\r\nhost: a\r\naccept: */*\r\nHOST: b\r\n\r\n", HeadError::Host);
}

#[test]
fn host_with_a_user_name_is_rejected() {
    let proxy = TestProxy::start();
    proxy.refuses("GET / HTTP/1.1\r\nhost: user:password@a\r\n\r\n", HeadError::User);
    proxy.refuses("GET http://user:password@a/ HTTP/1.1\r\nhost: a\r\n\r\n", HeadError::User);
}

#[test]
fn body_with_two_lengths_is_rejected() {
    let proxy = TestProxy::start();
    let refuses = |headers: &str, error| proxy.refuses(post(headers, "0\r\n\r\nGET /_b HTTP/1.1\r\n"), error);
    refuses("content-length: 5\r\ntransfer-encoding: chunked\r\n", HeadError::TransferEncoding);
    refuses("transfer-encoding: chunked\r\ncontent-length: 5\r\n", HeadError::TransferEncoding);
    refuses("content-length: 0\r\ntransfer-encoding: chunked\r\n", HeadError::TransferEncoding);
    refuses("content-length: 5\r\ncontent-length: 5\r\n", HeadError::ContentLength);
    refuses("content-length: 5\r\ncontent-length: 6\r\n", HeadError::ContentLength);
    refuses("Content-Length: 5\r\naccept: */*\r\ncontent-length: 0\r\n", HeadError::ContentLength);
}

#[test]
fn transfer_encoding_other_than_chunked_is_rejected() {
    let proxy = TestProxy::start();
    let refuses = |headers: &str| proxy.refuses(post(headers, "0\r\n\r\n"), HeadError::TransferEncoding);
    refuses("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n");
    refuses("transfer-encoding: identity\r\ntransfer-encoding: chunked\r\n");
    refuses("transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n");
    refuses("transfer-encoding: gzip, chunked\r\n");
    refuses("transfer-encoding: chunked, chunked\r\n");
    refuses("transfer-encoding: chunked, identity\r\n");
    refuses("transfer-encoding: xchunked\r\n");
    refuses("transfer-encoding: \"chunked\"\r\n");
    refuses("transfer-encoding: chunked;q=1\r\n");
    refuses("transfer-encoding: identity\r\n");
    refuses("transfer-encoding: \r\n");
}

#[test]
fn transfer_encoding_over_http_1_0_is_rejected() {
    let proxy = TestProxy::start();
    let head = "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    proxy.refuses(head, HeadError::TransferEncoding);
}

#[test]
fn content_length_with_other_than_digits_is_rejected() {
    let proxy = TestProxy::start();
    let refuses = |length: &str| {
        proxy.refuses(post(&format!("content-length: {length}\r\n"), "12345"), HeadError::ContentLength);
    };
    refuses("+5");
    refuses("-1");
    refuses("5,5");
    refuses("5, 5");
    refuses("5 5");
    refuses("0x5");
    refuses("5.0");
    refuses("5e0");
    refuses("five");
    refuses("\u{665}");
    refuses("");
    refuses("18446744073709551616");
    refuses("18446744073709551615");
    refuses("18446744073709551614");
}

#[test]
fn largest_content_length_is_rejected_with_413() {
    let proxy = TestProxy::start();
    proxy.rejects(post("content-length: 18446744073709551613\r\n", ""), 413, "body_too_large");
}

#[test]
fn bare_line_feed_is_rejected() {
    let proxy = TestProxy::start();
    proxy.refuses("GET / HTTP/1.1\nhost: a\r\n\r\n", HeadError::BareLf);
    proxy.refuses("GET / HTTP/1.1\r\nhost: a\naccept: */*\r\n\r\n", HeadError::BareLf);
    proxy.refuses("GET / HTTP/1.1\r\nhost: a\r\nx: 1\n\r\n", HeadError::BareLf);
    proxy.refuses("GET / HTTP/1.1\r\nhost: a\r\n\n", HeadError::BareLf);
    proxy.refuses("GET / HTTP/1.1\r\nhost: a\n\n", HeadError::BareLf);
    proxy.refuses("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", HeadError::BareLf);
    proxy.refuses("GET /\n HTTP/1.1\r\nhost: a\r\n\r\n", HeadError::BareLf);
}

#[test]
fn header_name_that_is_no_token_is_rejected() {
    let proxy = TestProxy::start();
    let refuses = |line: &str| {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\naccept: */*\r\n\r\n");
        proxy.refuses(head, HeadError::HeaderName);
    };
    refuses("x : 1");
    refuses("x\t: 1");
    refuses("transfer-encoding : chunked");
    refuses("content-length\u{b}: 5");
    refuses(" x: 1");
    refuses("\tx: 1");
    refuses(" folded");
    refuses("\tfolded");
    refuses("no colon");
    refuses(": 1");
    refuses("x\0: 1");
    refuses("x\u{7f}: 1");
    refuses("x(y): 1");
    refuses("\u{e9}: 1");
    refuses("x\r: 1");
}

#[test]
fn header_value_with_control_characters_is_rejected() {
    let proxy = TestProxy::start();
    let refuses = |value: &str| {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx:{value}\r\n\r\n");
        proxy.refuses(head, HeadError::HeaderValue);
    };
    refuses(" a\0b");
    refuses(" a\u{1}b");
    refuses(" a\u{1b}b");
    refuses(" a\u{7f}b");
    refuses(" a\rb");
    refuses(" a\rtransfer-encoding: chunked");
    refuses(" a\r");
    refuses("\ra");
    refuses("\r");
    refuses("\u{c}a");
    refuses(" a\u{c}");
    refuses(" a\u{b}");
}

#[test]
fn malformed_request_line_is_rejected() {
    let proxy = TestProxy::start();
    let refuses = |line: &str| {
        proxy.refuses(format!("{line}\r\nhost: a\r\n\r\n"), HeadError::RequestLine);
    };
    refuses("GET\t/ HTTP/1.1");
    refuses("GET /\tHTTP/1.1");
    refuses("GET  / HTTP/1.1");
    refuses("GET /  HTTP/1.1");
    refuses(" GET / HTTP/1.1");
    refuses("GET / HTTP/1.1 ");
    refuses("GET / x HTTP/1.1");
    refuses("GET /");
    refuses("GET");
    refuses("GET / ");
    refuses("GET / HTTP/2.0");
    refuses("GET / HTTP/0.9");
    refuses("GET / HTTP/1.2");
    refuses("GET / http/1.1");
    refuses("GET / HTTP/1.1\r");
    refuses("G(T / HTTP/1.1");
    refuses("\r");
    refuses("\0GET / HTTP/1.1");
    refuses("PRI * HTTP/2.0");
}

#[test]
fn first_byte_of_another_protocol_is_rejected_at_once() {
    let proxy = TestProxy::start();
    // The start of a TLS handshake, without the end of a line.
    proxy.refuses(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", HeadError::RequestLine);
    proxy.refuses(b"\r\n\x16\x03\x01\x02\0", HeadError::RequestLine);
}

#[test]
fn target_with_invalid_characters_is_rejected() {
    let proxy = TestProxy::start();
    let refuses = |target: &[u8]| {
        let head = [b"GET ", target, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
        proxy.refuses(head, HeadError::Target);
    };
    refuses(b"/a#b");
    refuses(b"/?a#b");
    refuses(b"/a\0b");
    refuses(b"/a\x01b");
    refuses(b"/a\x7fb");
    refuses(b"/a\tb");
    refuses(b"/a\rb");
    refuses(b"/\xff");
    refuses(b"/?\xc3");
    refuses(b"?a");
    refuses(b"a/b");
    refuses(b"http://");
    refuses(b"http:///a");
    refuses(b"http://[::1/");
    refuses(b"http://a<b/");
    refuses(b"ht*tp://a/");
}

#[test]
fn unsupported_method_or_upgrade_is_rejected() {
    let proxy = TestProxy::start();
    proxy.rejects("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 400, "unsupported_request");
    proxy.rejects("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "unsupported_request");
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n\r\n";
    proxy.rejects(upgrade, 400, "unsupported_request");
    proxy.rejects(upgrade.replace("WebSocket", "h2c, websocket"), 400, "unsupported_request");
    proxy.rejects("OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 400, "malformed_target");
    proxy.rejects("GET a:443 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 400, "malformed_target");
}

#[test]
fn each_byte_at_each_place_gets_a_response_of_the_proxy() {
    let proxy = TestProxy::start();
    for byte in 0..=u8::MAX {
        for (before, behind) in [
            ("", "GET / HTTP/1.1\r\nhost: a\r\n"),
            ("G", "T / HTTP/1.1\r\nhost: a\r\n"),
            ("GET ", " HTTP/1.1\r\nhost: a\r\n"),
            ("GET /", " HTTP/1.1\r\nhost: a\r\n"),
            ("GET /?", " HTTP/1.1\r\nhost: a\r\n"),
            ("GET http://a", "/ HTTP/1.1\r\nhost: a\r\n"),
            ("GET / HTTP/1.1", "\r\nhost: a\r\n"),
            ("GET / HTTP/1.1\r\nhost: a", "\r\n"),
            ("GET / HTTP/1.1\r\nhost: a\r\nx", ": 1\r\n"),
            ("GET / HTTP/1.1\r\nhost: a\r\nx:", "1\r\n"),
            ("GET / HTTP/1.1\r\nhost: a\r\nx: 1", "\r\n"),
            ("GET / HTTP/1.1\r\nhost: a\r\n", "x: 1\r\n"),
        ] {
            let head = [before.as_bytes(), &[byte], behind.as_bytes(), b"connection: close\r\n\r\n"].concat();
            let answer = RawAnswer::only(&proxy.send(&head));
            assert!(answer.header("trailgate-request-id").is_some(), "{byte:#x} behind {before:?}: {answer:?}");
        }
    }
}
