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
        let hop = std::str::from_utf8(hop).ok()?.trim();
        let address: IpAddr = match hop.parse::<IpAddr>() {
            Ok(address) => address,
            Err(_) => hop.parse::<SocketAddr>().ok()?.ip(),
        };
        client = address.to_canonical();
    }
    Some(client)
}
