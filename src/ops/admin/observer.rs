//! The observer of all parts of the proxy, for the health checks, the status and the metrics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::interval;

use super::exposition::{self, Sample};
use super::history::History;
use super::observed_proxy::ObservedProxy;
use super::rates::Rates;
use super::readiness::{Check, allowlist_problem, certificate_problem, credentials_problem, is_answering};
use super::status::{self, Status};
use crate::ops::log_writer::NonBlockingWriter;
use crate::ops::reload::allowlist::AllowlistState;
use crate::ops::systemd::Notifier;
use crate::policy::engine::fetch_banner;

/// An observer of one proxy.
#[derive(Debug)]
pub(crate) struct Observer {
    proxy: ObservedProxy,
    allowlist: watch::Receiver<AllowlistState>,
    logs: [(&'static str, NonBlockingWriter); 2],
    started: SystemTime,
    is_draining: AtomicBool,
    /// The rates and the history of the counters.
    samples: Mutex<(Rates, History)>,
    /// The time and problem of the last health check request to the domain. Locked while one is in flight.
    last_check: tokio::sync::Mutex<Option<(Instant, Option<String>)>>,
}

impl Observer {
    /// Creates an observer of `proxy`, the state of its allowlist, and the writers of its logs.
    #[must_use]
    pub(crate) fn new(
        proxy: ObservedProxy,
        allowlist: watch::Receiver<AllowlistState>,
        logs: [(&'static str, NonBlockingWriter); 2],
    ) -> Self {
        Self {
            proxy,
            allowlist,
            logs,
            started: SystemTime::now(),
            is_draining: AtomicBool::new(false),
            samples: Mutex::new((Rates::start(Instant::now()), History::start(Instant::now()))),
            last_check: tokio::sync::Mutex::default(),
        }
    }

    /// Makes the proxy not ready while it drains.
    pub(crate) fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// Returns the readiness checks. Sends a request to the domain unless it has responded recently.
    pub(crate) async fn checks(&self) -> Vec<Check> {
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        let draining = is_draining.then(|| Check::new("listening", Some("the proxy is draining".to_owned())));
        let upstream = self.upstream_problem().await;
        let credentials = self.proxy.upstream.credentials().latest();
        let mut checks = vec![
            Check::new("credentials", credentials_problem(credentials.as_ref(), SystemTime::now())),
            Check::new("allowlist", allowlist_problem(&self.allowlist.borrow())),
            Check::new("upstream", upstream),
        ];
        // Listed only while a log fails, because a working log is nothing to report.
        checks.extend(self.logs.iter().filter_map(|(name, writer)| {
            let problem = format!("it cannot be written: {}", writer.problem()?);
            Some(Check::new(&format!("{name} log"), Some(problem)))
        }));
        checks.extend(
            self.proxy
                .metrics
                .certificates()
                .iter()
                .filter_map(|(file, state)| Some(Check::new("certificate", Some(certificate_problem(file, state)?)))),
        );
        checks.extend(draining);
        checks
    }

    /// Returns the status, which includes the checks.
    pub(crate) async fn status(&self) -> Status {
        let checks = self.checks().await;
        let state = self.allowlist.borrow().clone();
        let totals = self.proxy.metrics.totals();
        let (rates, history) = {
            let (rates, history) = &mut *self.samples();
            history.record(Instant::now(), &totals);
            (rates.over_windows(Instant::now(), &totals), history.periods(&totals))
        };
        status::build(&self.proxy, &state, checks, (rates, history), self.started, SystemTime::now())
    }

    /// Returns the metrics in Prometheus' text format. Sends no request to the domain.
    pub(super) fn exposition(&self) -> String {
        let state = self.allowlist.borrow().clone();
        exposition::text(&Sample {
            proxy: &self.proxy,
            state: &state,
            logs: &self.logs,
            started: self.started,
            now: SystemTime::now(),
        })
    }

    /// Updates the rates, and sends watchdog pings and the status line to the service manager.
    pub(crate) async fn watch(&self, notifier: Notifier) -> std::convert::Infallible {
        let period = notifier.watchdog_interval().map_or(WATCH_INTERVAL, |watchdog| (watchdog / 2).min(WATCH_INTERVAL));
        let mut beats = interval(period);
        let mut sent = String::new();
        loop {
            beats.tick().await;
            notifier.watchdog();
            let totals = self.proxy.metrics.totals();
            let minute = {
                let (rates, history) = &mut *self.samples();
                history.record(Instant::now(), &totals);
                rates.record(Instant::now(), &totals);
                rates.over_windows(Instant::now(), &totals)
            };
            let line = status::line(&self.proxy, &self.allowlist.borrow(), minute.first(), SystemTime::now());
            if line != sent {
                notifier.status(&line);
                sent = line;
            }
        }
    }

    /// Returns the reason why the domain does not respond, if it does not.
    async fn upstream_problem(&self) -> Option<String> {
        let health = self.proxy.upstream.health();
        if is_answering(health, SystemTime::now()) {
            return None;
        }
        // Concurrent probes wait for the lock and share one upstream request.
        let mut last_check = self.last_check.lock().await;
        if is_answering(health, SystemTime::now()) {
            return None;
        }
        if let Some((at, problem)) = &*last_check
            && at.elapsed() < ANSWER_TTL
        {
            return problem.clone();
        }
        let problem = self.check_domain().await.err();
        *last_check = Some((Instant::now(), problem.clone()));
        problem
    }

    /// Requests the domain's banner. Its content does not matter here.
    async fn check_domain(&self) -> Result<(), String> {
        let session = self.proxy.roles.own_session();
        let status = fetch_banner(&self.proxy.upstream, session.as_deref()).await?.status();
        if status.is_server_error() { Err(format!("the domain answers {status}")) } else { Ok(()) }
    }

    fn samples(&self) -> MutexGuard<'_, (Rates, History)> {
        // Safe despite poisoning: the samples are consistent after every statement that changes them.
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time for which concurrent probes share a failed check.
const ANSWER_TTL: Duration = Duration::from_secs(1);
/// The interval between two samples of the rates.
const WATCH_INTERVAL: Duration = Duration::from_secs(10);
