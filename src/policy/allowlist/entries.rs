//! The parsed allowlist and its lookup: longest prefix match over the entries that have not expired.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use ipnet::IpNet;
use thiserror::Error;

use super::entry::Entry;
use super::file::{self, EntryError};
use crate::watched_file::{self, Text};

/// A complete allowlist. No two entries have the same block.
///
/// A lookup hashes the client's address at each prefix length that occurs, longest first. It costs one probe a length,
/// of which lists have a handful, and the same for ten entries as for 100,000. A tree would cost a cache miss a node.
#[derive(Debug, Default)]
pub struct Entries {
    blocks: HashMap<IpNet, Arc<Entry>>,
    v4_lengths: Lengths,
    v6_lengths: Lengths,
}

/// The prefix lengths that occur in one address family, longest first.
type Lengths = Vec<u8>;

impl Entries {
    /// Parses the text of an allowlist. One invalid entry rejects the whole text. `file` is only for the messages.
    pub fn parse(file: &Path, text: &str) -> Result<Self, EntryError> {
        Ok(file::parse(file, text)?.into_iter().collect())
    }

    /// Reads and parses an allowlist file.
    pub fn load(file: &Path) -> Result<Self, LoadError> {
        Self::read(file, Ok(Arc::new(read(file)?)), &Self::default())
    }

    /// Parses the result of reading `file`. An entry that `older` has, too, is shared with it. A list without entries is
    /// an error, unless the file says `allow = []`: a file that a full disk truncated must not reject every client.
    pub fn read(file: &Path, text: Text, older: &Self) -> Result<Self, LoadError> {
        let text = text.map_err(|reason| LoadError::Unreadable { file: file.to_owned(), reason })?;
        let mut blocks = HashMap::with_capacity(older.len());
        let says_so = file::parse_each(file, &text, |entry| {
            let known = older.blocks.get(&entry.cidr).filter(|known| ***known == entry);
            let entry = known.cloned().unwrap_or_else(|| Arc::new(entry));
            blocks.insert(entry.cidr, entry).is_none()
        })?;
        if blocks.is_empty() && !says_so {
            let has_lost_lines =
                text.lines().any(|line| line.starts_with('#') && line.contains("[[allow]]") && line.contains("cidr"));
            let reason = if has_lost_lines { EmptyReason::OneLine } else { EmptyReason::NoEntry };
            return Err(LoadError::Empty { file: file.to_owned(), reason });
        }
        Ok(blocks.into())
    }

    /// Returns the entry that grants `client` access at `now`.
    #[must_use]
    pub fn find(&self, client: IpAddr, now: SystemTime) -> Option<&Arc<Entry>> {
        // An expired entry does not hide the next wider one.
        self.holding(client).find(|entry| !entry.has_expired(now))
    }

    /// Returns the entry for this very address, expired or not.
    pub(crate) fn get(&self, address: IpAddr) -> Option<&Arc<Entry>> {
        self.blocks.get(&IpNet::from(address.to_canonical()))
    }

    /// Returns the latest expiry of the entries of `client` that have expired at `now`.
    #[must_use]
    pub fn expiry(&self, client: IpAddr, now: SystemTime) -> Option<SystemTime> {
        self.holding(client).filter_map(|entry| entry.expires).filter(|at| *at <= now).max()
    }

    /// Returns the entries that contain `client`, longest prefix first.
    fn holding(&self, client: IpAddr) -> impl Iterator<Item = &Arc<Entry>> {
        let client = client.to_canonical();
        let lengths = if client.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        let blocks = lengths.iter().filter_map(move |&length| IpNet::new(client, length).ok());
        blocks.filter_map(|block| self.blocks.get(&block.trunc()))
    }

