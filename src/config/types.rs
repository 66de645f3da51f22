//! The parts of the configuration, each consumed whole by its owner.

use std::path::PathBuf;

use tracing::level_filters::LevelFilter;
use trailgate_client::{Endpoint, UpstreamConfig};

use crate::http::listener::Listener;
use crate::http::server::ConnectionLimits;
use crate::ops::access_log::{LogFailurePolicy, LogFormat};
use crate::ops::admin::AdminAddress;
use crate::policy::host_check::Hosts;
use crate::proxy::ProxyConfig;

/// The whole configuration. It exists only if every value is valid.
#[derive(Debug)]
pub struct Config {
    /// Warnings about settings that are valid, and probably not intended.
    pub warnings: Vec<String>,
    /// The listeners; at least one.
    pub listeners: Vec<Listener>,
    /// The domain, and how requests to it are signed.
    pub domain: DomainConfig,
    /// The allowlist file.
    pub allowlist: PathBuf,
    /// The request path.
    pub proxy: ProxyConfig,
    /// The limits of clients' connections.
    pub connections: ConnectionLimits,
    /// The admin address.
    pub admin: AdminConfig,
    /// The logs.
    pub log: LogConfig,
}

/// The domain, and how requests to it are signed.
#[derive(Debug)]
pub struct DomainConfig {
    /// The domain.
    pub endpoint: Endpoint,
    /// The certificates that may sign the domain's, unless the platform's do.
    pub ca_file: Option<PathBuf>,
    /// Timeouts and pool.
    pub upstream: UpstreamConfig,
    /// The scope and the role of signatures.
    pub signing: SigningConfig,
}

/// The scope and the role of signatures.
#[derive(Debug)]
pub struct SigningConfig {
    /// The region that requests are signed for.
    pub region: String,
    /// The service that requests are signed for, `es` or `aoss`.
    pub service: String,
    /// The role that is assumed to sign, if any.
    pub assume_role: Option<String>,
}

/// The admin address.
#[derive(Debug)]
pub struct AdminConfig {
    /// The address.
    pub address: AdminAddress,
    /// The host names that it answers to, besides addresses and `localhost`.
    pub hosts: Hosts,
}

/// The logs.
#[derive(Debug)]
pub struct LogConfig {
    /// The format of lines.
    pub format: LogFormat,
    /// The level of events.
    pub level: LevelFilter,
    /// Whether each request is logged.
    pub access: bool,
    /// The policy for requests while the access log cannot be written.
    pub on_failure: LogFailurePolicy,
}
