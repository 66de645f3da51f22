use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::{ReservedPort, repository};

/// A program that emulates a part of AWS; it stops when this is dropped.
#[derive(Debug)]
pub struct AwsMock {
    child: Child,
    port: Arc<ReservedPort>,
}

impl AwsMock {
    /// Starts moto, which emulates S3, STS and more.
    pub async fn moto() -> anyhow::Result<Self> {
        let port = Arc::new(ReservedPort::bind()?);
        let number = port.number().to_string();
        Self::start("moto_server", port, &["--host", "127.0.0.1", "--port", &number]).await
    }

    /// Starts `program` ([`AwsMock::command`]) with arguments that make it listen at `port`, and waits until it does.
    pub async fn start(program: &str, port: Arc<ReservedPort>, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Self::command(program).await?;
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot start {program}"))?;
        let is_ready = async {
            while TcpStream::connect(port.address()).await.is_err() {
                // Only a connection shows that the program listens.
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(START, is_ready)
            .await
            .with_context(|| format!("{program} does not listen at {} in time", port.url()))?;
        Ok(Self { child, port })
    }

    /// Returns a command for a program that `tests/aws/setup.sh` installs. Runs the script first.
    pub async fn command(program: &str) -> anyhow::Result<Command> {
        let setup = Command::new(repository("tests/aws/setup.sh")).status().await?;
        anyhow::ensure!(setup.success(), "tests/aws/setup.sh fails: {setup}");
        let mut command = Command::new(repository("target/aws/bin").join(program));
        command.stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    /// Returns the port that the program listens on.
    #[must_use]
    pub fn port(&self) -> &ReservedPort {
        &self.port
    }

    /// Returns the program's URL.
    #[must_use]
    pub fn url(&self) -> String {
        self.port.url()
    }

    /// Kills the program, and waits until it has exited.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

const START: Duration = Duration::from_secs(30);
