//! The fixtures that the integration tests of several packages and the demo share.
//!
//! - [`Engine`]: a real Elasticsearch or `OpenSearch` of `tests/engines`.
//! - [`KibanaStack`]: a real Kibana 5.1 and its Elasticsearch, and [`fill`], which loads sample events and dashboards.
//! - [`AwsMock`]: a program that emulates a part of AWS: S3, STS, an instance's metadata, Lambda's emulator.
//! - [`FakeLambda`]: a fake of Lambda's runtime API, and the function's program under it.
//! - [`ReservedPort`]: a port for a server that cannot choose and report a free one.
//! - [`StoppedClock`]: a clock that a test advances, with [`read_by_server`] and [`all_read`] to wait for traffic.
//! - [`sample_access_lines`]: access lines of trailgate.
//! - [`trail::TrailBucket`]: a trail's bucket of one month, with log files and a signed digest chain.
//! - [`sample_events`]: the real `CloudTrail` events of `tests/data/cloudtrail`, and [`pack_log_data`] for a call with them.
//!
//! The fake domain is a crate of its own, `fake-domain`. Fixtures around the library of one package are among that
//! package's tests (`support.rs`, `rig.rs`).
//!
//! The test kit depends on no package that is tested with it, so that none depends on itself through its tests. It runs
//! their programs instead, which `cargo test` builds ([`program()`]).

mod access_lines;
mod aws;
mod clock;
mod engine;
mod events;
mod kibana;
mod lambda;
mod port;
mod program;
mod sockets;
pub mod trail;

use std::path::PathBuf;
use std::time::Duration;

use aws_credential_types::Credentials;

pub use self::access_lines::sample_access_lines;
pub use self::aws::AwsMock;
pub use self::clock::{StoppedClock, settle};
pub use self::engine::Engine;
pub use self::events::{sample_events, sample_lines};
pub use self::kibana::{KibanaStack, fill};
pub use self::lambda::{FakeLambda, function, gzip, pack_log_data};
pub use self::port::ReservedPort;
pub use self::program::{packaged_program, program};
pub use self::sockets::{all_read, read_by_server};

/// The key that a fake domain accepts by default, as environment variables. It is the example of AWS's documentation.
pub const AWS_KEY: [(&str, &str); 2] =
    [("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")];

/// Returns the same key as credentials, with a session token or without.
#[must_use]
pub fn signing_key(token: Option<&str>) -> Credentials {
    let [(_, id), (_, secret)] = AWS_KEY;
    Credentials::new(id, secret, token.map(str::to_owned), None, "test")
}

/// Returns the path of `name` in the repository.
#[must_use]
pub fn repository(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../..", name].iter().collect()
}

/// The start timeout, long enough to download and build an engine on a busy machine.
const ENGINE_START: Duration = Duration::from_mins(5);
