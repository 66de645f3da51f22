//! The role that signs the requests of an entry: the second lock, because the domain decides what a role may do.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use trailgate_client::{RoleArn, RoleKind, RoleSession, RoleSessions, SessionUser};

use super::allowlist::{Allowlist, Entry};
use super::grant::Access;

/// The roles by access level. An entry's own role wins.
#[derive(Clone, Debug, Default)]
pub struct DefaultRoles {
    /// The role of entries with `view` or `read`.
    pub read: Option<RoleArn>,
    /// The role of entries with `full`.
    pub full: Option<RoleArn>,
}

impl DefaultRoles {
    /// Returns the role of `entry`, unless its requests are signed with the base credentials.
    #[must_use]
    pub fn role<'a>(&'a self, entry: &'a Entry) -> Option<(RoleKind, &'a RoleArn)> {
        let own = entry.role.as_ref().map(|role| (RoleKind::Entry, role));
        own.or_else(|| match entry.access {
            Access::View | Access::Read => Some((RoleKind::Read, self.read.as_ref()?)),
            Access::Full => Some((RoleKind::Full, self.full.as_ref()?)),
        })
    }
}

/// The roles of entries, and the sessions that sign with them; cheap to clone.
#[derive(Clone, Debug)]
pub struct SigningRoles {
    defaults: Arc<DefaultRoles>,
    sessions: RoleSessions,
    /// The user of the proxy's own requests.
    own: Arc<SessionUser>,
}

impl SigningRoles {
    /// Creates signing roles.
    #[must_use]
    pub fn new(defaults: DefaultRoles, sessions: RoleSessions) -> Self {
        let own = Arc::new(SessionUser::new("trailgate", Access::Read.name()));
        Self { defaults: Arc::new(defaults), sessions, own }
    }

    /// Returns the session that signs the requests of `entry`, unless the base credentials do.
    #[must_use]
    pub fn session(&self, entry: &Entry) -> Option<Arc<RoleSession>> {
        let (kind, role) = self.defaults.role(entry)?;
        Some(self.sessions.session(kind, role, entry.user()))
    }

    /// Returns the session that signs the proxy's own requests, which read: the base role may have no right but to assume
    /// others.
    #[must_use]
    pub fn own_session(&self) -> Option<Arc<RoleSession>> {
        Some(self.sessions.session(RoleKind::Read, self.defaults.read.as_ref()?, &self.own))
    }

    /// Returns the roles by access level.
    #[must_use]
    pub fn defaults(&self) -> &DefaultRoles {
        &self.defaults
    }

    /// Returns the live sessions.
    #[must_use]
    pub fn sessions(&self) -> &RoleSessions {
        &self.sessions
    }

    /// Ends the sessions that no entry of `allowlist` needs, each time that another list is in effect.
    pub async fn follow(self, mut allowlist: Allowlist) -> Infallible {
        loop {
            allowlist.changed().await;
            let entries = allowlist.entries();
            let named: HashSet<_> =
                entries.iter().filter_map(|entry| Some((self.defaults.role(entry)?.1, entry.user()))).collect();
            self.sessions.retain(|role, user| *user == *self.own || named.contains(&(role, user)));
        }
    }
}
