//! A SigV4-signing reverse proxy in front of an AWS Elasticsearch or OpenSearch domain.
//!
//! [`proxy`] has the life of a request, step by step; docs/architecture.md follows it through the modules.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

mod cli;
mod config;
pub mod daemon;
mod http;
mod human;
mod ops;
mod policy;
pub mod proxy;
mod reject;
mod watched_file;

// `main` runs these.
pub use self::cli::args::{Cli, Command, ConfigArgs};
pub use self::cli::{allow, check, doctor, generate, status, top};
pub use self::config::{Config, ConfigError};
pub use self::http::tls::CertificateError;
pub use self::ops::systemd;
pub use self::policy::allowlist::LoadError;

// The tests, the benchmarks and the demo put a proxy together of these.
pub use self::http::server::{BoundListener, Worker};
pub use self::ops::access_log::{AccessLog, LogFailurePolicy, LogFormat};
pub use self::ops::log_writer::NonBlockingWriter;
pub use self::ops::metrics::Metrics;
pub use self::ops::reload::certificate::CertificateReloader;
pub use self::ops::request_id::RequestId;
pub use self::ops::request_record::RequestRecorder;
pub use self::ops::signals::Termination;
pub use self::policy::client_address::ClientAddress;
pub use self::policy::signing_role::{DefaultRoles, SigningRoles};
pub use self::policy::{allowlist, engine};

// The fuzz targets and the smuggling tests parse with these.
pub use self::http::head::{HeadError, HeadLimits, HeadValidator, encode_target};
pub use self::http::proxy_protocol;
pub use self::policy::client_address::TrustedProxies;
pub use self::policy::grant;