    /// Returns the number of entries, including expired ones.
    #[must_use]
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Returns whether the list is empty, so that every client is rejected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Returns all entries in the order of their addresses, IPv4 before IPv6.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let mut entries: Vec<_> = self.blocks.values().collect();
        entries.sort_by_key(|entry| entry.cidr);
        entries.into_iter()
    }

    /// Counts the entries that have expired at `now`.
    #[must_use]
    pub fn expired(&self, now: SystemTime) -> usize {
        self.blocks.values().filter(|entry| entry.has_expired(now)).count()
    }

    /// Takes over the last use of the entries that `older` has, too.
    pub(super) fn inherit_last_use(&self, older: &Self) {
        for (block, entry) in &self.blocks {
            if let Some(older) = older.blocks.get(block).filter(|older| older.name == entry.name) {
                entry.inherit_last_use(older);
            }
        }
    }

    /// Counts the entries that `other` lacks or has with other values.
    pub(crate) fn missing_from(&self, other: &Self) -> usize {
        let has = |entry: &Entry| other.blocks.get(&entry.cidr).is_some_and(|it| **it == *entry);
        self.blocks.values().filter(|entry| !has(entry)).count()
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<I: IntoIterator<Item = Entry>>(list: I) -> Self {
        let blocks: HashMap<_, _> = list.into_iter().map(|entry| (entry.cidr, Arc::new(entry))).collect();
        blocks.into()
    }
}

impl From<HashMap<IpNet, Arc<Entry>>> for Entries {
    fn from(blocks: HashMap<IpNet, Arc<Entry>>) -> Self {
        let (v4, v6): (Vec<_>, Vec<_>) = blocks.keys().partition(|block| block.addr().is_ipv4());
        let (v4_lengths, v6_lengths) = (lengths(v4), lengths(v6));
        Self { blocks, v4_lengths, v6_lengths }
    }
}

fn lengths(blocks: Vec<&IpNet>) -> Lengths {
    let lengths: BTreeSet<_> = blocks.into_iter().map(IpNet::prefix_len).collect();
    lengths.into_iter().rev().collect()
}

/// The reason why an allowlist file is rejected.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum LoadError {
    /// The file does not exist, is not readable, or is not UTF-8.
    #[error("{}: cannot be read: {reason}", .file.display())]
    Unreadable {
        /// The requested file.
        file: PathBuf,
        /// The system's error message.
        reason: String,
    },
    /// An entry is invalid, or the file is not TOML.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The file has no entries and does not say `allow = []`, so this is a mistake.
    #[error("{}: {reason}", .file.display())]
    Empty {
        /// The file that was read.
        file: PathBuf,
        /// The likely mistake.
        reason: EmptyReason,
    },
}

/// The reason why an allowlist has no entries.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum EmptyReason {
    /// The text contains no `[[allow]]`.
    #[error("has no entries: write at least one [[allow]], or allow = [] to reject every client")]
    NoEntry,
    /// All entries are in one comment: something has replaced the line ends by spaces.
    #[error("has no entries: its line ends are lost, so the first # comments out the rest")]
    OneLine,
}

