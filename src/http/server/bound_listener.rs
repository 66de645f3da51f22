//! A listener whose socket is open.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::http::listener::Listener;
use crate::http::tls::Certificate;

/// An open socket, and what its connections share.
pub struct BoundListener {
    /// Not shared with the connections, since it has to close while they go on.
    pub(super) socket: TcpListener,
    pub(super) context: Arc<ListenerContext>,
}

/// All that the connections of one socket share.
pub(super) struct ListenerContext {
    pub(super) listener: Arc<Listener>,
    pub(super) tls: Option<TlsAcceptor>,
}

impl BoundListener {
    /// Binds the address of `listener`, for TLS if there is a certificate.
    pub async fn bind(listener: Listener, certificate: Option<Certificate>) -> anyhow::Result<Self> {
        let socket = TcpListener::bind(listener.address).await;
        let socket = socket.with_context(|| format!("cannot listen on {}", listener.address))?;
        Ok(Self::from_socket(socket, listener, certificate))
    }

    /// Uses a socket that is open already.
    #[must_use]
    pub fn from_socket(socket: TcpListener, listener: Listener, certificate: Option<Certificate>) -> Self {
        let tls = certificate.map(|it| TlsAcceptor::from(Arc::new(it.server_config())));
        Self { socket, context: Arc::new(ListenerContext { listener: Arc::new(listener), tls }) }
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}
