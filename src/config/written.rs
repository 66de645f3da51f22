//! The configuration as written in the file: one struct per table. [`defaults`] has the defaults; `config/trailgate.toml`
//! documents every key.

mod defaults;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_spanned::Spanned;
use tracing::level_filters::LevelFilter;
use trailgate_client::{AssumeRoleSettings, Endpoint, NotRoleArn, RoleArn, SessionLimits, UpstreamConfig, is_region};

use self::defaults::{ADMIN_ADDRESS, BUFFER_MEMORY, connect_timeout, idle_timeout, pool_idle, response_timeout};
use super::listen::{Listens, hosts};
use super::problem::{Problem, problem_at};
use super::types::{AdminConfig, DomainConfig, LogConfig, RolesConfig, SigningConfig};
use super::units::{Size, Time};
use crate::http::head::HeadLimits;
use crate::http::memory_budget::BodyLimits;
use crate::http::server::ConnectionLimits;
use crate::ops::access_log::{LogFailurePolicy, LogFormat};
use crate::ops::admin::AdminAddress;
use crate::policy::engine::{Engine, UnknownEngine};
use crate::policy::quota::SearchLimits;
use crate::policy::signing_role::DefaultRoles;
use crate::proxy::ProxyConfig;
use crate::proxy::root_redirect::RootRedirect;
use crate::reject::Contact;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    #[serde(default)]
    listen: Listens,
    upstream: Upstream,
    #[serde(default)]
    aws: Aws,
    #[serde(default)]
    allowlist: Allowlist,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    admin: Admin,
    #[serde(default)]
    log: Log,
    #[serde(default)]
    reject: Reject,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Upstream {
    endpoint: Spanned<String>,
    home: Option<Spanned<String>>,
    engine: Option<Spanned<String>>,
    #[serde(default)]
    allow_plaintext: bool,
    ca_file: Option<PathBuf>,
    #[serde(default = "connect_timeout")]
    connect_timeout: Time,
    #[serde(default = "response_timeout")]
    response_timeout: Time,
    #[serde(default = "idle_timeout")]
    idle_timeout: Time,
    #[serde(default = "pool_idle")]
    pool_idle: usize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Aws {
    region: Option<Spanned<String>>,
    service: Option<Service>,
    assume_role: Option<Spanned<String>>,
    roles: Roles,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Roles {
    read: Option<Spanned<String>>,
    full: Option<Spanned<String>>,
    external_id: Option<Spanned<String>>,
    tags: bool,
    session_duration: Option<Spanned<Time>>,
    session_idle: Time,
    sessions: NonZeroUsize,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Service {
    Es,
    Aoss,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Allowlist {
    file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Limits {
    max_body: Size,
    buffer_memory: Option<Spanned<Size>>,
    connections: NonZeroUsize,
    header_bytes: Size,
    headers: NonZeroUsize,
    header_timeout: Time,
    body_timeout: Time,
    keep_alive: Time,
    drain: Time,
    search_keep_alive: Time,
    search_contexts: NonZeroUsize,
    concurrent_searches: NonZeroUsize,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Admin {
    address: Option<Spanned<String>>,
    hosts: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Log {
    format: LogFormat,
    level: Level,
    access: bool,
    on_failure: LogFailurePolicy,
    redact_query: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Reject {
    contact: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
struct Level(LevelFilter);

impl Config {
    /// Validates the configuration. Relative paths start at `folder`.
    pub(super) fn check(self, folder: &Path) -> Result<super::types::Config, Problem> {
        let endpoint = self.upstream.endpoint()?;
        let unnamed = |message: &str| problem_at(&self.upstream.endpoint, message);
        let region = self.aws.region()?.or(endpoint.region());
        let service = self.aws.service.map(Service::name).or(endpoint.service());
        let (region, service) = match (region, service) {
            (Some(region), Some(service)) => (region.to_owned(), service),
            (None, Some(_)) => return Err(unnamed("does not name a region: set aws.region")),
            (Some(_), None) => {
                return Err(unnamed("does not name a service: set aws.service to \"es\" or \"aoss\""));
            }
            (None, None) => {
                let message = "names neither region nor service: set aws.region, and aws.service to \"es\" or \"aoss\"";
                return Err(unnamed(message));
            }
        };
        let admin = self.admin.address(folder)?;
        self.check_addresses(&endpoint, &admin)?;
        let listeners = self.listen.check(folder)?;
        let roles = self.aws.roles.check(&region)?;
        Ok(super::types::Config {
            warnings: Listens::warnings(&listeners),
            listeners,
            roles,
            allowlist: folder.join(self.allowlist.file),
            proxy: ProxyConfig {
                engine: self.upstream.engine(service)?,
                root_redirect: self.upstream.root_redirect(service)?,
                contact: self.reject.contact()?,
                idle_timeout: self.upstream.idle_timeout.0,
                body: self.limits.body()?,
                searches: self.limits.searches(),
            },
            connections: self.limits.connections(),
            admin: AdminConfig { address: admin, hosts: hosts(&self.admin.hosts)? },
            log: LogConfig {
                format: self.log.format,
                level: self.log.level.0,
                access: self.log.access,
                on_failure: self.log.on_failure,
                redact_query: self.log.redact_query,
            },
            domain: DomainConfig {
                signing: SigningConfig {
                    region,
                    service: service.to_owned(),
                    assume_role: role(self.aws.assume_role.as_ref())?,
                },
                endpoint,
                ca_file: self.upstream.ca_file.map(|file| folder.join(file)),
                upstream: UpstreamConfig {
                    connect_timeout: self.upstream.connect_timeout.0,
                    response_timeout: self.upstream.response_timeout.0,
                    pool_idle: self.upstream.pool_idle,
                    connections: usize::MAX,
                },
            },
        })
    }

    /// Rejects an endpoint that is this proxy, and an admin address that a listener has.
    fn check_addresses(&self, endpoint: &Endpoint, admin: &AdminAddress) -> Result<(), Problem> {
        if let Some(address) = self.listen.accepting(endpoint) {
            let message =
                format!("{:?} is this proxy itself, which listens on {address}", self.upstream.endpoint.get_ref());
            return Err(problem_at(&self.upstream.endpoint, message));
        }
        let AdminAddress::Tcp(admin) = *admin else { return Ok(()) };
        let Some((address, written)) = self.listen.overlapping(admin) else { return Ok(()) };
        let message = format!("{address} of a [[listen]] and {admin} of admin.address overlap: write another port");
        match (&self.admin.address, written) {
            (Some(written), _) => Err(problem_at(written, message)),
            (None, Some(written)) => Err(problem_at(written, message)),
            // The defaults differ.
            (None, None) => Ok(()),
        }
    }
}

impl Admin {
    fn address(&self, folder: &Path) -> Result<AdminAddress, Problem> {
        let Some(text) = &self.address else { return Ok(ADMIN_ADDRESS) };
        AdminAddress::parse(text.get_ref(), folder)
            .map_err(|error| problem_at(text, format!("{:?} {error}", text.get_ref())))
    }
}

impl Upstream {
    fn endpoint(&self) -> Result<Endpoint, Problem> {
        let text = self.endpoint.get_ref();
        let endpoint =
            Endpoint::parse(text).map_err(|error| problem_at(&self.endpoint, format!("{text:?} {error}")))?;
        if endpoint.is_exposed() && !self.allow_plaintext {
            let message = "is plain http to another machine: write https, or set upstream.allow_plaintext = true";
            return Err(problem_at(&self.endpoint, message));
        }
        Ok(endpoint)
    }

    /// Returns the configured engine. A serverless collection has no banner, and is OpenSearch 2 or later.
    fn engine(&self, service: &str) -> Result<Option<Engine>, Problem> {
        let serverless = (service == "aoss").then_some(Engine::SERVERLESS);
        let Some(text) = &self.engine else { return Ok(serverless) };
        text.get_ref().parse().map(Some).map_err(|error: UnknownEngine| problem_at(text, error.to_string()))
    }

    fn root_redirect(&self, service: &str) -> Result<RootRedirect, Problem> {
        let Some(home) = &self.home else { return Ok(RootRedirect::for_service(service)) };
        match home.get_ref().as_str() {
            "off" => Ok(RootRedirect::disabled()),
            // A second slash would make it a protocol-relative URL of another host.
            path if path.starts_with('/')
                && !path.starts_with("//")
                && path.bytes().all(|byte| byte.is_ascii_graphic()) =>
            {
                Ok(RootRedirect::to(path))
            }
            other => Err(problem_at(home, format!("{other:?} is not a path: write \"/…\", or \"off\""))),
        }
    }
}

impl Aws {
    fn region(&self) -> Result<Option<&str>, Problem> {
        let Some(written) = &self.region else { return Ok(None) };
        let region = written.get_ref();
        if !is_region(region) {
            return Err(problem_at(written, format!("{region:?} is not a region: write one like \"eu-west-1\"")));
        }
        Ok(Some(region))
    }
}

impl Roles {
    fn check(&self, region: &str) -> Result<RolesConfig, Problem> {
        Ok(RolesConfig {
            defaults: DefaultRoles { read: role(self.read.as_ref())?, full: role(self.full.as_ref())? },
            settings: AssumeRoleSettings {
                region: region.to_owned(),
                external_id: self.external_id()?,
                tags: self.tags,
                duration: self.duration()?,
            },
            limits: SessionLimits { idle: self.session_idle.0, live: self.sessions.get() },
        })
    }

    fn external_id(&self) -> Result<Option<String>, Problem> {
        let Some(written) = &self.external_id else { return Ok(None) };
        let id = written.get_ref();
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
        if (2..=1224).contains(&id.len()) && id.bytes().all(is_valid) {
            return Ok(Some(id.clone()));
        }
        let message = "is not an external ID: write 2 to 1224 of the characters A-Z a-z 0-9 _ + = , . @ : / -";
        Err(problem_at(written, format!("{id:?} {message}")))
    }

    fn duration(&self) -> Result<Option<Duration>, Problem> {
        let Some(written) = &self.session_duration else { return Ok(None) };
        let duration = written.get_ref().0;
        if (Duration::from_mins(15)..=Duration::from_hours(12)).contains(&duration) {
            return Ok(Some(duration));
        }
        Err(problem_at(written, "is not between 15 min and 12 h, as STS requires"))
    }
}

/// Parses the ARN of a role.
fn role(written: Option<&Spanned<String>>) -> Result<Option<RoleArn>, Problem> {
    let parse = |written: &Spanned<String>| {
        written.get_ref().parse().map_err(|error: NotRoleArn| problem_at(written, error.to_string()))
    };
    written.map(parse).transpose()
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Self::Es => "es",
            Self::Aoss => "aoss",
        }
    }
}

impl Limits {
    fn body(&self) -> Result<BodyLimits, Problem> {
        let max_body = self.max_body.0;
        if let Some(memory) = &self.buffer_memory
            && memory.get_ref().0 < max_body
        {
            let message = "is less than limits.max_body, so the largest body would never fit";
            return Err(problem_at(memory, message));
        }
        let buffer_memory = self.buffer_memory.as_ref().map_or(BUFFER_MEMORY, |memory| *memory.get_ref());
        Ok(BodyLimits { max_body, buffer_memory: buffer_memory.0.max(max_body), timeout: self.body_timeout.0 })
    }

    fn searches(&self) -> SearchLimits {
        SearchLimits {
            keep_alive: self.search_keep_alive.0,
            contexts: self.search_contexts.get(),
            concurrent: self.concurrent_searches.get(),
        }
    }

    fn connections(&self) -> ConnectionLimits {
        ConnectionLimits {
            connections: self.connections.get(),
            head: HeadLimits { bytes: self.header_bytes.0, headers: self.headers.get() },
            header_timeout: self.header_timeout.0,
            write_timeout: self.body_timeout.0,
            keep_alive: self.keep_alive.0,
            drain: self.drain.0,
        }
    }
}

impl Reject {
    fn contact(&self) -> Result<Option<Contact>, Problem> {
        let Some(written) = &self.contact else { return Ok(None) };
        let contact = Contact::parse(written.get_ref());
        contact.map(Some).map_err(|error| problem_at(written, format!("{:?} {error}", written.get_ref())))
    }
}

impl TryFrom<String> for Level {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_name = text.bytes().all(|byte| byte.is_ascii_lowercase());
        let level = text.parse().ok().filter(|_| is_name);
        level.map(Self).ok_or(format!("{text:?} is not a level: write off, error, warn, info, debug or trace"))
    }
}
