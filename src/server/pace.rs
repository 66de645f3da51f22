//! How a connection of HTTP/2 is bounded in time. hyper does that for HTTP/1.1, by the bytes of one request after the
//! other; here many are under way at once, and silence means nothing by itself.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::sleep;

use crate::reply::{Cut, Reply};

/// What has happened on a connection. The numbers are read much later than they are written, so their order is nothing.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Requests under way, their answers included.
    in_flight: AtomicUsize,
    /// Requests begun and ended.
    turns: AtomicUsize,
    /// Answers of which the client has to take bytes before they go on.
    owed: AtomicUsize,
    /// Bytes asked for, on any answer.
    polls: AtomicUsize,
}

impl Pace {
    /// Counts a request from now on.
    pub(super) fn begin(self: &Arc<Self>) -> Turn {
        self.in_flight.fetch_add(1, Relaxed);
        self.turns.fetch_add(1, Relaxed);
        Turn(Arc::clone(self))
    }

    /// Ready when no request has come for as long as one may take: `first`, and `next` after each.
    pub(super) async fn idle(&self, first: Duration, next: Duration) {
        sleep(first).await;
        let mut before = 0;
        while before != self.turns.load(Relaxed) || self.in_flight.load(Relaxed) > 0 {
            before = self.turns.load(Relaxed);
            sleep(next).await;
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
    /// Goes on for as long as the answer does.
    pub(super) fn follow(self, response: Response<Reply>) -> Response<Paced> {
        response.map(|reply| Paced { reply, turn: self, is_owed: false })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.turns.fetch_add(1, Relaxed);
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
    use tokio::time::Instant;

    use super::*;

    const FIRST: Duration = Duration::from_secs(10);
    const NEXT: Duration = Duration::from_secs(75);

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_is_idle_after_the_time_for_its_first() {
        let started = Instant::now();
        Pace::default().idle(FIRST, NEXT).await;
        assert_eq!(started.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_not_idle_before_its_last_request_is_over_for_the_time_to_the_next() {
        let pace = Arc::new(Pace::default());
        let turn = pace.begin();
        tokio::spawn(async move {
            sleep(Duration::from_secs(200)).await;
            drop(turn);
        });
        let started = Instant::now();
        pace.idle(FIRST, NEXT).await;
        let waited = started.elapsed().as_secs();
        assert!((275..=350).contains(&waited), "idle after {waited} s");
    }
}
