//! A listener with an open socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};
use tokio_rustls::TlsAcceptor;

use crate::http::listener::Listener;
use crate::http::tls::Certificate;

/// An open socket and the state that its connections share.
pub struct BoundListener {
    /// Not shared with the connections: it closes at shutdown while they continue.
    pub(super) socket: TcpListener,
    pub(super) context: Arc<ListenerContext>,
}

/// The state that all connections of one socket share.
pub(super) struct ListenerContext {
    pub(super) listener: Arc<Listener>,
    pub(super) tls: Option<TlsAcceptor>,
}

impl BoundListener {
    /// Binds the address of `listener`, with TLS if a certificate is given.
    pub async fn bind(listener: Listener, certificate: Option<Certificate>) -> anyhow::Result<Self> {
        let socket =
            if listener.is_ipv6_only { bind_ipv6(listener.address) } else { TcpListener::bind(listener.address).await };
        let socket = socket.with_context(|| format!("cannot listen on {}", listener.address))?;
        Ok(Self::from_socket(socket, listener, certificate))
    }

    /// Creates a listener from an open socket.
    #[must_use]
    pub fn from_socket(socket: TcpListener, listener: Listener, certificate: Option<Certificate>) -> Self {
        let tls = certificate.map(|it| TlsAcceptor::from(Arc::new(it.server_config())));
        Self { socket, context: Arc::new(ListenerContext { listener: Arc::new(listener), tls }) }
    }

    /// Returns the bound address.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// Binds `address` for IPv6 only, and otherwise as [`TcpListener::bind`] does.
fn bind_ipv6(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v6()?;
    SockRef::from(&socket).set_only_v6(true)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The backlog of [`TcpListener::bind`].
const BACKLOG: u32 = 1024;

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    #[tokio::test]
    async fn wildcards_of_both_families_share_a_port() {
        let ipv4 = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = ipv4.local_addr().unwrap().port();
        let ipv6 = bind_ipv6((Ipv6Addr::UNSPECIFIED, port).into()).unwrap();
        assert_eq!(ipv6.local_addr().unwrap().port(), port);
    }
}
