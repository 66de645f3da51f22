//! The client socket as hyper reads it: complete and well-formed heads, in time.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Sleep, sleep};

use super::error::{HeadError, HeadLimits};
use super::validator::{HeadValidator, encode_target};

/// A connection whose bytes pass a [`HeadValidator`] before hyper reads them.
///
/// hyper gets a harmless placeholder for a rejected head, and [`HeadRejection`] has the reason. The rejection is
/// therefore sent in order, after the responses to earlier requests, and logged like every request.
#[derive(Debug)]
pub(crate) struct ValidatingStream<I> {
    io: I,
    validator: HeadValidator,
    timeouts: Timeouts,
    rejection: HeadRejection,
    /// Bytes read and not yet passed to hyper; the first `cleared` of them are validated.
    held: BytesMut,
    cleared: usize,
    end: End,
    /// The read timeout (slowloris protection), from a head's first byte. It also starts with the connection, which has
    /// to send its first head in time.
    read_timer: Timer,
    /// Notified when the client has closed its side after a complete request (half-close).
    half_closed: Arc<Notify>,
    /// The last bytes that passed, in order.
    tail: [u8; TAIL],
    write_timer: Timer,
    /// Set once a complete head has passed.
    is_used: bool,
    /// Set once our side of the connection is closed.
    is_shut: bool,
}

/// The timeouts of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    /// The header timeout, from a head's first byte, or from the start of the connection, to the head's end.
    pub(crate) head: Duration,
    /// The write timeout: for a client that does not read from a full socket.
    pub(crate) write: Duration,
}

/// The reason for which the last head that hyper got is a placeholder, if it is one.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeadRejection(Arc<Mutex<Option<HeadError>>>);

impl HeadRejection {
    /// Takes the reason. It is set exactly when hyper delivers the placeholder of the rejected head.
    pub(crate) fn take(&self) -> Option<HeadError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: HeadError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

/// The state of the reading side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// More requests may arrive.
    Open,
    /// A head was rejected: nothing more is read before the connection is closed.
    Rejected,
    /// The client has closed its side after a complete request, and may wait for the response.
    HalfClosed,
    /// Half-closed, and the client reads the response: a write fails as soon as it has gone.
    Answered,
    /// The client sent nothing in time, or has closed its side.
    Closed,
}

/// A deadline without a timer until something has to be waited for.
#[derive(Debug, Default)]
struct Timer(Option<Pin<Box<Sleep>>>);

impl Timer {
    /// Returns ready once `timeout` has passed since the first call after a [`Timer::stop`].
    fn poll_elapsed(&mut self, timeout: Duration, cx: &mut Context<'_>) -> Poll<()> {
        self.0.get_or_insert_with(|| Box::pin(sleep(timeout))).as_mut().poll(cx)
    }

