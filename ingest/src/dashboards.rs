//! What analysts see: dashboards, saved searches and the index pattern, for Kibana and `OpenSearch` Dashboards.
//!
//! 1. [`source`] reads the one file that all of them are written in, `dashboards/dashboards.toml`.
//! 2. [`saved`] makes saved objects of it, in one of the two formats of [`mod@format`].
//! 3. [`mod@file`] puts them into files, to be imported by hand.
//! 4. [`install`] gives a domain those that it lacks, and keeps what its users changed.

pub mod file;
pub mod format;
pub mod install;
pub mod saved;
pub mod source;

mod fields;
mod visual;

#[cfg(test)]
mod tests;

/// The dashboards of the project.
pub const SOURCE: &str = include_str!("../../dashboards/dashboards.toml");
