//! A SigV4-signing reverse proxy in front of an AWS Elasticsearch or OpenSearch domain.
//!
//! [`proxy`] has the life of a request, step by step; docs/architecture.md follows it through the modules.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod cli;
pub mod config;
pub mod daemon;
pub mod http;
mod human;
pub mod ops;
pub mod policy;
pub mod proxy;
pub mod reject;
mod watched_file;
