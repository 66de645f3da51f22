//! The PROXY protocol, versions 1 and 2 ("The PROXY protocol", by `HAProxy`): a TCP load balancer names the client in a
//! header at the start of the connection.

use std::io;
use std::net::IpAddr;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Reads the header, and no byte of what follows it.
///
/// Returns the client, or `None` if the header names none: a connection of the load balancer itself, such as a health
/// check, or of a client whose address it does not know.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, ProxyError> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        header.resize(FIXED, 0);
        stream.read_exact(&mut header[SIGNATURE.len()..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]));
        if rest > LONGEST {
            return Err(ProxyError::Malformed);
        }
        header.resize(FIXED + rest, 0);
        stream.read_exact(&mut header[FIXED..]).await?;
    } else if header.starts_with(b"PROXY ") {
        while !header.ends_with(b"\r\n") {
            if header.len() == LONGEST_LINE {
                return Err(ProxyError::Malformed);
            }
            header.push(stream.read_u8().await?);
        }
        if !is_spelt_by_the_rules(&header) {
            return Err(ProxyError::Malformed);
        }
    } else {
        return Err(ProxyError::Missing);
    }
    parse(&header)
}

/// Checks the parts of a version 1 line that the parser is lenient about: it does not check what follows the protocol
/// name, and accepts every port that Rust's integer parser accepts, such as `+80` and `080`.
fn is_spelt_by_the_rules(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    match words.next() {
        Some(b"TCP4" | b"TCP6") => words.skip(2).all(|port| port == b"0" || matches!(port, [b'1'..=b'9', ..])),
        // The specification says to ignore the rest of such a line.
        Some(b"UNKNOWN") => true,
        _ => false,
    }
}

fn parse(header: &[u8]) -> Result<Option<IpAddr>, ProxyError> {
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let (parsed, length) = ProxyHeader::parse(header, config).map_err(|_| ProxyError::Malformed)?;
    match parsed.proxied_address() {
        _ if length != header.len() => Err(ProxyError::Malformed),
        Some(address) if address.protocol != Protocol::Stream => Err(ProxyError::Malformed),
        address => Ok(address.map(|address| address.source.ip().to_canonical())),
    }
}

/// The reason why a connection has no valid PROXY header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The connection starts with something else.
    #[error("there is no PROXY header")]
    Missing,
    /// The header violates the protocol.
    #[error("the PROXY header is malformed")]
    Malformed,
    /// The connection ended or failed within the header.
    #[error("the connection ended within the PROXY header")]
    Ended(#[from] io::Error),
}

