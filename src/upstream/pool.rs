//! Connections to the domain that wait for their next request.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::link::Link;

/// The connections of one [`Upstream`](super::Upstream) that nobody uses.
pub(super) struct Pool {
    idle: Mutex<Vec<Idle>>,
    /// How many are kept.
    limit: usize,
}

struct Idle {
    link: Box<Link>,
    since: Instant,
}

impl Pool {
    pub(super) fn of(limit: usize) -> Self {
        Self { idle: Mutex::default(), limit }
    }

    /// The connection that was used last, for it is the one that the domain will close last.
    pub(super) fn take(&self) -> Option<Box<Link>> {
        loop {
            let idle = self.idle().pop()?;
            if let Some(Idle { link, .. }) = idle.still(Instant::now()) {
                return Some(link);
            }
        }
    }

    /// Keeps a connection whose answer has been read to its end, if it can take another request.
    pub(super) fn put(&self, mut link: Box<Link>) {
        if !link.is_ready() {
            return;
        }
        let mut idle = self.idle();
        if idle.len() < self.limit {
            idle.push(Idle { link, since: Instant::now() });
        }
    }

    /// Closes what has been idle for too long or was closed by the domain, for as long as it runs.
    pub(super) async fn sweep(&self) {
        loop {
            tokio::time::sleep(SWEEP).await;
            let now = Instant::now();
            // Old ones are first, since the newest is taken first.
            let mut idle = self.idle();
            let kept = std::mem::take(&mut *idle).into_iter().filter_map(|idle| idle.still(now)).collect();
            *idle = kept;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // The list is whole after every statement that changes it.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// Itself, if it may still be used.
    fn still(mut self, now: Instant) -> Option<Self> {
        (now.saturating_duration_since(self.since) < IDLE_TIMEOUT && self.link.is_ready()).then_some(self)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("idle", &self.idle().len()).field("limit", &self.limit).finish()
    }
}

/// Idle connections are closed before the domain's load balancer closes them, which it does after 60 seconds or more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(40);
/// How soon a connection is closed that nobody asks for.
const SWEEP: Duration = Duration::from_secs(1);
