//! Session resumption: a returning client skips the certificate and its signature.

use std::net::SocketAddr;
use std::sync::Arc;

use fake_domain::{FakeDomain, Options};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{SelfSigned, client_config, connect, secure, shows};
use crate::program::{Program, command, files, path};
use crate::support::{Rig, Setup, allow, patiently};

/// A client that keeps its sessions, as a browser does.
struct Browser(Arc<ClientConfig>);

impl Browser {
    fn new(certificate: &SelfSigned, version: &'static SupportedProtocolVersion) -> Self {
        Self(client_config(&certificate.certificate, &[], &[version]))
    }

    /// Sends a request on a new connection. Returns the kind of its handshake, and the open connection.
    async fn visit(&self, address: SocketAddr) -> (HandshakeKind, TlsStream<TcpStream>) {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut stream = connect(Arc::clone(&self.0), stream).await.unwrap();
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: gate.test\r\n\r\n").await.unwrap();
        // The tickets of TLS 1.3 arrive before the response.
        let mut start = [0; 12];
        patiently(stream.read_exact(&mut start)).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        (kind, stream)
    }

    async fn handshake(&self, address: SocketAddr) -> HandshakeKind {
        self.visit(address).await.0
    }
}

#[tokio::test]
async fn returning_client_resumes_its_session() {
    let (rig, certificate) = secure(Setup::default()).await;
    for version in [&TLS12, &TLS13] {
        let browser = Browser::new(&certificate, version);
        let kinds = [browser.handshake(rig.address).await, browser.handshake(rig.address).await];
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Resumed], "{version:?}");
    }
}

/// The state is in the ticket: sessions in the server's memory would displace each other.
#[tokio::test]
async fn session_outlives_those_of_many_other_clients() {
    let (rig, certificate) = secure(Setup::default()).await;
    for version in [&TLS12, &TLS13] {
        let browser = Browser::new(&certificate, version);
        assert_eq!(browser.handshake(rig.address).await, HandshakeKind::Full);
        for _ in 0..300 {
            Browser::new(&certificate, version).handshake(rig.address).await;
        }
        assert_eq!(browser.handshake(rig.address).await, HandshakeKind::Resumed, "{version:?}");
    }
}

#[tokio::test]
async fn session_resumes_on_every_worker() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let (folder, certificate) = (files(&domain.url(), &allow("127.0.0.1")), SelfSigned::new());
    for (name, text) in certificate.files() {
        std::fs::write(path(&folder, name), text).unwrap();
    }
    let config = path(&folder, "trailgate.toml");
    let tls = "[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n[upstream]";
    let text = std::fs::read_to_string(&config).unwrap().replace("[upstream]", tls);
    std::fs::write(&config, text).unwrap();
    let program = Program::of(command(&["run", "--config", &config]), folder).await;

    for version in [&TLS12, &TLS13] {
        let browser = Browser::new(&certificate, version);
        let mut open = vec![browser.visit(program.address).await];
        // The worker with the fewest connections gets the next one: these are spread over all.
        for _ in 0..2 * std::thread::available_parallelism().unwrap().get() {
            open.push(browser.visit(program.address).await);
        }
        let kinds: Vec<_> = open.iter().skip(1).map(|(kind, _)| *kind).collect();
        assert!(kinds.iter().all(|kind| *kind == HandshakeKind::Resumed), "{version:?}: {kinds:?}");
    }
}

#[tokio::test]
async fn session_outlives_a_reload_of_the_certificate() {
    let (rig, old) = secure(Setup::default()).await;
    let browsers = [&TLS12, &TLS13].map(|version| Browser::new(&old, version));
    for browser in &browsers {
        assert_eq!(browser.handshake(rig.address).await, HandshakeKind::Full);
    }
    let new = SelfSigned::new();
    for (name, text) in new.files() {
        std::fs::write(rig.folder.path().join(name), text).unwrap();
    }
    shows(&rig, &new).await;
    for browser in &browsers {
        assert_eq!(browser.handshake(rig.address).await, HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn session_of_another_start_costs_a_full_handshake() {
    let (before, certificate) = secure(Setup::default()).await;
    let config = "[listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n".to_owned();
    let after = Rig::with(Setup { files: certificate.files(), config, ..Setup::default() }).await;
    for version in [&TLS12, &TLS13] {
        let browser = Browser::new(&certificate, version);
        let kinds = [browser.handshake(before.address).await, browser.handshake(after.address).await];
        assert_eq!(kinds, [HandshakeKind::Full, HandshakeKind::Full], "{version:?}");
    }
}
