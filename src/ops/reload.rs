//! Reloads of files that change while the proxy runs.

pub(crate) mod allowlist;
pub(crate) mod certificate;
