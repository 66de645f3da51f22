use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{self, Runtime};
use tokio::task::yield_now;
use tokio::time::timeout;
use trailgate::head::HeadError;
use trailgate_domain::Seen;

use crate::support::{RawAnswer, Rig, patiently, rest};

#[test]
fn a_head_must_have_one_host() {
    let gate = Gate::start();
    gate.refuses("GET / HTTP/1.1\r\n\r\n", HeadError::Host);
    gate.refuses("GET / HTTP/1.0\r\n\r\n", HeadError::Host);
    gate.refuses("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", HeadError::Host);
    gate.refuses("GET / HTTP/1.1\r\nhost: a\r\naccept: */*\r\nHOST: b\r\n\r\n", HeadError::Host);
}

#[test]
fn a_body_must_not_have_two_lengths() {
    let gate = Gate::start();
    let refuses = |headers: &str, error| gate.refuses(post(headers, "0\r\n\r\nGET /_b HTTP/1.1\r\n"), error);
    refuses("content-length: 5\r\ntransfer-encoding: chunked\r\n", HeadError::TransferEncoding);
    refuses("transfer-encoding: chunked\r\ncontent-length: 5\r\n", HeadError::TransferEncoding);
    refuses("content-length: 0\r\ntransfer-encoding: chunked\r\n", HeadError::TransferEncoding);
    refuses("content-length: 5\r\ncontent-length: 5\r\n", HeadError::ContentLength);
    refuses("content-length: 5\r\ncontent-length: 6\r\n", HeadError::ContentLength);
    refuses("Content-Length: 5\r\naccept: */*\r\ncontent-length: 0\r\n", HeadError::ContentLength);
}

