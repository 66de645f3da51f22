//! The metrics of the proxy. Their names are in docs/metrics.md.
//!
//! Labels are array indices until a scrape turns them into text, so a request costs a few atomic additions and two
//! histogram updates.

mod latency;
mod rejected_clients;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::StatusCode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use strum::VariantArray as _;

use self::latency::Latencies;
pub(crate) use self::latency::{BUCKETS, LatencyCounts, estimate_quantile};
pub(crate) use self::rejected_clients::{RejectedClient, RejectedClients};

use crate::http::server::ConnectionMetrics;
use crate::ops::outcome::Outcome;
use crate::watched_file::STALE_AFTER;

/// The metrics of one proxy, summed over all workers.
#[derive(Debug)]
pub struct Metrics {
    requests: Box<[[AtomicU64; CLASSES.len()]]>,
    /// Requests in flight.
    pub in_flight: Gauge,
    duration: Histogram,
    upstream_duration: Histogram,
    /// The same times as in `upstream_duration`, in finer buckets.
    latencies: Latencies,
    /// The time that bodies waited for memory, of those that did.
    pub buffer_wait: Histogram,
    body_bytes_in: Counter,
    body_bytes_out: Counter,
    /// The metrics of client connections.
    pub connections: ConnectionMetrics,
    /// The state of each listener's certificate, by its file.
    certificates: Mutex<BTreeMap<PathBuf, CertificateState>>,
    /// The clients rejected most recently because no entry allows them.
    pub rejected_clients: RejectedClients,
}

/// The measurements of a completed request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CompletedRequest {
    pub(crate) outcome: Outcome,
    /// The status that the client received, if any.
    pub(crate) status: Option<StatusCode>,
    pub(crate) total: Duration,
    /// The time until the head of the upstream response, if one arrived.
    pub(crate) upstream: Option<Duration>,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// The certificate of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateState {
    /// The expiry of the certificate in effect.
    pub(crate) expires: SystemTime,
    /// The time at which it was loaded.
    pub(crate) loaded: SystemTime,
    /// The error of the last reload, if it failed.
    pub(crate) error: Option<String>,
    /// The last time at which its files were compared with the certificate in effect.
    pub(crate) compared: Instant,
}

impl CertificateState {
    /// Returns the time since the files were last read, if it is longer than expected: reading one of them hangs, or it
    /// never stops changing.
    pub(crate) fn stale(&self) -> Option<Duration> {
        Some(self.compared.elapsed()).filter(|age| *age > STALE_AFTER)
    }

    /// Returns whether the certificate in effect is known to be the files'.
    pub(crate) fn is_current(&self) -> bool {
        self.error.is_none() && self.stale().is_none()
    }
}

/// Sums since the start, from which rates are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Completed requests.
    pub(crate) requests: u64,
    /// Requests answered with a 5xx status.
    pub(crate) failed: u64,
    /// Requests whose client is not on the allowlist.
    pub(crate) refused: u64,
    /// Requests that trailgate rejected with a 4xx status.
    pub(crate) rejected: u64,
    /// The times until the head of the domain's response.
    pub(crate) latencies: LatencyCounts,
}

impl Default for Totals {
    fn default() -> Self {
        Self { requests: 0, failed: 0, refused: 0, rejected: 0, latencies: [0; BUCKETS] }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let seconds = || Histogram::new(SECONDS);
        Self {
            requests: Outcome::VARIANTS.iter().map(|_| Default::default()).collect(),
            in_flight: Gauge::default(),
            duration: seconds(),
            upstream_duration: seconds(),
            latencies: Latencies::default(),
            buffer_wait: seconds(),
            body_bytes_in: Counter::default(),
            body_bytes_out: Counter::default(),
            connections: ConnectionMetrics::default(),
            certificates: Mutex::default(),
            rejected_clients: RejectedClients::default(),
        }
    }
}

