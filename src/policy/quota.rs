//! Quotas of each read entry (load shedding): concurrent calls, and searches that stay open on the domain.
//!
//! All clients share the engine's own limits. Without a quota one client could exhaust them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::StatusCode;
use ipnet::IpNet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::policy::grant::Load;

/// The limits of each read entry of the allowlist.
#[derive(Clone, Copy, Debug)]
pub struct SearchLimits {
    /// The longest keep-alive that a search may request.
    pub keep_alive: Duration,
    /// Open searches: scrolls, points in time, asynchronous searches, cursors.
    pub contexts: usize,
    /// Concurrent calls. More calls wait (backpressure).
    pub concurrent: usize,
}

/// The quotas of all read entries, with their current usage.
#[derive(Debug)]
pub struct Quotas {
    limits: SearchLimits,
    usages: Mutex<HashMap<IpNet, Arc<Usage>>>,
}

/// The current usage of one entry.
#[derive(Debug)]
struct Usage {
    slots: Arc<Semaphore>,
    contexts: Mutex<Contexts>,
}

/// The expiry of each open search.
///
/// Only responses contain the identifiers of searches, and responses are not parsed. So an extension extends the search
/// that expires first. The count is then never lower than the number of open searches.
#[derive(Debug, Default)]
struct Contexts(Vec<Instant>);

/// The quota that an entry has exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuotaError {
    /// Too many calls run, and none ended within `WAIT`.
    #[error("{limit} calls of this entry run already, the most that limits.concurrent_searches allows: try again")]
    Calls {
        /// The limit of concurrent calls.
        limit: usize,
    },
    /// Too many searches are open.
    #[error(
        "{limit} searches of this entry are open already, the most that limits.search_contexts allows: end one, or \
         wait until its keep_alive has passed"
    )]
    Contexts {
        /// The limit of open searches.
        limit: usize,
    },
}

/// A permit for one call. The slot is released on drop.
#[derive(Debug)]
pub struct Ticket {
    load: Load,
    usage: Option<Arc<Usage>>,
    opened: Option<Instant>,
    _slot: Option<OwnedSemaphorePermit>,
}

impl Quotas {
    /// Creates quotas without usage.
    #[must_use]
    pub fn new(limits: SearchLimits) -> Self {
        Self { limits, usages: Mutex::default() }
    }

    /// Returns the longest keep-alive that a search may request.
    #[must_use]
    pub fn keep_alive(&self) -> Duration {
        self.limits.keep_alive
    }

    /// Charges `load` to the quota of `entry`. Waits while too many calls run.
    pub async fn admit(&self, entry: IpNet, load: Load) -> Result<Ticket, QuotaError> {
        if load == Load::None {
            return Ok(Ticket { load, usage: None, opened: None, _slot: None });
        }
        let usage = self.usage(entry);
        // The semaphore is fair: earlier calls are admitted first.
        let slot = timeout(WAIT, Arc::clone(&usage.slots).acquire_owned()).await;
        let slot = slot.ok().and_then(Result::ok).ok_or(QuotaError::Calls { limit: self.limits.concurrent })?;
        let now = Instant::now();
        let opened = match load {
            Load::Open(keep_alive) => Some(usage.contexts().open(now, keep_alive, self.limits.contexts)?),
            Load::Extend(keep_alive) => {
                usage.contexts().extend(now, keep_alive);
                None
            }
            Load::None | Load::Call | Load::End => None,
        };
        Ok(Ticket { load, usage: Some(usage), opened, _slot: Some(slot) })
    }

    fn usage(&self, entry: IpNet) -> Arc<Usage> {
        let mut usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = usages.get(&entry) {
            return Arc::clone(usage);
        }
        // Only before the map grows, so that the cost is amortised over the insertions.
        if usages.len() == usages.capacity() {
            let now = Instant::now();
            usages.retain(|_, usage| Arc::strong_count(usage) > 1 || !usage.contexts().is_empty_at(now));
        }
        let slots = Arc::new(Semaphore::new(self.limits.concurrent.min(Semaphore::MAX_PERMITS)));
        let usage = Arc::new(Usage { slots, contexts: Mutex::default() });
        usages.insert(entry, Arc::clone(&usage));
        usage
    }
}

impl Usage {
    fn contexts(&self) -> MutexGuard<'_, Contexts> {
        self.contexts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Settles the usage by the domain's response: removes a search that was not opened, or that was ended.
    ///
    /// Without a response the usage stays: a search that may be open counts until it expires.
    pub fn answered(self, status: StatusCode) {
        let Some(usage) = &self.usage else { return };
        match (self.load, self.opened) {
            (Load::Open(_), Some(end)) if !status.is_success() => usage.contexts().remove(end),
            (Load::End, _) if status.is_success() => usage.contexts().end(),
            _ => {}
        }
    }
}

impl Contexts {
    /// Adds a search and returns its expiry, or fails if `limit` searches are open.
    fn open(&mut self, now: Instant, keep_alive: Duration, limit: usize) -> Result<Instant, QuotaError> {
        self.0.retain(|end| *end > now);
        if self.0.len() >= limit {
            return Err(QuotaError::Contexts { limit });
        }
        let end = now + keep_alive + REAPER;
        self.0.push(end);
        Ok(end)
    }

