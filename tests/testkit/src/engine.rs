use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use fake_domain::Backend;
use hyper::Uri;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::{ENGINE_START, ReservedPort, repository};

/// A real Elasticsearch or `OpenSearch` on loopback; it ends when this is dropped.
#[derive(Debug)]
pub struct Engine {
    pub(crate) port: ReservedPort,
    _child: Child,
    _data: TempDir,
}

impl Engine {
    /// Starts the engine of this name in `tests/engines`, empty and with these settings (`name=value`), and waits until it
    /// answers. One that was never prepared is downloaded and built first.
    pub async fn start(name: &str, settings: &[&str]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let port = ReservedPort::bind()?;
        let mut command = script("run.sh");
        command.arg(name).arg(port.number().to_string()).arg(data.path()).args(settings);
        let child = command.spawn().context("cannot start the engine")?;
        wait_until_answers(&port, "/_cluster/health?wait_for_status=yellow", "\"status\"").await?;
        Ok(Self { port, _child: child, _data: data })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn url(&self) -> String {
        self.port.url()
    }

    /// Returns the engine as what a fake domain passes requests on to.
    #[must_use]
    pub fn backend(&self) -> Backend {
        Backend::PassOn { elasticsearch: uri(&self.port), kibana: None }
    }
}

/// A script of `tests/engines` that ends with this process.
pub(crate) fn script(name: &str) -> Command {
    let mut command = Command::new(repository("tests/engines").join(name));
    command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command
}

pub(crate) fn uri(port: &ReservedPort) -> Uri {
    port.url().parse().expect("it is a URI")
}

/// Waits until the server's answer contains `wanted`. Only the server itself shows that it is ready.
pub(crate) async fn wait_until_answers(port: &ReservedPort, path: &str, wanted: &str) -> anyhow::Result<()> {
    let is_ready = async {
        while !get(port, path).await.is_ok_and(|answer| answer.contains(wanted)) {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(ENGINE_START, is_ready).await.with_context(|| format!("no {wanted} at {}{path} in time", port.url()))
}

async fn get(port: &ReservedPort, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(port.address()).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
