//! How a connection is bounded in time between its requests, and one of HTTP/2 within them, too: there many are under
//! way at once, and silence means nothing by itself.

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
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::proxy::response_body::{Cut, Reply};

/// What has happened on a connection. The numbers are read much later than they are written, so their order is nothing.
#[derive(Debug)]
pub(super) struct Pace {
    opened: Instant,
    /// Requests under way, their answers included.
    in_flight: AtomicUsize,
    /// Requests begun.
    turns: AtomicUsize,
    /// When the last request ended, in milliseconds after the connection was opened.
    ended: AtomicU64,
    /// Signalled with the first request.
    begun: Notify,
    /// The proxy ends: each answer is the last of its connection.
    is_ending: AtomicBool,
    /// Answers of which the client has to take bytes before they go on.
    owed: AtomicUsize,
    /// Bytes asked for, on any answer.
    polls: AtomicUsize,
}

impl Pace {
    /// That of a connection which is opened now.
    pub(super) fn start() -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            in_flight: AtomicUsize::default(),
            turns: AtomicUsize::default(),
            ended: AtomicU64::default(),
            begun: Notify::default(),
            is_ending: AtomicBool::default(),
            owed: AtomicUsize::default(),
            polls: AtomicUsize::default(),
        })
    }

    /// Counts a request from now on.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        self.in_flight.fetch_add(1, Relaxed);
        if self.turns.fetch_add(1, Relaxed) == 0 {
            self.begun.notify_one();
        }
        Turn(Arc::clone(self))
    }

    /// Ready with the first request, and after `patience` at the latest.
    pub(super) async fn begun(&self, patience: Duration) {
        if self.turns.load(Relaxed) == 0 {
            let _ = timeout(patience, self.begun.notified()).await;
        }
    }

    /// Has each answer from now on close its connection, and is ready when none is under way after `patience`: a client
    /// that learns of the end from an answer loses no request, and one that has sent it already is answered.
    pub(super) async fn end(&self, patience: Duration) {
        self.is_ending.store(true, Relaxed);
        loop {
            sleep(patience).await;
            if self.in_flight.load(Relaxed) == 0 {
                return;
            }
        }
    }

    /// Returns whether the next answer is the last of its connection.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Relaxed)
    }

    /// Ready after `patience` if no request has come by then.
    pub(super) async fn unused(&self, patience: Duration) {
        sleep(patience).await;
        if self.turns.load(Relaxed) > 0 {
            future::pending::<()>().await;
        }
    }

    /// Ready when no request has come for `patience` after the last one ended.
    ///
    /// It looks when that can be the case at the earliest, for requests are many and must not move a timer each.
    pub(super) async fn idle(&self, patience: Duration) {
        loop {
            let now = Instant::now();
            let is_busy = self.in_flight.load(Relaxed) > 0 || self.turns.load(Relaxed) == 0;
            let since = if is_busy { now } else { self.opened + Duration::from_millis(self.ended.load(Relaxed)) };
            if since + patience <= now {
                return;
            }
            sleep_until(since + patience).await;
        }
    }

    /// Ready when the client owes the gate that it takes bytes, and has taken none on this connection for `patience`.
    pub(super) async fn stalled(&self, patience: Duration) {
        loop {
            let (owed, before) = (self.owed.load(Relaxed), self.polls.load(Relaxed));
            sleep(patience).await;
            if owed > 0 && self.owed.load(Relaxed) > 0 && before == self.polls.load(Relaxed) {
                return;
            }
        }
    }
}

/// A request under way; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn(Arc<Pace>);

impl Turn {
    /// Has an answer by HTTP/1.1 tell its client of the end, if it is near.
    pub(super) fn close_at_end(&self, response: &mut Response<Reply>) {
        if self.0.is_ending() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
    }

    /// Goes on for as long as the answer does.
    pub(super) fn follow(self, response: Response<Reply>) -> Response<Paced> {
        response.map(|reply| Paced { reply, turn: self, is_owed: false })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let ended = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.ended.store(ended, Relaxed);
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// An answer that keeps count of what the client has to take of it. hyper asks for bytes when there is room for them.
#[derive(Debug)]
pub(super) struct Paced {
    reply: Reply,
    turn: Turn,
    is_owed: bool,
}

impl Paced {
    fn set_owed(&mut self, is_owed: bool) {
        let count = &self.turn.0.owed;
        match (self.is_owed, is_owed) {
            (false, true) => drop(count.fetch_add(1, Relaxed)),
            (true, false) => drop(count.fetch_sub(1, Relaxed)),
            _ => {}
        }
        self.is_owed = is_owed;
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        this.turn.0.polls.fetch_add(1, Relaxed);
        this.set_owed(false);
        let frame = ready!(Pin::new(&mut this.reply).poll_frame(cx));
        this.set_owed(frame.is_some());
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.reply.size_hint()
    }
}

impl Drop for Paced {
    fn drop(&mut self) {
        self.set_owed(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_unused_only_without_a_request() {
        let pace = Pace::start();
        let started = Instant::now();
        pace.unused(PATIENCE).await;
        assert_eq!(started.elapsed().as_secs(), 75);
        drop(pace.begin());
        assert!(timeout(PATIENCE * 10, pace.unused(PATIENCE)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_idle_before_its_last_request_is_over_for_the_time_to_the_next() {
        let pace = Pace::start();
        let turn = pace.begin();
        tokio::spawn(async move {
            sleep(Duration::from_secs(200)).await;
            drop(turn);
        });
        let started = Instant::now();
        pace.idle(PATIENCE).await;
        assert_eq!(started.elapsed().as_secs(), 275);
    }
}
