//! The pool of idle upstream connections.

use std::error::Error as _;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;

/// The idle connections of one [`Upstream`](super::Upstream).
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// Sweeps so far.
    sweeps: AtomicU32,
    /// Maximum number of idle connections.
    limit: usize,
}

struct Idle {
    connection: Box<Connection>,
    /// The number of sweeps when it became idle.
    since: u32,
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        Self { idle: Mutex::default(), sweeps: AtomicU32::new(0), limit }
    }

    /// Returns the most recently used connection, because the domain closes it last.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.idle().pop()?.connection;
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose response has been read to its end, if it can send another request.
    pub(super) fn put(&self, mut connection: Box<Connection>) {
        if !connection.is_ready() {
            if connection.error().is_some_and(is_surplus) {
                tracing::warn!(
                    "the domain sent more than the Content-Length of its response: the connection is closed"
                );
            }
            return;
        }
        let mut idle = self.idle();
        if idle.len() < self.limit {
            idle.push(Idle { connection, since: self.sweeps.load(Relaxed) });
        }
    }

    /// Closes every idle connection.
    pub(super) fn clear(&self) {
        // Dropped after the lock is released: each drop closes a socket.
        let stale = std::mem::take(&mut *self.idle());
        drop(stale);
    }

    /// Closes connections that the domain has closed or that have been idle for too long, until it is cancelled.
    pub(super) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = self.sweeps.fetch_add(1, Relaxed).wrapping_add(1);
            self.idle().retain_mut(|idle| now.wrapping_sub(idle.since) <= SWEEPS && idle.connection.is_ready());
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // The list is consistent after every statement that changes it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether bytes after a response ended the connection, as opposed to a close.
fn is_surplus(error: &hyper::Error) -> bool {
    error.source().is_none() && !error.is_incomplete_message() && !error.is_canceled() && !error.is_closed()
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle().len()).field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The interval of sweeps.
const SWEEP: Duration = Duration::from_secs(1);
/// The idle timeout of 40 seconds, in sweeps. The domain's load balancer closes idle connections after 60 seconds or
/// more, so the client closes them earlier.
const SWEEPS: u32 = 40;
