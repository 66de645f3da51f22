//! The domain's banner: the response to `GET /`.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::{HeaderMap, Response};
use tokio::time::timeout;
use trailgate_client::{RoleSession, SignedClient, Target, UnsignedRequest};

use crate::human::join_sources;

/// Fetches the domain's banner, signed by `session` or the base credentials. A body that breaks off is returned as empty.
pub(crate) async fn fetch_banner(
    upstream: &SignedClient,
    session: Option<&RoleSession>,
) -> Result<Response<Bytes>, String> {
    let target = Target::canonical("/", None).map_err(|error| error.to_string())?;
    let request = UnsignedRequest::get(target);
    let response = timeout(BANNER_TIMEOUT, upstream.send_as(session, &request, HeaderMap::new)).await;
    let response = response.map_err(|_| format!("the domain did not answer within {} s", BANNER_TIMEOUT.as_secs()))?;
    let (head, body) = response.map_err(|error| join_sources(&error))?.into_parts();
    // An unread body would keep the connection out of the pool.
    let body = match timeout(BANNER_TIMEOUT, Limited::new(body, BANNER_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    Ok(Response::from_parts(head, body))
}

/// Timeout of the head, and again of the body.
const BANNER_TIMEOUT: Duration = Duration::from_secs(5);
/// Size limit. A banner has a few hundred bytes; an error page may have more.
const BANNER_BYTES: usize = 64 * 1024;
