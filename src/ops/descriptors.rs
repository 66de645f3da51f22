//! File descriptor limits: the number available, and how connections share them.
//!
//! A process without free descriptors can neither accept a client, read its allowlist, nor connect to the domain. The
//! limit on client connections therefore leaves one descriptor per client for the domain, and a reserve for the rest.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The connection limits that fit into the process's descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// The maximum number of client connections.
    pub clients: usize,
    /// The maximum number of connections to the domain.
    pub upstream: usize,
}

impl Share {
    /// Divides what is left of `limit` descriptors when `used` are open, among at most `connections` clients.
    #[must_use]
    pub(crate) fn of(limit: usize, used: usize, connections: usize) -> Self {
        let left = limit.saturating_sub(used);
        let for_connections = left - RESERVE.min(left / 4);
        let clients = connections.min(for_connections / 2).max(1);
        Self { clients, upstream: for_connections.saturating_sub(clients).max(1) }
    }

    /// Returns a warning if fewer than `connections` clients fit.
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

/// Raises the soft limit to the hard limit, and returns the new limit, or `None` if it is unknown.
#[must_use]
pub(crate) fn raise_limit() -> Option<usize> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    let wanted = hard.min(MOST);
    // A sandbox can forbid it. The soft limit then stays in effect.
    let limit = if soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok() { wanted } else { soft };
    usize::try_from(limit).ok()
}

/// Returns the number of open descriptors.
#[must_use]
pub(crate) fn count_open() -> usize {
    fs::read_dir("/proc/self/fd").map_or(AT_START, Iterator::count)
}

/// Descriptors reserved for files, name look-ups, credentials, and the operator's connections.
const RESERVE: usize = 128;
/// Approximate number of open descriptors after the start: standard streams, listeners, event queues.
pub(crate) const AT_START: usize = 32;
/// The largest limit to set, in place of an unlimited one: the kernel's own maximum (`fs.nr_open`).
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
    fn warning_states_the_connections_that_fit() {
        let warning = Share::of(1024, 24, 10_000).warning(1024, 10_000).unwrap();
        assert!(
            warning.starts_with("limits.connections = 10000 needs 20160 file descriptors and 1024 may"),
            "{warning}"
        );
        assert!(warning.contains("only 436 connections are accepted"), "{warning}");
        assert_eq!(Share::of(32_768, 32, 10_000).warning(32_768, 10_000), None);
    }
}
