//! Buffers request bodies: read whole, because their hash is signed, and bounded by a memory budget (backpressure).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use trailgate_client::{BodyHasher, HashedBody};

/// The memory that all bodies in flight share.
///
/// One lane of `max_body` bytes is reserved. A request that finds the rest used up waits for the lane, and the request
/// that holds it can read to its end. Uploads that together need more than the budget therefore queue instead of
/// deadlocking.
///
/// A reserved part serves the first [`SMALL_BODY`] bytes of bodies that find the rest used up, so that no search waits
/// for uploads. One client gets only a share of either part, so its stalled uploads delay only itself.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    shared: Arc<Semaphore>,
    small: Arc<Semaphore>,
    lane: Arc<Semaphore>,
    clients: Arc<Clients>,
    limits: BodyLimits,
    waits: Histogram,
}

/// The limits of request bodies.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Maximum bytes of one body.
    pub max_body: usize,
    /// Maximum bytes of all bodies in flight; at least `max_body`.
    pub buffer_memory: usize,
    /// The time for each [`PROGRESS_BYTES`] bytes of a body, and for a request's wait for memory.
    pub timeout: Duration,
}

/// Bytes that a client has to send within `body_timeout` (slowloris protection); a slower one is cut off.
pub(crate) const PROGRESS_BYTES: usize = 64 * 1024;

impl MemoryBudget {
    /// Creates a budget of `limits.buffer_memory` bytes. `waits` observes the seconds for which bodies wait for memory.
    #[must_use]
    pub fn new(limits: BodyLimits, waits: Histogram) -> Self {
        let parts = Parts::of(limits);
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let clients = Arc::new(Clients { parts: parts.of_client(limits), known: Mutex::default() });
        let (shared, small, lane) = (semaphore(parts.shared), semaphore(parts.small), semaphore(1));
        Self { shared, small, lane, clients, limits, waits }
    }

    /// Returns the bytes in use. A held lane counts as a whole.
    #[must_use]
    pub fn taken(&self) -> usize {
        let parts = Parts::of(self.limits);
        let shared = parts.shared - self.shared.available_permits();
        let small = parts.small - self.small.available_permits();
        let lane = if self.lane.available_permits() == 0 { self.limits.max_body } else { 0 };
        shared + small + lane
    }

    /// Returns the size of the budget in bytes.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limits.buffer_memory
    }

    /// Reads `body` to its end and hashes it on the way.
    ///
    /// Acquires memory as bytes arrive, and releases it when the [`MemoryPermit`] is dropped.
    pub async fn buffer<B>(
        &self,
        client: IpAddr,
        mut body: B,
    ) -> Result<(HashedBody, MemoryPermit), BodyError<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let limit = self.limits.max_body;
        if body.size_hint().lower() > limit as u64 {
            return Err(BodyError::TooLarge { limit });
        }
        if body.is_end_stream() {
            return Ok((HashedBody::empty(), MemoryPermit::default()));
        }
        let mut permit = MemoryPermit { client: Some(self.clients.of(client)), ..MemoryPermit::default() };
        let mut hasher = BodyHasher::default();
        let mut stride = ProgressDeadline::start(self.limits.timeout);
        while !body.is_end_stream() {
            let Some(frame) = timeout_at(stride.deadline, body.frame()).await.map_err(|_| BodyError::Slow)? else {
                break;
            };
            // Trailers are not forwarded: no Elasticsearch API reads them.
            let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
            if hasher.len() + data.len() > limit {
                return Err(BodyError::TooLarge { limit });
            }
            let waited = Instant::now();
            self.take(&mut permit, hasher.len(), data.len()).await.ok_or(BodyError::Overloaded)?;
            stride.advance(data.len(), waited.elapsed());
            hasher.push(data);
        }
        Ok((hasher.finish(), permit))
    }

    /// Adds `bytes` to `permit`, or returns `None` if they do not become free in time.
    async fn take(&self, permit: &mut MemoryPermit, before: usize, bytes: usize) -> Option<()> {
        if permit.lane.is_some() {
            return Some(());
        }
        let permits = u32::try_from(bytes).ok()?;
        let client = Arc::clone(permit.client.as_ref()?);
        let own = Arc::clone(&client.shared).try_acquire_many_owned(permits);
        match own.and_then(|own| Ok((own, Arc::clone(&self.shared).try_acquire_many_owned(permits)?))) {
            Ok((own, more)) => {
                permit.add(own, more);
                Some(())
            }
            // Boxed: this rare branch would otherwise enlarge every request's future.
            Err(_) => Box::pin(self.wait(permit, &client, before + bytes, permits)).await,
        }
    }

    async fn wait(&self, permit: &mut MemoryPermit, client: &Client, total: usize, permits: u32) -> Option<()> {
        let _wait = Wait { since: Instant::now(), waits: &self.waits };
        let from = async |own: &Arc<Semaphore>, all: &Arc<Semaphore>| {
            // The client's own share first: a client that has used it up must not occupy the queue of all.
            let own = Arc::clone(own).acquire_many_owned(permits).await.ok()?;
            Some((own, Arc::clone(all).acquire_many_owned(permits).await.ok()?))
        };
        tokio::select! {
            biased;
            more = from(&client.shared, &self.shared) => {
                let (own, more) = more?;
                permit.add(own, more);
            }
            more = from(&client.small, &self.small), if total <= SMALL_BODY => permit.small.extend(more),
            // The bytes held so far stay counted against the shared part; the lane covers the rest.
            lane = Arc::clone(&self.lane).acquire_owned() => permit.lane = lane.ok(),
            () = sleep(self.limits.timeout) => return None,
        }
        Some(())
    }
}

