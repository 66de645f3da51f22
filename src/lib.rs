//! The gate in front of an AWS Elasticsearch or OpenSearch domain: it checks the client, signs the request and
//! forwards it.
//!
//! The modules stand in the order of a request's life:
//!
//! 1. [`server`] accepts the connection at a [`listener`], with [`proxy_protocol`] and [`tls`]; [`head`] refuses what
//!    could be read in two ways.
//! 2. [`gate`] takes the request through all that follows.
//! 3. [`client_address`] tells whose request it is.
//! 4. [`allowlist`] tells whether that client is let in. [`browser`] is the DNS rebinding protection, [`csrf`] the CSRF
//!    protection.
//! 5. [`Target`](trailgate_client::Target) gives the URL one spelling. [`home`] sends browsers to the page they look for.
//! 6. [`grant`] tells whether the client may ask for this, where need be with a look at the body, and by the domain's
//!    [`engine`].
//! 7. [`body`] reads and hashes the body within bounds, and [`quota`] bounds what one entry takes at once.
//! 8. [`trailgate_client`] signs, sends and gets the answer; [`headers`] are those towards the domain.
//! 9. [`reply`] streams the answer back.
//! 10. [`reject`] answers instead when a step fails.
//! 11. [`access_log`] writes one line a request, through a [`line_pipe`]; [`outcome`] lists how requests end, and
//!     [`request_id`] names them.
//!
//! [`metrics`] counts what happens on the way, and [`admin`] answers the operator; [`systemd`] is told.
//!
//! [`config`] and [`process`] set all this up; [`descriptors`] says how many connections fit; [`cidr`], [`signals`] and [`watched_file`] serve them.
//!
//! [`cli`] is what can be asked of the program besides running: [`allow`] shows and changes the allowlist,
//! [`doctor`] finds what is wrong, [`generate`] makes the man pages.
#![cfg_attr(not(test), warn(clippy::unwrap_used))]

pub mod listener;
pub mod proxy_protocol;
pub mod server;
pub mod tls;

pub mod head;

pub mod gate;

pub mod client_address;

pub mod allowlist;
pub mod browser;
pub mod csrf;

pub mod home;

pub mod engine;
pub mod grant;
pub mod quota;

pub mod body;

pub mod headers;

pub mod reply;

pub mod reject;

pub mod access_log;
pub mod line_pipe;
pub mod outcome;
pub mod request_id;

pub mod admin;
pub mod metrics;
pub mod systemd;

pub mod allow;
pub mod cli;
pub mod doctor;
pub mod generate;

pub mod cidr;
pub mod config;
pub mod descriptors;
pub mod process;
pub mod signals;
mod watched_file;
