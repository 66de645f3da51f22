//! The test rig: a proxy, the fake domain behind it, a client in front, and the proxy's access log.

mod events;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use fake_domain::{FakeDomain, Options};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use trailgate::allowlist::{Entries, Publisher};
use trailgate::proxy::Proxy;
use trailgate::{
    AccessLog, BoundListener, CertificateReloader, Config, LogFailurePolicy, LogFormat, Metrics, NonBlockingWriter,
    RequestRecorder, Worker, allowlist, daemon, engine, proxy,
};
use trailgate_client::CredentialCache;
use trailgate_testkit::{read_by_server, signing_key};

pub(crate) use self::events::Events;

/// The configuration of a rig.
pub(crate) struct Setup {
    /// The options of the fake domain.
    pub(crate) domain: Options,
    /// More configuration: first keys of `[upstream]`, then tables other than `[aws]`.
    pub(crate) config: String,
    /// Files in the configuration's folder, by name.
    pub(crate) files: Vec<(&'static str, String)>,
    /// The endpoint in the proxy's configuration, if not the fake domain's.
    pub(crate) endpoint: Option<String>,
    /// The authority that the proxy trusts, if not the fake domain's.
    pub(crate) ca_pem: Option<String>,
    /// The allowlist.
    pub(crate) allow: String,
    /// The credentials that the proxy signs with; by default those that the fake domain accepts.
    pub(crate) credentials: SharedCredentialsProvider,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            domain: Options::default(),
            config: String::new(),
            files: Vec::new(),
            endpoint: None,
            ca_pem: None,
            allow: allow("127.0.0.1"),
            credentials: SharedCredentialsProvider::new(signing_key(None)),
        }
    }
}

/// A running proxy with its surroundings; it stops when this is dropped.
pub(crate) struct Rig {
    pub(crate) domain: FakeDomain,
    /// The address of the proxy.
    pub(crate) address: SocketAddr,
    /// Replaces the allowlist.
    pub(crate) publisher: Publisher,
    /// The folder of the configuration and the files that it names.
    pub(crate) folder: TempDir,
    /// The proxy, with a connection pool of its own.
    proxy: Proxy,
    lines: Mutex<mpsc::UnboundedReceiver<Value>>,
    shutdown: Option<oneshot::Sender<()>>,
    server: Option<JoinHandle<()>>,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(Setup::default()).await
    }

    pub(crate) async fn with(setup: Setup) -> Self {
        let domain = FakeDomain::start(setup.domain).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in &setup.files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let ca_pem = setup.ca_pem.as_deref().or(domain.ca_pem());
        let ca_file = ca_pem.map(|pem| {
            std::fs::write(folder.path().join("ca.pem"), pem).unwrap();
            "ca_file = \"ca.pem\"\n"
        });
        let text = format!(
            "[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n[upstream]\nendpoint = \"{}\"\n{}{}",
            setup.endpoint.unwrap_or_else(|| domain.url()),
            ca_file.unwrap_or_default(),
            setup.config,
        );
        let mut config = Config::parse(&folder.path().join("trailgate.toml"), &text).unwrap();
        let limits = config.connections;
        let mut listener = config.listeners.remove(0);
        listener.address.set_port(0);
        let metrics = Arc::<Metrics>::default();
        let (reloader, certificate) =
            listener.tls.as_ref().map(CertificateReloader::start).transpose().unwrap().unzip();
        reloader.map(|reloader| tokio::spawn(reloader.run(Arc::clone(&metrics))));
        let bound = BoundListener::bind(listener, certificate).await.unwrap();
        let address = bound.address().unwrap();

        let (publisher, allowlist) = allowlist::channel(entries(&setup.allow));
        let (cache, refresher) = CredentialCache::new(setup.credentials);
        tokio::spawn(refresher.run());
        let (sender, lines) = mpsc::unbounded_channel();
        let writer = NonBlockingWriter::start(Capture(sender), |lost| format!("{{\"lost\":{lost}}}\n")).unwrap();
        let access_log = AccessLog::new(Some(writer), LogFormat::Json, LogFailurePolicy::Serve, false);
        let recorder = RequestRecorder::new(access_log, Arc::clone(&metrics));
        let upstream = daemon::build_upstream(config.domain, cache).unwrap();
        let (roles, keeper) = daemon::build_roles(config.roles, &upstream);
        tokio::spawn(keeper.run());
        tokio::spawn(roles.clone().follow(allowlist.clone()));
        let shared = Arc::new(proxy::Shared::new(config.proxy, allowlist, roles, recorder, metrics));
        let proxy = Proxy { shared: Arc::clone(&shared), upstream };
        let own = proxy.with_own_pool();

        let (shutdown, stopped) = oneshot::channel();
        let server = tokio::spawn(async move {
            proxy::serve(vec![bound], vec![Worker::here(proxy)], limits, &shared, async { drop(stopped.await) }).await;
        });
        Self {
            domain,
            address,
            publisher,
            folder,
            proxy: own,
            lines: Mutex::new(lines),
            shutdown: Some(shutdown),
            server: Some(server),
        }
    }

    /// Opens a connection to the proxy.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.address).await
    }

    /// Sends one request on a connection of its own, and returns the complete response.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        self.connect().await.send(request).await
    }

    pub(crate) async fn get(&self, target: &str) -> Response<Bytes> {
        self.send(get(target)).await
    }

    /// Sends raw bytes on a connection of its own, and returns all bytes received until the proxy closes it.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.open().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }

    /// Opens a TCP connection to the proxy, without an HTTP client.
    pub(crate) async fn open(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Waits until the proxy has accepted all connections and read everything sent to it.
    pub(crate) async fn has_read(&self) {
        patiently(read_by_server(self.address.port())).await;
    }

    /// Puts another allowlist into effect.
    pub(crate) fn allow(&self, text: &str) {
        self.publisher.publish(entries(text));
    }

    /// Detects the domain's engine, as the daemon does in the background.
    pub(crate) async fn learn_engine(&self) {
        let known = async {
            while self.proxy.shared.engine.get().is_none() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            never = engine::learn(&self.proxy.upstream, || self.proxy.shared.roles.own_session(), &self.proxy.shared.engine) => match never {},
            () = patiently(known) => {}
        }
    }

    /// Repeats the detection of the domain's engine.
    pub(crate) fn keep_learning(&self) -> JoinHandle<()> {
        let proxy = self.proxy.with_own_pool();
        tokio::spawn(async move {
            match engine::learn(&proxy.upstream, || proxy.shared.roles.own_session(), &proxy.shared.engine).await {}
        })
    }

    /// Returns the next line of the access log.
    pub(crate) async fn access_line(&self) -> Value {
        patiently(async { self.lines.lock().await.recv().await }).await.expect("the log is open")
    }

    /// Signals the proxy to shut down, without waiting for it.
    pub(crate) fn begin_shutdown(&mut self) -> JoinHandle<()> {
        drop(self.shutdown.take());
        self.server.take().expect("the gate runs")
    }
}