/// A wait for memory, recorded when it ends, even if the client leaves first.
struct Wait<'a> {
    since: Instant,
    waits: &'a Histogram,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waits.observe(self.since.elapsed().as_secs_f64());
    }
}

/// The sizes in bytes of a budget's parts, without the lane.
#[derive(Clone, Copy, Debug)]
struct Parts {
    shared: usize,
    small: usize,
}

impl Parts {
    fn of(limits: BodyLimits) -> Self {
        let both = limits.buffer_memory.saturating_sub(limits.max_body);
        // A budget that is hardly larger than one body is not divided further.
        let small = if both < SMALLEST_CUT { 0 } else { (both / 8).min(SMALL_PART) };
        Self { shared: both - small, small }
    }

    /// Returns the share of one client: half of each part, or the largest body if that is more.
    fn of_client(self, limits: BodyLimits) -> Self {
        Self { shared: self.shared.min(limits.max_body.max(self.shared / 2)), small: self.small.div_ceil(2) }
    }
}

/// The shares of the clients that have bodies in flight.
#[derive(Debug)]
struct Clients {
    parts: Parts,
    known: Mutex<HashMap<IpAddr, Weak<Client>>>,
}

/// The remaining share of one client.
#[derive(Debug)]
struct Client {
    shared: Arc<Semaphore>,
    small: Arc<Semaphore>,
}

impl Clients {
    fn of(&self, client: IpAddr) -> Arc<Client> {
        // A poisoned map is consistent: nothing below panics during an update.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = known.get(&client).and_then(Weak::upgrade) {
            return share;
        }
        if known.len() >= FORGET_AT {
            known.retain(|_, share| share.strong_count() > 0);
        }
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let share = Arc::new(Client { shared: semaphore(self.parts.shared), small: semaphore(self.parts.small) });
        known.insert(client, Arc::downgrade(&share));
        share
    }
}

/// The reason why a body was not read to its end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError<E> {
    /// The body is longer than `limit` bytes.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// Maximum bytes of one body.
        limit: usize,
    },
    /// The client sent too slowly.
    #[error("the body arrived too slowly")]
    Slow,
    /// Other bodies held the memory for too long.
    #[error("too many large requests are in flight; try again")]
    Overloaded,
    /// The connection failed, or the chunked coding is malformed.
    #[error("the body is malformed or broke off")]
    Broken(#[source] E),
}

/// The share of the [`MemoryBudget`] that one body holds.
#[derive(Debug, Default)]
pub struct MemoryPermit {
    /// Permits of the client's share and of the shared part.
    shared: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    /// Permits of the parts for small bodies.
    small: Vec<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    lane: Option<OwnedSemaphorePermit>,
    client: Option<Arc<Client>>,
}

impl MemoryPermit {
    fn add(&mut self, own: OwnedSemaphorePermit, more: OwnedSemaphorePermit) {
        match &mut self.shared {
            Some((held_own, held)) => {
                held_own.merge(own);
                held.merge(more);
            }
            none => *none = Some((own, more)),
        }
    }
}

