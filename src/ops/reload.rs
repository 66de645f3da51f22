//! Reloads of files that change while the proxy runs.

pub mod allowlist;
pub mod certificate;
