//! An entry of the allowlist.

use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::policy::grant::Access;

/// One block of addresses that is let in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The block, without host bits; never an IPv4-mapped IPv6 block.
    pub cidr: IpNet,
    /// The name of its owner, for the access log.
    pub name: String,
    /// The access that it grants.
    pub access: Access,
    /// The first instant at which the block no longer passes; `None` lasts until it is removed.
    pub expires: Option<SystemTime>,
}

impl Entry {
    /// Returns whether the grant has ended at `now`.
    #[must_use]
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }

    /// Returns the time left at `now`, or `None` if the entry does not expire.
    pub(super) fn remaining(&self, now: SystemTime) -> Option<Duration> {
        Some(self.expires?.duration_since(now).unwrap_or_default())
    }
}
