//! A response body together with its connection.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::connection::{Connection, noop_context};
use super::pool::Pool;

/// A response body.
///
/// While it arrives, it drives its connection, and returns it to the pool at its end. Dropping it earlier closes the
/// connection.
pub struct PooledBody(Inner);

enum Inner {
    Arriving {
        incoming: Incoming,
        /// `None` once the body is at its end.
        connection: Option<(Box<Connection>, Arc<Pool>)>,
    },
    /// A body that was read to decide on a retry.
    Read(Option<Bytes>),
}

impl PooledBody {
    pub(super) fn new(incoming: Incoming, connection: Box<Connection>, pool: Arc<Pool>) -> Self {
        let mut connection = Some((connection, pool));
        if incoming.is_end_stream() {
            return_to_pool(&mut connection);
        }
        Self(Inner::Arriving { incoming, connection })
    }

    pub(crate) fn read(body: Bytes) -> Self {
        Self(Inner::Read(Some(body).filter(|body| !body.is_empty())))
    }
}

fn return_to_pool(connection: &mut Option<(Box<Connection>, Arc<Pool>)>) {
    if let Some((connection, pool)) = connection.take() {
        pool.put(connection);
    }
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let (incoming, connection) = match &mut self.get_mut().0 {
            Inner::Arriving { incoming, connection } => (incoming, connection),
            Inner::Read(body) => return Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
        };
        let mut next = Pin::new(&mut *incoming).poll_frame(&mut noop_context());
        if let (Poll::Pending, Some((connection, _))) = (&next, &mut *connection) {
            connection.drive(cx);
            next = Pin::new(&mut *incoming).poll_frame(&mut noop_context());
        }
        // Trailers end the response. They are not forwarded (RFC 9110, section 6.5.1): no request accepts them by `TE`.
        let frame = ready!(next).filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers));
        if frame.is_none() || incoming.is_end_stream() {
            return_to_pool(connection);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Arriving { incoming, .. } => incoming.is_end_stream(),
            Inner::Read(body) => body.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Arriving { incoming, .. } => incoming.size_hint(),
            Inner::Read(body) => SizeHint::with_exact(body.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

impl fmt::Debug for PooledBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Inner::Arriving { incoming, .. } => f.debug_tuple("PooledBody").field(incoming).finish(),
            Inner::Read(body) => f.debug_tuple("PooledBody").field(&body.as_ref().map_or(0, Bytes::len)).finish(),
        }
    }
}
