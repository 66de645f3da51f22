//! The timeouts of a connection: between its requests, and for HTTP/2 also within them. HTTP/2 has many requests in
//! flight, so silence alone is no sign of a stalled client.

use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{self, HeaderValue};
use tokio::sync::Notify;
use tokio::time::{self, Instant, sleep, sleep_until};

/// The activity of a connection. The counters are read long after they are written, so relaxed ordering is enough.
#[derive(Debug)]
pub(super) struct ConnectionActivity {
    opened: Instant,
    /// Requests in flight, including their responses.
    in_flight: AtomicUsize,
    /// Requests started so far.
    requests: AtomicUsize,
    /// The end of the last request, in milliseconds after the connection was opened.
    last_end: AtomicU64,
    /// Notified by the first request.
    begun: Notify,
    /// Set while the proxy drains: each response is then the last of its connection.
    is_draining: AtomicBool,
    /// Responses with bytes that the client has not accepted yet.
    pending: AtomicUsize,
    /// Polls for bytes, over all responses.
    polls: AtomicUsize,
}

impl ConnectionActivity {
    /// Starts tracking a connection that is opened now.
    pub(super) fn start() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            in_flight: AtomicUsize::default(),
            requests: AtomicUsize::default(),
            last_end: AtomicU64::default(),
            begun: Notify::default(),
            is_draining: AtomicBool::default(),
            pending: AtomicUsize::default(),
            polls: AtomicUsize::default(),
        })
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        self.in_flight.fetch_add(1, Relaxed);
        if self.requests.fetch_add(1, Relaxed) == 0 {
            self.begun.notify_one();
        }
        RequestGuard(Arc::clone(self))
    }

    /// Waits for the first request, for at most `timeout`.
    pub(super) async fn wait_for_first_request(&self, timeout: Duration) {
        if self.requests.load(Relaxed) == 0 {
            let _ = time::timeout(timeout, self.begun.notified()).await;
        }
    }

    /// Makes each response from now on close its connection, and waits until none is in flight after `timeout`. A
    /// client that learns of the shutdown from a response loses no request, and a request that was sent already gets
    /// its response.
    pub(super) async fn drain(&self, timeout: Duration) {
        self.is_draining.store(true, Relaxed);
        loop {
            sleep(timeout).await;
            if self.in_flight.load(Relaxed) == 0 {
                return;
            }
        }
    }

    /// Returns whether the next response is the last of its connection.
    pub(super) fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// Waits for `timeout`, and forever if a request has arrived by then.
    pub(super) async fn wait_until_unused(&self, timeout: Duration) {
        sleep(timeout).await;
        if self.requests.load(Relaxed) > 0 {
            future::pending::<()>().await;
        }
    }

    /// Waits until no request has arrived for `timeout` after the last one ended.
    ///
    /// Checks only at the earliest time at which that is possible: resetting a timer for each request would cost more.
    pub(super) async fn wait_until_idle(&self, timeout: Duration) {
        loop {
            let now = Instant::now();
            let is_busy = self.in_flight.load(Relaxed) > 0 || self.requests.load(Relaxed) == 0;
            let since = if is_busy { now } else { self.opened + Duration::from_millis(self.last_end.load(Relaxed)) };
            if since + timeout <= now {
                return;
            }
            sleep_until(since + timeout).await;
        }
    }

    /// Waits until the client has accepted no bytes on this connection for `timeout` while some are pending.
    pub(super) async fn wait_until_stalled(&self, timeout: Duration) {
        loop {
            let (pending, before) = (self.pending.load(Relaxed), self.polls.load(Relaxed));
            sleep(timeout).await;
            if pending > 0 && self.pending.load(Relaxed) > 0 && before == self.polls.load(Relaxed) {
                return;
            }
        }
    }
}

/// A request in flight, until this is dropped.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<ConnectionActivity>);

impl RequestGuard {
    /// Adds `Connection: close` to an HTTP/1.1 response if the proxy drains.
    pub(super) fn close_if_draining<B>(&self, response: &mut Response<B>) {
        if self.0.is_draining() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Counts the request as in flight until its response has ended.
    pub(super) fn track<B>(self, response: Response<B>) -> Response<TrackedBody<B>> {
        response.map(|body| TrackedBody { body, request: self, is_pending: false })
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let ended = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_end.store(ended, Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// A body that tracks whether the client still has to accept bytes of it. hyper polls for bytes when it has room for
/// them.
#[derive(Debug)]
pub(super) struct TrackedBody<B> {
    body: B,
    request: RequestGuard,
    is_pending: bool,
}

impl<B> TrackedBody<B> {
    fn set_pending(&mut self, is_pending: bool) {
        let count = &self.request.0.pending;
        match (self.is_pending, is_pending) {
            (false, true) => drop(count.fetch_add(1, Relaxed)),
            (true, false) => drop(count.fetch_sub(1, Relaxed)),
            _ => {}
        }
        self.is_pending = is_pending;
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for TrackedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.get_mut();
        this.request.0.polls.fetch_add(1, Relaxed);
        this.set_pending(false);
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        this.set_pending(frame.is_some());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for TrackedBody<B> {
    fn drop(&mut self) {
        self.set_pending(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn connection_is_unused_only_without_a_request() {
        let activity = ConnectionActivity::start();
        let started = Instant::now();
        activity.wait_until_unused(TIMEOUT).await;
        assert_eq!(started.elapsed().as_secs(), 75);
        drop(activity.begin_request());
        assert!(time::timeout(TIMEOUT * 10, activity.wait_until_unused(TIMEOUT)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn connection_is_idle_only_after_its_last_request() {
        let activity = ConnectionActivity::start();
        let request = activity.begin_request();
        tokio::spawn(async move {
            sleep(Duration::from_secs(200)).await;
            drop(request);
        });
        let started = Instant::now();
        activity.wait_until_idle(TIMEOUT).await;
        assert_eq!(started.elapsed().as_secs(), 275);
    }
}
