//! A SigV4-signing reverse proxy in front of an AWS Elasticsearch or OpenSearch domain.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod cli;
pub mod config;
pub mod daemon;
pub mod http;
pub mod ops;
pub mod policy;
pub mod proxy;
pub mod reject;
mod watched_file;
