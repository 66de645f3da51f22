//! Two recorded sessions of a browser, replayed byte for byte.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io::{BufRead as _, BufReader as Lines};
use std::net::SocketAddr;

use bytes::Bytes;
use fake_domain::{Answer, Fault, Seen, Times};
use flate2::read::GzDecoder;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::support::{Rig, patiently};

/// A request as the browser sent it, and how it was answered.
#[derive(Deserialize)]
struct Exchange {
    /// The browser's connection.
    conn: usize,
    method: String,
    target: String,
    request_headers: Vec<(String, String)>,
    request_body: Option<String>,
    /// The body's size, if the body itself was not recorded.
    request_body_size: Option<usize>,
    status: u16,
    response_headers: Vec<(String, String)>,
    response_body_size: usize,
}

/// Headers in an order of their own, the names in lower case: neither has a meaning.
type Headers = Vec<(String, String)>;

impl Exchange {
    fn body(&self) -> Bytes {
        match (&self.request_body, self.request_body_size) {
            (Some(body), _) => body.clone().into(),
            (None, size) => filler_bytes(size.unwrap_or(0)),
        }
    }

    /// Returns the request as it was on the wire.
    fn wire_bytes(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        head.extend(self.request_headers.iter().flat_map(|(name, value)| [name, ": ", value, "\r\n"]));
        [head.as_bytes(), b"\r\n", &self.body()].concat()
    }

    /// Returns the target in the one spelling that is signed and sent.
    fn canonical_target(&self) -> String {
        let spelled = [("*", "%2A"), (":", "%3A"), ("@", "%40"), ("+", "%20")];
        let target = spelled.iter().fold(self.target.clone(), |target, (raw, escape)| target.replace(raw, escape));
        target.trim_end_matches('&').to_owned()
    }

    /// Returns the recorded response, with a body of which only the size is known.
    fn answer(&self) -> Answer {
        let body = filler_bytes(self.response_body_size);
        Answer { status: self.status, headers: self.response_headers.clone(), body }
    }
}

/// The browser's side of a connection.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(program: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(program).await.unwrap()))
    }

    /// Sends a request, and reads status, headers and body of its answer.
    async fn exchange(&mut self, request: &[u8]) -> (u16, Headers, Vec<u8>) {
        self.0.get_mut().write_all(request).await.unwrap();
        let status = self.line().await.split(' ').nth(1).unwrap().parse().unwrap();
        let mut headers = Headers::new();
        loop {
            let line = self.line().await;
            let Some((name, value)) = line.split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        headers.sort();
        let body = match value(&headers, "content-length") {
            _ if status == 304 => Vec::new(),
            Some(length) => self.bytes(length.parse().unwrap()).await,
            None => self.chunks().await,
        };
        (status, headers, body)
    }

    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let size = usize::from_str_radix(&self.line().await, 16).unwrap();
            body.extend(self.bytes(size).await);
            assert_eq!(self.line().await, "");
            if size == 0 {
                return body;
            }
        }
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.strip_suffix("\r\n").expect("the line is whole").to_owned()
    }

    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.read_exact(&mut bytes).await.unwrap();
        bytes
    }
}

fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
}

/// Bytes that look like no others of another number.
fn filler_bytes(count: usize) -> Bytes {
    let mut bytes = vec![0; count];
    fastrand::Rng::with_seed(count as u64).fill(&mut bytes);
    bytes.into()
}

/// Returns all headers but these.
fn without(headers: &[(String, String)], names: &[&str]) -> Headers {
    let lines = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    let mut left: Headers = lines.filter(|(name, _)| !names.contains(&name.as_str())).collect();
    left.sort();
    left
}

/// Asserts that the domain received the browser's request, except for the changes that trailgate documents.
fn assert_arrived(sent: &Exchange, arrived: &Seen, domain: SocketAddr) {
    let request = format!("{} {}", sent.method, sent.target);
    assert_eq!((&arrived.method, &arrived.target), (&sent.method, &sent.canonical_target()), "{request}");
    assert!(arrived.body == sent.body(), "{request}: another body");
    let headers = arrived.headers.iter().map(|(name, value)| (name.clone(), String::from_utf8(value.clone()).unwrap()));
    let headers = without(&headers.collect::<Headers>(), &[]);
    assert_eq!(without(&headers, &SET_ANEW), without(&sent.request_headers, &SET_ANEW), "{request}");
    // Sent with every body, and without one for the methods that usually have one.
    let length = Some(sent.body().len()).filter(|_| sent.method != "GET");
    assert_eq!(value(&headers, "content-length"), length.map(|length| length.to_string()).as_deref(), "{request}");
    for (name, expected) in [
        ("host", domain.to_string()),
        ("x-forwarded-for", "127.0.0.1".to_owned()),
        ("x-forwarded-host", "gate.test".to_owned()),
        ("x-forwarded-proto", "http".to_owned()),
    ] {
        assert_eq!(value(&headers, name), Some(&expected[..]), "{request}: {name}");
    }
    // The signature itself has been checked by the stand-in.
    assert_eq!(arrived.refusal, None, "{request}");
}

/// Replays a session, whose browser opened the proxy's home page first.
async fn replays_byte_for_byte(recording: &[u8]) {
    let rig = Rig::new().await;
    let mut connections = HashMap::new();
    let mut count = 0;
    for line in Lines::new(GzDecoder::new(recording)).lines() {
        let exchange: Exchange = serde_json::from_str(&line.unwrap()).unwrap();
        let connection = match connections.entry(exchange.conn) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(closed) => closed.insert(Connection::open(rig.address).await),
        };
        if exchange.target == "/" {
            let (status, headers, _) = patiently(connection.exchange(&exchange.wire_bytes())).await;
            assert_eq!((status, value(&headers, "location")), (302, Some("/_plugin/kibana/")));
            continue;
        }
        let answer = exchange.answer();
        rig.domain.fault(Fault::Answer(answer.clone()), Times::Once);
        let (status, headers, body) = patiently(connection.exchange(&exchange.wire_bytes())).await;
        count += 1;

        let request = format!("{} {}", exchange.method, exchange.target);
        let seen = rig.domain.seen();
        assert_eq!(seen.len(), count, "{request}");
        assert_arrived(&exchange, &seen[count - 1], rig.domain.address());
        assert_eq!(status, answer.status, "{request}");
        assert!(body == answer.body, "{request}: another answer");
        // The stand-in, as a domain, names and dates its answers.
        let mut changed = [&HOP_BY_HOP[..], &["trailgate-request-id", "x-amzn-requestid"]].concat();
        if !answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("date")) {
            changed.push("date");
        }
        assert_eq!(without(&headers, &changed), without(&answer.headers, &changed), "{request}");
        assert!(value(&headers, "trailgate-request-id").is_some(), "{request}");
    }
    assert!(count > 300, "{count}");
}

/// The recorded hop-by-hop headers (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [&str; 3] = ["connection", "keep-alive", "transfer-encoding"];

/// The headers that trailgate sets for the domain regardless of the client's, and the client's `Connection`.
const SET_ANEW: [&str; 9] = [
    "authorization",
    "connection",
    "content-length",
    "host",
    "x-amz-content-sha256",
    "x-amz-date",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];

#[tokio::test]
async fn recorded_dashboards_2_session_passes_unchanged() {
    replays_byte_for_byte(include_bytes!("../data/kibana-traffic/dashboards-2.8.jsonl.gz")).await;
}

#[tokio::test]
async fn recorded_kibana_5_session_passes_unchanged() {
    replays_byte_for_byte(include_bytes!("../data/kibana-traffic/kibana-5.1.jsonl.gz")).await;
}