#[test]
fn a_transfer_encoding_must_be_chunked_alone() {
    let gate = Gate::start();
    let refuses = |headers: &str| gate.refuses(post(headers, "0\r\n\r\n"), HeadError::TransferEncoding);
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
fn http_1_0_knows_no_transfer_encoding() {
    let gate = Gate::start();
    let head = "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    gate.refuses(head, HeadError::TransferEncoding);
}

#[test]
fn a_content_length_is_made_of_digits_alone() {
    let gate = Gate::start();
    let refuses = |length: &str| {
        gate.refuses(post(&format!("content-length: {length}\r\n"), "12345"), HeadError::ContentLength);
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
fn the_largest_number_is_a_length_and_too_large() {
    let gate = Gate::start();
    gate.rejects(post("content-length: 18446744073709551613\r\n", ""), 413, "body_too_large");
}

#[test]
fn a_line_must_end_in_cr_and_lf() {
    let gate = Gate::start();
    gate.refuses("GET / HTTP/1.1\nhost: a\r\n\r\n", HeadError::BareLf);
    gate.refuses("GET / HTTP/1.1\r\nhost: a\naccept: */*\r\n\r\n", HeadError::BareLf);
    gate.refuses("GET / HTTP/1.1\r\nhost: a\r\nx: 1\n\r\n", HeadError::BareLf);
    gate.refuses("GET / HTTP/1.1\r\nhost: a\r\n\n", HeadError::BareLf);
    gate.refuses("GET / HTTP/1.1\r\nhost: a\n\n", HeadError::BareLf);
    gate.refuses("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", HeadError::BareLf);
    gate.refuses("GET /\n HTTP/1.1\r\nhost: a\r\n\r\n", HeadError::BareLf);
}

#[test]
fn a_headers_name_is_a_token() {
    let gate = Gate::start();
    let refuses = |line: &str| {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\n{line}\r\naccept: */*\r\n\r\n");
        gate.refuses(head, HeadError::HeaderName);
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
fn a_headers_value_holds_no_control_characters() {
    let gate = Gate::start();
    let refuses = |value: &str| {
        let head = format!("GET / HTTP/1.1\r\nhost: a\r\nx:{value}\r\n\r\n");
        gate.refuses(head, HeadError::HeaderValue);
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
fn a_request_line_has_three_words_and_a_known_version() {
    let gate = Gate::start();
    let refuses = |line: &str| {
        gate.refuses(format!("{line}\r\nhost: a\r\n\r\n"), HeadError::RequestLine);
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
fn a_target_holds_only_what_a_url_may_hold() {
    let gate = Gate::start();
    let refuses = |target: &[u8]| {
        let head = [b"GET ", target, b" HTTP/1.1\r\nhost: a\r\n\r\n"].concat();
        gate.refuses(head, HeadError::Target);
    };
    refuses(b"/a<b");
    refuses(b"/a>b");
    refuses(b"/a`b");
    refuses(b"/a#b");
    refuses(b"/?a#b");
    refuses(b"/?a<b");
    refuses(b"/a\0b");
    refuses(b"/a\x01b");
    refuses(b"/a\x7fb");
    refuses(b"/a\tb");
    refuses(b"/a\rb");
    refuses(b"/\xff");
    refuses(b"/?\xc3");
    refuses(b"/?a\"b");
    refuses(b"?a");
    refuses(b"a/b");
    refuses(b"http://");
    refuses(b"http:///a");
    refuses(b"http://[::1/");
    refuses(b"http://a<b/");
    refuses(b"ht*tp://a/");
}

#[test]
fn what_cannot_be_forwarded_is_rejected() {
    let gate = Gate::start();
    gate.rejects("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 400, "unsupported_request");
    gate.rejects("TRACE / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "unsupported_request");
    let upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: WebSocket\r\n\r\n";
    gate.rejects(upgrade, 400, "unsupported_request");
    gate.rejects("OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 400, "malformed_target");
    gate.rejects("GET a:443 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 400, "malformed_target");
}

#[test]
fn each_byte_in_each_place_is_answered_by_the_gate_and_not_by_its_http_library() {
    let gate = Gate::start();
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
            let answer = RawAnswer::only(&gate.send(&head));
            assert!(answer.header("trailgate-request-id").is_some(), "{byte:#x} behind {before:?}: {answer:?}");
        }
    }
}

#[test]
fn empty_lines_before_a_request_are_skipped() {
    let gate = Gate::start();
    gate.passes("\r\nGET /_a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", &["GET /_a"]);
    gate.passes("\r\n\r\n\r\nGET /_a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", &["GET /_a"]);
    gate.passes(format!("{}\r\n{}", get("/_a", ""), get("/_b", CLOSE)), &["GET /_a", "GET /_b"]);
}

#[test]
fn pipelined_requests_are_answered_in_order_and_seen_once_each() {
    let gate = Gate::start();
    gate.passes(get("/_a", "") + &get("/_b", CLOSE), &["GET /_a", "GET /_b"]);
    gate.passes(get("/_a", "") + &get("/_b", "") + &get("/_c", CLOSE), &["GET /_a", "GET /_b", "GET /_c"]);
    let put = "PUT /_a HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{}";
    gate.passes(
        format!("{put}{}{put}{}", get("/_b", ""), get("/_c", CLOSE)),
        &["PUT /_a", "GET /_b", "PUT /_a", "GET /_c"],
    );
}

#[test]
fn what_follows_the_last_request_of_a_connection_is_no_request() {
    let gate = Gate::start();
    gate.passes(get("/_a", CLOSE) + &get("/_b", ""), &["GET /_a"]);
    gate.passes(format!("GET /_a HTTP/1.0\r\nhost: a\r\n\r\n{}", get("/_b", "")), &["GET /_a"]);
}

#[test]
fn a_body_that_looks_like_a_request_is_a_body() {
    let gate = Gate::start();
    let inner = get("/_inner", "");
    let headers = format!("content-length: {}\r\n{CLOSE}", inner.len());
    let seen = gate.passes(post(&headers, &inner), &["POST /"]);
    assert_eq!(seen[0].body, inner);
}

#[test]
fn a_request_cut_into_pieces_is_one_request() {
    let gate = Gate::start();
    let body = "x".repeat(300);
    let whole = post(&format!("content-length: 300\r\n{CLOSE}"), &body);
    let single: Vec<&[u8]> = whole.as_bytes().chunks(1).collect();
    let seen = gate.passes_in_pieces(&single, &["POST /"]);
    assert_eq!(seen[0].body, body);

    let (head, body) = whole.as_bytes().split_at(whole.len() - 300);
    let pieces: Vec<&[u8]> = std::iter::once(head).chain(body.chunks(7)).collect();
    let seen = gate.passes_in_pieces(&pieces, &["POST /"]);
    assert_eq!(seen[0].body, body);
}

#[test]
fn pipelined_requests_cut_anywhere_stay_the_same_requests() {
    let gate = Gate::start();
    let stream = format!("{}{}{}", get("/_a", ""), post("content-length: 4\r\n", "GET "), get("/_b", CLOSE));
    for cut in 1..stream.len() {
        let (front, back) = stream.as_bytes().split_at(cut);
        gate.passes_in_pieces(&[front, back], &["GET /_a", "POST /", "GET /_b"]);
    }
}

#[test]
fn a_chunked_body_is_sent_on_with_its_length() {
    let gate = Gate::start();
    for chunks in [
        "b\r\nhello world\r\n0\r\n\r\n",
        "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        "000B\r\nhello world\r\n000\r\n\r\n",
        "b;name=value\r\nhello world\r\n0;last\r\n\r\n",
        "b;name=\"quoted\"\r\nhello world\r\n0\r\n\r\n",
        "b\r\nhello world\r\n0\r\nx-trailer: 1\r\ncontent-length: 3\r\n\r\n",
    ] {
        let seen = gate.passes(post("transfer-encoding: chunked\r\n", chunks), &["POST /"]);
        assert_eq!(seen[0].body, "hello world", "{chunks:?}");
        assert_eq!(seen[0].values("content-length").collect::<Vec<_>>(), [b"11"], "{chunks:?}");
        assert_eq!(seen[0].header("transfer-encoding"), None, "{chunks:?}");
        assert_eq!(seen[0].header("x-trailer"), None, "{chunks:?}");
    }
}

#[test]
fn the_spelling_of_chunked_does_not_matter() {
    let gate = Gate::start();
    for header in ["Transfer-Encoding:Chunked\r\n", "TRANSFER-ENCODING: \t CHUNKED \t\r\n"] {
        let seen = gate.passes(post(header, "1\r\nx\r\n0\r\n\r\n"), &["POST /"]);
        assert_eq!(seen[0].body, "x");
    }
}

#[test]
fn what_follows_a_chunked_body_is_no_request() {
    let gate = Gate::start();
    for behind in [get("/_b", ""), "\r\n".to_owned() + &get("/_b", ""), post("content-length: 0\r\n", "")] {
        let text = post("transfer-encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n") + &behind;
        let (answers, seen) = gate.exchange(&[text.as_bytes()]);
        assert_eq!((answers.len(), seen.len()), (1, 1), "{behind:?}");
        assert_eq!(answers[0].header("connection"), Some("close"), "{behind:?}");
    }
}

#[test]
fn malformed_chunks_are_rejected() {
    let gate = Gate::start();
    let rejects = |chunks: &str| {
        gate.rejects(post("transfer-encoding: chunked\r\n", chunks), 400, "malformed_body");
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
fn a_bad_request_behind_a_good_one_is_refused_in_its_turn() {
    let gate = Gate::start();
    let search = "POST /_search HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    for (good, bad) in [
        (get("/", ""), "GET / HTTP/1.1\r\n\r\n"),
        (get("/", ""), "GET / HTTP/1.1\nhost: a\n\n"),
        (search.to_owned(), "\0"),
        (search.to_owned(), "}GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n"),
    ] {
        let text = format!("{good}{bad}\r\n\r\n{}", get("/_b", ""));
        let (answers, seen) = gate.exchange(&[text.as_bytes()]);
        let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!((statuses, seen.len()), (vec![200, 400], 1), "{text:?}");
        let (first, second) = (gate.access_line(), gate.access_line());
        assert_eq!(first["outcome"], "forwarded", "{text:?}");
        assert_eq!(second["outcome"], "malformed_request", "{text:?}");
    }
}

#[test]
fn a_body_that_is_waited_for_is_asked_for_and_the_wait_ends_here() {
    let gate = Gate::start();
    let (answers, seen) = gate.runtime.block_on(async {
        let mut stream = gate.rig.open().await;
        let head = post(&format!("expect: 100-continue\r\ncontent-length: 2\r\n{CLOSE}"), "");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
        patiently(stream.read_exact(&mut interim)).await.unwrap();
        assert_eq!(str::from_utf8(&interim), Ok("HTTP/1.1 100 Continue\r\n\r\n"));
        stream.write_all(b"{}").await.unwrap();
        (RawAnswer::all(&rest(&mut stream).await), gate.rig.domain.seen())
    });
    assert_eq!(answers.len(), 1);
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].body, "{}");
    assert_eq!(seen[0].header("expect"), None);
}

#[test]
fn an_absolute_target_is_read_as_its_path() {
    let gate = Gate::start();
    gate.passes(get("http://elsewhere.test/_a?b=1", CLOSE), &["GET /_a?b=1"]);
    gate.passes(get("https://elsewhere.test:9/_a", CLOSE), &["GET /_a"]);
    let seen = gate.passes(get("http://elsewhere.test?b", CLOSE), &["GET /?b"]);
    assert_eq!(seen[0].header("host"), Some(gate.rig.domain.address().to_string().as_str()));
}

#[test]
fn an_offer_of_another_protocol_is_ignored() {
    let gate = Gate::start();
    let offer = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n";
    let seen = gate.passes(get("/_a", offer) + &get("/_b", CLOSE), &["GET /_a", "GET /_b"]);
    assert_eq!(seen[0].header("upgrade"), None);
    assert_eq!(seen[0].header("http2-settings"), None);
}

#[test]
fn bytes_beyond_ascii_pass_where_they_are_text() {
    let gate = Gate::start();
    gate.passes(get("/_\u{e9}", CLOSE), &["GET /_%C3%A9"]);
    gate.passes(get("/?q=`{|}\u{e9}", CLOSE), &["GET /?q=%60%7B%7C%7D%C3%A9"]);
    let seen = gate.passes(get("/", "x: \u{e9}\r\nconnection: close\r\n"), &["GET /"]);
    assert_eq!(seen[0].values("x").collect::<Vec<_>>(), ["\u{e9}".as_bytes()]);
}

/// A gate on which a table of cases is tried, so that each case that fails shows its own line.
struct Gate {
    runtime: Runtime,
    rig: Rig,
}

impl Gate {
    fn start() -> Self {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let rig = runtime.block_on(Rig::new());
        Self { runtime, rig }
    }

    /// Expects that a head is refused for this reason.
    #[track_caller]
    fn refuses(&self, head: impl AsRef<[u8]>, error: HeadError) {
        let answer = self.rejected(head.as_ref(), 400, "malformed_request");
        assert_eq!(answer.json()["error"]["reason"], error.to_string());
        assert_eq!(answer.header("connection"), Some("close"));
    }

    /// Expects that a request is answered so, and by the gate.
    #[track_caller]
    fn rejects(&self, request: impl AsRef<[u8]>, status: u16, kind: &str) {
        self.rejected(request.as_ref(), status, kind);
    }

    #[track_caller]
    fn rejected(&self, request: &[u8], status: u16, kind: &str) -> RawAnswer {
        let (mut answers, seen) = self.exchange(&[request]);
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(seen, []);
        let answer = answers.remove(0);
        assert_eq!(answer.status, status, "{answer:?}");
        let id = answer.header("trailgate-request-id").unwrap_or_else(|| panic!("not of the gate: {answer:?}"));
        let line = self.access_line();
        assert_eq!(line["id"], id);
        assert_eq!((&line["status"], &line["outcome"]), (&status.into(), &kind.into()));
        let body = answer.json();
        assert_eq!((&body["status"], &body["error"]["type"]), (&status.into(), &kind.into()));
        answer
    }

    /// Expects that these requests, and no others, reach the domain, signed, and that each has its answer.
    #[track_caller]
    fn passes(&self, text: impl AsRef<[u8]>, requests: &[&str]) -> Vec<Seen> {
        self.passes_in_pieces(&[text.as_ref()], requests)
    }

    #[track_caller]
    fn passes_in_pieces(&self, pieces: &[&[u8]], requests: &[&str]) -> Vec<Seen> {
        let (answers, seen) = self.exchange(pieces);
        let came: Vec<String> = seen.iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect();
        assert_eq!(came, requests);
        assert!(seen.iter().all(|seen| seen.refusal.is_none()), "{seen:?}");
        // The domain numbers its answers.
        let ids: Vec<_> = answers.iter().filter_map(|answer| answer.header("x-amzn-requestid")).collect();
        assert_eq!((ids.len(), answers.len()), (requests.len(), requests.len()), "{answers:?}");
        assert!(ids.is_sorted(), "{ids:?}");
        seen
    }

    /// The answers on a connection that is sent these pieces, and what the domain saw in the meantime.
    #[track_caller]
    fn exchange(&self, pieces: &[&[u8]]) -> (Vec<RawAnswer>, Vec<Seen>) {
        let before = self.rig.domain.seen().len();
        let exchange = async {
            let mut stream = self.rig.open().await;
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
                // Lets the gate read this piece before the next one comes.
                for _ in 0..4 {
                    yield_now().await;
                }
            }
            rest(&mut stream).await
        };
        let text = self
            .runtime
            .block_on(async { timeout(PATIENCE, exchange).await })
            .unwrap_or_else(|_| panic!("not closed in time: {:?}", String::from_utf8_lossy(&pieces.concat())));
        (RawAnswer::all(&text), self.rig.domain.seen().split_off(before))
    }

    fn send(&self, bytes: &[u8]) -> String {
        self.runtime.block_on(self.rig.raw(bytes))
    }

    fn access_line(&self) -> serde_json::Value {
        self.runtime.block_on(self.rig.access_line())
    }
}

/// A `GET` with these header lines beside `Host`.
fn get(target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: a\r\n{headers}\r\n")
}

/// A `POST` with these header lines beside `Host`, and with this behind its head.
fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n{body}")
}

/// Nothing takes this long unless something is broken.
const PATIENCE: Duration = Duration::from_secs(15);

const CLOSE: &str = "connection: close\r\n";
