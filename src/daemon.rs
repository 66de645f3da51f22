//! The daemon: builds the proxy from a [`Config`], spawns the background tasks, serves, and drains.

mod background;
mod logs;

use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use tokio::net::TcpListener;
use trailgate_client::{CredentialCache, RoleArn, RoleSessionKeeper, SignedClient, Signer, Upstream};

use self::background::Background;
pub use self::logs::Logs;
use crate::config::{Config, DomainConfig, RolesConfig};
use crate::http::listener::Listener;
use crate::http::server::{BoundListener, ConnectionLimits, Worker};
use crate::ops::access_log::AccessLog;
use crate::ops::admin::{self, ObservedProxy, Observer};
use crate::ops::descriptors::{self, Share};
use crate::ops::metrics::Metrics;
use crate::ops::reload::allowlist::AllowlistReloader;
use crate::ops::reload::certificate::CertificateReloader;
use crate::ops::request_record::RequestRecorder;
use crate::ops::signals;
use crate::ops::systemd::{self, Notifier};
use crate::policy::engine;
use crate::policy::signing_role::SigningRoles;
use crate::proxy::{self, Proxy};

/// Runs the proxy until SIGTERM or SIGINT, or until one of its background tasks fails.
///
/// `passed` are the sockets that the service manager has opened, by name (socket activation): `admin` is the admin
/// address, each `listen` is the listener with the same address.
pub async fn run(config: Config, mut passed: Vec<(String, StdListener)>, logs: &Logs) -> anyhow::Result<()> {
    // Before the first load, so that no signal or file change is missed.
    let hangups = signals::hangups().context("cannot listen to signals")?;
    let termination = signals::Termination::listen().context("cannot listen to signals")?;
    let notifier = Notifier::of_environment();
    let mut background = Background::default();
    let metrics = Arc::<Metrics>::default();

    let (reloader, allowlist) = AllowlistReloader::start(config.allowlist, notifier)?;
    let list_state = reloader.state();
    let allowlist_warnings = Listener::allowlist_warnings(&config.listeners, &allowlist.entries(), SystemTime::now());
    background.spawn("the allowlist's reloading", async move { match reloader.run(hangups).await {} });
    // Before clients can exhaust the file descriptors.
    trailgate_client::load_sdk_roots();
    let signing = &config.domain.signing;
    let provider = trailgate_client::provider(&signing.region, signing.assume_role.as_ref().map(RoleArn::as_str));
    let (credentials, refresher) = CredentialCache::new(provider);
    background.spawn("the credentials' renewal", refresher.run());
    let admin_listener = config.admin.address.listen(take_socket(&mut passed, "admin"))?;
    let sockets = systemd::assign(&config.listeners, &mut passed)?;
    let listeners = config.listeners.into_iter().zip(sockets);
    let listeners = bind_listeners(listeners, &metrics, &mut background).await?;
    if let Some((name, _)) = passed.first() {
        bail!("the socket {name:?} that was passed has no listener: name it \"listen\" or \"admin\"");
    }
    let (limits, domain) = share_descriptors(config.connections, config.domain);
    for warning in config.warnings.iter().chain(&allowlist_warnings) {
        tracing::warn!("{warning}");
    }

    let access_writer = config.log.access.then(|| logs.access.clone());
    let access_log = AccessLog::new(access_writer, config.log.format, config.log.on_failure, config.log.redact_query);
    let recorder = RequestRecorder::new(access_log, Arc::clone(&metrics));
    let is_engine_configured = config.proxy.engine.is_some();
    let upstream = Arc::new(build_upstream(domain, credentials)?);
    let (roles, keeper) = build_roles(config.roles, &upstream);
    background.spawn("the sessions of roles", keeper.run());
    let (followed, list) = (roles.clone(), allowlist.clone());
    background.spawn("the end of sessions", async move { match followed.follow(list).await {} });
    let shared = Arc::new(proxy::Shared::new(config.proxy, allowlist, roles, recorder, metrics));
    for listener in &listeners {
        tracing::info!(address = %listener.address()?, domain = %upstream.authority(), "listening");
    }
    if !is_engine_configured {
        let (upstream, shared) = (Arc::clone(&upstream), Arc::clone(&shared));
        background.spawn("the engine's learning", async move {
            match engine::learn(&upstream, || shared.roles.own_session(), &shared.engine).await {}
        });
    }
    let workers = Worker::start_all(|| Proxy { shared: Arc::clone(&shared), upstream: upstream.with_own_pool() });
    let workers = workers.context("cannot start the workers")?;

    let parts = ObservedProxy {
        upstream,
        allowlist: shared.allowlist.clone(),
        roles: shared.roles.clone(),
        budget: shared.budget.clone(),
        max_connections: config.connections.connections,
        metrics: Arc::clone(&shared.metrics),
    };
    let writers = [("events", logs.events.clone()), ("access", logs.access.clone())];
    let observer = Arc::new(Observer::new(parts, list_state, writers));
    if let Some(listener) = admin_listener {
        tracing::info!(address = listener.name(), "admin listening");
        let (status, hosts) = (Arc::clone(&observer), config.admin.hosts);
        background.spawn("the admin address", async move { match admin::run(listener, status, hosts).await {} });
    }
    let watched = Arc::clone(&observer);
    background.spawn("the watchdog", async move { match watched.watch(notifier).await {} });
    notifier.ready();
    let shutdown = async {
        termination.wait().await;
        notifier.stopping();
        observer.drain();
    };
    background.run_until(proxy::serve(listeners, workers, limits, &shared, shutdown)).await
}

