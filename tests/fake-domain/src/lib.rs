//! A stand-in for an AWS Elasticsearch or `OpenSearch` domain.
//!
//! It listens on a port of this machine, checks every request's signature on its own ([`verify`]), keeps a record of
//! what came ([`Seen`]), misbehaves when told to ([`Fault`]), and otherwise answers from documents in memory or passes
//! the request on to a real server ([`Backend`]).

mod domain;
mod fault;
mod kibana;
mod memory;
mod pass_on;
mod saved_objects;
mod seen;
mod server;
mod tls;
pub mod verify;
mod wire;

pub use domain::{Backend, FakeDomain, Options};
pub use fault::{Answer, Fault, ItemRefusal, ItemRule, RequestRule, Times};
pub use seen::Seen;
