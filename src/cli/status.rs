//! `trailgate status`: fetches the status from the admin address, and prints it.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::cli::args::StatusArgs;
use crate::cli::output::print_report;
use crate::config::Config;
use crate::ops::admin::{AdminAddress, Status};

/// Prints the status of the running proxy with this configuration. The exit code is 0 only if it is ready.
pub async fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.files.config)?;
    let status = fetch_status(&config.admin.address).await?;
    print_report(&status, args.json)?;
    Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Fetches the status of the proxy whose admin address is `address`.
pub(super) async fn fetch_status(address: &AdminAddress) -> anyhow::Result<Status> {
    let response = async {
        match address {
            AdminAddress::Tcp(address) => get_status(TcpStream::connect(address).await?).await,
            AdminAddress::Unix(path) => get_status(UnixStream::connect(path).await?).await,
            AdminAddress::Disabled => anyhow::bail!("admin.address is \"off\""),
        }
    };
    let response = timeout(STATUS_TIMEOUT, response).await.context("no response in time");
    response.and_then(|response| response).with_context(|| format!("cannot get the status of a proxy at {address}"))
}

async fn get_status<S>(stream: S) -> anyhow::Result<Status>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/status.json").header("host", "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status() == StatusCode::OK, "it answers {}", response.status());
    let body = response.into_body().collect().await?.to_bytes();
    serde_json::from_slice(&body).context("the response is not of this version of trailgate")
}

/// The request timeout, longer than the proxy's own timeout for the domain.
const STATUS_TIMEOUT: Duration = Duration::from_secs(20);
