//! The upstream socket as hyper uses it: a response that has arrived is read even if the request cannot be written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};

/// A connection that hides a write error until its reading side has ended.
///
/// A domain that rejects a body early (413) responds and closes with unread bytes, which resets the connection. The
/// response is then in the socket's receive buffer while the next write fails, and hyper would drop it on that error.
#[derive(Debug)]
pub(super) struct EarlyResponseStream<I> {
    io: I,
    is_write_broken: bool,
}

impl<I> EarlyResponseStream<I> {
    pub(super) fn new(io: I) -> Self {
        Self { io, is_write_broken: false }
    }

    /// Replaces the error of a closed peer by a pending write. The same error makes the socket readable, so hyper reads
    /// what has arrived and then the end of the connection.
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

impl<I: Read + Unpin> Read for EarlyResponseStream<I> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<I: Write + Unpin> Write for EarlyResponseStream<I> {
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use bytes::Bytes;
    use http_body_util::{BodyExt as _, Full};
    use hyper::Request;
    use hyper::client::conn::http1;

    use super::*;

    /// A peer that responds and closes while the request is being written: the next write fails, and only then is the
    /// response readable.
    #[derive(Default)]
    struct EarlyAnswer {
        is_closed: bool,
        answer: &'static [u8],
        reader: Option<Waker>,
    }

    impl Read for EarlyAnswer {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            mut buf: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            if self.is_closed {
                buf.put_slice(std::mem::take(&mut self.answer));
                return Poll::Ready(Ok(()));
            }
            self.reader = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    impl Write for EarlyAnswer {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            self.is_closed = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Sends an upload to a peer that closes with `answer`, and returns the response body.
    async fn upload(answer: &'static [u8]) -> hyper::Result<Bytes> {
        let peer = EarlyAnswer { answer, ..EarlyAnswer::default() };
        let (mut sender, connection) = http1::handshake(EarlyResponseStream::new(peer)).await?;
        tokio::spawn(connection);
        let request = Request::post("/").body(Full::new(Bytes::from_static(b"upload"))).expect("it is a request");
        let answer = sender.send_request(request).await?;
        Ok(answer.into_body().collect().await?.to_bytes())
    }

    #[tokio::test]
    async fn response_after_a_failed_write_is_read() {
        let answer = b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge";
        assert_eq!(upload(answer).await.unwrap(), "large");
    }

    #[tokio::test]
    async fn failed_write_without_a_response_fails_the_request() {
        assert!(upload(b"").await.unwrap_err().is_incomplete_message());
    }
}
