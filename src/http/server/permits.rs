//! The connection limit, and the share of it for clients that are not on the allowlist.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::listener::Listener;
use crate::policy::allowlist::Allowlist;

/// Permits for the connections of all listeners.
#[derive(Debug)]
pub(super) struct ConnectionPermits {
    all: Arc<Semaphore>,
    /// A tenth of the limit: unlisted clients that hold connections open (slowloris) must not lock out the others.
    unlisted: Arc<Semaphore>,
    allowlist: Allowlist,
}

/// The permit of one connection, released when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    _any: OwnedSemaphorePermit,
    /// Held only to be dropped.
    unlisted: Option<OwnedSemaphorePermit>,
}

impl ConnectionPermits {
    pub(super) fn new(connections: usize, allowlist: Allowlist) -> Self {
        let unlisted = Arc::new(Semaphore::new((connections / 10).max(1)));
        Self { all: Arc::new(Semaphore::new(connections)), unlisted, allowlist }
    }

    /// Returns a permit for a connection from `peer`, or `None` if none is left for such a client.
    ///
    /// A connection of a trusted proxy counts as listed until its client is known.
    pub(super) fn acquire(&self, listener: &Listener, peer: SocketAddr) -> Option<ConnectionPermit> {
        let any = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut permit = ConnectionPermit { _any: any, unlisted: None };
        if !listener.trusted_proxies.contains(peer.ip()) {
            self.assign_client(&mut permit, peer.ip())?;
        }
        Some(permit)
    }

    /// Counts the connection as unlisted if `client` is. Returns `None` if the unlisted share is used up.
    pub(super) fn assign_client(&self, permit: &mut ConnectionPermit, client: IpAddr) -> Option<()> {
        if self.allowlist.grant(client, SystemTime::now()).is_none() {
            permit.unlisted = Some(Arc::clone(&self.unlisted).try_acquire_owned().ok()?);
        }
        Some(())
    }
}
