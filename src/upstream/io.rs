//! The socket to the domain as hyper sees it: an answer that has arrived is read even when the request cannot be written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// A connection that hides a broken write until its reading side has ended.
///
/// A domain that rejects a body early (413) answers and closes with unread bytes, which resets the connection. The
/// answer is then in the socket's receive buffer while the next write fails, and hyper would drop it with that error.
#[derive(Debug)]
pub(super) struct AnswerFirst<I> {
    io: I,
    is_write_broken: bool,
}

impl<I> AnswerFirst<I> {
    pub(super) fn new(io: I) -> Self {
        Self { io, is_write_broken: false }
    }

    /// Turns the error of a closed peer into a write that never ends. The same error has made the socket readable, so
    /// hyper reads what is there and then meets the end of the connection.
    fn hide_closed<T>(&mut self, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
        match result {
            Poll::Ready(Err(error)) if matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset) => {
                self.is_write_broken = true;
                Poll::Pending
            }
            other => other,
        }
    }
}

impl<I: Read + Unpin> Read for AnswerFirst<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: Write + Unpin> Write for AnswerFirst<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_write_broken {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.hide_closed(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_write_broken {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.hide_closed(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_write_broken {
            return Poll::Pending;
        }
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.hide_closed(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_write_broken {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
