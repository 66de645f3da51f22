use std::fs::{self, File};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use fake_domain::Backend;
use hyper::Uri;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::{ENGINE_START, ReservedPort, repository};

/// A real Elasticsearch or `OpenSearch` on loopback; it stops when this is dropped.
#[derive(Debug)]
pub struct Engine(Server);

impl Engine {
    /// Starts the named engine of `tests/engines`, empty and with these settings (`name=value`), and waits until it
    /// responds. Downloads and builds an engine that was never prepared.
    pub async fn start(name: &str, settings: &[&str]) -> anyhow::Result<Self> {
        let (port, folder) = (ReservedPort::bind()?, tempfile::tempdir()?);
        let mut command = script("run.sh");
        command.arg(name).arg(port.number().to_string()).arg(folder.path()).args(settings);
        Ok(Self(Server::start(command, port, folder, "/_cluster/health?wait_for_status=yellow", "\"status\"").await?))
    }

    /// Starts `opensearch-security` or `opensearch-security-3`, empty and with these settings, with the roles of the first
    /// one's folder `config`. It believes a proxy that names users and roles.
    pub async fn start_secured(name: &str, settings: &[&str]) -> anyhow::Result<Self> {
        let (port, folder) = (ReservedPort::bind()?, tempfile::tempdir()?);
        let config = folder.path().join("config");
        let plugin = config.join("opensearch-security");
        fs::create_dir_all(&plugin)?;
        for file in fs::read_dir(repository("tests/engines/opensearch-security/config"))? {
            let file = file?;
            fs::copy(file.path(), plugin.join(file.file_name()))?;
        }
        let key = KeyPair::generate()?;
        fs::write(config.join("key.pem"), key.serialize_pem())?;
        let certificate = CertificateParams::new(["node.test".to_owned()])?.self_signed(&key)?;
        fs::write(config.join("certificate.pem"), certificate.pem())?;
        let mut command = script("run.sh");
        command.arg(name).arg(port.number().to_string()).arg(folder.path()).args(settings);
        Ok(Self(Server::start(command, port, folder, "/_plugins/_security/health", "\"UP\"").await?))
    }

    /// Returns the engine's URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.0.port.url()
    }

    /// Returns the engine as the backend of a fake domain.
    #[must_use]
    pub fn backend(&self) -> Backend {
        Backend::PassOn { elasticsearch: self.uri(), kibana: None }
    }

    pub(crate) fn uri(&self) -> Uri {
        self.0.uri()
    }
}

/// A server of `tests/engines`, with a folder that it may write to; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    port: ReservedPort,
    _child: Child,
    _folder: TempDir,
}

impl Server {
    /// Waits until the response to a GET of `path` contains `wanted`. No other sign shows that the server is ready.
    pub(crate) async fn start(
        mut command: Command,
        port: ReservedPort,
        folder: TempDir,
        path: &str,
        wanted: &str,
    ) -> anyhow::Result<Self> {
        let output = folder.path().join("output");
        let file = File::create(&output)?;
        let mut child = command.stdout(file.try_clone()?).stderr(file).spawn().context("cannot start a server")?;
        let is_ready = async {
            while !get(&port, path).await.is_ok_and(|answer| answer.contains(wanted)) {
                sleep(Duration::from_millis(200)).await;
            }
        };
        let ready = tokio::select! {
            ready = timeout(ENGINE_START, is_ready) => ready.context("it is not ready in time"),
            ended = child.wait() => ended.context("cannot wait for it").and_then(|status| anyhow::bail!("it ends: {status}")),
        };
        let said = || fs::read_to_string(&output).unwrap_or_default();
        ready.with_context(|| format!("{:?} does not start; its output is:\n{}", command.as_std(), said()))?;
        Ok(Self { port, _child: child, _folder: folder })
    }

    pub(crate) fn uri(&self) -> Uri {
        self.port.url().parse().expect("it is a URI")
    }
}

/// Returns a command for a script of `tests/engines`, which is killed when dropped.
pub(crate) fn script(name: &str) -> Command {
    let mut command = Command::new(repository("tests/engines").join(name));
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn get(port: &ReservedPort, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(port.address()).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn server_that_ends_at_start_fails_with_its_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no memory; exit 3"]);
        let (port, folder) = (ReservedPort::bind().unwrap(), tempfile::tempdir().unwrap());
        let error = format!("{:#}", Server::start(command, port, folder, "/", "ready").await.unwrap_err());
        assert!(error.contains("no memory\n") && error.ends_with("it ends: exit status: 3"), "{error}");
    }
}
