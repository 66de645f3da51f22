//! The one that looks at all parts of the gate and says how it stands.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::interval;

use super::exposition::{self, Sample};
use super::rates::Rates;
use super::readiness::{Check, allowlist_problem, credentials_problem, is_answering};
use super::status::{self, Status};
use crate::ops::log_writer::LinePipe;
use crate::ops::systemd::Manager;
use crate::policy::allowlist::State;
use crate::policy::engine::fetch_banner;
use crate::proxy::Gate;

/// Looks at a gate.
#[derive(Debug)]
pub struct Observer {
    gate: Arc<Gate>,
    allowlist: watch::Receiver<State>,
    logs: [(&'static str, LinePipe); 2],
    started: SystemTime,
    is_draining: AtomicBool,
    rates: Mutex<Rates>,
    /// When the domain was last asked on behalf of the operator, and what was wrong; held while it is asked.
    asked: tokio::sync::Mutex<Option<(Instant, Option<String>)>>,
}

impl Observer {
    /// Looks at `gate`, at how its allowlist was loaded, and at the pipes of its logs.
    #[must_use]
    pub fn new(gate: Arc<Gate>, allowlist: watch::Receiver<State>, logs: [(&'static str, LinePipe); 2]) -> Self {
        Self {
            gate,
            allowlist,
            logs,
            started: SystemTime::now(),
            is_draining: AtomicBool::new(false),
            rates: Mutex::new(Rates::start(Instant::now())),
            asked: tokio::sync::Mutex::default(),
        }
    }

    /// From now on the gate is not ready, because it ends.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// What has to hold for the gate to be ready. Asks the domain, unless it answered lately.
    pub async fn checks(&self) -> Vec<Check> {
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        let draining = is_draining.then(|| Check::new("listening", Some("the gate is about to end".to_owned())));
        let upstream = self.upstream_problem().await;
        let credentials = self.gate.upstream.credentials().latest();
        let mut checks = vec![
            Check::new("credentials", credentials_problem(credentials.as_ref(), SystemTime::now())),
            Check::new("allowlist", allowlist_problem(&self.allowlist.borrow())),
            Check::new("upstream", upstream),
        ];
        // Named only when there is something to say: a log that works is nothing that a client waits for.
        checks.extend(self.logs.iter().filter_map(|(name, pipe)| {
            let problem = format!("it cannot be written: {}", pipe.problem()?);
            Some(Check::new(&format!("{name} log"), Some(problem)))
        }));
        checks.extend(draining);
        checks
    }

    /// How the gate stands, with all that [`Self::checks`] says.
    pub async fn status(&self) -> Status {
        let checks = self.checks().await;
        let state = self.allowlist.borrow().clone();
        let totals = self.gate.metrics.totals();
        let rates = self.rates().over_windows(Instant::now(), totals);
        status::take(&self.gate, &state, checks, rates, self.started, SystemTime::now())
    }

    /// The metrics in Prometheus' text format. Asks nobody.
    pub(super) fn exposition(&self) -> String {
        let state = self.allowlist.borrow().clone();
        exposition::text(&Sample {
            gate: &self.gate,
            state: &state,
            logs: &self.logs,
            started: self.started,
            now: SystemTime::now(),
        })
    }

    /// Keeps the rates up to date, and tells `manager` that the process is not stuck and how it stands.
    pub async fn watch(&self, manager: Manager) -> std::convert::Infallible {
        let period = manager.watchdog().map_or(BEAT, |watchdog| (watchdog / 2).min(BEAT));
        let mut beats = interval(period);
        let mut told = String::new();
        loop {
            beats.tick().await;
            manager.alive();
            let totals = self.gate.metrics.totals();
            let mut rates = self.rates();
            rates.record(Instant::now(), totals);
            let minute = rates.over_windows(Instant::now(), totals);
            drop(rates);
            let line = status::line(&self.gate, &self.allowlist.borrow(), minute.first(), SystemTime::now());
            if line != told {
                manager.status(&line);
                told = line;
            }
        }
    }

    /// Why the domain does not answer, if it does not.
    async fn upstream_problem(&self) -> Option<String> {
        let health = self.gate.upstream.health();
        if is_answering(health, SystemTime::now()) {
            return None;
        }
        // Those who come meanwhile wait here for the one answer.
        let mut asked = self.asked.lock().await;
        if is_answering(health, SystemTime::now()) {
            return None;
        }
        if let Some((at, problem)) = &*asked
            && at.elapsed() < GAP
        {
            return problem.clone();
        }
        let problem = self.ask().await.err();
        *asked = Some((Instant::now(), problem.clone()));
        problem
    }

    /// Asks the domain for its banner. What it says does not matter here.
    async fn ask(&self) -> Result<(), String> {
        let status = fetch_banner(&self.gate.upstream).await?.status();
        if status.is_server_error() { Err(format!("the domain answers {status}")) } else { Ok(()) }
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        // The samples are whole after every statement that changes them.
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a bad answer is good enough for those who ask again.
const GAP: Duration = Duration::from_secs(1);
/// How often the rates are taken down.
const BEAT: Duration = Duration::from_secs(10);
