//! The defaults of the configuration, except those of `[listen]`, which are in `listen.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use tracing::level_filters::LevelFilter;

use super::{Allowlist, Level, Limits, Log, Roles};
use crate::config::units::{Size, Time};
use crate::ops::access_log::{LogFailurePolicy, LogFormat};
use crate::ops::admin::AdminAddress;

impl Default for Allowlist {
    fn default() -> Self {
        Self { file: PathBuf::from("allowlist.toml") }
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self {
            read: None,
            full: None,
            external_id: None,
            tags: false,
            session_duration: None,
            session_idle: Time::seconds(900),
            sessions: nonzero(1_000),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: Size::mib(100),
            buffer_memory: None,
            connections: nonzero(10_000),
            header_bytes: Size(64 * 1024),
            headers: nonzero(100),
            header_timeout: Time::seconds(10),
            body_timeout: Time::seconds(30),
            keep_alive: Time::seconds(75),
            drain: Time::seconds(30),
            search_keep_alive: Time::seconds(300),
            search_contexts: nonzero(20),
            concurrent_searches: nonzero(32),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Json,
            level: Level(LevelFilter::INFO),
            access: true,
            on_failure: LogFailurePolicy::Serve,
            redact_query: false,
        }
    }
}

const fn nonzero(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).expect("is not zero")
}

pub(super) fn connect_timeout() -> Time {
    Time::seconds(5)
}

pub(super) fn response_timeout() -> Time {
    Time::seconds(300)
}

pub(super) fn idle_timeout() -> Time {
    Time::seconds(60)
}

pub(super) fn pool_idle() -> usize {
    1024
}

pub(super) const ADMIN_ADDRESS: AdminAddress =
    AdminAddress::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9180));

pub(super) const BUFFER_MEMORY: Size = Size::mib(256);
