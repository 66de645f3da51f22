//! Operation: logs, metrics, the admin address, reloads, the service manager.

pub mod access_log;
pub mod admin;
pub mod descriptors;
pub mod log_writer;
pub mod metrics;
pub mod outcome;
pub mod reload;
pub mod request_id;
pub mod request_record;
pub mod signals;
pub mod systemd;
