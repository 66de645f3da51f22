//! Reads on after the answer, so that the client gets to read it.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// Reads and drops the rest of a body whose request has been answered, within bounds.
///
/// A client of HTTP/2 that sends its whole body before it reads would otherwise lose the answer: the stream is reset as
/// soon as nobody reads the body.
pub(crate) async fn discard<B>(mut body: B)
where
    B: Body<Data = Bytes> + Unpin,
{
    let reading = async {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let length = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    let _ = timeout(DISCARD_TIME, reading).await;
}

/// Bytes of a body that are read after the answer: more than the service accepts in one.
const DISCARD_BYTES: usize = 128 * 1024 * 1024;
/// The time that a body is read on after the answer.
const DISCARD_TIME: Duration = Duration::from_secs(30);
