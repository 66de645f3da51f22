//! The request's body: read whole, since its hash is signed, but never without bound.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use prometheus_client::metrics::histogram::Histogram;
use ring::digest::{self, SHA256, digest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The memory that all bodies in flight share.
///
/// One lane of `max_body` bytes is kept apart: a request that finds the rest taken waits for it, and whoever has it can
/// read to its end. So uploads that together want more than there is take turns, instead of waiting for each other.
#[derive(Clone, Debug)]
pub struct Budget {
    shared: Arc<Semaphore>,
    lane: Arc<Semaphore>,
    limits: BodyLimits,
    waits: Histogram,
}

/// What one body may take.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Bytes of one body.
    pub max_body: usize,
    /// Bytes of all bodies in flight; at least `max_body`.
    pub buffer_memory: usize,
    /// How long a sender may take for each [`STRIDE`] bytes, and a request wait for its share of the memory.
    pub timeout: Duration,
}

/// Bytes that a sender has to deliver within `body_timeout`; a slower one is cut off.
pub const STRIDE: usize = 64 * 1024;

impl Budget {
    /// A budget of `limits.buffer_memory` bytes; how many seconds bodies wait for it goes into `waits`.
    #[must_use]
    pub fn new(limits: BodyLimits, waits: Histogram) -> Self {
        let shared = shared_bytes(limits);
        Self { shared: Arc::new(Semaphore::new(shared)), lane: Arc::new(Semaphore::new(1)), limits, waits }
    }

    /// Bytes that are taken; the lane counts whole when somebody has it.
    #[must_use]
    pub fn taken(&self) -> usize {
        let shared = shared_bytes(self.limits) - self.shared.available_permits();
        let lane = if self.lane.available_permits() == 0 { self.limits.max_body } else { 0 };
        shared + lane
    }

    /// Bytes that there are.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limits.buffer_memory
    }

    /// Reads `body` to its end and hashes it on the way.
    ///
    /// Memory is taken as bytes arrive, and given back when the [`Buffered`] body is dropped.
    pub async fn buffer<B>(&self, mut body: B) -> Result<Buffered, BodyError<B::Error>>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let limit = self.limits.max_body;
        if body.size_hint().lower() > limit as u64 {
            return Err(BodyError::TooLarge { limit });
        }
        if body.is_end_stream() {
            return Ok(Buffered::from(Bytes::new()));
        }
        let mut share = Share::default();
        let mut frames = Frames::default();
        let mut hash = digest::Context::new(&SHA256);
        let mut stride = Stride::start(self.limits.timeout);
        while !body.is_end_stream() {
            let Some(frame) = timeout_at(stride.deadline, body.frame()).await.map_err(|_| BodyError::Slow)? else {
                break;
            };
            // Trailers are not forwarded: no reader of an Elasticsearch request knows them.
            let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
            if frames.len + data.len() > limit {
                return Err(BodyError::TooLarge { limit });
            }
            let waited = Instant::now();
            self.take(&mut share, data.len()).await.ok_or(BodyError::Crowded)?;
            stride.advance(data.len(), waited.elapsed());
            hash.update(&data);
            frames.push(data);
        }
        Ok(Buffered {
            len: frames.len,
            frames: frames.finish(),
            sha256: hex::encode(hash.finish()).into(),
            _share: share,
        })
    }

    /// Adds `bytes` to `share`, or gives nothing when they did not come in time.
    async fn take(&self, share: &mut Share, bytes: usize) -> Option<()> {
        if share.lane.is_some() {
            return Some(());
        }
        let permits = u32::try_from(bytes).ok()?;
        match Arc::clone(&self.shared).try_acquire_many_owned(permits) {
            Ok(more) => {
                share.add(more);
                Some(())
            }
            // Boxed, for it is large and seldom.
            Err(_) => Box::pin(self.wait(share, permits)).await,
        }
    }

    async fn wait(&self, share: &mut Share, permits: u32) -> Option<()> {
        let _wait = Wait { since: Instant::now(), waits: &self.waits };
        tokio::select! {
            more = Arc::clone(&self.shared).acquire_many_owned(permits) => share.add(more.ok()?),
            // What it holds already stays counted against the shared part; the lane covers the rest.
            lane = Arc::clone(&self.lane).acquire_owned() => share.lane = lane.ok(),
            () = sleep(self.limits.timeout) => return None,
        }
        Some(())
    }
}

/// A wait for memory, noted when it ends, also because the client has left.
struct Wait<'a> {
    since: Instant,
    waits: &'a Histogram,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waits.observe(self.since.elapsed().as_secs_f64());
    }
}

fn shared_bytes(limits: BodyLimits) -> usize {
    limits.buffer_memory.saturating_sub(limits.max_body)
}

/// Reads and drops the rest of a body whose request has been answered, within bounds.
///
/// A client of HTTP/2 that sends its whole body before it reads would otherwise lose the answer: the stream is reset as
/// soon as nobody reads the body.
pub async fn discard<B>(mut body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let reading = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    let _ = timeout(DISCARD_TIME, reading).await;
}

/// Bytes of a body that are read after the answer: more than the service accepts in one.
const DISCARD_BYTES: usize = 128 * 1024 * 1024;
/// How long a body is read on after the answer.
const DISCARD_TIME: Duration = Duration::from_secs(30);

