//! HTTP towards the client: sockets, TLS, the connection, the request's head and body, headers.

pub mod discard;
pub mod head;
pub mod headers;
pub mod listener;
pub mod memory_budget;
pub mod proxy_protocol;
pub mod server;
pub mod tls;
