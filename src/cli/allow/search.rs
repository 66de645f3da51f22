//! Longest prefix match of an address, as the proxy does it, and the nearest entry if none matches.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use ipnet::IpNet;
use serde::Serialize;

use super::row::Row;
use super::{List, Listed};
use crate::human::file_option;
use crate::policy::cidr;

/// The result of an address lookup.
#[derive(Debug, Serialize)]
pub(super) struct Lookup {
    /// The canonical address: an IPv4-mapped address is the IPv4 address.
    address: IpAddr,
    /// True if an entry allows the address.
    pub(super) allowed: bool,
    /// The entry in effect with the longest matching prefix.
    entry: Option<Row>,
    /// Expired entries with a longer matching prefix, the longest first.
    expired: Vec<Row>,
    /// The entry in effect with the most leading bits in common, if the address is rejected.
    nearest: Option<Near>,
    /// The allowlist, which the suggested command has to name.
    #[serde(skip)]
    file: PathBuf,
}

#[derive(Debug, Serialize)]
struct Near {
    entry: Row,
    /// The number of leading bits that the address and the block share; less than the prefix length.
    common_bits: u8,
}

/// Looks up `address` in the allowlist at `now`.
pub(super) fn find(list: &List, address: IpAddr, now: SystemTime) -> Lookup {
    let address = address.to_canonical();
    let mut holding: Vec<_> = list.entries.iter().filter(|listed| listed.entry.cidr.contains(&address)).collect();
    holding.sort_by_key(|listed| std::cmp::Reverse(listed.entry.cidr.prefix_len()));
    let expired = holding.iter().take_while(|listed| listed.entry.has_expired(now));
    let expired: Vec<Row> = expired.map(|listed| Row::new(listed, now)).collect();
    let entry = holding.get(expired.len()).map(|listed| Row::new(listed, now));
    let nearest = if entry.is_none() { nearest(&list.entries, address, now) } else { None };
    Lookup { address, allowed: entry.is_some(), entry, expired, nearest, file: list.file.clone() }
}

/// Returns the entry in effect at `now` that covers all of `block`: the one with the longest prefix, other than `block`
/// itself.
pub(super) fn covering_entry(entries: &[Listed], block: IpNet, now: SystemTime) -> Option<&Listed> {
    let is_around = |listed: &&Listed| {
        let other = &listed.entry;
        other.cidr != block && other.cidr.contains(&block) && !other.has_expired(now)
    };
    entries.iter().filter(is_around).max_by_key(|listed| listed.entry.cidr.prefix_len())
}

fn nearest(entries: &[Listed], address: IpAddr, now: SystemTime) -> Option<Near> {
    let living = entries.iter().filter(|listed| !listed.entry.has_expired(now));
    let near = living.filter_map(|listed| Some((common_bits(listed.entry.cidr.network(), address)?, listed)));
    // The first of equally near entries wins.
    let (common_bits, listed) = near.filter(|(bits, _)| *bits > 0).reduce(|a, b| if b.0 > a.0 { b } else { a })?;
    Some(Near { entry: Row::new(listed, now), common_bits })
}

