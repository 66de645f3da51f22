//! The clients rejected most recently, for the operator who is asked why a user has no access.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// The addresses rejected most recently, in bounded memory.
#[derive(Debug, Default)]
pub struct RejectedClients(Mutex<HashMap<IpAddr, RejectedClient>>);

/// A client address that was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RejectedClient {
    /// The address. For an IPv6 network, the one rejected last.
    pub address: IpAddr,
    /// The number of rejections.
    pub count: u64,
    /// The time of the first rejection.
    pub first: SystemTime,
    /// The time of the last rejection.
    pub last: SystemTime,
    /// Set if a request of it named another client, so that it may be a proxy.
    pub forwards: bool,
}

impl RejectedClients {
    /// Records that `address` was rejected at `now`; `forwards` is set if the request named another client.
    ///
    /// Full memory evicts addresses rejected only once first, the oldest ahead. A scan from many addresses therefore
    /// does not evict a user who tries again.
    pub fn note(&self, address: IpAddr, forwards: bool, now: SystemTime) {
        let mut clients = self.lock();
        let network = network(address);
        if !clients.contains_key(&network) && clients.len() >= CAPACITY {
            let oldest = clients.iter().min_by_key(|(_, client)| (client.count > 1, client.last));
            if let Some(oldest) = oldest.map(|(&network, _)| network) {
                clients.remove(&oldest);
            }
        }
        let new = RejectedClient { address, count: 0, first: now, last: now, forwards };
        let client = clients.entry(network).or_insert(new);
        client.address = address;
        client.count += 1;
        client.last = now;
        client.forwards |= forwards;
    }

    /// Returns the rejected clients, the latest first.
    #[must_use]
    pub fn latest(&self) -> Vec<RejectedClient> {
        let mut clients: Vec<_> = self.lock().values().copied().collect();
        clients.sort_unstable_by_key(|client| (std::cmp::Reverse(client.last), client.address));
        clients
    }

    /// Returns the number of addresses.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns whether no client was rejected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, RejectedClient>> {
        // Safe despite poisoning: the map is consistent after every statement that changes it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns an IPv4 address unchanged, and the network of an IPv6 address: a subscriber has 2^64 addresses.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

const CAPACITY: usize = 1000;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_a_count_and_first_and_last_time() {
        let clients = RejectedClients::default();
        clients.note(address("198.51.100.4"), true, at(1));
        clients.note(address("203.0.113.7"), false, at(2));
        clients.note(address("198.51.100.4"), false, at(3));
        let first =
            RejectedClient { address: address("198.51.100.4"), count: 2, first: at(1), last: at(3), forwards: true };
        let second =
            RejectedClient { address: address("203.0.113.7"), count: 1, first: at(2), last: at(2), forwards: false };
        assert_eq!(clients.latest(), [first, second]);
    }

    #[test]
    fn ipv6_network_is_one_client_with_its_last_address() {
        let clients = RejectedClients::default();
        clients.note(address("2001:db8::1"), false, at(1));
        clients.note(address("2001:db8::2"), false, at(2));
        clients.note(address("2001:db8:0:1::1"), false, at(3));
        assert_eq!(clients.len(), 2);
        assert_eq!(clients.latest()[1].address, address("2001:db8::2"));
    }

    #[test]
    fn scan_evicts_its_own_addresses_before_repeated_ones() {
        let clients = RejectedClients::default();
        let auditor = address("198.51.100.4");
        clients.note(auditor, false, at(1));
        clients.note(auditor, false, at(2));
        for i in 0..5000 {
            clients.note(Ipv4Addr::from_bits(0x0a00_0000 + i).into(), false, at(10 + u64::from(i)));
        }
        let latest = clients.latest();
        assert_eq!(latest.len(), CAPACITY);
        assert_eq!(latest[0].last, at(5009));
        assert_eq!(latest[CAPACITY - 1].address, auditor);
    }

    #[test]
    fn new_address_is_kept_among_repeated_ones() {
        let clients = RejectedClients::default();
        for i in 0..2000_u32 {
            clients.note(Ipv4Addr::from_bits(0x0a00_0000 + i % 1000).into(), false, at(u64::from(i)));
        }
        clients.note(address("198.51.100.4"), false, at(3000));
        let latest = clients.latest();
        assert_eq!((latest.len(), latest[0].address), (CAPACITY, address("198.51.100.4")));
    }
}
