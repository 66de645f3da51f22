//! A timeout that is set for each request and rarely expires.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// A deadline that changes with each request. Its timer is reset only when it fires, which is rare: a timer per request
/// costs more than the request's other bookkeeping.
#[derive(Default)]
pub(super) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
    due: Option<Instant>,
}

impl Deadline {
    pub(super) fn set(&mut self, due: Instant) {
        self.due = Some(due);
    }

    /// Returns ready once the last set deadline has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(due) = self.due else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        while timer.as_mut().poll(cx).is_ready() {
            if due <= timer.deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        Poll::Pending
    }
}