impl Metrics {
    /// Counts a completed request.
    pub(crate) fn count(&self, ended: &CompletedRequest) {
        if let Some(count) = self.requests[ended.outcome as usize].get(class(ended.status)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.duration.observe(ended.total.as_secs_f64());
        if let Some(upstream) = ended.upstream {
            self.upstream_duration.observe(upstream.as_secs_f64());
            self.latencies.observe(upstream);
        }
        self.body_bytes_in.inc_by(ended.bytes_in);
        self.body_bytes_out.inc_by(ended.bytes_out);
    }

    /// Sets the expiry of a listener's certificate, which was loaded from `file` at `now`, and the time at which its
    /// files were `compared` with it.
    pub(crate) fn set_certificate(&self, file: &Path, expires: SystemTime, now: SystemTime, compared: Instant) {
        let state = CertificateState { expires, loaded: now, error: None, compared };
        self.lock_certificates().insert(file.to_owned(), state);
    }

    /// Records that a certificate was not reloaded from `file`.
    pub(crate) fn set_certificate_error(&self, file: &Path, error: String) {
        if let Some(state) = self.lock_certificates().get_mut(file) {
            state.error = Some(error);
        }
    }

    /// Sets the time at which the files of a certificate were compared with the one in effect.
    pub(crate) fn set_certificate_compared(&self, file: &Path, compared: Instant) {
        if let Some(state) = self.lock_certificates().get_mut(file) {
            state.compared = compared;
        }
    }

    /// Returns the state of each listener's certificate, by its file.
    pub(crate) fn certificates(&self) -> BTreeMap<PathBuf, CertificateState> {
        self.lock_certificates().clone()
    }

    fn lock_certificates(&self) -> MutexGuard<'_, BTreeMap<PathBuf, CertificateState>> {
        // Safe despite poisoning: every change is one assignment.
        self.certificates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn totals(&self) -> Totals {
        let sum = |counts: &mut dyn Iterator<Item = &AtomicU64>| counts.map(|it| it.load(Ordering::Relaxed)).sum();
        // A domain's own 4xx has no status by its outcome.
        let rejections = Outcome::VARIANTS.iter().zip(&self.requests).filter(|(outcome, _)| outcome.status().is_some());
        Totals {
            requests: sum(&mut self.requests.iter().flatten()),
            failed: sum(&mut self.requests.iter().map(|classes| &classes[5])),
            refused: sum(&mut self.requests[Outcome::NotAllowed as usize].iter()),
            rejected: sum(&mut rejections.map(|(_, classes)| &classes[4])),
            latencies: self.latencies.counts(),
        }
    }

    /// Registers all metrics in `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Completed requests by outcome and status class", self.requests());
        registry.register("requests_in_flight", "Requests in flight", self.in_flight.clone());
        let seconds = |registry: &mut Registry, name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        seconds(registry, "request_duration", "Time from the request head to the end of the response", &self.duration);
        seconds(
            registry,
            "upstream_duration",
            "Time from sending to the head of the domain's response",
            &self.upstream_duration,
        );
        seconds(registry, "buffer_wait", "Wait for body memory, of the bodies that waited", &self.buffer_wait);
        let bytes = |registry: &mut Registry, name: &str, help: &str, counter: &Counter| {
            registry.register_with_unit(name, help, Unit::Bytes, counter.clone());
        };
        bytes(registry, "request_body", "Bytes of request bodies", &self.body_bytes_in);
        bytes(registry, "response_body", "Bytes of response bodies", &self.body_bytes_out);
        registry.register("connections", "Open client connections", self.connections.open.clone());
        let taken = self.connections.accepted.clone();
        registry.register("connections_accepted", "Accepted client connections", taken);
        let shed = self.connections.refused.clone();
        registry.register("connections_refused", "Client connections rejected at the connection limit", shed);
        let help = "Unix time of the expiry of a listener's certificate";
        registry.register_with_unit("certificate_expiry_timestamp", help, Unit::Seconds, self.certificate_expiry());
        let help = "1 while the certificate in effect is its files', else 0";
        registry.register("certificate_current", help, self.certificate_current());
    }

    fn certificate_expiry(&self) -> Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>> {
        let family = Family::<_, Gauge<f64, AtomicU64>>::default();
        for (file, state) in self.certificates() {
            let seconds = state.expires.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
            family.get_or_create(&[("certificate", file.display().to_string())]).set(seconds);
        }
        family
    }

