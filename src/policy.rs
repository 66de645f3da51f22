//! The decisions: who the client is, whether it is let in, and what it may do.

pub mod allowlist;
pub mod cidr;
pub mod client_address;
pub mod csrf;
pub mod engine;
pub mod grant;
pub mod host_check;
pub mod quota;
