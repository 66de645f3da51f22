//! Where the operator reaches the gate: a TCP address or a Unix socket.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper::http::uri::Authority;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

use super::Status;

/// An admin address as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// Nowhere.
    Off,
}

/// An open admin address.
#[derive(Debug)]
pub enum Listener {
    /// On an address and a port.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

/// What an admin address cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no admin address: write \"127.0.0.1:9180\", \"unix:/PATH\", or \"off\"")]
pub struct AddressError;

impl Address {
    /// Reads an address as it is written: `127.0.0.1:9180`, `unix:/run/trailgate/admin.sock`, or `off`.
    ///
    /// The path of a socket is relative to `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, AddressError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(AddressError),
            Some(path) => Ok(Self::Unix(folder.join(path))),
            None if text == "off" => Ok(Self::Off),
            None => text.parse().map(Self::Tcp).map_err(|_| AddressError),
        }
    }

    /// Listens there, if anywhere; on `passed` instead when the service manager has opened it.
    pub fn listen(&self, passed: Option<std::net::TcpListener>) -> anyhow::Result<Option<Listener>> {
        let listener = match (self, passed) {
            (_, Some(passed)) => TcpListener::from_std(passed).map(Listener::Tcp),
            (Self::Off, None) => return Ok(None),
            (Self::Tcp(address), None) => std::net::TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(Listener::Tcp)
            }),
            (Self::Unix(path), None) => remove_stale(path).and_then(|()| UnixListener::bind(path)).map(Listener::Unix),
        };
        Ok(Some(listener.with_context(|| format!("cannot listen on the admin address {self}"))?))
    }

    /// What the gate behind this address says of itself.
    pub async fn status(&self) -> anyhow::Result<Status> {
        let answer = async {
            match self {
                Self::Tcp(address) => ask(TcpStream::connect(address).await?).await,
                Self::Unix(path) => ask(UnixStream::connect(path).await?).await,
                Self::Off => anyhow::bail!("admin.address is \"off\""),
            }
        };
        let answer = timeout(PATIENCE, answer).await.context("it does not answer");
        answer.and_then(|answer| answer).with_context(|| format!("no gate to be asked on {self}"))
    }
}

impl Listener {
    /// Where it listens, with the port that was found when none was given.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Tcp(tcp) => tcp.local_addr().map_or_else(|error| error.to_string(), |address| address.to_string()),
            Self::Unix(unix) => {
                let address = unix.local_addr().ok();
                let path = address.as_ref().and_then(|address| address.as_pathname());
                path.map_or_else(|| "unix:".to_owned(), |path| format!("unix:{}", path.display()))
            }
        }
    }
}

async fn ask<S>(stream: S) -> anyhow::Result<Status>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get("/status.json").header("host", "localhost").body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(response.status() == StatusCode::OK, "it answers {}", response.status());
    let body = response.into_body().collect().await?.to_bytes();
    serde_json::from_slice(&body).context("it is no gate of this version")
}

/// Removes the socket that a gate left which did not end well; never anything else.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let is_dead = || StdUnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket && is_dead() { fs::remove_file(path) } else { Ok(()) }
}

/// Whether a `Host` names this machine by something that no page can make its own: an address, or `localhost`.
pub(super) fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    !host.contains('@') && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Off => f.write_str("off"),
        }
    }
}

/// Longer than the gate itself waits for the domain.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_tcp_or_a_path_or_off() {
        let parse = |text| Address::parse(text, Path::new("/etc/trailgate"));
        assert_eq!(parse("127.0.0.1:9180"), Ok(Address::Tcp(SocketAddr::from(([127, 0, 0, 1], 9180)))));
        assert_eq!(parse("unix:/run/admin.sock"), Ok(Address::Unix("/run/admin.sock".into())));
        assert_eq!(parse("unix:admin.sock"), Ok(Address::Unix("/etc/trailgate/admin.sock".into())));
        assert_eq!(parse("off"), Ok(Address::Off));
        for text in ["localhost:9180", "9180", "unix:", "/run/admin.sock", ""] {
            assert_eq!(parse(text), Err(AddressError), "{text:?}");
        }
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_on_makes_way_and_one_in_use_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("admin.sock"));
        drop(address.listen(None).unwrap());
        let listener = address.listen(None).unwrap();
        assert!(address.listen(None).is_err());
        drop(listener);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        remove_stale(file.path()).unwrap();
        assert!(file.path().exists());
    }
}