    fn certificate_current(&self) -> Family<[(&'static str, String); 1], Gauge> {
        let family = Family::<_, Gauge>::default();
        for (file, state) in self.certificates() {
            family.get_or_create(&[("certificate", file.display().to_string())]).set(i64::from(state.is_current()));
        }
        family
    }

    /// Returns the counters of requests. Lists each outcome with its usual status from the start, so that the first
    /// occurrence is an increase.
    fn requests(&self) -> Family<[(&'static str, &'static str); 2], Counter> {
        let family = Family::<_, Counter>::default();
        for (outcome, classes) in Outcome::VARIANTS.iter().zip(&self.requests) {
            let usual = usual_class(*outcome);
            for (class, count) in classes.iter().enumerate() {
                let count = count.load(Ordering::Relaxed);
                if count > 0 || class == usual {
                    let labels = [("outcome", outcome.name()), ("status", CLASSES[class])];
                    family.get_or_create(&labels).inc_by(count);
                }
            }
        }
        family
    }
}

fn usual_class(outcome: Outcome) -> usize {
    match outcome {
        Outcome::ClientLeft | Outcome::CutAtShutdown => class(None),
        Outcome::Redirected => class(Some(StatusCode::FOUND)),
        _ => class(outcome.status().or(Some(StatusCode::OK))),
    }
}

/// Returns the index into [`CLASSES`].
fn class(status: Option<StatusCode>) -> usize {
    status.map_or(0, |status| usize::from(status.as_u16() / 100))
}

/// The `status` label, by the status's first digit.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Upper bounds in seconds: from a cached page to a search as long as `upstream.response_timeout`.
const SECONDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_has_the_index_of_its_label() {
        for (index, outcome) in Outcome::VARIANTS.iter().enumerate() {
            assert_eq!(*outcome as usize, index);
        }
    }

    #[test]
    fn certificate_expiry_is_labelled_by_file() {
        let metrics = Metrics::default();
        for end in [1_800_000_000, 1_900_000_000] {
            let expires = UNIX_EPOCH + Duration::from_secs(end);
            metrics.set_certificate(Path::new("/etc/gate.pem"), expires, UNIX_EPOCH, Instant::now());
        }
        let mut registry = Registry::with_prefix("trailgate");
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let lines: Vec<_> = text.lines().filter(|line| line.starts_with("trailgate_certificate_expiry")).collect();
        let expected = "trailgate_certificate_expiry_timestamp_seconds{certificate=\"/etc/gate.pem\"} 1900000000.0";
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn request_is_counted_by_outcome_and_status_class() {
        let metrics = Metrics::default();
        let ended = |outcome, status: Option<u16>| CompletedRequest {
            outcome,
            status: status.map(|status| StatusCode::from_u16(status).unwrap()),
            total: Duration::from_millis(2),
            upstream: None,
            bytes_in: 1,
            bytes_out: 2,
        };
        metrics.count(&ended(Outcome::Forwarded, Some(404)));
        metrics.count(&ended(Outcome::NotAllowed, Some(403)));
        metrics.count(&ended(Outcome::ClientLeft, None));
        metrics.count(&ended(Outcome::TooBusy, Some(503)));
        // HTTP does not define this status, but hyper passes it on.
        metrics.count(&ended(Outcome::Forwarded, Some(999)));
        let expected = Totals { requests: 4, failed: 1, refused: 1, rejected: 1, ..Totals::default() };
        assert_eq!(metrics.totals(), expected);
        let family = metrics.requests();
        let count = |outcome, status| family.get(&[("outcome", outcome), ("status", status)]).map(|count| count.get());
        assert_eq!(count("forwarded", "4xx"), Some(1));
        assert_eq!(count("forwarded", "2xx"), Some(0));
        assert_eq!(count("client_left", "none"), Some(1));
        assert_eq!(count("malformed_body", "4xx"), Some(0));
        assert_eq!(count("malformed_body", "2xx"), None);
    }
}
