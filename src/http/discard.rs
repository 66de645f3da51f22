//! Reads the rest of a request body after the response, so that the client can read the response.

use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// Reads and drops the rest of a body whose request has been answered, within limits of size and time.
///
/// An HTTP/2 client that sends its whole body before it reads would otherwise lose the response: the stream is reset as
/// soon as its body is dropped.
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

/// Maximum bytes of a body that are read after the response: more than the service accepts in one body.
const DISCARD_BYTES: usize = 128 * 1024 * 1024;
/// The time limit for reading the rest of a body after the response.
const DISCARD_TIME: Duration = Duration::from_secs(30);
