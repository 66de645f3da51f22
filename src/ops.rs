//! Operation: logs, metrics, the admin address, reloads, the service manager.

pub(crate) mod access_log;
pub(crate) mod admin;
pub(crate) mod descriptors;
pub(crate) mod log_writer;
pub(crate) mod metrics;
pub(crate) mod outcome;
pub(crate) mod reload;
pub(crate) mod request_id;
pub(crate) mod request_record;
pub(crate) mod signals;
pub mod systemd;
