//! Dashboards, saved searches and the index pattern, for Kibana and `OpenSearch` Dashboards.
//!
//! 1. [`definitions`] parses a file that defines some of them, such as `dashboards/dashboards.toml`.
//! 2. [`saved`] builds saved objects of it, in one of the two formats of [`mod@format`].
//! 3. [`mod@file`] writes them as files to be imported by hand.
//! 4. [`install`] installs those that a domain lacks, and keeps what its users changed.

pub mod definitions;
pub mod file;
pub mod format;
pub mod install;
pub mod saved;

mod fields;
mod visual;

#[cfg(test)]
mod tests;

/// The dashboards of CloudTrail events.
pub const SOURCE: &str = include_str!("../../dashboards/dashboards.toml");

/// The dashboard of trailgate's access log.
pub const ACCESS_LOG_SOURCE: &str = include_str!("../../dashboards/access-log.toml");

/// The indices of trailgate's access log.
pub const ACCESS_LOG_PATTERN: &str = "gate-*";
