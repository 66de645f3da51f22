//! The daemon from start to end: builds a [`Gate`] from a [`Config`], runs it with its background tasks, drains.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::TcpListener as StdListener;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use trailgate_client::{CredentialCache, SignedClient, Signer, Upstream};

use crate::config::Config;
use crate::http::listener::Listener;
use crate::http::memory_budget::Budget;
use crate::http::server::{self, Entrance, Worker};
use crate::http::tls;
use crate::ops::access_log::{AccessLog, Format};
use crate::ops::admin::{self, Observer};
use crate::ops::descriptors::{self, Share};
use crate::ops::log_writer::{LinePipe, Loss};
use crate::ops::metrics::Metrics;
use crate::ops::signals;
use crate::ops::systemd;
use crate::ops::systemd::Manager;
use crate::policy::allowlist::{Allowlist, Entries, Reloader};
use crate::policy::engine::{self, KnownEngine};
use crate::policy::quota::Quotas;
use crate::proxy::Gate;

/// Where the lines of a process go; they outlive its runtime, so that the last ones are written, too.
#[derive(Debug)]
pub struct Logs {
    events: LinePipe,
    access: LinePipe,
}

impl Logs {
    /// Sends events to stderr from now on, and opens the way to stdout for access lines.
    pub fn start(config: &Config) -> io::Result<Self> {
        let notice = match config.log_format {
            Format::Json => |lines| format!("{{\"lost_lines\":{lines}}}\n"),
            Format::Text => |lines| format!("{lines} lines were lost: this log could not be written\n"),
        };
        // Not the standard library's streams, whose buffers keep what cannot be written and lose count of it.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        let stderr = File::from(io::stderr().as_fd().try_clone_to_owned()?);
        let access = LinePipe::start_telling(stdout, notice, tell_of_access_log)?;
        let logs = Self { events: LinePipe::start(stderr, notice)?, access };
        let pipe = logs.events.clone();
        let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || pipe.clone());
        let targets = Targets::new().with_target("trailgate", config.log_level).with_default(tracing::Level::WARN);
        let registry = tracing_subscriber::registry().with(targets);
        match config.log_format {
            Format::Json => registry.with(lines.json().flatten_event(true)).init(),
            Format::Text => registry.with(lines).init(),
        }
        Ok(logs)
    }

    /// Writes what is still queued.
    pub fn finish(self) {
        if let Some(lost) = self.access.drain(LAST_LINES) {
            tracing::error!(lost_lines = lost, "the access log could not be written to its end");
        }
        self.events.drain(LAST_LINES);
    }
}

/// Logs the begin and the end of an outage of the access log.
fn tell_of_access_log(loss: &Loss) {
    match loss {
        Loss::Begins { reason } => tracing::error!(reason, "the access log cannot be written, its lines are lost"),
        Loss::Ends { lost, lasted } => {
            tracing::warn!(lost_lines = lost, lasted_s = lasted.as_secs(), "the access log is written again");
        }
    }
}

/// Runs the gate until SIGTERM or SIGINT, or until one of its background tasks fails.
///
/// `passed` are the sockets that the service manager has opened, by name: `admin` stands in for the admin address, those
/// called `listen` for the listeners that have their addresses.
pub async fn run(mut config: Config, mut passed: Vec<(String, StdListener)>, logs: &Logs) -> anyhow::Result<()> {
    // Before the first load, so that no signal or change of a file falls between.
    let hangups = signals::hangups().context("cannot listen to signals")?;
    let termination = signals::Termination::listen().context("cannot listen to signals")?;
    let manager = Manager::of_environment();
    let (reloader, allowlist) = Reloader::start(config.allowlist.clone(), manager)?;
    let list_state = reloader.state();
    // Before the first client can hold a file descriptor.
    trailgate_client::load_sdk_roots();
    let provider = trailgate_client::provider(&config.region, config.assume_role.as_deref());
    let (cache, refresher) = CredentialCache::new(provider);
    let mut limits = config.connections;
    let is_engine_configured = config.engine.is_some();
    let mut background = Background::default();
    let metrics = Arc::<Metrics>::default();
    let admin = config.admin.listen(take(&mut passed, "admin"))?;
    let admin_hosts = config.admin_hosts.clone();
    let sockets = systemd::assign(&config.listeners, &mut passed)?;
    let listeners = std::mem::take(&mut config.listeners).into_iter().zip(sockets);
    let entrances = open(listeners, &metrics, &mut background).await?;
    if let Some((name, _)) = passed.first() {
        bail!("the socket {name:?} that was passed on is for nobody: name it \"listen\" or \"admin\"");
    }
    if let Some(limit) = descriptors::raise_limit() {
        // The workers take theirs later.
        let share = Share::of(limit, descriptors::count_open().max(descriptors::AT_START), limits.connections);
        if let Some(warning) = share.warning(limit, limits.connections) {
            tracing::warn!("{warning}");
        }
        limits.connections = share.clients;
        config.upstream.connections = share.upstream;
    }
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let access_pipe = config.log_access.then(|| logs.access.clone());
    let access_log =
        AccessLog::with_failure_policy(access_pipe, config.log_format, config.log_on_failure, Arc::clone(&metrics));
    let gate = Arc::new(gate(config, allowlist, cache, access_log, metrics)?);
    for entrance in &entrances {
        tracing::info!(address = %entrance.address()?, domain = %gate.upstream.authority(), "listening");
    }
    background.spawn("the allowlist's reloading", async move { match reloader.run(hangups).await {} });
    background.spawn("the credentials' renewal", refresher.run());
    if !is_engine_configured {
        let gate = Arc::clone(&gate);
        background
            .spawn("the engine's learning", async move { match engine::learn(&gate.upstream, &gate.engine).await {} });
    }
    let pipes = [("events", logs.events.clone()), ("access", logs.access.clone())];
    let workers = Worker::start_all(&gate).context("cannot start the workers")?;
    let observer = Arc::new(Observer::new(Arc::clone(&gate), list_state, pipes));
    if let Some(admin) = admin {
        tracing::info!(address = admin.name(), "answering the operator");
        let observer = Arc::clone(&observer);
        background.spawn("the admin address", async move { match admin::run(admin, observer, admin_hosts).await {} });
    }
    let watched = Arc::clone(&observer);
    background.spawn("the signs of life", async move { match watched.watch(manager).await {} });
    manager.ready();
    let shutdown = async {
        termination.wait().await;
        manager.stopping();
        observer.drain();
    };
    background.outlive(server::run(entrances, workers, limits, shutdown)).await
}

