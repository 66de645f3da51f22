//! The client's address: the TCP peer, or the client that a trusted proxy names in `X-Forwarded-For`.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV4};
use std::time::SystemTime;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::policy::allowlist::Entries;
use crate::policy::cidr;

/// A client's IP address with its text. Cheap to clone.
///
/// The text is formatted once, because a request needs it several times. IPv4-mapped IPv6 addresses are normalised to
/// IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    ip: IpAddr,
    text: HeaderValue,
}

impl ClientAddress {
    /// Normalises and formats `ip`.
    #[must_use]
    pub fn new(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        Self { ip, text: HeaderValue::try_from(ip.to_string()).expect(VISIBLE) }
    }

    /// Returns the normalised address.
    #[must_use]
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Returns the address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text.to_str().expect(VISIBLE)
    }

    /// Returns the address as a header value.
    pub(crate) fn to_header(&self) -> HeaderValue {
        self.text.clone()
    }
}

const VISIBLE: &str = "an address is visible characters";

/// The proxies whose `X-Forwarded-For` is trusted; none by default.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Trusts the proxies in `networks`.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns whether no proxy is trusted, so that the client is always the TCP peer.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether every IPv4 or every IPv6 address is trusted.
    pub(crate) fn is_everyone(&self) -> bool {
        self.0.iter().any(|network| network.prefix_len() == 0)
    }

    /// Returns whether `address` is a trusted proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns whether `block` and a network of trusted proxies have addresses in common.
    fn overlaps(&self, block: &IpNet) -> bool {
        self.0.iter().any(|network| network.contains(block) || block.contains(network))
    }

    /// Returns a warning if entries cover trusted proxies: a request for which a proxy names no client is the proxy's own.
    pub(crate) fn warning(&self, entries: &Entries, now: SystemTime) -> Option<String> {
        let mut covering = entries.iter().filter(|entry| self.overlaps(&entry.cidr) && !entry.has_expired(now));
        let first = covering.next()?;
        let more = match covering.count() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!(
            "the allowlist's entry {} {:?}{more} covers addresses in listen.trusted_proxies: a request for which such a proxy \
             names no client is allowed; remove the entry unless that is intended",
            cidr::text(first.cidr),
            first.name
        ))
    }

    /// Returns the client's address: `peer`, unless it is a trusted proxy.
    ///
    /// Behind trusted proxies the client is the right-most hop that is not trusted, because the client can forge
    /// everything to its left. If all hops are trusted, the client is the left-most.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, BadHop> {
        let mut client = peer.to_canonical();
        if self.is_empty() {
            return Ok(client);
        }
        for value in headers.get_all(FORWARDED_FOR).iter().rev() {
            for hop in value.as_bytes().rsplit(|&byte| byte == b',') {
                if !self.contains(client) {
                    return Ok(client);
                }
                client = parse_hop(hop)?;
            }
        }
        Ok(client)
    }
}

/// A hop in `X-Forwarded-For` that is not an address. It is an error, because a skipped hop would trust the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hop in X-Forwarded-For is not an IP address")]
pub struct BadHop;

/// Returns whether `X-Forwarded-For` begins with another address than `client`, which may then be a proxy itself.
pub(crate) fn forwards_others(client: IpAddr, headers: &HeaderMap) -> bool {
    let first = headers.get(FORWARDED_FOR).and_then(|value| value.as_bytes().split(|&byte| byte == b',').next());
    first.is_some_and(|hop| parse_hop(hop) != Ok(client))
}

/// The header in which proxies name the client: one or more lists, each hop appended on the right.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Parses a hop in every form that proxies and load balancers write: an address with or without quotes and port, and an
/// IPv6 address with or without brackets and zone. The zone names an interface of the proxy and is dropped.
fn parse_hop(hop: &[u8]) -> Result<IpAddr, BadHop> {
    let hop = str::from_utf8(hop).map_err(|_| BadHop)?.trim();
    let plain = hop.parse().ok();
    let address =
        plain.or_else(|| parse_written_hop(hop.strip_prefix('"').map_or(Some(hop), |it| it.strip_suffix('"'))?));
    address.map(|address| address.to_canonical()).ok_or(BadHop)
}

