//! Blocks of addresses as operators write them: strict, because a block read wrongly lets somebody in.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// Reads a block, or a single address, which means the block of that address alone.
///
/// Not with the parser of [`IpNet`], which takes `010.0.0.0/8` and keeps host bits. An IPv4-mapped IPv6 block becomes
/// the IPv4 block: clients are looked up so.
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
    // The length was compared with the address family's own limit above.
    let net = IpNet::new_assert(ip, length);
    if net.trunc() == net { Ok(net) } else { Err(CidrError::HostBits { block: net.trunc(), address: ip }) }
}

/// A block as people write it: that of a single address without its length.
#[must_use]
pub(crate) fn text(block: IpNet) -> String {
    if block.prefix_len() == block.max_prefix_len() { block.addr().to_string() } else { block.to_string() }
}

/// Why a text is no block of addresses, and what to write instead. The message goes on from the text itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CidrError {
    /// There is no address in it.
    #[error(r#"is not an IP address or block: write one like "203.0.113.7", "203.0.113.0/24" or "2001:db8::/32""#)]
    NotAnAddress,
    /// An octet begins with a zero.
    #[error("has leading zeros, which some read as octal: write {plain:?}")]
    LeadingZeros {
        /// The same block without them.
        plain: String,
    },
    /// What follows the slash is no length, or more than the address has bits.
    #[error("has a bad prefix length: write a whole number from 0 to {max} after the slash")]
    PrefixLength {
        /// The address's bits.
        max: u8,
    },
    /// The address has bits behind the prefix.
    #[error(r#"has host bits set: write "{block}", or "{address}" for that one address"#)]
    HostBits {
        /// The block around the address.
        block: IpNet,
        /// The address.
        address: IpAddr,
    },
    /// An IPv4-mapped block reaches beyond the mapped addresses.
    #[error(r#"is an IPv4-mapped block of fewer than 96 bits: write the IPv4 block, like "{v4}/32""#)]
    WideMapped {
        /// The address in it.
        v4: Ipv4Addr,
    },
}

fn plain_number(digits: &str) -> Option<u8> {
    let number: u8 = digits.parse().ok()?;
    // Neither "+8" nor "08".
    (number.to_string() == digits).then_some(number)
}

fn without_leading_zeros(address: &str) -> Option<Ipv4Addr> {
    let octets = address.split('.').map(|octet| match octet.trim_start_matches('0') {
        "" if !octet.is_empty() => "0",
        plain => plain,
    });
    octets.collect::<Vec<_>>().join(".").parse().ok()
}
