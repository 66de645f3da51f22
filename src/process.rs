//! The daemon from start to end: builds a [`Gate`] from a [`Config`], runs it with its background tasks, drains.

use std::io;
use std::net::TcpListener as StdListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, anyhow, bail};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::access_log::{AccessLog, Format};
use crate::admin::{self, Observer};
use crate::allowlist::{Allowlist, Entries, LoadError, Reloader};
use crate::body::Budget;
use crate::config::Config;
use crate::credentials::{self, CredentialCache};
use crate::exchange::Exchange;
use crate::gate::Gate;
use crate::line_pipe::LinePipe;
use crate::metrics::Metrics;
use crate::sign::Signer;
use crate::systemd::Manager;
use crate::upstream::{self, Upstream};
use crate::{server, signals};

/// Where the lines of a process go; they outlive its runtime, so that the last ones are written, too.
#[derive(Debug)]
pub struct Logs {
    events: LinePipe,
    access: LinePipe,
}

impl Logs {
    /// Sends events to stderr from now on, and opens the way to stdout for access lines.
    pub fn start(config: &Config) -> io::Result<Self> {
        let lost = match config.log_format {
            Format::Json => |lines| format!("{{\"lost_lines\":{lines}}}\n"),
            Format::Text => |lines| format!("{lines} lines were lost: this pipe was full\n"),
        };
        let logs = Self { events: LinePipe::start(io::stderr(), lost)?, access: LinePipe::start(io::stdout(), lost)? };
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
        self.events.drain(LAST_LINES);
        self.access.drain(LAST_LINES);
    }
}

/// Runs the gate until SIGTERM or SIGINT, or until one of its background tasks fails.
///
/// `passed` are the listeners that the service manager has opened, by name: `listen` and `admin` stand in for those that
/// the configuration names.
pub async fn run(config: Config, mut passed: Vec<(String, StdListener)>, logs: &Logs) -> anyhow::Result<()> {
    // Before the first load, so that no signal or change of a file falls between.
    let hangups = signals::hangups().context("cannot listen to signals")?;
    let termination = signals::Termination::listen().context("cannot listen to signals")?;
    let manager = Manager::of_environment();
    let (reloader, allowlist) = Reloader::start(config.allowlist.clone(), manager)?;
    let list_state = reloader.state();
    let (cache, renewal) =
        credentials::cache(credentials::provider(&config.region, config.assume_role.as_deref()).await?);
    let limits = config.connections;
    let address = config.listen;
    let admin = config.admin.listen(take(&mut passed, "admin"))?;
    let admin_hosts = config.admin_hosts.clone();
    let metrics = Arc::<Metrics>::default();
    let access_pipe = config.log_access.then(|| logs.access.clone());
    let access_log = AccessLog::new(access_pipe, config.log_format, Arc::clone(&metrics));
    let gate = Arc::new(gate(config, allowlist, cache, access_log, metrics)?);
    let listener = match take(&mut passed, "listen") {
        Some(listener) => TcpListener::from_std(listener).context("the socket passed on is of no use")?,
        None => TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?,
    };
    if let Some((name, _)) = passed.first() {
        bail!("the socket {name:?} that was passed on is for nobody: name it \"listen\" or \"admin\"");
    }
    tracing::info!(address = %listener.local_addr()?, domain = %gate.exchange.authority(), "listening");

    let pipes = [("events", logs.events.clone()), ("access", logs.access.clone())];
    let observer = Arc::new(Observer::new(Arc::clone(&gate), list_state, pipes));
    let mut background = JoinSet::new();
    background.spawn(async move { match reloader.run(hangups).await {} });
    background.spawn(renewal.run());
    if let Some(admin) = admin {
        tracing::info!(address = admin.name(), "answering the operator");
        let observer = Arc::clone(&observer);
        background.spawn(async move { match admin::run(admin, observer, admin_hosts).await {} });
    }
    let watched = Arc::clone(&observer);
    background.spawn(async move { match watched.watch(manager).await {} });
    manager.ready();
    let termination = async {
        termination.wait().await;
        manager.stopping();
        observer.drain();
    };
    tokio::select! {
        () = server::run(listener, gate, limits, termination) => Ok(()),
        ended = background.join_next() => Err(anyhow!("a background task ended: {ended:?}")),
    }
}

/// The listener that was passed on under `name`, if one was.
fn take(passed: &mut Vec<(String, StdListener)>, name: &str) -> Option<StdListener> {
    let index = passed.iter().position(|(other, _)| other == name)?;
    Some(passed.swap_remove(index).1)
}

/// What `trailgate check` says of a configuration whose parts have all been read.
pub fn describe(file: &Path, config: &Config) -> anyhow::Result<String> {
    let entries = Entries::load(&config.allowlist)?;
    if entries.is_empty() {
        return Err(LoadError::Empty { file: config.allowlist.clone() }.into());
    }
    upstream::roots(config.ca_file.as_deref())?;
    let expired = entries.expired(SystemTime::now());
    Ok(format!(
        "{}: listens on {}, signs for {} in {}, forwards to {}\n{}: {} entries, {expired} of them expired",
        file.display(),
        config.listen,
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
    let roots = upstream::roots(config.ca_file.as_deref())?;
    let upstream = Upstream::new(config.endpoint, roots, config.upstream, Arc::clone(&metrics));
    Ok(Gate {
        trusted_proxies: config.trusted_proxies,
        hosts: config.hosts,
        allowlist,
        budget: Budget::new(config.body, metrics.buffer_wait.clone()),
        exchange: Exchange::new(upstream, signer, credentials, Arc::clone(&metrics)),
        home: config.home,
        idle_timeout: config.idle_timeout,
        access_log,
        metrics,
    })
}

/// How long a stuck pipe may hold up the end of the process.
const LAST_LINES: Duration = Duration::from_secs(1);
