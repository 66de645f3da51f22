//! Unusual requests with only one interpretation, which must reach the domain with it.

use std::sync::Arc;

use fake_domain::{Fault, Times};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;

use super::rig::{CLOSE, TestProxy, get, post};
use crate::support::{RawAnswer, patiently, rest};

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let proxy = TestProxy::start();
    proxy.passes("\r\nGET /_a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", &["GET /_a"]);
    proxy.passes("\r\n\r\n\r\nGET /_a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", &["GET /_a"]);
    proxy.passes(format!("{}\r\n{}", get("/_a", ""), get("/_b", CLOSE)), &["GET /_a", "GET /_b"]);
}

#[test]
fn raw_characters_of_a_target_are_encoded() {
    let proxy = TestProxy::start();
    let raw = "/_a?q=\"x\"<y>`{}|^";
    let seen = "GET /_a?q=%22x%22%3Cy%3E%60%7B%7D%7C%5E";
    proxy.passes(get(raw, CLOSE), &[seen]);
    proxy.passes(get("/a\"<b>`", CLOSE), &["GET /a%22%3Cb%3E%60"]);
    // Between others, and cut anywhere.
    let body = format!("POST {raw} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n<a>");
    let stream = format!("{}{body}{}", get(raw, ""), get("/_c", CLOSE));
    for cut in 1..stream.len() {
        let (front, back) = stream.as_bytes().split_at(cut);
        let all = proxy.passes_in_pieces(&[front, back], &[seen, &seen.replace("GET", "POST"), "GET /_c"]);
        assert_eq!(all[1].body, "<a>");
    }
}

#[test]
fn http_1_0_without_a_host_is_forwarded() {
    let proxy = TestProxy::start();
    proxy.passes("GET /_a HTTP/1.0\r\n\r\n", &["GET /_a"]);
}

#[test]
fn half_closed_client_gets_its_response_and_is_closed() {
    let proxy = TestProxy::start();
    let chunked = post("transfer-encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n");
    for (text, count) in [
        (get("/_a", ""), 1),
        (get("/_a", "") + &get("/_b", "") + &get("/_c", ""), 3),
        (post("content-length: 1\r\n", "x"), 1),
        (chunked, 1),
        (format!("{}GET /", get("/_a", "")), 1),
    ] {
        let answers = proxy.runtime.block_on(async {
            let release = Arc::new(Notify::new());
            proxy.rig.domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
            let before = proxy.rig.domain.seen().len();
            let mut stream = proxy.rig.open().await;
            stream.write_all(text.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            patiently(proxy.rig.domain.wait_for_requests(before + 1)).await;
            // The end of the client's side comes before the answer.
            proxy.rig.has_read().await;
            release.notify_one();
            rest(&mut stream).await
        });
        assert_eq!(RawAnswer::all(&answers).len(), count, "{text:?}");
    }
}

#[test]
fn pipelined_requests_are_forwarded_once_and_in_order() {
    let proxy = TestProxy::start();
    proxy.passes(get("/_a", "") + &get("/_b", CLOSE), &["GET /_a", "GET /_b"]);
    proxy.passes(get("/_a", "") + &get("/_b", "") + &get("/_c", CLOSE), &["GET /_a", "GET /_b", "GET /_c"]);
    let put = "PUT /_a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}";
    proxy.passes(
        format!("{put}{}{put}{}", get("/_b", ""), get("/_c", CLOSE)),
        &["PUT /_a", "GET /_b", "PUT /_a", "GET /_c"],
    );
}

#[test]
fn bytes_after_the_last_request_are_no_request() {
    let proxy = TestProxy::start();
    proxy.passes(get("/_a", CLOSE) + &get("/_b", ""), &["GET /_a"]);
    proxy.passes(format!("GET /_a HTTP/1.0\r\nhost: a\r\n\r\n{}", get("/_b", "")), &["GET /_a"]);
}

#[test]
fn body_that_looks_like_a_request_is_a_body() {
    let proxy = TestProxy::start();
    let inner = get("/_inner", "");
    let headers = format!("content-length: {}\r\n{CLOSE}", inner.len());
    let seen = proxy.passes(post(&headers, &inner), &["POST /"]);
    assert_eq!(seen[0].body, inner);
}

#[test]
fn request_in_pieces_is_one_request() {
    let proxy = TestProxy::start();
    let body = "x".repeat(300);
    let whole = post(&format!("content-length: 300\r\n{CLOSE}"), &body);
    let single: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
    let seen = proxy.passes_in_pieces(&single, &["POST /"]);
    assert_eq!(seen[0].body, body);

    let (head, body) = whole.as_bytes().split_at(whole.len() - 300);
    let pieces: Vec<&[u8]> = std::iter::once(head).chain(body.chunks(7)).collect();
    let seen = proxy.passes_in_pieces(&pieces, &["POST /"]);
    assert_eq!(seen[0].body, body);
}

#[test]
fn pipelined_requests_in_pieces_are_the_same_requests() {
    let proxy = TestProxy::start();
    let stream = format!("{}{}{}", get("/_a", ""), post("content-length: 4\r\n", "GET "), get("/_b", CLOSE));
    for cut in 1..stream.len() {
        let (front, back) = stream.as_bytes().split_at(cut);
        proxy.passes_in_pieces(&[front, back], &["GET /_a", "POST /", "GET /_b"]);
    }
}

#[test]
fn chunked_body_is_forwarded_decoded() {
    let proxy = TestProxy::start();
    for chunks in [
        "b\r\nhello world\r\n0\r\n\r\n",
        "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        "000B\r\nhello world\r\n000\r\n\r\n",
        "b;name=value\r\nhello world\r\n0;last\r\n\r\n",
        "b;name=\"quoted\"\r\nhello world\r\n0\r\n\r\n",
        "b\r\nhello world\r\n0\r\nx-trailer: 1\r\ncontent-length: 3\r\n\r\n",
    ] {
        let seen = proxy.passes(post("transfer-encoding: chunked\r\n", chunks), &["POST /"]);
        assert_eq!(seen[0].body, "hello world", "{chunks:?}");
        assert_eq!(seen[0].values("content-length").collect::<Vec<_>>(), [b"11"], "{chunks:?}");
        assert_eq!(seen[0].header("transfer-encoding"), None, "{chunks:?}");
        assert_eq!(seen[0].header("x-trailer"), None, "{chunks:?}");
    }
}

#[test]
fn case_and_spaces_of_chunked_do_not_matter() {
    let proxy = TestProxy::start();
    for header in ["Transfer-Encoding:Chunked\r\n", "TRANSFER-ENCODING: \t CHUNKED \t\r\n"] {
        let seen = proxy.passes(post(header, "1\r\nx\r\n0\r\n\r\n"), &["POST /"]);
        assert_eq!(seen[0].body, "x");
    }
}

#[test]
fn bytes_after_a_chunked_body_are_no_request() {
    let proxy = TestProxy::start();
    for behind in [get("/_b", ""), "\r\n".to_owned() + &get("/_b", ""), post("content-length: 0\r\n", "")] {
        let text = post("transfer-encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n") + &behind;
        let (answers, seen) = proxy.exchange(&[text.as_bytes()]);
        assert_eq!((answers.len(), seen.len()), (1, 1), "{behind:?}");
        assert_eq!(answers[0].header("connection"), Some("close"), "{behind:?}");
    }
}

#[test]
fn malformed_chunks_are_rejected() {
    let proxy = TestProxy::start();
    let rejects = |chunks: &str| {
        proxy.rejects(post("transfer-encoding: chunked\r\n", chunks), 400, "malformed_body");
    };
    rejects("x\r\n");
    rejects("-1\r\n");
    rejects("+1\r\nx\r\n0\r\n\r\n");
    rejects("0x1\r\nx\r\n0\r\n\r\n");
    rejects("\r\n");
    rejects("1\nx\r\n0\r\n\r\n");
    rejects("1\r\nxy\r\n0\r\n\r\n");
    rejects("1\r\nx\n0\r\n\r\n");
    rejects("1;a\nb\r\nx\r\n0\r\n\r\n");
    rejects("10000000000000001\r\nx\r\n0\r\n\r\n");
}

#[test]
fn malformed_pipelined_request_is_rejected_in_order() {
    let proxy = TestProxy::start();
    let search = "POST /_search HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    for (good, bad) in [
        (get("/", ""), "GET / HTTP/1.1\r\n\r\n"),
        (get("/", ""), "GET / HTTP/1.1\nhost: a\n\n"),
        (search.to_owned(), "\0"),
        (search.to_owned(), "}GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n"),
    ] {
        let text = format!("{good}{bad}\r\n\r\n{}", get("/_b", ""));
        let (answers, seen) = proxy.exchange(&[text.as_bytes()]);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!((statuses, seen.len()), (vec![200, 400], 1), "{text:?}");
        let (first, second) = (proxy.access_line(), proxy.access_line());
        assert_eq!(first["outcome"], "forwarded", "{text:?}");
        assert_eq!(second["outcome"], "malformed_request", "{text:?}");
    }
}

