use std::fs;

use tokio::task::yield_now;

use crate::clock::settle;

/// Waits until both ends of all connections with a local TCP port have read everything sent, and the port's listener
/// has accepted them. Returns after the tasks that this woke have run.
pub async fn all_read(port: u16) {
    while is_unread(port, true) {
        yield_now().await;
    }
    settle().await;
}

/// Waits until the server at `port` has accepted all connections, and has read everything sent by its clients,
/// including the end of their side. Returns after the tasks that this woke have run.
pub async fn read_by_server(port: u16) {
    while is_unread(port, false) {
        yield_now().await;
    }
    settle().await;
}

fn is_unread(port: u16, by_clients: bool) -> bool {
    let table = fs::read_to_string("/proc/self/net/tcp").expect("Linux has a table of TCP sockets");
    table.lines().skip(1).any(|line| {
        let socket = Socket::parse(line).unwrap_or_else(|| panic!("not a socket: {line}"));
        let (is_server, is_client) = (socket.local == port, socket.remote == port);
        // Sent bytes wait at the sender until they are delivered, and then at the receiver until they are read.
        (is_server && (socket.unread || by_clients && socket.unsent))
            || (is_client && (socket.unsent || by_clients && socket.unread))
    })
}

/// A line of the socket table. A listener's unread bytes are connections to accept.
struct Socket {
    local: u16,
    remote: u16,
    unsent: bool,
    unread: bool,
}

impl Socket {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let mut port = || u16::from_str_radix(fields.next()?.split_once(':')?.1, 16).ok();
        let (local, remote) = (port()?, port()?);
        let (unsent, unread) = fields.nth(1)?.split_once(':')?;
        let is_some = |bytes: &str| bytes.contains(|digit| digit != '0');
        Some(Self { local, remote, unsent: is_some(unsent), unread: is_some(unread) })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn bytes_and_the_end_are_unread_until_the_server_reads() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(!is_unread(port, false));
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert!(is_unread(port, false), "not accepted");
        let (mut server, _) = listener.accept().await.unwrap();
        read_by_server(port).await;
        client.write_all(b"x").await.unwrap();
        assert!(is_unread(port, false));
        assert_eq!(server.read_u8().await.unwrap(), b'x');
        read_by_server(port).await;
        client.shutdown().await.unwrap();
        assert!(is_unread(port, false), "the end is not read");
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        read_by_server(port).await;
        server.write_all(b"y").await.unwrap();
        assert!(is_unread(port, true) && !is_unread(port, false));
        assert_eq!(client.read_u8().await.unwrap(), b'y');
        all_read(port).await;
    }
}
