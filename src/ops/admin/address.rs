//! The admin address: a TCP address or a Unix socket.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use hyper::http::uri::Authority;
use tokio::net::{TcpListener, UnixListener};

/// An admin address in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
    /// The admin address is off.
    Disabled,
}

/// An open admin address.
#[derive(Debug)]
pub enum AdminListener {
    /// A TCP listener.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

/// An admin address that cannot be parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an admin address: write \"127.0.0.1:9180\", \"unix:/PATH\", or \"off\"")]
pub struct AdminAddressError;

impl AdminAddress {
    /// Parses a configured address: `127.0.0.1:9180`, `unix:/run/trailgate/admin.sock`, or `off`.
    ///
    /// A socket's path is relative to `folder`.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, AdminAddressError> {
        match text.strip_prefix("unix:") {
            Some("") => Err(AdminAddressError),
            Some(path) => Ok(Self::Unix(folder.join(path))),
            None if text == "off" => Ok(Self::Disabled),
            None => text.parse().map(Self::Tcp).map_err(|_| AdminAddressError),
        }
    }

    /// Opens the listener, if the address is not off. Uses `passed` instead if the service manager has opened it.
    pub fn listen(&self, passed: Option<std::net::TcpListener>) -> anyhow::Result<Option<AdminListener>> {
        let listener = match (self, passed) {
            (_, Some(passed)) => TcpListener::from_std(passed).map(AdminListener::Tcp),
            (Self::Disabled, None) => return Ok(None),
            (Self::Tcp(address), None) => std::net::TcpListener::bind(address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener).map(AdminListener::Tcp)
            }),
            (Self::Unix(path), None) => {
                remove_stale(path).and_then(|()| UnixListener::bind(path)).map(AdminListener::Unix)
            }
        };
        Ok(Some(listener.with_context(|| format!("cannot listen on the admin address {self}"))?))
    }
}

impl AdminListener {
    /// Returns the address, with the port that the system chose if port 0 was configured.
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

/// Removes a socket that a crashed proxy left behind, and no other kind of file.
fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let is_dead = || StdUnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket && is_dead() { fs::remove_file(path) } else { Ok(()) }
}

/// Returns whether a `Host` is an IP address or `localhost`: names that DNS rebinding cannot use.
pub(super) fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_matches(['[', ']']);
    !host.contains('@') && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Disabled => f.write_str("off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_tcp_a_socket_path_or_off() {
        let parse = |text| AdminAddress::parse(text, Path::new("/etc/trailgate"));
        assert_eq!(parse("127.0.0.1:9180"), Ok(AdminAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 9180)))));
        assert_eq!(parse("unix:/run/admin.sock"), Ok(AdminAddress::Unix("/run/admin.sock".into())));
        assert_eq!(parse("unix:admin.sock"), Ok(AdminAddress::Unix("/etc/trailgate/admin.sock".into())));
        assert_eq!(parse("off"), Ok(AdminAddress::Disabled));
        for text in ["localhost:9180", "9180", "unix:", "/run/admin.sock", ""] {
            assert_eq!(parse(text), Err(AdminAddressError), "{text:?}");
        }
    }

    #[tokio::test]
    async fn stale_socket_is_replaced_and_a_used_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let address = AdminAddress::Unix(folder.path().join("admin.sock"));
        drop(address.listen(None).unwrap());
        let listener = address.listen(None).unwrap();
        assert!(address.listen(None).is_err());
        drop(listener);
    }

    #[test]
    fn file_that_is_no_socket_is_kept() {
        let file = tempfile::NamedTempFile::new().unwrap();
        remove_stale(file.path()).unwrap();
        assert!(file.path().exists());
    }
}