#[test]
fn expect_100_continue_gets_100_from_the_proxy() {
    let proxy = TestProxy::start();
    let (answers, seen) = proxy.runtime.block_on(async {
        let mut stream = proxy.rig.open().await;
        let head = post(&format!("expect: 100-continue\r\ncontent-length: 2\r\n{CLOSE}"), "");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
        patiently(stream.read_exact(&mut interim)).await.unwrap();
        assert_eq!(str::from_utf8(&interim), Ok("HTTP/1.1 100 Continue\r\n\r\n"));
        stream.write_all(b"{}").await.unwrap();
        (RawAnswer::all(&rest(&mut stream).await), proxy.rig.domain.seen())
    });
    assert_eq!(answers.len(), 1);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, "{}");
    assert_eq!(seen[0].header("expect"), None);
}

#[test]
fn absolute_target_is_forwarded_as_its_path() {
    let proxy = TestProxy::start();
    proxy.passes(get("http://elsewhere.test/_a?b=1", CLOSE), &["GET /_a?b=1"]);
    proxy.passes(get("https://elsewhere.test:9/_a", CLOSE), &["GET /_a"]);
    let seen = proxy.passes(get("http://elsewhere.test?b", CLOSE), &["GET /?b"]);
    assert_eq!(seen[0].header("host"), Some(proxy.rig.domain.address().to_string().as_str()));
}

#[test]
fn h2c_upgrade_offer_is_ignored() {
    let proxy = TestProxy::start();
    let offer = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
    let seen = proxy.passes(get("/_a", offer) + &get("/_b", CLOSE), &["GET /_a", "GET /_b"]);
    assert_eq!(seen[0].header("upgrade"), None);
    assert_eq!(seen[0].header("http2-settings"), None);
}

#[test]
fn non_ascii_bytes_pass_in_targets_and_header_values() {
    let proxy = TestProxy::start();
    proxy.passes(get("/_\u{e9}", CLOSE), &["GET /_%C3%A9"]);
    proxy.passes(get("/?q=`{|}\u{e9}", CLOSE), &["GET /?q=%60%7B%7C%7D%C3%A9"]);
    let seen = proxy.passes(get("/", "x: \u{e9}\r\nconnection: close\r\n"), &["GET /"]);
    assert_eq!(seen[0].values("x").collect::<Vec<_>>(), ["\u{e9}".as_bytes()]);
}
