//! The answer on its way to the client: streamed, counted, and cut when the client's grant ends.

use std::mem;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use trailgate_client::PooledBody;

use crate::ops::access_log::AccessLine;
use crate::ops::outcome::Outcome;
use crate::policy::allowlist::Allowlist;
use crate::reject::join_sources;

/// The body of an answer. It carries the request's access line, which is written when the body is dropped.
#[derive(Debug)]
pub struct Reply {
    source: Source,
    line: AccessLine,
}

/// Where the bytes of an answer come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// An answer of the gate's own, or a short one that was read. The access line ends in `outcome`.
    Whole { body: Bytes, outcome: Outcome },
    /// The domain's answer. The access line tells whether it came to its end.
    Streaming(Streaming),
}

/// The domain's answer as it arrives, and what can end it early.
pub(crate) struct Streaming {
    incoming: PooledBody,
    idle_timeout: Duration,
    allowlist: Allowlist,
    client: IpAddr,
    /// Why the domain's answer broke off, which the client is to learn next.
    broken: Option<hyper::Error>,
    /// Set up when there is first something to wait for; most answers come whole with their head.
    waits: Option<Waits>,
}

struct Waits {
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    idle: Pin<Box<Sleep>>,
    is_idle: bool,
}

/// Why an answer stops short of its end. hyper then closes the connection, which tells the client that it is cut.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Cut(Outcome);

impl Reply {
    pub(crate) fn new(source: Source, mut line: AccessLine) -> Self {
        match &source {
            Source::Whole { outcome, .. } => line.set_outcome(*outcome),
            // An answer without a body is never polled.
            Source::Streaming(streaming) if streaming.incoming.is_end_stream() => line.set_outcome(Outcome::Forwarded),
            Source::Streaming(_) => {}
        }
        Self { source, line }
    }
}

impl Streaming {
    /// Streams `incoming` to `client` for as long as `allowlist` lets it in, and the domain is never silent for
    /// `idle_timeout`.
    pub(crate) fn new(incoming: PooledBody, idle_timeout: Duration, allowlist: Allowlist, client: IpAddr) -> Self {
        Self { incoming, idle_timeout, allowlist, client, broken: None, waits: None }
    }

    /// Logs that the answer stopped short, with the bytes of its `Content-Length` that never came.
    fn log_short(&self, request_id: &str) {
        let cause = match &self.broken {
            Some(error) => join_sources(error),
            None => format!("no bytes for {:?}", self.idle_timeout),
        };
        let missing_bytes = self.incoming.size_hint().exact();
        tracing::warn!(request_id, cause, missing_bytes, "the domain's answer broke off");
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Outcome>>> {
        if self.broken.is_some() {
            return Poll::Ready(Some(Err(Outcome::UpstreamBrokeOff)));
        }
        if let Some(waits) = &mut self.waits
            && waits.revoked.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(Outcome::Revoked)));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(waits) = &mut self.waits {
                    waits.is_idle = false;
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => {
                // hyper drops what it has not sent when it meets an error, be it the head: so that is sent first.
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        let is_first = self.waits.is_none();
        let waits = self.waits.get_or_insert_with(|| Waits {
            revoked: Box::pin(self.allowlist.clone().revoked(self.client)),
            idle: Box::pin(sleep(self.idle_timeout)),
            is_idle: true,
        });
        if is_first && waits.revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Outcome::Revoked)));
        }
        if !waits.is_idle {
            waits.is_idle = true;
            waits.idle.set(sleep(self.idle_timeout));
        }
        ready!(waits.idle.as_mut().poll(cx));
        Poll::Ready(Some(Err(Outcome::UpstreamBrokeOff)))
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let next = match &mut this.source {
            Source::Whole { body, .. } if body.is_empty() => None,
            Source::Whole { body, .. } => Some(Ok(Frame::data(mem::take(body)))),
            Source::Streaming(streaming) => ready!(streaming.poll_next(cx)),
        };
        if let Some(Ok(frame)) = &next {
            this.line.add_bytes_out(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        if let Source::Streaming(streaming) = &this.source {
            match &next {
                Some(Err(outcome)) => {
                    if *outcome == Outcome::UpstreamBrokeOff {
                        streaming.log_short(this.line.id().as_str());
                    }
                    this.line.set_outcome(*outcome);
                }
                _ if next.is_none() || streaming.incoming.is_end_stream() => this.line.set_outcome(Outcome::Forwarded),
                _ => {}
            }
        }
        Poll::Ready(next.map(|frame| frame.map_err(Cut)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Whole { body, .. } => body.is_empty(),
            Source::Streaming(streaming) => streaming.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Whole { body, .. } => SizeHint::with_exact(body.len() as u64),
            Source::Streaming(streaming) => streaming.incoming.size_hint(),
        }
    }
}

impl std::fmt::Debug for Streaming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streaming").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}
