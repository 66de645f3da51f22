//! Request bodies, buffered whole: `SigV4` covers their hash, and a retry sends them again.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use ring::digest::{self, SHA256, digest};

/// A body in memory, with its length and its SHA-256.
#[derive(Debug)]
pub struct HashedBody {
    frames: Arc<[Bytes]>,
    len: usize,
    sha256: Cow<'static, str>,
}

impl From<Bytes> for HashedBody {
    fn from(body: Bytes) -> Self {
        let sha256 = if body.is_empty() { EMPTY_SHA256.into() } else { hex::encode(digest(&SHA256, &body)).into() };
        let frames: Arc<[Bytes]> = if body.is_empty() { Arc::default() } else { Arc::from([body]) };
        Self { len: frames.iter().map(Bytes::len).sum(), frames, sha256 }
    }
}

impl HashedBody {
    /// Returns the empty body.
    #[must_use]
    pub fn empty() -> Self {
        Self { frames: Arc::default(), len: 0, sha256: EMPTY_SHA256.into() }
    }

    /// Returns the SHA-256 in lower-case hexadecimal, 64 characters.
    #[must_use]
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether the body is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the body in one piece. Copies it unless it has a single frame.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        match &*self.frames {
            [whole] => whole.clone(),
            frames => frames.concat().into(),
        }
    }

    /// Returns the body as hyper sends it. Each attempt uses a new one.
    #[must_use]
    pub fn frames(&self) -> BodyFrames {
        BodyFrames { frames: Arc::clone(&self.frames), next: 0, left: self.len as u64 }
    }
}

/// The frames of a [`HashedBody`], as hyper sends them.
#[derive(Debug)]
pub struct BodyFrames {
    frames: Arc<[Bytes]>,
    next: usize,
    left: u64,
}

impl Body for BodyFrames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.frames.get(self.next).cloned();
        self.next += 1;
        Poll::Ready(frame.map(|data| {
            self.left -= data.len() as u64;
            Ok(Frame::data(data))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A builder of a [`HashedBody`] that hashes frames as they arrive.
///
/// Joins small frames: a sender of one-byte chunks would otherwise make each byte cost a hundred bytes of memory.
#[derive(Debug)]
pub struct BodyHasher {
    frames: VecDeque<Bytes>,
    joined: BytesMut,
    len: usize,
    hash: Hash,
}

/// An unfinished SHA-256. ring's own type shows its state in debug output.
struct Hash(digest::Context);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

impl Default for BodyHasher {
    fn default() -> Self {
        let hash = Hash(digest::Context::new(&SHA256));
        Self { frames: VecDeque::new(), joined: BytesMut::new(), len: 0, hash }
    }
}

impl BodyHasher {
    /// Returns the number of bytes pushed so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether no byte was pushed so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends `data` to the body.
    pub fn push(&mut self, data: Bytes) {
        self.hash.0.update(&data);
        self.len += data.len();
        if data.len() < SMALL_FRAME {
            self.joined.extend_from_slice(&data);
            if self.joined.len() < SMALL_FRAME {
                return;
            }
            self.frames.push_back(self.joined.split().freeze());
        } else {
            self.flush();
            self.frames.push_back(data);
        }
    }

    /// Returns the complete body.
    #[must_use]
    pub fn finish(mut self) -> HashedBody {
        self.flush();
        let sha256 = hex::encode(self.hash.0.finish()).into();
        HashedBody { len: self.len, frames: self.frames.into_iter().collect(), sha256 }
    }

    fn flush(&mut self) {
        if !self.joined.is_empty() {
            self.frames.push_back(self.joined.split().freeze());
        }
    }
}

/// The SHA-256 of no bytes.
const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Bytes below which a frame is copied instead of kept.
const SMALL_FRAME: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_body_has_the_hash_of_no_bytes() {
        assert_eq!(HashedBody::empty().sha256(), hex::encode(digest(&SHA256, b"")));
        assert_eq!(HashedBody::from(Bytes::new()).sha256(), HashedBody::empty().sha256());
        assert_eq!(BodyHasher::default().finish().sha256(), HashedBody::empty().sha256());
    }

    #[test]
    fn body_of_frames_is_their_concatenation() {
        let large = vec![b'x'; SMALL_FRAME];
        let mut hasher = BodyHasher::default();
        for frame in [&b"a"[..], b"b", &large, b"c", &large, b"d"] {
            hasher.push(Bytes::copy_from_slice(frame));
        }
        let whole = [&b"ab"[..], &large, b"c", &large, b"d"].concat();
        let body = hasher.finish();
        assert_eq!((body.to_bytes(), body.len()), (Bytes::from(whole.clone()), whole.len()));
        assert_eq!(body.sha256(), hex::encode(digest(&SHA256, &whole)));
    }
}
