//! An allowlist entry.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use trailgate_client::{RoleArn, SessionUser};

use super::last_use::LastUse;
use crate::policy::grant::Access;

/// An address block with the access that it grants.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// The block, without host bits; never an IPv4-mapped IPv6 block.
    pub cidr: IpNet,
    /// The owner's name, for the access log.
    pub name: Arc<str>,
    /// The access level.
    pub access: Access,
    /// The expiry: the first instant without access. `None` if the entry does not expire.
    pub expires: Option<SystemTime>,
    /// The role that signs its requests, unless it is the default of the access level.
    pub role: Option<RoleArn>,
    /// True if its clients may search the access log's indices.
    pub access_log: bool,
    /// The user of its sessions, by name and access level.
    user: SessionUser,
    last_use: LastUse,
}

impl Entry {
    /// Creates an entry that does not expire, with the default role.
    #[must_use]
    pub fn new(cidr: IpNet, name: impl Into<Arc<str>>, access: Access) -> Self {
        let name = name.into();
        let user = SessionUser::new(Arc::clone(&name), access.name());
        Self { cidr, name, access, expires: None, role: None, access_log: false, user, last_use: LastUse::default() }
    }

    /// Sets the expiry.
    #[must_use]
    pub fn until(self, expires: Option<SystemTime>) -> Self {
        Self { expires, ..self }
    }

    /// Sets the entry's own role.
    #[must_use]
    pub fn signed_by(self, role: Option<RoleArn>) -> Self {
        Self { role, ..self }
    }

    /// Sets whether its clients may search the access log's indices.
    #[must_use]
    pub fn with_access_log(self, access_log: bool) -> Self {
        Self { access_log, ..self }
    }

    /// Returns the user of its sessions.
    #[must_use]
    pub fn user(&self) -> &SessionUser {
        &self.user
    }

    /// Records a request of one of its clients at `now`.
    pub(crate) fn mark_used(&self, now: SystemTime) {
        self.last_use.record(now);
    }

    /// Returns the time of the last request of one of its clients since the proxy started, to the minute.
    pub(crate) fn last_used(&self) -> Option<SystemTime> {
        self.last_use.time()
    }

    /// Takes over the last use of the same entry in an older list.
    pub(super) fn inherit_last_use(&self, older: &Self) {
        self.last_use.inherit(&older.last_use);
    }

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
