//! A domain as its clients find it, over real connections.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fake_domain::{
    Answer, Backend, FakeDomain, Fault, Options, Times,
    verify::{Request, date_text},
};
use jiff::Timestamp;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

#[tokio::test]
async fn signed_request_gets_a_response() {
    let domain = start().await;
    let answer = get(&domain, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("You Know, for Search"), "{answer}");
}

#[tokio::test]
async fn unsigned_request_is_rejected_in_the_services_words() {
    let domain = start().await;
    let answer = send(&domain, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-amzn-errortype: AccessDeniedException\r\n"), "{answer}");
    assert!(answer.contains("\r\nx-amzn-requestid: "), "{answer}");
    assert!(answer.contains(r#"{"Message":"User: anonymous is not authorized to perform: es:ESHttpGet "#), "{answer}");
    let refusal = domain.seen()[0].refusal.clone().expect("a refusal");
    assert!(refusal.starts_with("User: anonymous"), "{refusal}");
}

#[tokio::test]
async fn requests_that_no_domain_accepts_are_bad_requests() {
    for (lines, body, expected) in [
        ("Host: a\r\nTransfer-Encoding: chunked\r\n", "1\r\nx\r\n0\r\n\r\n", "a chunked body cannot be signed"),
        ("Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n", "x", "several Content-Length headers"),
        ("Content-Length: 1\r\n", "x", "no Host header"),
    ] {
        let domain = start().await;
        let answer = send(&domain, &format!("POST / HTTP/1.1\r\n{lines}\r\n{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        assert!(answer.contains(expected), "{answer}");
        assert!(domain.seen()[0].refusal.as_deref().is_some_and(|refusal| refusal.starts_with(expected)));
    }
}

#[tokio::test]
async fn request_is_recorded_unchanged() {
    let domain = start().await;
    send(&domain, "PUT /a%2f?q=%zz+ HTTP/1.1\r\nX-B: 1\r\nHost: a\r\nx-b:  \u{e4} \r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}").await;
    let seen = &domain.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str(), &seen.body[..]), ("PUT", "/a%2f?q=%zz+", &b"{}"[..]));
    let headers: Vec<_> = seen.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
    assert_eq!(headers[..3], [("X-B", &b"1"[..]), ("Host", b"a"), ("x-b", "\u{e4}".as_bytes())]);
}

#[tokio::test]
async fn requests_on_a_connection_have_its_number() {
    let domain = start().await;
    let mut stream = connect(&domain).await;
    for _ in 0..2 {
        stream.write_all(signed("GET", "/", "").as_bytes()).await.expect("to send");
        read_until(&mut stream, "for Search\"}").await;
    }
    get(&domain, "/").await;
    let numbers: Vec<_> = domain.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!((numbers, domain.connections()), (vec![1, 1, 2], 2));
}

#[tokio::test(start_paused = true)]
async fn hanging_domain_records_the_request_and_sends_nothing() {
    let domain = start().await;
    domain.fault(Fault::Hang, Times::Once);
    let mut stream = connect(&domain).await;
    stream.write_all(signed("GET", "/", "").as_bytes()).await.expect("to send");
    domain.wait_for_requests(1).await;
    let read = timeout(HOUR, stream.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

#[tokio::test]
async fn connection_broken_off_sends_no_byte() {
    let domain = start().await;
    domain.fault(Fault::BreakOff, Times::Once);
    assert_eq!(get(&domain, "/").await, "");
    assert_eq!(domain.seen().len(), 1);
}

#[tokio::test]
async fn broken_body_ends_after_its_half() {
    let domain = start().await;
    let whole = get(&domain, "/").await;
    domain.fault(Fault::BreakBody, Times::Once);
    let broken = get(&domain, "/").await;
    let length = |answer: &str| answer.split_once("\r\n\r\n").expect("a head").1.len();
    assert_eq!(length(&broken), length(&whole) / 2);
    assert!(broken.contains(&format!("\r\ncontent-length: {}\r\n", length(&whole))), "{broken}");
}

#[tokio::test]
async fn close_after_the_response_is_not_announced() {
    let domain = start().await;
    domain.fault(Fault::CloseAfter, Times::UntilCleared);
    // An answer with a body, one without, and one that is long.
    domain.load("long", [json!({ "text": "x".repeat(1 << 20) })]);
    for (target, end) in [("/", "for Search\"}"), ("/_plugin/kibana", "\r\n\r\n"), ("/long/_search", "}]}}")] {
        let mut stream = connect(&domain).await;
        stream.write_all(signed("GET", target, "").as_bytes()).await.expect("to send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an end");
        assert!(answer.ends_with(end), "{target}");
        assert!(!answer.contains("connection: close"), "{target}");
    }
}

#[tokio::test(start_paused = true)]
async fn held_head_is_sent_when_released() {
    let domain = start().await;
    let release = Arc::new(Notify::new());
    domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
    let mut stream = connect(&domain).await;
    stream.write_all(signed("GET", "/", "").as_bytes()).await.expect("to send");
    domain.wait_for_requests(1).await;
    assert!(timeout(HOUR, stream.read_u8()).await.is_err());
    release.notify_one();
    read_until(&mut stream, "for Search\"}").await;
}

#[tokio::test(start_paused = true)]
async fn held_half_of_a_body_is_sent_when_released() {
    let domain = start().await;
    let release = Arc::new(Notify::new());
    domain.fault(Fault::HoldBody(Arc::clone(&release)), Times::Once);
    let mut stream = connect(&domain).await;
    stream.write_all(signed("GET", "/", "").as_bytes()).await.expect("to send");
    read_until(&mut stream, "{\"name\"").await;
    assert!(timeout(HOUR, read_until(&mut stream, "for Search\"}")).await.is_err());
    release.notify_one();
    read_until(&mut stream, "for Search\"}").await;
}

#[tokio::test]
async fn slow_response_pauses_before_each_part() {
    let domain = start().await;
    domain.fault(Fault::Slow(Duration::from_millis(20)), Times::Once);
    let start = std::time::Instant::now();
    let answer = get(&domain, "/").await;
    assert!(start.elapsed() >= Duration::from_millis(100));
    assert!(answer.ends_with("\r\n0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn garbage_replaces_the_response() {
    let domain = start().await;
    domain.fault(Fault::Garbage(Bytes::from_static(b"\x16\x03SSH-2.0\r\n")), Times::Once);
    assert_eq!(get(&domain, "/").await, "\x16\x03SSH-2.0\r\n");
}

#[tokio::test]
async fn fixed_response_is_sent_unchanged() {
    let domain = start().await;
    let headers = [("set-cookie", "a=1"), ("set-cookie", "b=2")].map(|(name, value)| (name.into(), value.into()));
    let answer = Answer { status: 302, headers: headers.into(), body: Bytes::from_static(b"there") };
    domain.fault(Fault::Answer(answer), Times::Once);
    let answer = get(&domain, "/").await;
    assert!(answer.starts_with("HTTP/1.1 302 Found\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nthere"), "{answer}");
}

#[tokio::test]
async fn faults_happen_in_order_and_as_often_as_requested() {
    let domain = start().await;
    domain.fault(Fault::status(429, "{}"), Times::Next(2));
    domain.fault(Fault::status(503, "{}"), Times::UntilCleared);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(status(&get(&domain, "/").await));
    }
    assert_eq!(statuses, ["429", "429", "503", "503"]);
    domain.clear_faults();
    assert_eq!(status(&get(&domain, "/").await), "200");
}

#[tokio::test]
async fn rejected_request_uses_no_fault() {
    let domain = start().await;
    domain.fault(Fault::status(503, "{}"), Times::Once);
    send(&domain, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert_eq!(status(&get(&domain, "/").await), "503");
}

#[tokio::test]
async fn skewed_clock_rejects_valid_signatures_with_its_time() {
    let domain = start().await;
    domain.set_clock_offset(-3600);
    let answer = get(&domain, "/").await;
    assert!(answer.contains("Signature not yet current: "), "{answer}");
    let (_, date) = answer.split_once("\r\ndate: ").expect("a date");
    let (date, _) = date.split_once("\r\n").expect("more lines");
    let date = jiff::fmt::rfc2822::parse(date).expect("a date").timestamp();
    let behind = Timestamp::now().duration_since(date).as_secs();
    assert!((3600..3660).contains(&behind), "{behind}");
}

#[tokio::test]
async fn domain_serves_tls_under_each_of_its_names() {
    let domain = FakeDomain::start(Options { tls: true, ..Options::default() }).await.expect("a domain");
    assert!(domain.url().starts_with("https://127.0.0.1:"));
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(domain.ca_pem().expect("a certificate").as_bytes()).expect("PEM");
    roots.add(ca).expect("a certificate to trust");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    for name in ["localhost", "127.0.0.1", "search-trail-abc123.eu-west-1.es.amazonaws.com"] {
        let name = ServerName::try_from(name).expect("a name");
        let mut stream = connector.connect(name, connect(&domain).await).await.expect("a handshake");
        stream.write_all(signed("GET", "/", "").as_bytes()).await.expect("to send");
        assert_eq!(stream.read_u8().await.expect("an answer"), b'H');
    }
    let name = ServerName::try_from("example.com").expect("a name");
    assert!(connector.connect(name, connect(&domain).await).await.is_err());
}

#[tokio::test]
async fn kibana_without_its_slash_redirects_to_the_domain() {
    let domain = start().await;
    let answer = get(&domain, "/_plugin/kibana").await;
    assert!(answer.starts_with("HTTP/1.1 302 Found\r\n"), "{answer}");
    assert!(answer.contains(&format!("\r\nlocation: https://{HOST}/_plugin/kibana/\r\n")), "{answer}");
}

#[tokio::test]
async fn stand_in_page_for_kibana_identifies_itself() {
    let domain = start().await;
    for target in ["/_plugin/kibana/", "/_dashboards/"] {
        let answer = get(&domain, target).await;
        assert!(answer.contains("\r\ncontent-type: text/html; charset=utf-8\r\n"), "{answer}");
        assert!(answer.contains("This page <strong>stands in for Kibana</strong>"), "{target}");
    }
}

#[tokio::test]
async fn forwarded_request_has_no_signature() {
    // A domain serves as the server behind another: it records what it gets, and refuses it for the lack of a signature.
    let (elasticsearch, kibana) = (start().await, start().await);
    let domain = start_before(&elasticsearch.url(), Some(&kibana.url())).await;
    let answer = post(&domain, "/cwl%2A/_search?v", "{}").await;
    assert!(answer.contains("User: anonymous"), "{answer}");
    let seen = &elasticsearch.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str(), &seen.body[..]), ("POST", "/cwl%2A/_search?v", &b"{}"[..]));
    assert_eq!(seen.header("host"), Some(elasticsearch.address().to_string().as_str()));
    let mut names: Vec<_> = seen.headers.iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    names.sort();
    assert_eq!(names, ["content-length", "content-type", "host"]);
}

#[tokio::test]
async fn kibana_gets_requests_below_its_path() {
    let (elasticsearch, kibana) = (start().await, start().await);
    let domain = start_before(&elasticsearch.url(), Some(&kibana.url())).await;
    get(&domain, "/_plugin/kibana/app/discover?v").await;
    get(&domain, "/_plugin/kibana").await;
    let targets: Vec<_> = kibana.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!((targets, elasticsearch.seen().len()), (vec!["/app/discover?v".to_owned()], 0));
}

#[tokio::test]
async fn forwarded_response_is_streamed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let server = format!("http://{}", listener.local_addr().expect("an address"));
    let domain = start_before(&server, None).await;
    let mut stream = connect(&domain).await;
    stream.write_all(signed("GET", "/", "").as_bytes()).await.expect("to send");
    let (mut behind, _) = listener.accept().await.expect("a connection");
    read_until(&mut behind, "\r\n\r\n").await;
    behind.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nfirst").await.expect("to answer");
    read_until(&mut stream, "\r\n\r\nfirst").await;
    behind.write_all(b"end").await.expect("to answer");
    read_until(&mut stream, "end").await;
}

#[tokio::test]
async fn missing_backend_is_a_bad_gateway() {
    let gone = start().await.url();
    let domain = start_before(&gone, None).await;
    assert_eq!(status(&get(&domain, "/").await), "502");
}

#[tokio::test]
async fn dropped_domain_closes_its_connections() {
    let domain = start().await;
    let mut stream = connect(&domain).await;
    stream.write_all(signed("GET", "/", "").as_bytes()).await.expect("to send");
    read_until(&mut stream, "for Search\"}").await;
    drop(domain);
    assert_eq!(stream.read(&mut [0]).await.expect("an end"), 0);
}

async fn start() -> FakeDomain {
    FakeDomain::start(Options::default()).await.expect("a domain")
}

async fn start_before(elasticsearch: &str, kibana: Option<&str>) -> FakeDomain {
    let url = |url: &str| url.parse().expect("a URL");
    let backend = Backend::PassOn { elasticsearch: url(elasticsearch), kibana: kibana.map(url) };
    FakeDomain::start(Options { backend, ..Options::default() }).await.expect("a domain")
}

/// Returns the text of a signed request.
fn signed(method: &str, target: &str, body: &str) -> String {
    let mut headers = vec![("host", HOST.to_owned()), ("x-amz-date", date_text(Timestamp::now()))];
    if !body.is_empty() {
        headers.extend([("content-type", "application/json".to_owned()), ("content-length", body.len().to_string())]);
    }
    let lines: Vec<_> = headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone().into_bytes())).collect();
    let request = Request { method, target, headers: &lines, body: body.as_bytes() };
    headers.push(("authorization", Options::default().verifier.authorization(&request)));
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\n{}\r\n{body}", lines.concat())
}

async fn get(domain: &FakeDomain, target: &str) -> String {
    send(domain, &closing(&signed("GET", target, ""))).await
}

async fn post(domain: &FakeDomain, target: &str, body: &str) -> String {
    send(domain, &closing(&signed("POST", target, body))).await
}

/// Returns the request as the last one on its connection.
fn closing(request: &str) -> String {
    request.replacen("\r\n\r\n", "\r\nconnection: close\r\n\r\n", 1)
}

/// Sends a request and reads all that comes until the end.
async fn send(domain: &FakeDomain, request: &str) -> String {
    let mut stream = connect(domain).await;
    stream.write_all(request.as_bytes()).await.expect("to send");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an end");
    answer
}

async fn connect(domain: &FakeDomain) -> TcpStream {
    TcpStream::connect(domain.address()).await.expect("a connection")
}

async fn read_until(stream: &mut TcpStream, end: &str) {
    let mut read = String::new();
    while !read.contains(end) {
        let byte = stream.read_u8().await.unwrap_or_else(|error| panic!("{error} after {read}"));
        read.push(char::from(byte));
    }
}

fn status(answer: &str) -> String {
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

const HOST: &str = "search-trail-abc123.eu-west-1.es.amazonaws.com";

/// Passes at once when the clock is paused and nothing else can happen.
const HOUR: Duration = Duration::from_hours(1);