/// A keep-alive connection of a client.
pub(crate) struct Connection(SendRequest<Full<Bytes>>);

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(stream: TcpStream) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let (head, body) = self.begin(request).await.into_parts();
        Response::from_parts(head, patiently(body.collect()).await.unwrap().to_bytes())
    }

    /// Sends a request, and returns the response as soon as its head has arrived.
    pub(crate) async fn begin(&mut self, request: Request<Full<Bytes>>) -> Response<hyper::body::Incoming> {
        patiently(self.0.send_request(request)).await.unwrap()
    }
}

pub(crate) fn get(target: &str) -> Request<Full<Bytes>> {
    request("GET", target, &[], "")
}

pub(crate) fn request(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(target).header("host", "gate.test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(body.into())).unwrap()
}

/// Returns all remaining bytes of a connection, until the proxy closes it.
pub(crate) async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    patiently(stream.read_to_end(&mut bytes)).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A response as received on the wire.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    head: String,
    body: String,
}

impl RawAnswer {
    /// Splits the bytes of a connection into responses. One without a length is the last.
    pub(crate) fn all(mut text: &str) -> Vec<Self> {
        let mut answers = Vec::new();
        while !text.is_empty() {
            let (head, behind) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no whole answer: {text:?}"));
            let status = head.strip_prefix("HTTP/1.").and_then(|head| head.get(2..5)?.parse().ok());
            let status = status.unwrap_or_else(|| panic!("no answer: {text:?}"));
            let mut answer = Self { status, head: head.to_owned(), body: String::new() };
            let length = match answer.header("content-length") {
                Some(length) => length.parse().unwrap(),
                None if status < 200 => 0,
                None => behind.len(),
            };
            let (body, next) = behind.split_at_checked(length).unwrap_or_else(|| panic!("cut off: {text:?}"));
            body.clone_into(&mut answer.body);
            answers.push(answer);
            text = next;
        }
        answers
    }

    /// Returns the only response in `text`.
    pub(crate) fn only(text: &str) -> Self {
        let mut answers = Self::all(text);
        assert_eq!(answers.len(), 1, "not one answer: {text:?}");
        answers.remove(0)
    }

    /// Returns a header's value, if present.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        headers.find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

/// Parses the body of a response as JSON.
pub(crate) fn json(response: &Response<Bytes>) -> Value {
    serde_json::from_slice(response.body()).unwrap_or_else(|error| panic!("{error}: {:?}", response.body()))
}

/// Returns a header's value, if present.
pub(crate) fn header<'a, B>(response: &'a Response<B>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// Returns an allowlist with one entry, which grants full access.
pub(crate) fn allow(cidr: &str) -> String {
    format!("[[allow]]\ncidr = \"{cidr}\"\nname = \"auditor\"\naccess = \"full\"\n")
}

/// Fails a test that would hang. Nothing takes this long unless something is broken, however busy the machine is.
pub(crate) async fn patiently<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_mins(1), future).await.expect("this takes too long")
}

fn entries(text: &str) -> Entries {
    Entries::parse(Path::new("allowlist.toml"), text).unwrap()
}

/// Passes on lines of JSON, however they are split into writes.
struct Capture(mpsc::UnboundedSender<Value>);

impl Write for Capture {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            // A finished test reads no more lines.
            let _ = self.0.send(serde_json::from_slice(line)?);
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