/// The next deadline of a client that has to keep up a minimum rate.
struct ProgressDeadline {
    deadline: Instant,
    timeout: Duration,
    bytes: usize,
}

impl ProgressDeadline {
    fn start(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout, timeout, bytes: 0 }
    }

    /// Counts received bytes. Extends the deadline by the time that the proxy itself `waited` for memory.
    fn advance(&mut self, bytes: usize, waited: Duration) {
        self.bytes += bytes;
        self.deadline += waited;
        if self.bytes >= PROGRESS_BYTES {
            self.bytes = 0;
            self.deadline = Instant::now() + self.timeout;
        }
    }
}

/// Maximum bytes of a body that come out of the part for small bodies; searches are far shorter.
const SMALL_BODY: usize = 64 * 1024;
/// Maximum bytes of the part for small bodies.
const SMALL_PART: usize = 16 * 1024 * 1024;
/// Bytes below which there is no part for small bodies: a frame of a body must fit into the shared part.
const SMALLEST_CUT: usize = 1024 * 1024;
/// Number of clients above which those without a body in flight are removed from the map.
const FORGET_AT: usize = 1024;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::net::Ipv4Addr;

    use futures_util::{StreamExt as _, stream};
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));

    /// Returns an upload that stalls after `bytes` bytes.
    fn stalled(bytes: usize) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let frame: Result<_, Infallible> = Ok(Frame::data(Bytes::from(vec![b'x'; bytes])));
        StreamBody::new(stream::iter([frame]).chain(stream::pending()))
    }

    #[tokio::test(start_paused = true)]
    async fn stalled_uploads_of_one_client_block_no_search() {
        const MIB: usize = 1024 * 1024;
        let limits = BodyLimits { max_body: 4 * MIB, buffer_memory: 12 * MIB, timeout: Duration::from_mins(1) };
        let budget = MemoryBudget::new(limits, Histogram::new([]));
        for _ in 0..4 {
            let budget = budget.clone();
            tokio::spawn(async move { budget.buffer(CLIENT, stalled(3 * MIB)).await.map(drop) });
        }
        tokio::task::yield_now().await;
        let since = Instant::now();
        // The lane and the client's share are in use, the rest is free.
        for client in [OTHER, CLIENT] {
            assert!(budget.buffer(client, Full::new(Bytes::from_static(b"a search"))).await.is_ok());
        }
        let upload = Full::new(Bytes::from(vec![b'x'; MIB]));
        assert!(budget.buffer(OTHER, upload).await.is_ok());
        assert_eq!(since.elapsed(), Duration::ZERO);
    }

    #[test]
    fn clients_without_a_body_in_flight_are_dropped() {
        let limits = BodyLimits { max_body: 4, buffer_memory: 64, timeout: Duration::from_mins(1) };
        let budget = MemoryBudget::new(limits, Histogram::new([]));
        for number in 0..10_000_u32 {
            budget.clients.of(IpAddr::V4(Ipv4Addr::from(number)));
        }
        assert!(budget.clients.known.lock().unwrap().len() <= FORGET_AT);
    }

    #[tokio::test]
    async fn only_bodies_that_wait_for_memory_are_counted() {
        let limits = BodyLimits { max_body: 4, buffer_memory: 8, timeout: Duration::from_mins(1) };
        let waits = Histogram::new([]);
        let budget = MemoryBudget::new(limits, waits.clone());
        let body = || Full::new(Bytes::from_static(b"abcd"));
        let first = budget.buffer(CLIENT, body()).await.unwrap();
        assert_eq!((budget.taken(), waits.count()), (4, 0));
        let lane = budget.buffer(CLIENT, body()).await.unwrap();
        assert_eq!((budget.taken(), waits.count()), (8, 1));
        let other = budget.clone();
        let waiting =
            tokio::spawn(async move { other.buffer(CLIENT, Full::new(Bytes::from_static(b"abcd"))).await.is_ok() });
        tokio::task::yield_now().await;
        assert_eq!(waits.count(), 1);
        drop(first);
        assert!(waiting.await.unwrap());
        assert_eq!(waits.count(), 2);
        drop(lane);
        assert_eq!((budget.taken(), budget.limit()), (0, 8));
    }
}
