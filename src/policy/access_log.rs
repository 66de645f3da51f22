//! The presence of the access log in the domain: while it has no index `gate-*`, no search can reveal one.
//!
//! Then a read grant need not reject patterns such as `*`, which pages send by default.

use std::time::Duration;

use hyper::{HeaderMap, Method, StatusCode};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use trailgate_client::{HashedBody, RoleSession, SignedClient, Target, UnsignedRequest};

/// The presence as last observed, shared by all workers. The domain is asked only if a decision depends on it.
#[derive(Debug, Default)]
pub(crate) struct AccessLogPresence(Mutex<Option<Observation>>);

#[derive(Clone, Copy, Debug)]
struct Observation {
    at: Instant,
    is_absent: bool,
}

impl AccessLogPresence {
    /// Returns whether the domain has no access log. Asks the domain, signed by `session`, unless it answered recently.
    ///
    /// Every answer but "no such index" counts as present, and so does none (fails closed).
    pub(crate) async fn is_absent(&self, upstream: &SignedClient, session: Option<&RoleSession>) -> bool {
        // Concurrent requests wait for one answer.
        let mut last = self.0.lock().await;
        if let Some(last) = last.filter(|last| last.at.elapsed() < FRESH) {
            return last.is_absent;
        }
        let is_absent = ask(upstream, session).await == Some(StatusCode::NOT_FOUND);
        *last = Some(Observation { at: Instant::now(), is_absent });
        is_absent
    }
}

/// Returns the status of the answer, which is 404 if no index matches.
async fn ask(upstream: &SignedClient, session: Option<&RoleSession>) -> Option<StatusCode> {
    let target = Target::canonical("/gate-*", Some("allow_no_indices=false&expand_wildcards=open,closed")).ok()?;
    let request = UnsignedRequest { method: Method::HEAD, target, body: HashedBody::empty() };
    let response = timeout(TIMEOUT, upstream.send_as(session, &request, HeaderMap::new)).await.ok()?.ok()?;
    Some(response.status())
}

/// The age up to which an answer counts: the time for which the first lines of an access log can be found by `*`.
const FRESH: Duration = Duration::from_secs(10);

const TIMEOUT: Duration = Duration::from_secs(5);
