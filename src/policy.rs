//! The decisions: who the client is, whether it is let in, and what it may do.

pub mod allowlist;
pub(crate) mod cidr;
pub(crate) mod client_address;
pub(crate) mod csrf;
pub mod engine;
pub mod grant;
pub(crate) mod host_check;
pub(crate) mod quota;
