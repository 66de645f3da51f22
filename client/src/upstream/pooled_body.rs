//! A response body together with its connection.

use std::fmt;
use std::future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::connection::{Connection, noop_context};
use super::pool::Pool;

/// A response body.
///
/// While it arrives, it drives its connection, and returns it to the pool at its end. Dropping it earlier closes the
/// connection.
pub struct PooledBody {
    /// The start of the body, if it was read ahead. Boxed, because it is rare.
    ahead: Option<Box<BytesMut>>,
    incoming: Incoming,
    /// `None` once the body is at its end.
    connection: Option<(Box<Connection>, Arc<Pool>)>,
}

impl PooledBody {
    pub(super) fn new(incoming: Incoming, connection: Box<Connection>, pool: Arc<Pool>) -> Self {
        let mut body = Self { ahead: None, incoming, connection: Some((connection, pool)) };
        if body.incoming.is_end_stream() {
            body.return_to_pool();
        }
        body
    }

    /// Reads the body ahead, and returns it if it ends within `limit` bytes.
    ///
    /// The bytes read remain the start of the body, also if the future is dropped.
    pub(crate) async fn read_ahead(&mut self, limit: usize) -> Result<Option<&[u8]>, hyper::Error> {
        while let Some(frame) = future::poll_fn(|cx| self.poll_incoming(cx)).await {
            let data = frame?.into_data().unwrap_or_default();
            let ahead = self.ahead.get_or_insert_default();
            ahead.extend_from_slice(&data);
            if ahead.len() > limit {
                return Ok(None);
            }
        }
        Ok(Some(self.ahead.as_ref().map_or(&[], |ahead| &ahead[..])))
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut next = Pin::new(&mut self.incoming).poll_frame(&mut noop_context());
        if let (Poll::Pending, Some((connection, _))) = (&next, &mut self.connection) {
            connection.drive(cx);
            next = Pin::new(&mut self.incoming).poll_frame(&mut noop_context());
        }
        // Trailers end the response. They are not forwarded (RFC 9110, section 6.5.1): no request accepts them by `TE`.
        let frame = ready!(next).filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers));
        if frame.is_none() || self.incoming.is_end_stream() {
            self.return_to_pool();
        }
        Poll::Ready(frame)
    }

    fn return_to_pool(&mut self) {
        if let Some((connection, pool)) = self.connection.take() {
            pool.put(connection);
        }
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let body = self.get_mut();
        match body.ahead.take() {
            Some(ahead) => Poll::Ready(Some(Ok(Frame::data(ahead.freeze())))),
            None => body.poll_incoming(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(ahead) = &self.ahead else { return self.incoming.size_hint() };
        // A body that was read to its end has a length, even if it arrived in chunks.
        let rest = if self.connection.is_none() { Some(0) } else { self.incoming.size_hint().exact() };
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(ahead.len() as u64 + rest))
    }
}

impl fmt::Debug for PooledBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead = self.ahead.as_ref().map_or(0, |ahead| ahead.len());
        f.debug_struct("PooledBody").field("ahead", &ahead).field("incoming", &self.incoming).finish_non_exhaustive()
    }
}