/// Why a body was not read to its end.
#[derive(Debug, PartialEq, Eq)]
pub enum BodyError<E> {
    /// It is longer than `limit` bytes.
    TooLarge {
        /// Bytes that one body may have.
        limit: usize,
    },
    /// Its sender was too slow.
    Slow,
    /// Other bodies held the memory for too long.
    Crowded,
    /// The connection broke, or the chunks were malformed.
    Broken(E),
}

/// A whole body in memory.
#[derive(Debug)]
pub struct Buffered {
    frames: Arc<[Bytes]>,
    len: usize,
    sha256: Cow<'static, str>,
    _share: Share,
}

impl From<Bytes> for Buffered {
    /// A body that is in memory already, and counts against nobody's budget.
    fn from(body: Bytes) -> Self {
        let sha256 = if body.is_empty() { EMPTY_SHA256.into() } else { hex::encode(digest(&SHA256, &body)).into() };
        let frames: Arc<[Bytes]> = if body.is_empty() { Arc::default() } else { Arc::from([body]) };
        Self { len: frames.iter().map(Bytes::len).sum(), frames, sha256, _share: Share::default() }
    }
}

impl Buffered {
    /// SHA-256 in lower-case hexadecimal.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no body.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The body in one piece: a copy, unless it came in one.
    #[must_use]
    pub fn joined(&self) -> Bytes {
        match &*self.frames {
            [whole] => whole.clone(),
            frames => frames.concat().into(),
        }
    }

    /// The body as it is sent; each try to send it takes a new one.
    #[must_use]
    pub fn to_send(&self) -> Sending {
        Sending { frames: Arc::clone(&self.frames), next: 0, left: self.len as u64 }
    }
}

/// A buffered body on its way out, frame by frame as it came in.
#[derive(Debug)]
pub struct Sending {
    frames: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl Body for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.get(self.next).cloned();
        self.next += 1;
        Poll::Ready(frame.map(|data| {
            self.left -= data.len() as u64;
            Ok(Frame::data(data))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// What one body holds of the [`Budget`].
#[derive(Debug, Default)]
struct Share {
    shared: Option<OwnedSemaphorePermit>,
    lane: Option<OwnedSemaphorePermit>,
}

impl Share {
    fn add(&mut self, more: OwnedSemaphorePermit) {
        match &mut self.shared {
            Some(held) => held.merge(more),
            none => *none = Some(more),
        }
    }
}

/// The next deadline of a sender that has to keep up a pace.
struct Stride {
    deadline: Instant,
    timeout: Duration,
    bytes: usize,
}

impl Stride {
    fn start(timeout: Duration) -> Self {
        Self { deadline: Instant::now() + timeout, timeout, bytes: 0 }
    }

    /// Counts what arrived; the time that the gate itself `waited` for memory is not the sender's.
    fn advance(&mut self, bytes: usize, waited: Duration) {
        self.bytes += bytes;
        self.deadline += waited;
        if self.bytes >= STRIDE {
            self.bytes = 0;
            self.deadline = Instant::now() + self.timeout;
        }
    }
}

/// Frames as they came. Small ones are joined: a sender of one-byte chunks would make each cost a hundred bytes.
#[derive(Default)]
struct Frames {
    whole: VecDeque<Bytes>,
    joined: BytesMut,
    len: usize,
}

impl Frames {
    fn push(&mut self, data: Bytes) {
        self.len += data.len();
        if data.len() < SMALL {
            self.joined.extend_from_slice(&data);
            if self.joined.len() < SMALL {
                return;
            }
            self.whole.push_back(self.joined.split().freeze());
        } else {
            self.flush();
            self.whole.push_back(data);
        }
    }

    fn flush(&mut self) {
        if !self.joined.is_empty() {
            self.whole.push_back(self.joined.split().freeze());
        }
    }

    fn finish(mut self) -> Arc<[Bytes]> {
        self.flush();
        self.whole.into_iter().collect()
    }
}

/// Of no bytes.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Bytes below which a frame is copied rather than kept.
const SMALL: usize = 1024;

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    #[test]
    fn no_body_has_the_hash_of_no_bytes() {
        assert_eq!(Buffered::from(Bytes::new()).sha256(), hex::encode(digest(&SHA256, b"")));
    }

    #[tokio::test]
    async fn a_body_that_waits_for_memory_is_noted_and_one_that_does_not_is_not() {
        let limits = BodyLimits { max_body: 4, buffer_memory: 8, timeout: Duration::from_mins(1) };
        let waits = Histogram::new([]);
        let budget = Budget::new(limits, waits.clone());
        let body = || Full::new(Bytes::from_static(b"abcd"));
        let first = budget.buffer(body()).await.unwrap();
        assert_eq!((budget.taken(), waits.count()), (4, 0));
        let lane = budget.buffer(body()).await.unwrap();
        assert_eq!((budget.taken(), waits.count()), (8, 1));
        let other = budget.clone();
        let waiting = tokio::spawn(async move { other.buffer(Full::new(Bytes::from_static(b"abcd"))).await.is_ok() });
        tokio::task::yield_now().await;
        assert_eq!(waits.count(), 1);
        drop(first);
        assert!(waiting.await.unwrap());
        assert_eq!(waits.count(), 2);
        drop(lane);
        assert_eq!((budget.taken(), budget.limit()), (0, 8));
    }
}
