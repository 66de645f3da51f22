//! The client behind trusted proxies against a slow reading of `X-Forwarded-For`: all hops in one list, from the right.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::HeaderValue;
use ipnet::IpNet;
use libfuzzer_sys::fuzz_target;
use trailgate::TrustedProxies;

fuzz_target!(|input: (IpAddr, Vec<&[u8]>)| {
    let (peer, values) = input;
    let networks: Vec<IpNet> = ["0.0.0.0/1", "10.0.0.0/8", "::/8"].map(|network| network.parse().unwrap()).into();
    let mut headers = HeaderMap::new();
    for value in &values {
        let Ok(value) = HeaderValue::from_bytes(value) else { return };
        headers.append("x-forwarded-for", value);
    }
    let found = TrustedProxies::new(networks.clone()).client(peer, &headers).ok();
    assert_eq!(found, client(&networks, peer, &values), "{peer} {values:?}");
});

fn client(networks: &[IpNet], peer: IpAddr, values: &[&[u8]]) -> Option<IpAddr> {
    let list = values.join(&b","[..]);
    let mut hops: Vec<&[u8]> = if values.is_empty() { Vec::new() } else { list.split(|&byte| byte == b',').collect() };
    let mut client = peer.to_canonical();
    while networks.iter().any(|network| network.contains(&client)) {
        let Some(hop) = hops.pop() else { return Some(client) };
        client = parse(std::str::from_utf8(hop).ok()?.trim())?.to_canonical();
    }
    Some(client)
}

/// Reads a hop by taking away what it may have besides the address: quotes, a zone, a port, brackets.
fn parse(hop: &str) -> Option<IpAddr> {
    let is_quoted = hop.len() > 1 && hop.starts_with('"') && hop.ends_with('"');
    let hop = if is_quoted { &hop[1..hop.len() - 1] } else { hop };
    let Some((before, after)) = hop.split_once('%') else { return parse_without_zone(hop) };
    let (zone, rest) = after.split_at(after.find(']').unwrap_or(after.len()));
    let is_zone = !zone.is_empty() && zone.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it));
    parse_without_zone(&format!("{before}{rest}")).filter(|address| is_zone && address.is_ipv6())
}

fn parse_without_zone(hop: &str) -> Option<IpAddr> {
    let bracketed = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || hop.parse().ok().map(|it: SocketAddr| it.ip());
    hop.parse().ok().or_else(with_port).or_else(bracketed)
}
