//! The CIDR parser. It is strict, because a misread block admits the wrong clients.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Parses a block in CIDR notation, or a single address, which is a block of full length.
///
/// The parser of [`IpNet`] accepts `010.0.0.0/8` and keeps host bits, so it is not used. An IPv4-mapped IPv6 block is
/// normalised to IPv4, as client addresses are.
pub(crate) fn parse(cidr: &str) -> Result<IpNet, CidrError> {
    let (address, bits) = cidr.split_once('/').map_or((cidr, None), |(address, bits)| (address, Some(bits)));
    let Ok(ip) = address.parse::<IpAddr>() else {
        return Err(match without_leading_zeros(address) {
            Some(ip) => CidrError::LeadingZeros { plain: format!("{ip}{}", &cidr[address.len()..]) },
            None => CidrError::NotAnAddress,
        });
    };
    let max = if ip.is_ipv4() { 32 } else { 128 };
    let length = bits.map_or(Some(max), |bits| plain_number(bits).filter(|length| *length <= max));
    let length = length.ok_or(CidrError::PrefixLength { max })?;
    let (ip, length) = match ip.to_canonical() {
        IpAddr::V4(v4) if ip.is_ipv6() => (IpAddr::V4(v4), length.checked_sub(96).ok_or(CidrError::WideMapped { v4 })?),
        ip => (ip, length),
    };
    // Cannot panic: the length was compared with the address family's limit above.
    let net = IpNet::new_assert(ip, length);
    if net.trunc() == net { Ok(net) } else { Err(CidrError::HostBits { block: net.trunc(), address: ip }) }
}

/// Formats a block in CIDR notation. A single address has no prefix length.
#[must_use]
pub(crate) fn text(block: IpNet) -> String {
    if block.prefix_len() == block.max_prefix_len() { block.addr().to_string() } else { block.to_string() }
}

/// The reason why a text is not a block. The message says what to write, and follows the text itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CidrError {
    /// The text has no address.
    #[error(r#"is not an IP address or block: write one like "203.0.113.7", "203.0.113.0/24" or "2001:db8::/32""#)]
    NotAnAddress,
    /// An octet begins with a zero.
    #[error("has leading zeros, which some read as octal: write {plain:?}")]
    LeadingZeros {
        /// The same block without leading zeros.
        plain: String,
    },
    /// The prefix length is not a number, or exceeds the address's bits.
    #[error("has a bad prefix length: write a whole number from 0 to {max} after the slash")]
    PrefixLength {
        /// The number of bits of the address.
        max: u8,
    },
    /// The address has host bits set.
    #[error(r#"has host bits set: write "{block}", or "{address}" for that one address"#)]
    HostBits {
        /// The block without host bits.
        block: IpNet,
        /// The address.
        address: IpAddr,
    },
    /// An IPv4-mapped block reaches beyond the mapped addresses.
    #[error(r#"is an IPv4-mapped block of fewer than 96 bits: write the IPv4 block, like "{v4}/32""#)]
    WideMapped {
        /// The mapped IPv4 address.
        v4: Ipv4Addr,
    },
}

fn plain_number(digits: &str) -> Option<u8> {
    let number: u8 = digits.parse().ok()?;
    // Rejects "+8" and "08", which `parse` accepts.
    (number.to_string() == digits).then_some(number)
}

fn without_leading_zeros(address: &str) -> Option<Ipv4Addr> {
    let octets = address.split('.').map(|octet| match octet.trim_start_matches('0') {
        "" if !octet.is_empty() => "0",
        plain => plain,
    });
    octets.collect::<Vec<_>>().join(".").parse().ok()
}
