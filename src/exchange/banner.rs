//! The proxy's own question to the domain: its banner, `GET /`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{HeaderMap, Method, Response};
use tokio::time::timeout;

use super::{Answer, Exchange, Outgoing};
use crate::body::Buffered;
use crate::reject::Reject;
use crate::target::Target;

impl Exchange {
    /// Asks the domain for its banner, signed like a client's request. A body that breaks off is returned as empty.
    pub async fn banner(&self) -> Result<Response<Bytes>, String> {
        let target = Target::canonical("/", None).map_err(|error| error.to_string())?;
        let outgoing = Outgoing {
            method: Method::GET,
            target,
            headers: HeaderMap::new(),
            hop: None,
            body: Buffered::from(Bytes::new()),
        };
        let answer = timeout(PATIENCE, self.send(&outgoing)).await;
        let answer = answer.map_err(|_| format!("the domain did not answer within {} s", PATIENCE.as_secs()))?;
        let (head, body) = answer.map_err(|reject| problem(&reject))?.into_parts();
        let body = match body {
            Answer::Read(body) => body,
            // Read to its end, so that the connection goes back into the pool.
            Answer::Streaming(body) => match timeout(PATIENCE, Limited::new(body, BANNER_BYTES).collect()).await {
                Ok(Ok(body)) => body.to_bytes(),
                _ => Bytes::new(),
            },
        };
        Ok(Response::from_parts(head, body))
    }
}

/// A rejection with the cause that clients are not told.
fn problem(reject: &Reject) -> String {
    match reject.cause() {
        Some(cause) => format!("{}: {cause}", reject.reason()),
        None => reject.reason(),
    }
}

/// How long the domain may take for its banner.
const PATIENCE: Duration = Duration::from_secs(5);
/// A banner is some hundred bytes; a page that stands in for it may be longer.
const BANNER_BYTES: usize = 64 * 1024;