/// Builds the client of the domain that `config` describes, in the current runtime.
pub fn build_upstream(config: DomainConfig, credentials: CredentialCache) -> anyhow::Result<SignedClient> {
    let signer = Signer::new(config.endpoint.authority(), &config.signing.region, &config.signing.service);
    let roots = trailgate_client::load_roots(config.ca_file.as_deref())?;
    Ok(SignedClient::new(Upstream::new(config.endpoint, roots, config.upstream), signer, credentials))
}

/// Builds the roles that sign requests to `upstream`, and the keeper of their sessions, which has to run.
#[must_use]
pub fn build_roles(config: RolesConfig, upstream: &SignedClient) -> (SigningRoles, RoleSessionKeeper) {
    let assumer = config.settings.assumer(upstream.credentials().clone());
    let (sessions, keeper) = upstream.role_sessions(assumer, config.limits);
    (SigningRoles::new(config.defaults, sessions), keeper)
}

/// Binds the listeners, and spawns the reloaders of their certificates.
async fn bind_listeners(
    listeners: impl Iterator<Item = (Listener, Option<StdListener>)>,
    metrics: &Arc<Metrics>,
    background: &mut Background,
) -> anyhow::Result<Vec<BoundListener>> {
    let mut bound = Vec::new();
    for (listener, socket) in listeners {
        let (reloader, certificate) = listener.tls.as_ref().map(CertificateReloader::start).transpose()?.unzip();
        bound.push(match socket {
            Some(socket) => BoundListener::from_socket(TcpListener::from_std(socket)?, listener, certificate),
            None => BoundListener::bind(listener, certificate).await?,
        });
        if let Some(reloader) = reloader {
            let metrics = Arc::clone(metrics);
            background.spawn("a certificate's reloading", async move { match reloader.run(metrics).await {} });
        }
    }
    Ok(bound)
}

/// Raises the limit of file descriptors, and divides them between clients and the domain.
fn share_descriptors(mut limits: ConnectionLimits, mut domain: DomainConfig) -> (ConnectionLimits, DomainConfig) {
    if let Some(limit) = descriptors::raise_limit() {
        // The workers open theirs later.
        let share = Share::of(limit, descriptors::count_open().max(descriptors::AT_START), limits.connections);
        if let Some(warning) = share.warning(limit, limits.connections) {
            tracing::warn!("{warning}");
        }
        limits.connections = share.clients;
        domain.upstream.connections = share.upstream;
    }
    (limits, domain)
}

/// Removes and returns the first socket passed under `name`, if there is one.
fn take_socket(passed: &mut Vec<(String, StdListener)>, name: &str) -> Option<StdListener> {
    let index = passed.iter().position(|(other, _)| other == name)?;
    Some(passed.remove(index).1)
}
