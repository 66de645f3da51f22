//! The sections of the validated configuration, each consumed whole by its owner.

use std::path::PathBuf;

use tracing::level_filters::LevelFilter;
use trailgate_client::{AssumeRoleSettings, Endpoint, RoleArn, SessionLimits, UpstreamConfig};

use crate::http::listener::Listener;
use crate::http::server::ConnectionLimits;
use crate::ops::access_log::{LogFailurePolicy, LogFormat};
use crate::ops::admin::AdminAddress;
use crate::policy::host_check::Hosts;
use crate::policy::signing_role::DefaultRoles;
use crate::proxy::ProxyConfig;

/// The whole configuration. It exists only if every value is valid.
#[derive(Debug)]
pub struct Config {
    /// Warnings about settings that are valid, and probably not intended.
    pub warnings: Vec<String>,
    /// The listeners; at least one.
    pub listeners: Vec<Listener>,
    /// The domain, and the signing of requests to it.
    pub domain: DomainConfig,
    /// The roles that sign requests.
    pub roles: RolesConfig,
    /// The path of the allowlist file.
    pub allowlist: PathBuf,
    /// The request pipeline.
    pub proxy: ProxyConfig,
    /// The limits of client connections.
    pub connections: ConnectionLimits,
    /// The admin server.
    pub admin: AdminConfig,
    /// Logging.
    pub log: LogConfig,
}

/// The domain, and the signing of requests to it.
#[derive(Debug)]
pub struct DomainConfig {
    /// The domain's endpoint.
    pub endpoint: Endpoint,
    /// The CA certificates that the domain's certificate is verified with, unless the platform's are used.
    pub ca_file: Option<PathBuf>,
    /// Timeouts and connection pool.
    pub upstream: UpstreamConfig,
    /// The scope and the role of signatures.
    pub signing: SigningConfig,
}

/// The scope and the role of signatures.
#[derive(Debug)]
pub struct SigningConfig {
    /// The signing region.
    pub region: String,
    /// The signing service, `es` or `aoss`.
    pub service: String,
    /// The ARN of the role to assume, if any.
    pub assume_role: Option<RoleArn>,
}

/// The roles that the base credentials assume to sign requests.
#[derive(Debug)]
pub struct RolesConfig {
    /// The roles by access level.
    pub defaults: DefaultRoles,
    /// The parameters of each call of STS.
    pub settings: AssumeRoleSettings,
    /// The bounds of live sessions.
    pub limits: SessionLimits,
}

/// The admin server.
#[derive(Debug)]
pub struct AdminConfig {
    /// The address to bind.
    pub address: AdminAddress,
    /// The host names that it serves besides IP addresses and `localhost` (DNS rebinding protection).
    pub hosts: Hosts,
}

/// Logging.
#[derive(Debug)]
pub struct LogConfig {
    /// The line format.
    pub format: LogFormat,
    /// The level.
    pub level: LevelFilter,
    /// Set if each request is logged (access log).
    pub access: bool,
    /// The policy for requests while the access log cannot be written.
    pub on_failure: LogFailurePolicy,
    /// Set if the access log leaves out the query of targets.
    pub redact_query: bool,
}
