//! The PROXY header against another reader of it (`ppp`): whom both take for the client must be the same.
#![no_main]

use std::net::IpAddr;

use libfuzzer_sys::fuzz_target;
use ppp::v2::Addresses::{Unix, Unspecified};
use ppp::{HeaderResult, PartialResult as _, v1, v2};
use trailgate::proxy_protocol;

fuzz_target!(|input: &[u8]| {
    let mut left = input;
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers starts");
    let ours = runtime.block_on(proxy_protocol::read(&mut left));
    // The specification ignores what follows `UNKNOWN`; the other reader limits its words and characters.
    if input.starts_with(b"PROXY UNKNOWN ") && ours.is_ok() {
        assert!(ours.is_ok_and(|client| client.is_none()), "a client of an unknown connection");
        let end = input.windows(2).position(|pair| pair == b"\r\n").expect("a whole line ends");
        assert_eq!(input.len() - left.len(), end + 2, "another length");
        return;
    }
    let theirs = HeaderResult::parse(input);
    if theirs.is_incomplete() {
        // It waits for more; so the header cannot have been whole.
        assert!(ours.is_err(), "{ours:?} is of a header that is not whole");
        return;
    }
    let (client, length) = match theirs {
        HeaderResult::V1(Ok(header)) => (of_line(header.addresses), header.header.len()),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => (Some(None), header.len()),
        HeaderResult::V2(Ok(header)) if matches!(header.addresses, Unspecified | Unix(_)) => (Some(None), header.len()),
        HeaderResult::V2(Ok(header)) if header.protocol == v2::Protocol::Stream => {
            (of_addresses(header.addresses), header.len())
        }
        _ => (None, 0),
    };
    if let Ok(ours) = ours {
        assert_eq!(Some(ours), client);
        assert_eq!(input.len() - left.len(), length, "another length");
    }
});

/// Returns the client of a line: `None` if it cannot be determined, `Some(None)` if the proxy names none.
fn of_line(addresses: v1::Addresses) -> Option<Option<IpAddr>> {
    match addresses {
        v1::Addresses::Tcp4(it) => Some(Some(it.source_address.into())),
        v1::Addresses::Tcp6(it) => Some(Some(IpAddr::from(it.source_address).to_canonical())),
        v1::Addresses::Unknown => Some(None),
    }
}

fn of_addresses(addresses: v2::Addresses) -> Option<Option<IpAddr>> {
    match addresses {
        v2::Addresses::IPv4(it) => Some(Some(it.source_address.into())),
        v2::Addresses::IPv6(it) => Some(Some(IpAddr::from(it.source_address).to_canonical())),
        Unspecified | Unix(_) => None,
    }
}
