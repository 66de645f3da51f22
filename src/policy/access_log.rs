//! The presence of the access log in the domain: while it has no index `gate-*`, no search can reveal one.
//!
//! Then a read grant need not reject patterns such as `*`, which pages send by default.

use std::time::Duration;

use hyper::{HeaderMap, Method, StatusCode};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use trailgate_client::{HashedBody, RoleSession, SignedClient, Target, UnsignedRequest};

/// The presence as last observed, shared by all workers. It is requested from the domain only if a decision depends on
/// it.
#[derive(Debug, Default)]
pub(crate) struct AccessLogPresence(Mutex<Option<Observation>>);

#[derive(Clone, Copy, Debug)]
struct Observation {
    at: Instant,
    is_absent: bool,
}

impl AccessLogPresence {
    /// Returns whether the domain has no access log. Sends a request, signed by `session`, unless a recent response is
    /// known.
    ///
    /// Every result but "no such index" counts as present, a missing response included (fails closed).
    pub(crate) async fn is_absent(&self, upstream: &SignedClient, session: Option<&RoleSession>) -> bool {
        // Concurrent requests share one request to the domain.
        let mut last = self.0.lock().await;
        if let Some(last) = last.filter(|last| last.at.elapsed() < FRESH) {
            return last.is_absent;
        }
        let is_absent = request_status(upstream, session).await == Some(StatusCode::NOT_FOUND);
        *last = Some(Observation { at: Instant::now(), is_absent });
        is_absent
    }
}

/// Requests the status of the access log's indices, which is 404 if none exists.
async fn request_status(upstream: &SignedClient, session: Option<&RoleSession>) -> Option<StatusCode> {
    let target = Target::canonical("/gate-*", Some("allow_no_indices=false&expand_wildcards=open,closed")).ok()?;
    let request = UnsignedRequest { method: Method::HEAD, target, body: HashedBody::empty() };
    let response = timeout(TIMEOUT, upstream.send_as(session, &request, HeaderMap::new)).await.ok()?.ok()?;
    Some(response.status())
}

/// The age up to which a response is used again: the time for which the first lines of an access log can be found by
/// `*`.
const FRESH: Duration = Duration::from_secs(10);

const TIMEOUT: Duration = Duration::from_secs(5);
