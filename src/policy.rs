//! Access control: client identification, allowlist, CSRF and DNS rebinding protection, read grants and quotas.
//!
//! The threat model (`docs/threat-model.md`) names the threats and the tests of these controls.

pub(crate) mod access_log;
pub mod allowlist;
pub(crate) mod cidr;
pub(crate) mod client_address;
pub(crate) mod csrf;
pub mod engine;
pub mod grant;
pub(crate) mod host_check;
pub(crate) mod quota;
pub(crate) mod route;
pub(crate) mod signing_role;
