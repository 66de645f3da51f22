//! HTTP towards clients: sockets, TLS, connections, request heads and bodies, headers.

pub(crate) mod discard;
pub(crate) mod head;
pub(crate) mod headers;
pub(crate) mod listener;
pub(crate) mod memory_budget;
pub mod proxy_protocol;
pub(crate) mod server;
pub(crate) mod tls;
