//! The response body for the client: streamed, counted, and cut when the client's grant ends.

use std::mem;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};
use trailgate_client::PooledBody;

use crate::human::join_sources;
use crate::ops::outcome::Outcome;
use crate::ops::request_record::RequestRecord;
use crate::policy::allowlist::Allowlist;

/// A response body. It carries the request's record, which is written when the body is dropped.
#[derive(Debug)]
pub struct ResponseBody {
    source: BodySource,
    record: RequestRecord,
}

/// The source of a response body.
#[derive(Debug)]
pub(crate) enum BodySource {
    /// A response of the proxy itself. Its record ends in `outcome`.
    Whole { body: Bytes, outcome: Outcome },
    /// The domain's response. Its record shows whether it was complete.
    Streaming(StreamingBody),
}

/// The domain's response as it arrives, with the conditions that end it early.
pub(crate) struct StreamingBody {
    incoming: PooledBody,
    idle_timeout: Duration,
    allowlist: Allowlist,
    client: IpAddr,
    /// The error that the domain's response broke off with, returned at the next poll.
    broken: Option<hyper::Error>,
    /// Set at the first wait; most responses arrive complete with their head.
    deadlines: Option<StreamDeadlines>,
}

struct StreamDeadlines {
    revoked: Pin<Box<dyn Future<Output = ()> + Send>>,
    idle: Pin<Box<Sleep>>,
    is_idle: bool,
}

/// A truncated response. hyper then closes the connection, so that the client detects the truncation.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Truncated(Outcome);

impl ResponseBody {
    pub(crate) fn new(source: BodySource, mut record: RequestRecord) -> Self {
        match &source {
            BodySource::Whole { outcome, .. } => record.set_outcome(*outcome),
            // hyper never polls a response without a body.
            BodySource::Streaming(streaming) if streaming.incoming.is_end_stream() => {
                record.set_outcome(Outcome::Forwarded);
            }
            BodySource::Streaming(_) => {}
        }
        Self { source, record }
    }
}

impl StreamingBody {
    /// Streams `incoming` to `client` until `allowlist` no longer grants it access, or the domain is silent for
    /// `idle_timeout`.
    pub(crate) fn new(incoming: PooledBody, idle_timeout: Duration, allowlist: Allowlist, client: IpAddr) -> Self {
        Self { incoming, idle_timeout, allowlist, client, broken: None, deadlines: None }
    }

    /// Logs a truncated response, with the missing bytes of its `Content-Length`.
    fn log_truncated(&self, request_id: &str) {
        let cause = match &self.broken {
            Some(error) => join_sources(error),
            None => format!("no bytes for {:?}", self.idle_timeout),
        };
        let missing_bytes = self.incoming.size_hint().exact();
        tracing::warn!(request_id, cause, missing_bytes, "the domain's response broke off");
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Outcome>>> {
        if self.broken.is_some() {
            return Poll::Ready(Some(Err(Outcome::UpstreamBrokeOff)));
        }
        if let Some(deadlines) = &mut self.deadlines
            && deadlines.revoked.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Some(Err(Outcome::Revoked)));
        }
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(deadlines) = &mut self.deadlines {
                    deadlines.is_idle = false;
                }
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => {
                // On an error hyper drops everything that it has not sent, even the head. The error therefore waits for
                // the next poll.
                self.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        let is_first = self.deadlines.is_none();
        let deadlines = self.deadlines.get_or_insert_with(|| StreamDeadlines {
            revoked: Box::pin(self.allowlist.clone().revoked(self.client)),
            idle: Box::pin(sleep(self.idle_timeout)),
            is_idle: true,
        });
        if is_first && deadlines.revoked.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Outcome::Revoked)));
        }
        if !deadlines.is_idle {
            deadlines.is_idle = true;
            deadlines.idle.set(sleep(self.idle_timeout));
        }
        ready!(deadlines.idle.as_mut().poll(cx));
        Poll::Ready(Some(Err(Outcome::UpstreamBrokeOff)))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Truncated;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        let this = self.get_mut();
        let next = match &mut this.source {
            BodySource::Whole { body, .. } if body.is_empty() => None,
            BodySource::Whole { body, .. } => Some(Ok(Frame::data(mem::take(body)))),
            BodySource::Streaming(streaming) => ready!(streaming.poll_next(cx)),
        };
        if let Some(Ok(frame)) = &next {
            this.record.add_bytes_out(frame.data_ref().map_or(0, Bytes::len) as u64);
        }
        if let BodySource::Streaming(streaming) = &this.source {
            match &next {
                Some(Err(outcome)) => {
                    if *outcome == Outcome::UpstreamBrokeOff {
                        streaming.log_truncated(this.record.id().as_str());
                    }
                    this.record.set_outcome(*outcome);
                }
                _ if next.is_none() || streaming.incoming.is_end_stream() => {
                    this.record.set_outcome(Outcome::Forwarded);
                }
                _ => {}
            }
        }
        Poll::Ready(next.map(|frame| frame.map_err(Truncated)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            BodySource::Whole { body, .. } => body.is_empty(),
            BodySource::Streaming(streaming) => streaming.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            BodySource::Whole { body, .. } => SizeHint::with_exact(body.len() as u64),
            BodySource::Streaming(streaming) => streaming.incoming.size_hint(),
        }
    }
}

impl std::fmt::Debug for StreamingBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamingBody").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}