    fn stop(&mut self) {
        self.0 = None;
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> ValidatingStream<I> {
    pub(crate) fn new(io: I, limits: HeadLimits, timeouts: Timeouts) -> Self {
        Self {
            io,
            validator: HeadValidator::new(limits),
            timeouts,
            rejection: HeadRejection::default(),
            held: BytesMut::new(),
            cleared: 0,
            end: End::Open,
            read_timer: Timer::default(),
            half_closed: Arc::default(),
            tail: [0; TAIL],
            write_timer: Timer::default(),
            is_used: false,
            is_shut: false,
        }
    }

    pub(crate) fn rejection(&self) -> HeadRejection {
        self.rejection.clone()
    }

    /// Returns the notification that no more requests can arrive, while the last one may still be answered.
    pub(crate) fn half_closed(&self) -> Arc<Notify> {
        Arc::clone(&self.half_closed)
    }

    /// Rejects the next request, and reads none after it.
    pub(crate) fn reject(&mut self, error: HeadError) {
        self.rejection.set(error);
        self.held = BytesMut::from(PLACEHOLDER_HEAD);
        self.cleared = PLACEHOLDER_HEAD.len();
        self.end = End::Rejected;
    }

    /// Clears those of the held bytes that the validator passes.
    fn validate_held(&mut self) {
        match self.validator.pass(&self.held) {
            Ok(0) => {}
            Ok(passed) => {
                if self.validator.is_last() {
                    extend_tail(&mut self.tail, &self.held[..passed]);
                }
                self.cleared = passed;
                if self.validator.take_raw() {
                    self.encode_cleared();
                }
                self.mark_head_complete();
            }
            Err(error) => self.reject(error),
        }
    }

    /// Percent-encodes the target of the cleared head as hyper accepts it.
    fn encode_cleared(&mut self) {
        let head = encode_target(&self.held[..self.cleared]);
        let behind = self.held.split_off(self.cleared);
        self.cleared = head.len();
        self.held = BytesMut::from(&head[..]);
        self.held.unsplit(behind);
    }

    /// Records that a head arrived complete and in time.
    fn mark_head_complete(&mut self) {
        self.is_used = true;
        self.read_timer.stop();
    }

    /// Applies the header timeout. The idle time between two requests is bounded by `ConnectionActivity`, which records
    /// the end of each response.
    fn poll_head_timeout(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Some clients send an empty line after a body; that starts no head.
        let in_head = self.held.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
        if !in_head && self.is_used {
            return Poll::Pending;
        }
        ready!(self.read_timer.poll_elapsed(self.timeouts.head, cx));
        if in_head {
            self.reject(HeadError::Slow);
        } else {
            self.end = End::Closed;
        }
        Poll::Ready(())
    }

    /// Returns whether the client may still be sending bytes that are never read.
    fn has_unread(&self) -> bool {
        self.end == End::Rejected || (self.end == End::Open && (!self.validator.is_at_head() || !self.held.is_empty()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for ValidatingStream<I> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.cleared == 0 && !this.held.is_empty() {
                this.validate_held();
            }
            if this.cleared > 0 {
                let handed = this.cleared.min(buf.remaining());
                buf.put_slice(&this.held[..handed]);
                this.held.advance(handed);
                this.cleared -= handed;
                return Poll::Ready(Ok(()));
            }
            match this.end {
                End::Open => {}
                // hyper closes the connection after the response; an end of file here would cancel that response.
                End::Rejected | End::Answered => return Poll::Pending,
                End::HalfClosed => {
                    ready!(this.read_timer.poll_elapsed(HALF_CLOSED, cx));
                    this.end = End::Closed;
                    return Poll::Ready(Ok(()));
                }
                End::Closed => return Poll::Ready(Ok(())),
            }

            // Reads straight into hyper's buffer, and removes what must not pass: most reads return one whole head.
            let before = buf.filled().len();
            if Pin::new(&mut this.io).poll_read(cx, buf)?.is_pending() {
                ready!(this.poll_head_timeout(cx));
                continue;
            }
            let fresh = &buf.filled()[before..];
            if fresh.is_empty() {
                this.held.clear();
                this.end = End::Closed;
                // hyper treats an end of file within a request as a disconnect.
                if this.is_used && this.validator.is_behind_request(&this.tail) {
                    this.end = End::HalfClosed;
                    this.half_closed.notify_one();
                }
                continue;
            }
            if !this.held.is_empty() {
                this.held.extend_from_slice(fresh);
                buf.set_filled(before);
                continue;
            }
            match this.validator.pass(fresh) {
                Ok(passed) => {
                    if this.validator.is_last() {
                        extend_tail(&mut this.tail, &fresh[..passed]);
                    }
                    if this.validator.take_raw() {
                        this.held.extend_from_slice(fresh);
                        this.cleared = passed;
                        this.encode_cleared();
                        this.mark_head_complete();
                        buf.set_filled(before);
                        continue;
                    }
                    this.held.extend_from_slice(&fresh[passed..]);
                    buf.set_filled(before + passed);
                    if passed > 0 {
                        this.mark_head_complete();
                        return Poll::Ready(Ok(()));
                    }
                }
                Err(error) => {
                    buf.set_filled(before);
                    this.reject(error);
                }
            }
        }
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ValidatingStream<I> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write(cx, buf);
        this.bound_write(written, cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.bound_write(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Closes our side, then lingers if the client may still be sending: closing a socket with unread bytes resets the
    /// connection, and the client would lose a response that it has not read yet.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
            this.is_shut = true;
            this.read_timer.stop();
        }
        while this.has_unread() && this.read_timer.poll_elapsed(LINGER, cx).is_pending() {
            let mut discarded = [0; 8192];
            let mut discarded = ReadBuf::new(&mut discarded);
            let read = ready!(Pin::new(&mut this.io).poll_read(cx, &mut discarded));
            if read.is_err() || discarded.filled().is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<I> ValidatingStream<I> {
    /// Applies the write timeout: closes on a client that stops reading.
    fn bound_write(&mut self, written: Poll<io::Result<usize>>, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.write_timer.stop();
            if self.end == End::HalfClosed {
                self.end = End::Answered;
                self.read_timer.stop();
            }
            return written;
        }
        self.write_timer.poll_elapsed(self.timeouts.write, cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The placeholder that hyper gets for a rejected head. `close` makes hyper end the connection after the response.
const PLACEHOLDER_HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// The time that a half-closed client may wait for the start of its response. A client that has gone also closes its
/// side, and only a write shows the difference; its search runs on at the domain for this time.
const HALF_CLOSED: Duration = Duration::from_secs(10);

/// Bytes at the end of a chunked body: the empty line after its trailers.
const TAIL: usize = 4;

/// Appends `bytes` to the last bytes that passed.
fn extend_tail(tail: &mut [u8; TAIL], bytes: &[u8]) {
    let new = bytes.len().min(TAIL);
    tail.rotate_left(new);
    tail[TAIL - new..].copy_from_slice(&bytes[bytes.len() - new..]);
}

/// The time that a connection is read after its last response (lingering close).
const LINGER: Duration = Duration::from_secs(2);