    fn extend(&mut self, now: Instant, keep_alive: Duration) {
        self.0.retain(|end| *end > now);
        if let Some(first) = self.0.iter_mut().min() {
            *first = (*first).max(now + keep_alive + REAPER);
        }
    }

    /// Removes the search that expires first.
    fn end(&mut self) {
        if let Some(first) = self.0.iter().min().copied() {
            self.remove(first);
        }
    }

    fn remove(&mut self, end: Instant) {
        if let Some(at) = self.0.iter().position(|other| *other == end) {
            self.0.swap_remove(at);
        }
    }

    fn is_empty_at(&self, now: Instant) -> bool {
        self.0.iter().all(|end| *end <= now)
    }
}

/// The time that a call waits for other calls of its entry to end.
const WAIT: Duration = Duration::from_secs(30);

/// The interval at which the engine closes expired searches.
const REAPER: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn quotas() -> Quotas {
        Quotas::new(SearchLimits { keep_alive: 5 * MINUTE, contexts: 2, concurrent: 2 })
    }

    fn entry(number: u8) -> IpNet {
        format!("192.0.2.{number}/32").parse().unwrap()
    }

    async fn answered(quotas: &Quotas, load: Load, status: StatusCode) -> Result<(), QuotaError> {
        quotas.admit(entry(1), load).await.map(|ticket| ticket.answered(status))
    }

    #[tokio::test(start_paused = true)]
    async fn call_over_the_limit_waits_for_a_free_slot() {
        let quotas = quotas();
        let first = quotas.admit(entry(1), Load::Call).await.unwrap();
        let _second = quotas.admit(entry(1), Load::Call).await.unwrap();
        assert!(timeout(WAIT / 2, quotas.admit(entry(1), Load::Call)).await.is_err());
        assert!(quotas.admit(entry(1), Load::None).await.is_ok());
        assert!(quotas.admit(entry(2), Load::Call).await.is_ok());
        drop(first);
        assert!(quotas.admit(entry(1), Load::Call).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn call_beyond_the_wait_limit_is_rejected() {
        let quotas = quotas();
        let _running = [quotas.admit(entry(1), Load::Call).await, quotas.admit(entry(1), Load::Call).await];
        assert_eq!(quotas.admit(entry(1), Load::Call).await.unwrap_err(), QuotaError::Calls { limit: 2 });
    }

    #[tokio::test(start_paused = true)]
    async fn open_searches_are_bounded_until_they_expire() {
        let quotas = quotas();
        for _ in 0..2 {
            assert_eq!(answered(&quotas, Load::Open(MINUTE), StatusCode::OK).await, Ok(()));
        }
        let full = Err(QuotaError::Contexts { limit: 2 });
        assert_eq!(answered(&quotas, Load::Open(MINUTE), StatusCode::OK).await, full);
        assert_eq!(answered(&quotas, Load::Call, StatusCode::OK).await, Ok(()));
        tokio::time::advance(2 * MINUTE).await;
        assert_eq!(answered(&quotas, Load::Open(MINUTE), StatusCode::OK).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn extended_search_stays_counted() {
        let quotas = quotas();
        for _ in 0..2 {
            answered(&quotas, Load::Open(MINUTE), StatusCode::OK).await.unwrap();
        }
        for _ in 0..2 {
            answered(&quotas, Load::Extend(5 * MINUTE), StatusCode::OK).await.unwrap();
        }
        tokio::time::advance(5 * MINUTE).await;
        let full = Err(QuotaError::Contexts { limit: 2 });
        assert_eq!(answered(&quotas, Load::Open(MINUTE), StatusCode::OK).await, full);
    }

    #[tokio::test(start_paused = true)]
    async fn ended_or_unopened_search_is_not_counted() {
        let quotas = quotas();
        for _ in 0..5 {
            answered(&quotas, Load::Open(MINUTE), StatusCode::BAD_REQUEST).await.unwrap();
        }
        for _ in 0..5 {
            answered(&quotas, Load::Open(MINUTE), StatusCode::OK).await.unwrap();
            answered(&quotas, Load::End, StatusCode::OK).await.unwrap();
        }
        for _ in 0..2 {
            answered(&quotas, Load::Open(MINUTE), StatusCode::OK).await.unwrap();
            answered(&quotas, Load::End, StatusCode::NOT_FOUND).await.unwrap();
        }
        assert!(answered(&quotas, Load::Open(MINUTE), StatusCode::OK).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn search_without_a_response_stays_counted() {
        let quotas = quotas();
        for _ in 0..2 {
            drop(quotas.admit(entry(1), Load::Open(MINUTE)).await.unwrap());
        }
        assert!(quotas.admit(entry(1), Load::Open(MINUTE)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_entries_are_dropped() {
        let quotas = quotas();
        for number in 0..=255 {
            quotas.admit(entry(number), Load::Call).await.unwrap().answered(StatusCode::OK);
        }
        assert!(quotas.usages.lock().unwrap().len() < 16);
    }
}