/// Returns the number of leading bits that two addresses of one family share.
fn common_bits(one: IpAddr, other: IpAddr) -> Option<u8> {
    let bits = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return None,
    };
    u8::try_from(bits).ok()
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.entry {
            Some(entry) => {
                writeln!(f, "{} is allowed by {entry}", self.address)?;
                writeln!(f, "  It is the longest block on the list that holds the address and has not expired.")?;
            }
            None => writeln!(f, "{} is not allowed", self.address)?,
        }
        for entry in &self.expired {
            writeln!(f, "  Expired: {entry}")?;
        }
        if let Some(Near { entry, common_bits }) = &self.nearest {
            writeln!(f, "  Nearest: {entry}; the first {common_bits} bits are the same")?;
        }
        if self.entry.is_none() {
            // An expired entry for this very address has to be replaced.
            let block = IpNet::from(self.address);
            let is_listed = self.expired.first().is_some_and(|entry| entry.is_of(block));
            let replace = if is_listed { " --replace" } else { "" };
            let (block, file) = (cidr::text(block), file_option(&self.file));
            writeln!(f, "  To allow it: trailgate allow add {block} --name NAME --for 8h{replace}{file}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::time::Duration;

    use jiff::Timestamp;
    use proptest::collection::btree_map;
    use proptest::prelude::*;

    use super::*;
    use crate::policy::allowlist::Entries;

    /// Builds a list of entries from pairs of a block, also used as the name, and an optional expiry in seconds.
    fn list<'a>(blocks: impl IntoIterator<Item = (&'a str, Option<i64>)>) -> List {
        let mut text = String::new();
        for (cidr, end) in blocks {
            writeln!(text, "[[allow]]\ncidr = {cidr:?}\nname = {cidr:?}").unwrap();
            if let Some(second) = end {
                writeln!(text, "expires = {}", Timestamp::from_second(second).unwrap()).unwrap();
            }
        }
        List::parse(PathBuf::from("/etc/trailgate/allowlist.toml"), text).unwrap()
    }

    /// Asserts the printed report when the clock shows second 1000.
    #[track_caller]
    fn says<const N: usize>(blocks: [(&str, Option<i64>); N], address: &str, expected: &str) {
        assert_eq!(find(&list(blocks), address.parse().unwrap(), now()).to_string(), expected);
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1000)
    }

    #[test]
    fn longest_valid_block_decides_and_expired_ones_are_listed() {
        let blocks = [("10.0.0.0/8", None), ("10.1.0.0/16", None), ("10.1.2.3", Some(1000))];
        let expected = "10.1.2.3 is allowed by 10.1.0.0/16 \"10.1.0.0/16\" (line 4), read\n  \
                        It is the longest block on the list that holds the address and has not expired.\n  \
                        Expired: 10.1.2.3 \"10.1.2.3\" (line 7), read, ended 1970-01-01T00:16:40Z (0 s ago)\n";
        says(blocks, "10.1.2.3", expected);
        says(blocks, "::ffff:10.1.2.3", expected);
    }

    #[test]
    fn nearest_entry_has_the_longest_common_prefix() {
        let blocks = [("192.0.2.128/26", None), ("192.0.2.16/28", None), ("192.0.2.1", Some(1))];
        let expected = "192.0.2.4 is not allowed\n  \
                        Nearest: 192.0.2.16/28 \"192.0.2.16/28\" (line 4), read; the first 27 bits are the same\n  \
                        To allow it: trailgate allow add 192.0.2.4 --name NAME --for 8h\n";
        says(blocks, "192.0.2.4", expected);
    }

    #[test]
    fn expired_entry_of_the_address_is_offered_for_replacement() {
        let expected = "192.0.2.4 is not allowed\n  \
                        Expired: 192.0.2.4 \"192.0.2.4\" (line 1), read, ended 1970-01-01T00:06:40Z (10 min ago)\n  \
                        To allow it: trailgate allow add 192.0.2.4 --name NAME --for 8h --replace\n";
        says([("192.0.2.4", Some(400))], "192.0.2.4", expected);
    }

    #[test]
    fn command_names_an_allowlist_elsewhere() {
        let list = List { file: PathBuf::from("try/allowlist.toml"), ..list([]) };
        let expected = "192.0.2.4 is not allowed\n  \
                        To allow it: trailgate allow add 192.0.2.4 --name NAME --for 8h --file try/allowlist.toml\n";
        assert_eq!(find(&list, "192.0.2.4".parse().unwrap(), now()).to_string(), expected);
    }

    #[test]
    fn nearest_entry_is_of_the_same_address_family() {
        let expected = "2001:db8::1 is not allowed\n  \
                        To allow it: trailgate allow add 2001:db8::1 --name NAME --for 8h\n";
        says([("192.0.2.0/24", None)], "2001:db8::1", expected);
    }

    proptest! {
        #[test]
        fn check_agrees_with_the_allowlist_of_the_proxy(
            blocks in btree_map((0_u32..16, 26_u8..=32), prop::option::of(0_i64..2000), 0..8),
            address in 0_u32..16,
        ) {
            let at = |host: u32| IpAddr::from((0x0a00_0000 + host).to_be_bytes());
            let block = |((host, length), end)| (IpNet::new_assert(at(host), length).trunc().to_string(), end);
            // Deduplicates blocks that differ only in their host bits.
            let blocks: std::collections::BTreeMap<_, _> = blocks.into_iter().map(block).collect();
            let list = list(blocks.iter().map(|(cidr, end)| (cidr.as_str(), *end)));
            let entries = Entries::parse(&list.file, &list.text).unwrap();
            let decides = entries.find(at(address), now()).map(|entry| entry.cidr);
            let found = find(&list, at(address), now());
            prop_assert_eq!(found.allowed, decides.is_some());
            prop_assert!(decides.is_none_or(|block| found.entry.unwrap().is_of(block)));
        }
    }
}