/// Opens what is listened on, and lets certificates follow their files.
async fn open(
    listeners: impl Iterator<Item = (Listener, Option<StdListener>)>,
    metrics: &Arc<Metrics>,
    background: &mut Background,
) -> anyhow::Result<Vec<Entrance>> {
    let mut entrances = Vec::new();
    for (listener, socket) in listeners {
        let (entrance, reloader) = match socket {
            Some(socket) => Entrance::on(TcpListener::from_std(socket)?, listener)?,
            None => Entrance::open(listener).await?,
        };
        entrances.push(entrance);
        if let Some(reloader) = reloader {
            let metrics = Arc::clone(metrics);
            background.spawn("a certificate's reloading", async move { match reloader.run(metrics).await {} });
        }
    }
    Ok(entrances)
}

/// The first of the sockets passed on under `name`, if there is one.
fn take(passed: &mut Vec<(String, StdListener)>, name: &str) -> Option<StdListener> {
    let index = passed.iter().position(|(other, _)| other == name)?;
    Some(passed.remove(index).1)
}

/// Tasks that run for as long as the process does: without one of them the gate would grow stale and not say so.
#[derive(Debug, Default)]
struct Background {
    tasks: JoinSet<()>,
    names: HashMap<tokio::task::Id, &'static str>,
}

impl Background {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.names.insert(self.tasks.spawn(task).id(), name);
    }

    /// Runs `work` to its end; if one of the tasks ends before it, that is an error.
    async fn outlive(mut self, work: impl Future<Output = ()>) -> anyhow::Result<()> {
        tokio::select! {
            () = work => Ok(()),
            Some(ended) = self.tasks.join_next_with_id() => {
                let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
                let name = self.names.get(&id).copied().unwrap_or("a background task");
                match ended {
                    Ok(_) => bail!("{name} has ended"),
                    Err(error) => bail!("{name} has failed: {error}"),
                }
            }
        }
    }
}

/// Returns what `trailgate check` warns of: settings that are valid, and probably not meant so.
#[must_use]
pub fn warnings(config: &Config) -> Vec<String> {
    let connections = config.connections.connections;
    let limit = descriptors::raise_limit();
    let descriptors =
        limit.and_then(|limit| Share::of(limit, descriptors::AT_START, connections).warning(limit, connections));
    config.warnings.iter().cloned().chain(descriptors).collect()
}

/// What `trailgate check` says of a configuration whose parts have all been read.
pub fn describe(file: &Path, config: &Config) -> anyhow::Result<String> {
    let entries = Entries::load(&config.allowlist)?;
    trailgate_client::load_roots(config.ca_file.as_deref())?;
    for files in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        tls::check(files, SystemTime::now())?;
    }
    let expired = entries.expired(SystemTime::now());
    let addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    Ok(format!(
        "{}: listens on {}, signs for {} in {}, forwards to {}\n{}: {} entries, {expired} of them expired",
        file.display(),
        addresses.join(" and "),
        config.service,
        config.region,
        config.endpoint.authority(),
        config.allowlist.display(),
        entries.len(),
    ))
}

/// The gate that `config` describes.
pub fn gate(
    config: Config,
    allowlist: Allowlist,
    credentials: CredentialCache,
    access_log: AccessLog,
    metrics: Arc<Metrics>,
) -> anyhow::Result<Gate> {
    let signer = Signer::new(config.endpoint.authority(), &config.region, &config.service);
    let roots = trailgate_client::load_roots(config.ca_file.as_deref())?;
    let upstream = Upstream::new(config.endpoint, roots, config.upstream);
    let engine = KnownEngine::default();
    engine.set(config.engine);
    Ok(Gate {
        allowlist,
        budget: Budget::new(config.body, metrics.buffer_wait.clone()),
        upstream: SignedClient::new(upstream, signer, credentials),
        engine,
        home: config.home,
        idle_timeout: config.idle_timeout,
        quotas: Arc::new(Quotas::new(config.searches)),
        access_log,
        metrics,
    })
}

/// How long a stuck pipe may hold up the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_background_task_that_ends_ends_the_work_with_an_error() {
        let mut background = Background::default();
        background.spawn("the one that stays", pending());
        background.spawn("the one that ends", ready(()));
        let error = background.outlive(pending()).await.unwrap_err();
        assert_eq!(error.to_string(), "the one that ends has ended");
    }

    #[tokio::test]
    async fn a_background_task_that_panics_ends_the_work_with_an_error() {
        let mut background = Background::default();
        background.spawn("the one that fails", async { panic!("for the test") });
        let error = background.outlive(pending()).await.unwrap_err();
        assert!(error.to_string().starts_with("the one that fails has failed: "), "{error}");
        assert!(error.to_string().contains("for the test"), "{error}");
    }

    #[tokio::test]
    async fn work_that_is_done_ends_well() {
        let mut background = Background::default();
        background.spawn("the one that stays", pending());
        assert!(background.outlive(ready(())).await.is_ok());
    }
}
