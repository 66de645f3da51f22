//! An allowlist entry.

use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::policy::grant::Access;

/// An address block with the access that it grants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The block, without host bits; never an IPv4-mapped IPv6 block.
    pub cidr: IpNet,
    /// The owner's name, for the access log.
    pub name: String,
    /// The access level.
    pub access: Access,
    /// The expiry: the first instant without access. `None` if the entry does not expire.
    pub expires: Option<SystemTime>,
}

impl Entry {
    /// Returns whether the entry has expired at `now`.
    #[must_use]
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Returns the time left at `now`, or `None` if the entry does not expire.
    pub(super) fn remaining(&self, now: SystemTime) -> Option<Duration> {
        Some(self.expires?.duration_since(now).unwrap_or_default())
    }
}
