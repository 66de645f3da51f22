//! TLS towards the client, and its certificates.

mod resumption;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fake_domain::{FakeDomain, Options};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use trailgate_testkit::{ReservedPort, StoppedClock};

use crate::admin::ask;
use crate::admin::metrics::{metrics, start_with_certificate};
use crate::http2::{Http2, get};
use crate::program::{Program, command, files, output, path};
use crate::support::{Connection, Events, RawAnswer, Rig, Setup, allow, header, patiently, rest};

#[tokio::test]
async fn plain_listener_redirects_to_the_tls_listener() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let (folder, certificate) = (files(&domain.url(), &allow("127.0.0.1")), SelfSigned::new());
    for (name, text) in certificate.files() {
        std::fs::write(path(&folder, name), text).unwrap();
    }
    let (config, reserved) = (path(&folder, "trailgate.toml"), ReservedPort::bind().unwrap());
    let port = reserved.number();
    let listeners = format!(
        "[[listen]]\nredirect_to_https = true\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.1:{port}\"\n\
         [listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n"
    );
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[listen]\naddress = \"127.0.0.1:0\"\n", &listeners)).unwrap();
    let program = Program::of(command(&["run", "--config", &config]), folder).await;
    let response = Connection::open(program.address).await.send(crate::support::get("/a?b")).await;
    assert_eq!(header(&response, "location"), Some(format!("https://gate.test:{port}/a?b").as_str()));
    let stream = TcpStream::connect(reserved.address()).await.unwrap();
    let stream = certificate.shake_hands(stream, &["h2"]).await.unwrap();
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    assert_eq!(patiently(sender.send_request(get("/"))).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn certificate_expiry_is_warned_of_and_a_metric() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let folder = files(&domain.url(), &allow("127.0.0.1"));
    let (tls, config) =
        ("[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n", path(&folder, "trailgate.toml"));
    let text = std::fs::read_to_string(&config).unwrap().replace("[upstream]", &format!("{tls}[upstream]"));
    std::fs::write(&config, text).unwrap();
    let end = Timestamp::from_second((Timestamp::now().as_second() / 86_400 + 10) * 86_400).unwrap();
    let mut params = rcgen::CertificateParams::new(["gate.test".to_owned()]).unwrap();
    let [year, month, day] = ["%Y", "%m", "%d"].map(|part| end.strftime(part).to_string().parse().unwrap());
    params.not_after = rcgen::date_time_ymd(year, u8::try_from(month).unwrap(), u8::try_from(day).unwrap());
    let folder_path = folder.path().to_owned();
    let make = || {
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(folder_path.join("cert.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(folder_path.join("key.pem"), key.serialize_pem()).unwrap();
    };
    make();

    let mut program = Program::of(command(&["run", "--config", &config]), folder).await;
    let text = metrics(&program).await;
    let series = text.lines().find(|line| line.starts_with("trailgate_certificate_expiry_timestamp_seconds{")).unwrap();
    let value: f64 = series.rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(value.round().to_string(), end.as_second().to_string());
    make();
    let event = program.event("the certificate expires soon").await;
    assert_eq!((&event["level"], &event["days_left"]), (&"WARN".into(), &9.into()));
}

#[tokio::test]
async fn failed_reload_of_a_certificate_is_in_the_status() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = start_with_certificate(&domain).await;
    std::fs::write(program.file("cert.pem"), "no certificate").unwrap();
    program.event("certificate not reloaded").await;
    let status: serde_json::Value = serde_json::from_slice(ask(program.admin, "/status.json").await.body()).unwrap();
    let certificate = &status["certificates"][0];
    assert!(certificate["error"].as_str().unwrap().contains("cert.pem"), "{certificate}");
}

/// A self-signed certificate, and its key.
pub(crate) struct SelfSigned {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl SelfSigned {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["gate.test".to_owned()]).unwrap();
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    pub(crate) fn files(&self) -> Vec<(&'static str, String)> {
        vec![("cert.pem", self.certificate.clone()), ("key.pem", self.key.clone())]
    }

    /// Performs a handshake with a server of this certificate only.
    pub(crate) async fn shake_hands(
        &self,
        stream: TcpStream,
        protocols: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        shake_hands(stream, &self.certificate, protocols).await
    }
}

/// Performs a handshake with a server of one of the certificates in `known`.
async fn shake_hands(stream: TcpStream, known: &str, protocols: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
    connect(client_config(known, protocols, ALL_VERSIONS), stream).await
}

/// Returns the settings of a client that trusts the certificates in `known`.
fn client_config(known: &str, protocols: &[&str], versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(known.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

async fn connect(config: Arc<ClientConfig>, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("gate.test").unwrap();
    patiently(TlsConnector::from(config).connect(name, stream)).await
}

/// Starts a proxy that speaks TLS, and returns its certificate.
pub(crate) async fn secure(setup: Setup) -> (Rig, SelfSigned) {
    let certificate = SelfSigned::new();
    let config = format!("[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n{}", setup.config);
    let rig = Rig::with(Setup { files: certificate.files(), config, ..setup }).await;
    (rig, certificate)
}

pub(crate) async fn with_limits(limits: &str) -> (Rig, SelfSigned) {
    secure(Setup { config: format!("[limits]\n{limits}\n"), ..Setup::default() }).await
}

#[tokio::test]
async fn alpn_http_1_0_client_is_served() {
    let (rig, certificate) = secure(Setup::default()).await;
    let mut stream = certificate.shake_hands(rig.open().await, &["http/1.0"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.0"[..]));
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = patiently(stream.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.0 200 OK\r\n"), "{}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn tls_client_without_h2_is_served_over_http_1() {
    let (rig, certificate) = secure(Setup::default()).await;
    for protocols in [&["http/1.1"][..], &[]] {
        let stream = certificate.shake_hands(rig.open().await, protocols).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/").header("host", "gate.test").body(Empty::<Bytes>::new()).unwrap();
        assert_eq!(patiently(sender.send_request(request)).await.unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn stalled_handshake_times_out_and_blocks_no_client() {
    let clock = StoppedClock::stop();
    let (rig, certificate) = with_limits("header_timeout = \"300 ms\"").await;
    let mut silent = rig.open().await;
    // The beginning of a handshake, and no more.
    let mut stalled = rig.open().await;
    stalled.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    assert_eq!(Http2::open(&rig, &certificate).await.send(get("/")).await.status(), StatusCode::OK);
    rig.has_read().await;
    clock.pass(Duration::from_millis(400)).await;
    rest(&mut silent).await;
    rest(&mut stalled).await;
}

#[tokio::test]
async fn plain_http_on_a_tls_listener_is_rejected_with_a_hint() {
    let (rig, _) = secure(Setup::default()).await;
    let answer = RawAnswer::only(&rig.raw(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await);
    assert_eq!((answer.status, answer.json()["error"]["type"].as_str()), (400, Some("malformed_request")));
    let reason = &answer.json()["error"]["reason"];
    assert_eq!(*reason, "this port speaks https: write https:// instead of http://");
    assert_eq!(rig.access_line().await["outcome"], "malformed_request");
    assert_eq!(rig.domain.seen(), []);
}

#[tokio::test]
async fn proxy_header_precedes_the_tls_handshake() {
    let config = "[listen]\nproxy_protocol = true\ntrusted_proxies = [\"127.0.0.1\"]\n".to_owned();
    let (rig, certificate) = secure(Setup { config, allow: allow("203.0.113.7"), ..Setup::default() }).await;
    let mut stream = rig.open().await;
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\x0a\0\0\x01\xc8\x22\x01\xbb";
    stream.write_all(header).await.unwrap();
    assert_eq!(Http2::over(stream, &certificate).await.send(get("/")).await.status(), StatusCode::OK);
    assert_eq!(rig.access_line().await["client"], "203.0.113.7");
}

#[tokio::test]
async fn new_certificate_is_served_and_open_connections_stay() {
    let (rig, old) = secure(Setup::default()).await;
    let mut browser = Http2::open(&rig, &old).await;
    assert_eq!(browser.send(get("/")).await.status(), StatusCode::OK);
    let new = SelfSigned::new();
    for (name, text) in new.files() {
        std::fs::write(rig.folder.path().join(name), text).unwrap();
    }
    shows(&rig, &new).await;
    assert!(old.shake_hands(rig.open().await, &["h2"]).await.is_err());
    assert_eq!(browser.send(get("/")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn certificate_without_its_key_keeps_the_previous_one() {
    let events = Events::default();
    let _logging = events.capture();
    let (rig, old) = secure(Setup::default()).await;
    let [one, other] = [SelfSigned::new(), SelfSigned::new()];
    std::fs::write(rig.folder.path().join("cert.pem"), &one.certificate).unwrap();
    std::fs::write(rig.folder.path().join("key.pem"), &other.key).unwrap();
    events.until("certificate not reloaded").await;
    assert!(old.shake_hands(rig.open().await, &["h2"]).await.is_ok());
    std::fs::write(rig.folder.path().join("key.pem"), &one.key).unwrap();
    shows(&rig, &one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_change_under_load_fail_no_request() {
    let (rig, first) = secure(Setup::default()).await;
    let certificates: Vec<_> = (0..4).map(|_| SelfSigned::new()).collect();
    let known: Vec<_> = std::iter::once(&first).chain(&certificates).map(|it| it.certificate.clone()).collect();
    let known = known.concat();
    let is_over = Arc::new(AtomicBool::new(false));
    let clients = (0..4).map(|_| {
        let (address, is_over, known) = (rig.address, Arc::clone(&is_over), known.clone());
        tokio::spawn(async move {
            let mut served = 0;
            while !is_over.load(Ordering::Relaxed) {
                let stream = TcpStream::connect(address).await.unwrap();
                let stream = shake_hands(stream, &known, &["h2"]).await.unwrap();
                let (mut sender, connection) =
                    http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
                tokio::spawn(connection);
                assert_eq!(patiently(sender.send_request(get("/"))).await.unwrap().status(), StatusCode::OK);
                served += 1;
            }
            served
        })
    });
    let clients: Vec<_> = clients.collect();
    for certificate in &certificates {
        for (name, text) in certificate.files() {
            std::fs::write(rig.folder.path().join(name), text).unwrap();
        }
        shows(&rig, certificate).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for client in clients {
        assert!(client.await.unwrap() > 0);
    }
}

/// Waits until the proxy presents `certificate`.
async fn shows(rig: &Rig, certificate: &SelfSigned) {
    patiently(async {
        while certificate.shake_hands(rig.open().await, &["h2"]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Creates a certificate that is valid in these years.
fn in_years(from: i32, to: i32) -> SelfSigned {
    let mut params = rcgen::CertificateParams::new(["gate.test".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    SelfSigned { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

#[tokio::test]
async fn certificate_outside_its_validity_is_not_loaded() {
    let events = Events::default();
    let _logging = events.capture();
    let (rig, good) = secure(Setup::default()).await;
    let bad = [(in_years(2010, 2020), "has expired at"), (in_years(2100, 2110), "is not valid before")];
    for (bad, reason) in bad {
        for (name, text) in bad.files() {
            std::fs::write(rig.folder.path().join(name), text).unwrap();
        }
        // Both files have to be seen: between the two, the key is that of another certificate.
        events.until(reason).await;
        assert!(good.shake_hands(rig.open().await, &["h2"]).await.is_ok());
    }
}

#[tokio::test]
async fn mistake_in_a_tls_file_is_reported_with_its_file() {
    let (expired, early, good) = (in_years(2010, 2020), in_years(2100, 2110), SelfSigned::new());
    let stderr = rejection(&expired.certificate, &expired.key).await;
    assert!(stderr.contains("cert.pem: has expired at 2020-01-01T00:00:00Z"), "{stderr}");
    let stderr = rejection(&early.certificate, &early.key).await;
    assert!(stderr.contains("cert.pem: is not valid before 2100-01-01T00:00:00Z"), "{stderr}");
    let encrypted = good.key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let stderr = rejection(&good.certificate, &encrypted).await;
    assert!(stderr.contains("key.pem: is encrypted"), "{stderr}");
    let odd = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    let stderr = rejection(&good.certificate, odd).await;
    assert!(stderr.contains("key.pem: holds an unsupported key type"), "{stderr}");
}

#[tokio::test]
async fn private_key_is_quoted_in_no_error() {
    let good = SelfSigned::new();
    let secret: Vec<&str> = good.key.lines().filter(|line| !line.starts_with('-')).collect();
    // As environment variables and YAML often hold it; then cut; then with a character too many.
    for (key, reason) in [
        (good.key.replace('\n', "\\n"), "a BEGIN line does not end after its dashes"),
        (good.key.replace("-----END PRIVATE KEY-----", ""), "a section has no END line"),
        (good.key.replace(secret[0], &format!("{}?", secret[0])), "a section is not base64"),
    ] {
        let stderr = rejection(&good.certificate, &key).await;
        assert!(stderr.contains("key.pem: contains no private key") && stderr.contains(reason), "{stderr}");
        // Neither the text nor its bytes: the PEM library quotes a line as "[45, 45, …]".
        assert!(!secret.iter().any(|line| stderr.contains(line)) && !stderr.contains("45, 45"), "{stderr}");
    }
}

#[tokio::test]
async fn tls_files_with_a_byte_order_mark_are_read() {
    let good = SelfSigned::new();
    let marked = |text: &str| format!("\u{feff}{text}");
    let (code, stderr) = check(&marked(&good.certificate), &marked(&good.key)).await;
    assert_eq!(code, Some(0), "{stderr}");
}

/// Returns the error of `trailgate check` for these files.
async fn rejection(certificate: &str, key: &str) -> String {
    let (code, stderr) = check(certificate, key).await;
    assert_eq!(code, Some(78), "{stderr}");
    stderr
}

/// Runs `trailgate check` with these files, and returns its exit code and its errors.
async fn check(certificate: &str, key: &str) -> (Option<i32>, String) {
    let folder = files("https://search-trail-abc.eu-west-1.es.amazonaws.com", &allow("203.0.113.7"));
    std::fs::write(path(&folder, "cert.pem"), certificate).unwrap();
    std::fs::write(path(&folder, "key.pem"), key).unwrap();
    let config = path(&folder, "trailgate.toml");
    let tls = "[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n[upstream]";
    let text = std::fs::read_to_string(&config).unwrap().replace("[upstream]", tls);
    std::fs::write(&config, text).unwrap();
    let (code, _, stderr) = output(&["check", "--config", &config]).await;
    (code, stderr)
}
