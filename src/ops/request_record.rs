//! The request record, which feeds the access log and the metrics however the request ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Method, StatusCode, Uri};
use trailgate_client::Target;

use crate::ops::access_log::{AccessLine, AccessLog, LogFailure};
use crate::ops::metrics::{CompletedRequest, Metrics};
use crate::ops::outcome::Outcome;
use crate::ops::request_id::RequestId;
use crate::policy::allowlist::Entry;
use crate::policy::client_address::ClientAddress;
use crate::policy::route::Route;

/// Records requests in the access log and in the metrics; cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestRecorder(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    log: AccessLog,
    metrics: Arc<Metrics>,
    /// True once the time to drain is over and requests in flight are cut.
    is_cut: AtomicBool,
}

/// The record of one request. Dropping it counts the request and writes its access line, so a client that disconnects
/// is recorded, too.
///
/// It contains no credentials, bodies, cookies or signatures.
#[derive(Debug)]
pub struct RequestRecord {
    recorder: RequestRecorder,
    started: Instant,
    time: SystemTime,
    id: RequestId,
    client: ClientAddress,
    /// True once the client is distinguished from a proxy in front.
    is_client_known: bool,
    /// Set if the request names another client than `client`, which may then be a proxy.
    is_forwarded: bool,
    entry: Option<Arc<Entry>>,
    method: Method,
    target: LoggedTarget,
    status: Option<StatusCode>,
    bytes_in: u64,
    bytes_out: u64,
    upstream: Option<Duration>,
    outcome: Outcome,
    domain_request_id: Option<HeaderValue>,
    signer: Option<Arc<str>>,
}

/// The target of a request as logged.
#[derive(Debug)]
enum LoggedTarget {
    /// No target: the head is malformed.
    Unknown,
    /// Only the path is logged, because the query can contain a signature.
    Raw(Uri),
    Canonical(Target),
}

impl RequestRecorder {
    /// Creates a recorder that writes to `log` and counts in `metrics`.
    #[must_use]
    pub fn new(log: AccessLog, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared { log, metrics, is_cut: AtomicBool::new(false) }))
    }

    /// Records requests that end before their response as cut from now on, rather than as left by the client.
    pub(crate) fn mark_cut(&self) {
        self.0.is_cut.store(true, Ordering::Relaxed);
    }

    /// Returns an error if the access log cannot be written and is required.
    pub(crate) fn check_writable(&self) -> Result<(), LogFailure> {
        self.0.log.check_writable()
    }

    /// Begins the record of a request from `peer` that arrived at `time`.
    ///
    /// `head` is its method and URL, unless they are malformed.
    #[must_use]
    pub fn begin(
        &self,
        time: SystemTime,
        id: RequestId,
        peer: &ClientAddress,
        head: Option<(&Method, &Uri)>,
    ) -> RequestRecord {
        self.0.metrics.in_flight.inc();
        let (method, target) = head.map_or((Method::default(), LoggedTarget::Unknown), |(method, uri)| {
            (method.clone(), LoggedTarget::Raw(uri.clone()))
        });
        RequestRecord {
            recorder: self.clone(),
            started: Instant::now(),
            time,
            id,
            client: peer.clone(),
            is_client_known: false,
            is_forwarded: false,
            entry: None,
            method,
            target,
            status: None,
            bytes_in: 0,
            bytes_out: 0,
            upstream: None,
            outcome: Outcome::ClientLeft,
            domain_request_id: None,
            signer: None,
        }
    }
}

impl RequestRecord {
    pub(crate) fn set_client(&mut self, client: IpAddr) {
        self.is_client_known = true;
        if client != self.client.ip() {
            self.client = ClientAddress::new(client);
        }
    }

    /// Records whether the client forwards a request of another.
    pub(crate) fn set_forwarded(&mut self, is_forwarded: bool) {
        self.is_forwarded = is_forwarded;
    }

    pub(crate) fn set_entry(&mut self, entry: Arc<Entry>) {
        entry.mark_used(self.time);
        self.entry = Some(entry);
    }

    /// Sets the role and session that sign the request, unless the base credentials do.
    pub(crate) fn set_signer(&mut self, signer: Option<Arc<str>>) {
        self.signer = signer;
    }

    pub(crate) fn set_target(&mut self, target: &Target) {
        self.target = LoggedTarget::Canonical(target.clone());
    }

    pub(crate) fn set_status(&mut self, status: StatusCode) {
        self.status = Some(status);
    }

    pub(crate) fn set_outcome(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    pub(crate) fn add_bytes_in(&mut self, bytes: u64) {
        self.bytes_in += bytes;
    }

    pub(crate) fn add_bytes_out(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// Sets the time until the head of the upstream response, and the domain's request id.
    pub(crate) fn set_upstream(&mut self, took: Duration, headers: &HeaderMap) {
        self.upstream = Some(took);
        self.domain_request_id = headers.get(DOMAIN_REQUEST_ID).cloned();
    }

    pub(crate) fn id(&self) -> &RequestId {
        &self.id
    }

    /// Returns the client's address, unless a proxy in front may hide it.
    pub(crate) fn known_client(&self) -> Option<IpAddr> {
        self.is_client_known.then(|| self.client.ip())
    }

    /// Returns the time at which the request arrived.
    pub(crate) fn time(&self) -> SystemTime {
        self.time
    }
}

impl Drop for RequestRecord {
    fn drop(&mut self) {
        let Shared { log, metrics, is_cut } = &*self.recorder.0;
        if std::thread::panicking() {
            self.outcome = Outcome::Internal;
        } else if self.outcome == Outcome::ClientLeft && is_cut.load(Ordering::Relaxed) {
            self.outcome = Outcome::CutAtShutdown;
        }
        let total = self.started.elapsed();
        metrics.in_flight.dec();
        metrics.count(&CompletedRequest {
            outcome: self.outcome,
            status: self.status,
            total,
            upstream: self.upstream,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        });
        if self.outcome == Outcome::NotAllowed {
            metrics.rejected_clients.note(self.client.ip(), self.is_forwarded, self.time);
        }
        log.write(|| self.to_line(total));
    }
}

impl RequestRecord {
    fn to_line(&self, total: Duration) -> AccessLine<'_> {
        let (target, path) = match &self.target {
            LoggedTarget::Unknown => ("", None),
            LoggedTarget::Raw(uri) => (uri.path(), Some(uri.path())),
            LoggedTarget::Canonical(target) => (target.as_str(), Some(target.path())),
        };
        AccessLine {
            time: self.time,
            id: self.id.as_str(),
            client: self.client.as_str(),
            entry: self.entry.as_ref().map(|entry| &*entry.name),
            access: self.entry.as_ref().map(|entry| entry.access.name()),
            method: self.method.as_str(),
            target,
            route: path.map(|path| Route::of(path).name()),
            status: self.status.map(|status| status.as_u16()),
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            upstream_ms: self.upstream.map(to_milliseconds),
            total_ms: to_milliseconds(total),
            outcome: self.outcome.name(),
            domain_request_id: self.domain_request_id.as_ref().map(|id| String::from_utf8_lossy(id.as_bytes())),
            signer: self.signer.as_deref(),
        }
    }
}

fn to_milliseconds(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

const DOMAIN_REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