/// The first bytes of a version 2 header.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of the fixed part of version 2: signature, version and command, family, and the length of the rest.
const FIXED: usize = 16;
/// Maximum bytes of addresses and TLVs in version 2. Load balancers send less than 100.
const LONGEST: usize = 4096;
/// Maximum bytes of a version 1 line, including its end.
const LONGEST_LINE: usize = 107;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns the result of reading `bytes`, and the bytes that are left.
    async fn read_of(mut bytes: &[u8]) -> (Result<Option<IpAddr>, String>, &[u8]) {
        let client = read(&mut bytes).await.map_err(|error| error.to_string());
        (client, bytes)
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[0x20 | command, family], &length, rest, b"GET /"].concat()
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn version_1_header_has_the_client() {
        let read = read_of(b"PROXY TCP4 203.0.113.7 10.0.0.1 51234 443\r\nGET /").await;
        assert_eq!(read, (Ok(Some(address("203.0.113.7"))), &b"GET /"[..]));
        let read = read_of(b"PROXY TCP6 2001:db8::7 2001:db8::1 51234 443\r\n\r\n").await;
        assert_eq!(read, (Ok(Some(address("2001:db8::7"))), &b"\r\n"[..]));
        let read = read_of(b"PROXY UNKNOWN\r\nGET /").await;
        assert_eq!(read, (Ok(None), &b"GET /"[..]));
        let read = read_of(b"PROXY UNKNOWN a b c d e \xff\r\nGET /").await;
        assert_eq!(read, (Ok(None), &b"GET /"[..]));
    }

    #[tokio::test]
    async fn version_2_header_has_the_client() {
        let addresses = [203, 0, 113, 7, 10, 0, 0, 1, 0xc8, 0x22, 1, 0xbb];
        assert_eq!(read_of(&version_2(1, 0x11, &addresses)).await, (Ok(Some(address("203.0.113.7"))), &b"GET /"[..]));
        // A Network Load Balancer adds a TLV with the name of the VPC endpoint.
        let with_addition = [&addresses[..], &[0xea, 0, 3, 1, b'v', b'p']].concat();
        assert_eq!(
            read_of(&version_2(1, 0x11, &with_addition)).await,
            (Ok(Some(address("203.0.113.7"))), &b"GET /"[..])
        );
        let mut addresses = [0; 36];
        addresses[..16].copy_from_slice(&"2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(read_of(&version_2(1, 0x21, &addresses)).await, (Ok(Some(address("2001:db8::7"))), &b"GET /"[..]));
    }

    #[tokio::test]
    async fn mapped_client_address_is_normalised_to_ipv4() {
        let mut addresses = [0; 36];
        addresses[..16].copy_from_slice(&"::ffff:203.0.113.7".parse::<std::net::Ipv6Addr>().unwrap().octets());
        assert_eq!(read_of(&version_2(1, 0x21, &addresses)).await.0, Ok(Some(address("203.0.113.7"))));
    }

    #[tokio::test]
    async fn local_command_has_no_client() {
        assert_eq!(read_of(&version_2(0, 0, &[])).await, (Ok(None), &b"GET /"[..]));
    }

    #[tokio::test]
    async fn missing_or_malformed_proxy_header_is_an_error() {
        let longest = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
        let line = format!("PROXY TCP4 {}\r\n", "1".repeat(200));
        for (bytes, error) in [
            (&b"GET / HTTP/1.1\r\n\r\n"[..], "there is no PROXY header"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00", "there is no PROXY header"),
            (b"PROXY TCP4 203.0.113.777 10.0.0.1 1 443\r\n", "the PROXY header is malformed"),
            (b"PROXY TCP4 203.0.113.7\r\n\r\n", "the PROXY header is malformed"),
            (b"PROXY UNKNOWNTCP4 203.0.113.7 10.0.0.1 1 443\r\n", "the PROXY header is malformed"),
            (b"PROXY UNKNOWN\t\r\n", "the PROXY header is malformed"),
            (b"PROXY  TCP4 203.0.113.7 10.0.0.1 1 443\r\n", "the PROXY header is malformed"),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 01 443\r\n", "the PROXY header is malformed"),
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 1 +443\r\n", "the PROXY header is malformed"),
            (line.as_bytes(), "the PROXY header is malformed"),
            (&version_2(1, 0x11, &[1, 2, 3]), "the PROXY header is malformed"),
            (&version_2(7, 0x11, &[0; 12]), "the PROXY header is malformed"),
            (&longest, "the PROXY header is malformed"),
            (b"PROXY TCP4 203.0.113.7 10.", "the connection ended within the PROXY header"),
            (SIGNATURE, "the connection ended within the PROXY header"),
            (b"", "the connection ended within the PROXY header"),
        ] {
            assert_eq!(read_of(bytes).await.0, Err(error.to_owned()), "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        #[test]
        fn bytes_after_the_header_stay_unread(client: std::net::Ipv4Addr, rest: Vec<u8>) {
            let bytes = [format!("PROXY TCP4 {client} 10.0.0.1 1 443\r\n").as_bytes(), &rest].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (read, left) = runtime.block_on(read_of(&bytes));
            prop_assert_eq!(read, Ok(Some(client.into())));
            prop_assert_eq!(left, &rest[..]);
        }
    }
}
