use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A local port, bound for a server that cannot choose and report a free one.
///
/// Its socket is bound and never listens. Until the server listens, connections are rejected. Meanwhile, and while the
/// server restarts, the system assigns the port to no other program that requests a free one. The server has to bind
/// with `SO_REUSEADDR`, as nearly all do on Linux.
#[derive(Debug)]
pub struct ReservedPort {
    address: SocketAddr,
    _socket: TcpSocket,
}

impl ReservedPort {
    /// Binds a free port of 127.0.0.1.
    pub fn bind() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        Ok(Self { address: socket.local_addr()?, _socket: socket })
    }

    /// Returns the address for the server to listen on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.address.port()
    }

    /// Returns the URL of an HTTP server at the port: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn reserved_port_refuses_connections_until_listened_on() {
        let port = ReservedPort::bind().unwrap();
        assert_eq!(TcpStream::connect(port.address()).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        for _start in 0..2 {
            let _server = TcpListener::bind(port.address()).await.unwrap();
            TcpStream::connect(port.address()).await.unwrap();
        }
    }
}
