//! A fake AWS Elasticsearch or `OpenSearch` domain for tests.
//!
//! It listens on loopback, checks every request's signature with its own implementation ([`verify`]), records requests
//! ([`Seen`]), injects faults ([`Fault`]), and otherwise responds from documents in memory or passes requests on to a
//! real server ([`Backend`]). [`FakeSts`] lets roles be assumed whose signatures it accepts.

mod domain;
mod fault;
mod kibana;
mod memory;
mod pass_on;
mod saved_objects;
mod seen;
mod server;
mod sts;
mod tls;
pub mod verify;
mod wire;

pub use domain::{Backend, FakeDomain, Options};
pub use fault::{Answer, Fault, ItemRefusal, ItemRule, RequestRule, Times};
pub use seen::Seen;
pub use sts::{AssumedRole, FakeSts, StsAnswer};
