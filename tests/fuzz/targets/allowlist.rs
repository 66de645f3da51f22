//! An allowlist of any text: it is refused with a line that is there, or each client gets the entry that a look at all
//! of them finds.
#![no_main]

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use libfuzzer_sys::fuzz_target;
use trailgate::allowlist::Entries;

fuzz_target!(|text: &str| {
    let now = UNIX_EPOCH + NOW;
    let entries = match Entries::parse(Path::new("allowlist.toml"), text) {
        Ok(entries) => entries,
        Err(error) => {
            let error = error.to_string();
            let line = error.split(':').nth(1).and_then(|line| line.parse::<usize>().ok());
            assert!(line.is_some_and(|line| (1..=text.split('\n').count()).contains(&line)), "{error}");
            assert!(!error.contains('\n'), "{error}");
            return;
        }
    };
    let edges = entries.iter().flat_map(|entry| [entry.cidr.network(), entry.cidr.broadcast()]);
    let elsewhere = ["203.0.113.7", "2001:db8::7"].map(|client| client.parse().unwrap());
    for client in edges.chain(elsewhere) {
        let holds = entries.iter().filter(|entry| entry.cidr.contains(&client.to_canonical()));
        let expected = holds.filter(|entry| !entry.has_expired(now)).max_by_key(|entry| entry.cidr.prefix_len());
        assert_eq!(entries.find(client, now), expected, "{client}");
    }
});

/// In 2026, between the dates that people write.
const NOW: Duration = Duration::from_hours(24 * 20_600);
