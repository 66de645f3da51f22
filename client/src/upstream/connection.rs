//! An upstream connection, polled by the task that uses it.
//!
//! A request, its response and their connection belong to one task, that of the caller: nothing is passed to another
//! task, and no task has to be woken.

use std::future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::deadline::Deadline;
use super::early_response::EarlyResponseStream;
use super::error::UpstreamError;
use crate::body::BodyFrames;
use crate::stats::{ClientStats, OpenConnection};

/// A socket to the domain, with or without TLS.
pub(super) type MaybeTlsStream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// An HTTP/1.1 connection.
pub(super) struct Connection {
    sender: SendRequest<BodyFrames>,
    driver: Driver,
    deadline: Deadline,
    is_used: bool,
    _open: OpenConnection,
}

/// The half of a connection that reads and writes when it is polled.
struct Driver {
    /// `None` once the connection has ended.
    connection: Option<http1::Connection<EarlyResponseStream<MaybeTlsStream>, BodyFrames>>,
    error: Option<hyper::Error>,
}

impl Connection {
    pub(super) async fn open(
        stream: EarlyResponseStream<MaybeTlsStream>,
        stats: &Arc<ClientStats>,
    ) -> Result<Self, hyper::Error> {
        let open = OpenConnection::count(stats);
        let (sender, driver) = http1::handshake(stream).await?;
        let driver = Driver { connection: Some(driver), error: None };
        Ok(Self { sender, driver, deadline: Deadline::default(), is_used: false, _open: open })
    }

    /// Sends a request and returns the response head, if it arrives within `timeout`.
    pub(super) async fn send(
        &mut self,
        request: Request<BodyFrames>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, UpstreamError> {
        let Self { sender, driver, deadline, .. } = self;
        deadline.set(Instant::now() + timeout);
        let mut answer = pin!(sender.send_request(request));
        future::poll_fn(|cx| {
            // The end of the connection also reaches the request's future, at the latest when the driver drops the
            // connection.
            driver.drive(cx);
            if let Poll::Ready(answer) = answer.as_mut().poll(&mut noop_context()) {
                return Poll::Ready(answer.map_err(UpstreamError::broken));
            }
            deadline.poll(cx).map(|()| Err(UpstreamError::ResponseTimeout))
        })
        .await
    }

    /// Marks the connection as used, and returns whether it already was.
    pub(super) fn mark_used(&mut self) -> bool {
        std::mem::replace(&mut self.is_used, true)
    }

    /// Returns whether the connection has carried a response.
    pub(super) fn is_used(&self) -> bool {
        self.is_used
    }

    /// Returns whether the connection can send a request, as far as is known without waiting.
    pub(super) fn is_ready(&mut self) -> bool {
        self.driver.drive(&mut noop_context());
        self.driver.connection.is_some() && self.sender.is_ready()
    }

    /// Reads and writes as far as possible without waiting.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        self.driver.drive(cx);
    }

    /// Returns the error that ended the connection after a response, which no request has returned.
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

/// Returns a context without a waker, for state that changes only while the driver is polled. The same task polls the
/// driver right before, and waking it would poll it twice.
pub(super) fn noop_context() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
