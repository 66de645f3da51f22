//! Counts of what a client does, for whoever exports them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strum::{IntoStaticStr, VariantArray};

/// Counts since the client was made, shared by all of its pools.
#[derive(Debug, Default)]
pub struct ClientStats {
    open_connections: AtomicU64,
    connections_opened: AtomicU64,
    connections_reused: AtomicU64,
    retries: [AtomicU64; RetryReason::VARIANTS.len()],
    forbidden: [AtomicU64; ForbiddenKind::VARIANTS.len()],
}

/// Why a request was sent once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RetryReason {
    /// The pooled connection turned out to be closed.
    ConnectionClosed,
    /// The domain's clock differs from the one that the request was signed by.
    Clock,
    /// The domain rejected the credentials, and others are there.
    Credentials,
}

/// What a 403 of the domain is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ForbiddenKind {
    /// The domain computed another signature.
    Signature,
    /// The domain found the signature expired, or not yet valid.
    Expired,
    /// The domain rejected the credentials.
    Credentials,
    /// The signature is valid, and its identity may not do this.
    NotAuthorized,
}

impl ClientStats {
    /// Returns the number of connections that are open.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.open_connections.load(Ordering::Relaxed)
    }

    /// Returns the number of connections opened so far.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.connections_opened.load(Ordering::Relaxed)
    }

    /// Returns the number of responses over a connection that had carried one before.
    #[must_use]
    pub fn connections_reused(&self) -> u64 {
        self.connections_reused.load(Ordering::Relaxed)
    }

    /// Returns the number of retries for `reason`.
    #[must_use]
    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.retries[reason as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of 403s of `kind`.
    #[must_use]
    pub fn forbidden(&self, kind: ForbiddenKind) -> u64 {
        self.forbidden[kind as usize].load(Ordering::Relaxed)
    }

    pub(crate) fn count_reuse(&self) {
        self.connections_reused.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_retry(&self, reason: RetryReason) {
        self.retries[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_forbidden(&self, kind: ForbiddenKind) {
        self.forbidden[kind as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a connection as open until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenConnection(Arc<ClientStats>);

impl OpenConnection {
    pub(crate) fn count(stats: &Arc<ClientStats>) -> Self {
        stats.connections_opened.fetch_add(1, Ordering::Relaxed);
        stats.open_connections.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(stats))
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open_connections.fetch_sub(1, Ordering::Relaxed);
    }
}
