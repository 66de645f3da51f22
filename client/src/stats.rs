//! Counters of a client, for export as metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use strum::{IntoStaticStr, VariantArray};

/// Counters since the client was created, shared by all of its pools.
#[derive(Debug, Default)]
pub struct ClientStats {
    open_connections: AtomicU64,
    connections_opened: AtomicU64,
    connections_reused: AtomicU64,
    retries: [AtomicU64; RetryReason::VARIANTS.len()],
    forbidden: [AtomicU64; ForbiddenKind::VARIANTS.len()],
}

/// The reason for a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum RetryReason {
    /// The pooled connection was closed.
    ConnectionClosed,
    /// The domain's clock differs from the signing clock (clock skew).
    Clock,
    /// The domain rejected the credentials, and different ones are available.
    Credentials,
}

/// The kind of a 403 from the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum ForbiddenKind {
    /// The domain computed another signature.
    Signature,
    /// The signature has expired, or is not yet valid.
    Expired,
    /// The domain rejected the credentials.
    Credentials,
    /// The signature is valid, and its identity lacks a permission.
    NotAuthorized,
}

impl ClientStats {
    /// Returns the number of open connections.
    #[must_use]
    pub fn open_connections(&self) -> u64 {
        self.open_connections.load(Ordering::Relaxed)
    }

    /// Returns the number of connections opened so far.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.connections_opened.load(Ordering::Relaxed)
    }

    /// Returns the number of responses over a reused connection.
    #[must_use]
    pub fn connections_reused(&self) -> u64 {
        self.connections_reused.load(Ordering::Relaxed)
    }

    /// Returns the number of retries for `reason`.
    #[must_use]
    pub fn retries(&self, reason: RetryReason) -> u64 {
        self.retries[reason as usize].load(Ordering::Relaxed)
    }

    /// Returns the number of 403 responses of `kind`.
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
