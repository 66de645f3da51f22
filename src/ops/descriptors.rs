//! File descriptors: how many there are, and how connections share them.
//!
//! A process that has used them all can neither accept a client, nor read its allowlist, nor connect to the domain. So
//! clients get only as many connections as leave one for each to the domain, and a reserve for everything else.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The connections that fit into the descriptors of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// Of clients.
    pub clients: usize,
    /// To the domain.
    pub upstream: usize,
}

impl Share {
    /// Shares out what is left of `limit` descriptors when `used` are open, to at most `connections` clients.
    #[must_use]
    pub(crate) fn of(limit: usize, used: usize, connections: usize) -> Self {
        let left = limit.saturating_sub(used);
        let for_connections = left - RESERVE.min(left / 4);
        let clients = connections.min(for_connections / 2).max(1);
        Self { clients, upstream: for_connections.saturating_sub(clients).max(1) }
    }

    /// Says what does not fit, if fewer than `connections` clients do.
    #[must_use]
    pub(crate) fn warning(self, limit: usize, connections: usize) -> Option<String> {
        (self.clients < connections).then(|| {
            let (clients, needed) = (self.clients, 2 * connections + RESERVE + AT_START);
            format!(
                "limits.connections = {connections} needs {needed} file descriptors and {limit} may be open: only \
                 {clients} connections are accepted; raise the hard limit (LimitNOFILE=, ulimit -Hn) or lower \
                 limits.connections"
            )
        })
    }
}

/// Raises the soft limit to the hard one, and returns how many descriptors may be open; nothing if that is not known.
#[must_use]
pub(crate) fn raise_limit() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let wanted = hard.min(MOST);
    // A sandbox can forbid it; then the soft limit stays.
    let limit = if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    usize::try_from(limit).ok()
}

/// Counts the descriptors that are open.
#[must_use]
pub(crate) fn count_open() -> usize {
    fs::read_dir("/proc/self/fd").map_or(AT_START, Iterator::count)
}

/// Descriptors for files, name look-ups, credentials, and the connections of the operator.
const RESERVE: usize = 128;
/// Descriptors that are open when the proxy has started, about: standard streams, listeners, event queues.
pub(crate) const AT_START: usize = 32;
/// Descriptors that a limit is raised to at most: no limit at all means this, which is the kernel's own (`fs.nr_open`).
const MOST: u64 = 1_048_576;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_limits_leave_a_reserve_and_an_upstream_share() {
        assert_eq!(Share::of(1024, 24, 10_000), Share { clients: 436, upstream: 436 });
        assert_eq!(Share::of(32_768, 32, 10_000), Share { clients: 10_000, upstream: 22_608 });
        assert_eq!(Share::of(16, 20, 10_000), Share { clients: 1, upstream: 1 });
    }

    #[test]
    fn warning_names_what_fits() {
        let warning = Share::of(1024, 24, 10_000).warning(1024, 10_000).unwrap();
        assert!(
            warning.starts_with("limits.connections = 10000 needs 20160 file descriptors and 1024 may"),
            "{warning}"
        );
        assert!(warning.contains("only 436 connections are accepted"), "{warning}");
        assert_eq!(Share::of(32_768, 32, 10_000).warning(32_768, 10_000), None);
    }
}
