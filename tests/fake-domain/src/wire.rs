//! The connection below HTTP: captures the bytes of each request, and can cut the connection.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
};

/// A stream whose bytes are captured, and that its [`Wire`] can cut.
pub(crate) struct Tapped<S> {
    stream: S,
    wire: Arc<Wire>,
}

/// The control handle of a connection.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// The bytes received since the start of the current request.
    received: Mutex<BytesMut>,
    last_words: Mutex<Bytes>,
    cut: Notify,
    cut_after_flush: AtomicBool,
    wrote: AtomicBool,
}

/// A request's head as received.
pub(crate) struct Head {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
}

impl Wire {
    /// Takes the head of the current request, whose body of `body_length` bytes has been read.
    ///
    /// HTTP libraries normalize headers, but the check needs the bytes on the wire.
    pub(crate) fn take_head(&self, body_length: usize) -> Option<Head> {
        let mut received = lock(&self.received);
        while received.starts_with(b"\r\n") {
            received.advance(2);
        }
        let length = received.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
        let head = received.split_to(length);
        let rest = (4 + body_length).min(received.len());
        received.advance(rest);
        Head::parse(&head)
    }

    /// Cuts the connection now, after sending these last bytes.
    pub(crate) fn cut(&self, last_words: Bytes) {
        *lock(&self.last_words) = last_words;
        self.cut.notify_one();
    }

    /// Cuts the connection as soon as the next write has been sent.
    pub(crate) fn cut_after_flush(&self) {
        self.wrote.store(false, Ordering::SeqCst);
        self.cut_after_flush.store(true, Ordering::SeqCst);
    }

    /// Waits until the connection is to be cut, and returns the last bytes to send.
    pub(crate) async fn is_cut(&self) -> Bytes {
        self.cut.notified().await;
        lock(&self.last_words).clone()
    }
}

impl Head {
    fn parse(head: &[u8]) -> Option<Self> {
        // Maps each byte to one character, so that lines can be split as text; values become bytes again.
        let text: String = head.iter().copied().map(char::from).collect();
        let mut lines = text.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?, words.next()?);
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim_matches([' ', '\t']).chars().map(|byte| u8::try_from(byte).ok());
            Some((name.to_owned(), value.collect::<Option<_>>()?))
        });
        Some(Self { method: method.to_owned(), target: target.to_owned(), headers: headers.collect::<Option<_>>()? })
    }
}

impl<S> Tapped<S> {
    pub(crate) fn new(stream: S, wire: Arc<Wire>) -> Self {
        Self { stream, wire }
    }

    pub(crate) fn into_stream(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        lock(&self.wire.received).extend_from_slice(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.wire.wrote.store(true, Ordering::SeqCst);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.wire.cut_after_flush.load(Ordering::SeqCst) && self.wire.wrote.load(Ordering::SeqCst) {
            self.wire.cut.notify_one();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Locks a mutex even if it is poisoned: its values are consistent after every statement that changes them.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
