//! Connections to the domain that wait for their next request.

use std::error::Error as _;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::connection::Connection;

/// The connections of one [`Upstream`](super::Upstream) that nobody uses.
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// Sweeps so far.
    sweeps: AtomicU32,
    /// How many are kept.
    limit: usize,
}

struct Idle {
    connection: Box<Connection>,
    /// The sweeps before it was idle.
    since: u32,
}

impl Pool {
    pub(super) fn new(limit: usize) -> Self {
        Self { idle: Mutex::default(), sweeps: AtomicU32::new(0), limit }
    }

    /// The connection that was used last, for it is the one that the domain will close last.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.idle().pop()?.connection;
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose answer has been read to its end, if it can take another request.
    pub(super) fn put(&self, mut connection: Box<Connection>) {
        if !connection.is_ready() {
            if connection.error().is_some_and(is_surplus) {
                tracing::warn!("the domain sent more than its answer's Content-Length: the connection is closed");
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
        // Dropped after the lock is free: each drop closes a socket.
        let stale = std::mem::take(&mut *self.idle());
        drop(stale);
    }

    /// Closes what has been idle for too long or was closed by the domain, for as long as it runs.
    pub(super) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = self.sweeps.fetch_add(1, Relaxed).wrapping_add(1);
            self.idle().retain_mut(|idle| now.wrapping_sub(idle.since) <= SWEEPS && idle.connection.is_ready());
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // The list is whole after every statement that changes it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a connection was ended by bytes behind an answer, as opposed to its closing.
fn is_surplus(error: &hyper::Error) -> bool {
    error.source().is_none() && !error.is_incomplete_message() && !error.is_canceled() && !error.is_closed()
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle().len()).field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// How soon a connection is closed that nobody asks for.
const SWEEP: Duration = Duration::from_secs(1);
/// How many sweeps a connection may be idle. The domain's load balancer closes it after 60 seconds or more, so the gate
/// does before.
const SWEEPS: u32 = 40;
