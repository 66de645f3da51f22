//! One connection to the domain, moved on by whoever has it.
//!
//! A request, its answer and the connection that carries both are polled by one task, the client's: so nothing has to be
//! handed over and nobody to be woken between them.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use std::{fmt, future};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::SendError;
use super::io::AnswerFirst;
use super::pool::Pool;
use crate::body::Sending;
use crate::metrics::{Metrics, Open};

/// A socket to the domain, with TLS or without.
pub(super) type Io = MaybeHttpsStream<TokioIo<TcpStream>>;

/// A connection that speaks HTTP.
pub(super) struct Link {
    sender: SendRequest<Sending>,
    driver: Driver,
    alarm: Alarm,
    is_used: bool,
    _open: Open,
}

/// Reads and writes when it is polled.
struct Driver {
    /// Gone once the connection has ended.
    connection: Option<http1::Connection<AnswerFirst<Io>, Sending>>,
    error: Option<hyper::Error>,
}

impl Link {
    pub(super) async fn over(io: AnswerFirst<Io>, metrics: &Metrics) -> Result<Self, hyper::Error> {
        metrics.upstream_opened.inc();
        let open = Open::count(&metrics.upstream_connections);
        let (sender, driver) = http1::handshake(io).await?;
        let driver = Driver { connection: Some(driver), error: None };
        Ok(Self { sender, driver, alarm: Alarm::default(), is_used: false, _open: open })
    }

    /// Sends a request, and is ready with the head of its answer, if that is there within `patience`.
    pub(super) async fn send(
        &mut self,
        request: Request<Sending>,
        patience: Duration,
    ) -> Result<Response<Incoming>, SendError> {
        let Self { sender, driver, alarm, .. } = self;
        alarm.set(Instant::now() + patience);
        let mut answer = pin!(sender.send_request(request));
        future::poll_fn(|cx| {
            // An end is told to the request as well, at the latest when the driver is gone.
            driver.drive(cx);
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut unwoken()) {
                return Poll::Ready(answer.map_err(SendError::broken));
            }
            alarm.poll(cx).map(|()| Err(SendError::ResponseTimeout))
        })
        .await
    }

    /// Notes an answer, and tells whether it is not the first.
    pub(super) fn note_use(&mut self) -> bool {
        std::mem::replace(&mut self.is_used, true)
    }

    /// Whether the connection has carried an answer.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Whether the connection can take a request, as far as is known without waiting.
    pub(super) fn is_ready(&mut self) -> bool {
        self.driver.drive(&mut unwoken());
        self.driver.connection.is_some() && self.sender.is_ready()
    }

    /// The error that ended the connection behind an answer, so that no request was told.
    pub(super) fn error(&self) -> Option<&hyper::Error> {
        self.driver.error.as_ref()
    }
}

impl Driver {
    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(ended) = Pin::new(connection).poll(cx)
        {
            self.connection = None;
            self.error = ended.err();
        }
    }
}

/// A deadline that changes with each request. The timer under it is moved on only when it rings, which is seldom: to set
/// one for each request costs more than what it is set for.
#[derive(Default)]
struct Alarm {
    timer: Option<Pin<Box<Sleep>>>,
    due: Option<Instant>,
}

impl Alarm {
    fn set(&mut self, due: Instant) {
        self.due = Some(due);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
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

/// For what only changes while the driver is polled, which is by the same task and right before: to wake that task
/// would poll it twice.
fn unwoken() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// The body of an answer as it arrives. It moves on the connection that it comes by, and gives that back to the pool at
/// its end; a body that is dropped before closes it.
pub struct Arriving {
    incoming: Incoming,
    way: Option<(Box<Link>, Arc<Pool>)>,
}

impl Arriving {
    pub(super) fn new(incoming: Incoming, link: Box<Link>, pool: Arc<Pool>) -> Self {
        let mut arriving = Self { incoming, way: Some((link, pool)) };
        if arriving.incoming.is_end_stream() {
            arriving.settle();
        }
        arriving
    }

    fn settle(&mut self) {
        if let Some((link, pool)) = self.way.take() {
            pool.put(link);
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let mut next = Pin::new(&mut this.incoming).poll_frame(&mut unwoken());
        if let (Poll::Pending, Some((link, _))) = (&next, &mut this.way) {
            link.driver.drive(cx);
            next = Pin::new(&mut this.incoming).poll_frame(&mut unwoken());
        }
        // Trailers end the answer. They are not forwarded (RFC 9110, section 6.5.1): no request asked for them by `TE`.
        let frame = ready!(next).filter(|frame| !frame.as_ref().is_ok_and(Frame::is_trailers));
        if frame.is_none() || this.incoming.is_end_stream() {
            this.settle();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for Arriving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arriving").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}