/// Returns the text of an allowlist file.
pub(crate) fn read(file: &Path) -> Result<String, LoadError> {
    watched_file::read_in_time(file)
        .map_err(|error| LoadError::Unreadable { file: file.to_owned(), reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::{
        fmt::Write,
        net::{Ipv4Addr, Ipv6Addr},
        time::{Duration, UNIX_EPOCH},
    };

    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::policy::grant::Access;

    #[test]
    fn longest_matching_block_decides() {
        let list = "10.0.0.0/8 10.1.0.0/16 10.1.2.3 2001:db8::/32 2001:db8::7";
        finds(list, "10.1.2.3", Some("10.1.2.3/32"));
        finds(list, "10.1.2.4", Some("10.1.0.0/16"));
        finds(list, "10.2.0.0", Some("10.0.0.0/8"));
        finds(list, "11.0.0.0", None);
        finds(list, "2001:db8::7", Some("2001:db8::7/128"));
        finds(list, "2001:db8::8", Some("2001:db8::/32"));
        finds(list, "2001:db9::", None);
        finds("", "10.1.2.3", None);
    }

    #[test]
    fn default_block_of_one_family_does_not_match_the_other() {
        finds("0.0.0.0/0", "255.255.255.255", Some("0.0.0.0/0"));
        finds("0.0.0.0/0", "::1", None);
        finds("::/0", "ffff::", Some("::/0"));
        finds("::/0", "10.0.0.1", None);
        finds("::/0", "::ffff:10.0.0.1", None);
    }

    #[test]
    fn mapped_addresses_match_as_ipv4_on_both_sides() {
        finds("10.0.0.0/8", "::ffff:10.1.2.3", Some("10.0.0.0/8"));
        finds("::ffff:10.0.0.0/104", "10.1.2.3", Some("10.0.0.0/8"));
        finds("::ffff:10.1.2.3", "10.1.2.3", Some("10.1.2.3/32"));
        finds("::ffff:0:0/96", "::ffff:10.1.2.3", Some("0.0.0.0/0"));
        // The old "compatible" form is an IPv6 address like any other.
        finds("10.0.0.0/8", "::10.1.2.3", None);
    }

    #[test]
    fn grant_ends_at_its_expiry() {
        let end = UNIX_EPOCH + Duration::from_hours(500_000);
        let entries = of([entry("10.1.2.3/32", Some(end)), entry("10.0.0.0/8", None)]);
        let name = |now: SystemTime| &*entries.find([10, 1, 2, 3].into(), now).unwrap().name;
        assert_eq!(name(end - Duration::from_nanos(1)), "10.1.2.3/32");
        // An expired address does not hide the unexpired block around it.
        assert_eq!(name(end), "10.0.0.0/8");
        assert_eq!(entries.expired(end - Duration::from_nanos(1)), 0);
        assert_eq!(entries.expired(end), 1);
    }

    #[test]
    fn expiry_is_the_latest_of_the_clients_own_entries() {
        let at = |hours| UNIX_EPOCH + Duration::from_hours(hours);
        let entries = of([
            entry("10.1.2.3/32", Some(at(1))),
            entry("10.0.0.0/8", Some(at(2))),
            entry("192.0.2.0/24", Some(at(3))),
        ]);
        assert_eq!(entries.expiry([10, 1, 2, 3].into(), at(9)), Some(at(2)));
        assert_eq!(entries.expiry([10, 1, 2, 3].into(), at(1)), Some(at(1)));
        assert_eq!(entries.expiry([172, 16, 0, 1].into(), at(9)), None);
    }

    #[test]
    fn client_with_only_expired_entries_is_rejected() {
        let past = Some(UNIX_EPOCH);
        let entries = of(["0.0.0.0/0", "10.0.0.0/8", "10.1.2.3/32"].map(|cidr| entry(cidr, past)));
        assert_eq!(entries.find([10, 1, 2, 3].into(), SystemTime::now()), None);
    }

    #[test]
    fn changed_entry_counts_as_added_and_removed() {
        let old = of([entry("10.0.0.0/8", None), entry("192.0.2.0/24", None)]);
        let new = of([entry("10.0.0.0/8", Some(UNIX_EPOCH)), entry("192.0.2.0/24", None), entry("::1/128", None)]);
        assert_eq!(new.missing_from(&old), 2);
        assert_eq!(old.missing_from(&new), 1);
    }

    #[test]
    fn unchanged_entry_of_an_older_list_is_shared() {
        let read = |text: &str, older: &Entries| {
            Entries::read(Path::new("allowlist.toml"), Ok(Arc::new(text.to_owned())), older).unwrap()
        };
        let entry = |cidr: &str, name: &str| format!("[[allow]]\ncidr = \"{cidr}\"\nname = \"{name}\"\n");
        let older = read(&[entry("192.0.2.1", "a"), entry("192.0.2.2", "b")].concat(), &Entries::default());
        let newer = read(&[entry("192.0.2.1", "a"), entry("192.0.2.2", "other")].concat(), &older);
        let is_shared = |address: [u8; 4]| {
            let address = address.into();
            Arc::ptr_eq(older.get(address).unwrap(), newer.get(address).unwrap())
        };
        assert_eq!([is_shared([192, 0, 2, 1]), is_shared([192, 0, 2, 2])], [true, false]);
        assert_eq!(&*newer.get([192, 0, 2, 2].into()).unwrap().name, "other");
    }

    #[test]
    fn shipped_list_allows_only_the_loopback_addresses() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/allowlist.toml");
        let entries = Entries::load(&file).unwrap();
        let found: Vec<_> = entries.iter().map(|it| (it.cidr, &*it.name, it.access)).collect();
        let expected = ["127.0.0.1/32", "::1/128"].map(|it| (it.parse().unwrap(), "this machine", Access::Full));
        assert_eq!(found, expected);
        assert_eq!(entries.expired(SystemTime::now()), 0);
    }

    #[test]
    fn commented_examples_of_the_shipped_list_are_valid() {
        let shipped = include_str!("../../../config/allowlist.toml");
        let examples: Vec<_> = shipped
            .lines()
            .filter_map(|line| line.strip_prefix("#"))
            // Prose has a space after the `#`.
            .filter(|line| line.starts_with("[[allow]]") || (line.contains(" = ") && !line.starts_with(' ')))
            .collect();
        let entries = Entries::parse(Path::new("examples"), &examples.join("\n")).unwrap();
        assert!(entries.len() >= 3, "{} examples", entries.len());
    }

    #[test]
    fn missing_file_is_reported_with_its_path() {
        let error = Entries::load(Path::new("/nowhere/allowlist.toml")).unwrap_err();
        let text = "/nowhere/allowlist.toml: cannot be read: No such file or directory (os error 2)";
        assert_eq!(error.to_string(), text);
    }

    proptest! {
        #[test]
        fn find_agrees_with_a_scan_of_the_whole_list(
            list in vec((address(), 0_u8..=128, 0_u64..4), 0..24),
            clients in vec(address(), 1..8),
            now in 0_u64..5,
        ) {
            let entries = of(list.into_iter().map(|(ip, bits, expires)| {
                let expires = (expires > 0).then(|| second(expires));
                entry(&format!("{ip}/{}", if ip.is_ipv4() { bits % 33 } else { bits }), expires)
            }));
            let now = second(now);
            for client in clients {
                let scanned = entries
                    .iter()
                    .filter(|it| it.cidr.contains(&client.to_canonical()))
                    .filter(|it| it.expires.is_none_or(|at| now < at))
                    .max_by_key(|it| it.cidr.prefix_len());
                prop_assert_eq!(entries.find(client, now), scanned);
            }
        }
    }

    /// Generates addresses that are close together, so that blocks nest and contain clients.
    fn address() -> impl Strategy<Value = IpAddr> {
        const V4: &[u32] = &[0, 1, 0x0a00_0000, 0x0a01_0203, 0x0a01_0204, u32::MAX];
        const V6: &[u128] = &[0, 1, 0x2001_0db8 << 96, (0x2001_0db8 << 96) + 7, 0xffff_0a01_0203, u128::MAX];
        prop_oneof![
            (select(V4), 0_u32..4).prop_map(|(ip, flip)| Ipv4Addr::from(ip ^ flip).into()),
            (select(V6), 0_u128..4).prop_map(|(ip, flip)| Ipv6Addr::from(ip ^ flip).into()),
        ]
    }

    fn second(number: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(number)
    }

    #[track_caller]
    fn finds(list: &str, client: &str, expected: Option<&str>) {
        let mut text = String::new();
        for cidr in list.split_whitespace() {
            writeln!(text, "[[allow]]\ncidr = {cidr:?}\nname = \"x\"").unwrap();
        }
        let entries = Entries::parse(Path::new("allowlist.toml"), &text).unwrap();
        let found = entries.find(client.parse().unwrap(), SystemTime::now());
        assert_eq!(found.map(|it| it.cidr.to_string()).as_deref(), expected);
    }

    fn entry(cidr: &str, expires: Option<SystemTime>) -> Entry {
        let cidr: IpNet = cidr.parse().unwrap();
        Entry::new(cidr.trunc(), cidr.to_string(), Access::Read).until(expires)
    }

    fn of(list: impl IntoIterator<Item = Entry>) -> Entries {
        list.into_iter().collect()
    }
}