fn parse_written_hop(hop: &str) -> Option<IpAddr> {
    let Some(bracketed) = hop.strip_prefix('[') else {
        let with_port = || hop.parse::<SocketAddrV4>().ok().map(|it| IpAddr::from(*it.ip()));
        return hop.parse().ok().or_else(with_port).or_else(|| parse_zoned(hop));
    };
    let (address, port) = bracketed.split_once(']')?;
    let is_port = |port: &str| port.parse::<u16>().is_ok() && !port.starts_with('+');
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then(|| parse_zoned(address)).flatten()
}

fn parse_zoned(address: &str) -> Option<IpAddr> {
    let (address, zone) = address.split_once('%').map_or((address, None), |(address, zone)| (address, Some(zone)));
    let is_zone = |zone: &str| {
        !zone.is_empty() && zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let address: Ipv6Addr = address.parse().ok().filter(|_| zone.is_none_or(is_zone))?;
    Some(address.into())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[track_caller]
    fn client(peer: &str, forwarded_for: &[&str], expected: Result<&str, BadHop>) {
        let networks = ["10.0.0.0/8", "2001:db8::/32"].map(|network| network.parse().unwrap());
        let mut headers = HeaderMap::new();
        for value in forwarded_for {
            headers.append(FORWARDED_FOR, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let found = TrustedProxies::new(networks.to_vec()).client(peer.parse().unwrap(), &headers);
        assert_eq!(found, expected.map(|address| address.parse().unwrap()));
    }

    #[test]
    fn untrusted_peer_is_the_client_despite_its_headers() {
        client("203.0.113.7", &[], Ok("203.0.113.7"));
        client("203.0.113.7", &["198.51.100.1"], Ok("203.0.113.7"));
        client("203.0.113.7", &["garbage"], Ok("203.0.113.7"));
    }

    #[test]
    fn client_that_forwards_others_is_recognised() {
        let is_forwarding = |client: &str, value: &str| {
            let headers = [(FORWARDED_FOR, HeaderValue::from_str(value).unwrap())].into_iter().collect();
            forwards_others(client.parse().unwrap(), &headers)
        };
        assert!(is_forwarding("10.0.0.1", "198.51.100.1"));
        assert!(is_forwarding("198.51.100.1", "192.0.2.66, 198.51.100.1, 10.9.9.9"));
        assert!(is_forwarding("10.0.0.1", "unknown"));
        assert!(!is_forwarding("198.51.100.1", "198.51.100.1, 10.9.9.9"));
        assert!(!forwards_others("198.51.100.1".parse().unwrap(), &HeaderMap::new()));
    }

    #[test]
    fn warning_names_entries_that_cover_trusted_proxies() {
        let warning = |cidr: &str| {
            let text = format!("[[allow]]\ncidr = \"{cidr}\"\nname = \"office\"\n");
            let entries = Entries::parse("allowlist.toml".as_ref(), &text).unwrap();
            TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]).warning(&entries, SystemTime::UNIX_EPOCH)
        };
        assert!(warning("10.1.0.0/16").unwrap().starts_with("the allowlist's entry 10.1.0.0/16 \"office\" covers"));
        assert!(warning("0.0.0.0/0").unwrap().starts_with("the allowlist's entry 0.0.0.0/0 \"office\" covers"));
        assert_eq!(warning("203.0.113.7"), None);
    }

    #[test]
    fn mapped_peer_is_normalised_to_ipv4() {
        client("::ffff:203.0.113.7", &[], Ok("203.0.113.7"));
        client("::ffff:10.0.0.1", &["198.51.100.1"], Ok("198.51.100.1"));
    }

    #[test]
    fn rightmost_hop_before_trusted_proxies_is_the_client() {
        client("10.0.0.1", &["198.51.100.1"], Ok("198.51.100.1"));
        client("10.0.0.1", &["192.0.2.66, 198.51.100.1"], Ok("198.51.100.1"));
        client("10.0.0.1", &["192.0.2.66, 198.51.100.1, 10.9.9.9"], Ok("198.51.100.1"));
        client("10.0.0.1", &["192.0.2.66", "198.51.100.1 ,10.9.9.9", "10.1.1.1"], Ok("198.51.100.1"));
        client("2001:db8::1", &["2001:4860::5"], Ok("2001:4860::5"));
    }

    #[test]
    fn hops_left_of_the_client_are_ignored() {
        client("10.0.0.1", &["garbage, 198.51.100.1"], Ok("198.51.100.1"));
    }

    #[test]
    fn trusted_proxy_without_a_hop_is_the_client() {
        client("10.0.0.1", &[], Ok("10.0.0.1"));
        client("10.0.0.1", &["10.0.0.2"], Ok("10.0.0.2"));
    }

    #[test]
    fn hop_with_a_port_or_mapped_address_is_accepted() {
        client("10.0.0.1", &["198.51.100.1:4711"], Ok("198.51.100.1"));
        client("10.0.0.1", &["[2001:4860::5]:4711"], Ok("2001:4860::5"));
        client("10.0.0.1", &["::ffff:198.51.100.1"], Ok("198.51.100.1"));
    }

    #[test]
    fn hop_in_brackets_quotes_or_with_a_zone_is_accepted() {
        client("10.0.0.1", &["[2001:4860::5]"], Ok("2001:4860::5"));
        client("10.0.0.1", &["\"198.51.100.1\""], Ok("198.51.100.1"));
        client("10.0.0.1", &["\"198.51.100.1:4711\""], Ok("198.51.100.1"));
        client("10.0.0.1", &["\"[2001:4860::5]:4711\", 10.0.0.2"], Ok("2001:4860::5"));
        client("10.0.0.1", &["\"[2001:4860::5]\""], Ok("2001:4860::5"));
        client("10.0.0.1", &["\"2001:4860::5\""], Ok("2001:4860::5"));
        client("10.0.0.1", &["fe80::1%eth0"], Ok("fe80::1"));
        client("10.0.0.1", &["[fe80::1%eth0.1]:80"], Ok("fe80::1"));
        client("10.0.0.1", &["[::ffff:198.51.100.1]"], Ok("198.51.100.1"));
    }

    #[test]
    fn hop_half_in_brackets_or_quotes_is_rejected() {
        for hop in ["[2001:4860::5", "2001:4860::5]", "[198.51.100.1]", "[2001:4860::5]x", "[2001:4860::5]:"] {
            client("10.0.0.1", &[hop], Err(BadHop));
        }
        for hop in ["\"198.51.100.1", "198.51.100.1\"", "\"", "\"\"", "\"\"198.51.100.1\"\"", "[[::1]]", "[::1]:+1"] {
            client("10.0.0.1", &[hop], Err(BadHop));
        }
        for hop in ["fe80::1%", "198.51.100.1%eth0", "fe80::1%eth 0", "fe80::1%a%b", "[::1]:99999"] {
            client("10.0.0.1", &[hop], Err(BadHop));
        }
    }

    #[test]
    fn hop_that_is_no_address_is_rejected() {
        client("10.0.0.1", &["garbage"], Err(BadHop));
        client("10.0.0.1", &["198.51.100.1, "], Err(BadHop));
        client("10.0.0.1", &[""], Err(BadHop));
        client("10.0.0.1", &["198.51.100.1, 010.0.0.1"], Err(BadHop));
        client("10.0.0.1", &["unknown, 10.0.0.2"], Err(BadHop));
        client("10.0.0.1", &["caf\u{e9}"], Err(BadHop));
    }
}
