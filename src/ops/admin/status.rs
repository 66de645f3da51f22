//! The status of the proxy: the body of `/status.json`, which `/status` and `trailgate status` display.

mod build;

use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(super) use self::build::{build, line};
use super::history::Periods;
use super::rates::Rate;
use super::readiness::Check;
use crate::human::{file_option, round_duration};

/// The status of the proxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The version of trailgate.
    pub version: String,
    /// The time at which the proxy started.
    pub started: Timestamp,
    /// The time of this status.
    pub now: Timestamp,
    /// True if all checks pass.
    pub ready: bool,
    /// The readiness checks.
    pub checks: Vec<Check>,
    /// The domain and its health.
    pub upstream: Upstream,
    /// The credentials that sign requests, if there are any.
    pub credentials: Option<Credentials>,
    /// The roles that sign requests: the configured ones, and those with live sessions.
    pub roles: Vec<Role>,
    /// The allowlist in effect.
    pub allowlist: Allowlist,
    /// The certificates of the listeners.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    /// The load on the proxy.
    pub traffic: Traffic,
    /// The requests of the last hour and the last day.
    #[serde(default)]
    pub history: Periods,
    /// Clients rejected recently because no entry allows them, the latest first.
    pub refused: Vec<Refused>,
}

/// The domain and its health.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Upstream {
    /// The domain's host and port.
    pub domain: String,
    /// The time of its last response.
    pub answered: Option<Timestamp>,
    /// The status of its last response.
    pub status: Option<u16>,
    /// The time of the last failure: no response, or a rejected signature.
    pub failed: Option<Timestamp>,
    /// The error that clients received for it.
    pub failure: Option<String>,
    /// Open connections to the domain.
    pub connections: u64,
    /// The domain's clock minus this machine's, in seconds.
    pub clock_offset_s: i64,
}

/// The credentials that sign requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Credentials {
    /// The provider of the credentials.
    pub source: String,
    /// The public half of the key.
    pub access_key_id: String,
    /// The expiry of the credentials, if they have one.
    pub expires: Option<Timestamp>,
}

/// A role that signs requests.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Role {
    /// The ARN of the role.
    pub arn: String,
    /// The entries that use it: `read` or `full` by their access level, `entry` by a role of their own.
    pub kind: String,
    /// The number of live sessions.
    pub sessions: usize,
    /// The number of live sessions with valid credentials.
    pub valid: usize,
    /// The first expiry of valid credentials.
    pub expires: Option<Timestamp>,
    /// The time of the last failure to assume it, if a session's last attempt failed.
    pub failed: Option<Timestamp>,
    /// AWS's reason for that failure.
    pub failure: Option<String>,
}

/// The allowlist in effect.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Allowlist {
    /// The path of the file.
    pub file: String,
    /// The first digits of the file's SHA-256.
    pub version: String,
    /// The time at which the file was modified.
    pub modified: Option<Timestamp>,
    /// The time at which the file was loaded.
    pub loaded: Timestamp,
    /// Entries that have not expired.
    pub entries: usize,
    /// Entries that have expired.
    pub expired: usize,
    /// Entries in effect with a request in the last hour.
    #[serde(default)]
    pub used_last_hour: usize,
    /// Entries in effect without a request in the last day, or since the start if that was later.
    #[serde(default)]
    pub unused_last_day: usize,
    /// The entries that expire within two weeks, the first one first.
    #[serde(default)]
    pub ending: Vec<Ending>,
}

/// An entry that expires soon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Ending {
    /// The block of addresses.
    pub cidr: String,
    /// The name of the entry.
    pub name: String,
    /// The expiry.
    pub expires: Timestamp,
}

/// The certificate of a listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Certificate {
    /// The path of the file.
    pub file: String,
    /// The expiry of the certificate.
    pub expires: Timestamp,
    /// The time at which it was loaded.
    pub loaded: Timestamp,
    /// The error of the last reload, if it failed.
    pub error: Option<String>,
}

/// The load on the proxy.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Traffic {
    /// Requests per second.
    pub rates: Vec<Rate>,
    /// Requests since the start.
    pub requests: u64,
    /// Requests in flight.
    pub in_flight: i64,
    /// Open client connections.
    pub connections: i64,
    /// The limit of open client connections.
    #[serde(default)]
    pub max_connections: usize,
    /// Bytes of the memory budget for bodies in use.
    pub buffered_bytes: usize,
    /// Bytes of the memory budget for bodies in total.
    pub buffer_bytes: usize,
}

/// A client address that was rejected.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// The address of the client.
    pub address: IpAddr,
    /// The number of rejections.
    pub count: u64,
    /// The time of the first rejection.
    pub first: Timestamp,
    /// The time of the last rejection.
    pub last: Timestamp,
    /// The client's grant by now.
    #[serde(default)]
    pub grant: Grant,
    /// Set if a request of it named another client in `X-Forwarded-For`, so that it may be a proxy.
    #[serde(default)]
    pub forwards: bool,
}

/// The grant of a rejected client at the time of the status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Grant {
    /// No entry of its address.
    #[default]
    None,
    /// An expired entry of its address, which `allow add` has to replace.
    Expired,
    /// An entry that allows it.
    InEffect,
}

impl Refused {
    /// Returns the command that allows this client, or `None` if an entry allows it by now.
    #[must_use]
    pub(crate) fn remedy(&self, status: &Status) -> Option<String> {
        let replace = match self.grant {
            Grant::InEffect => return None,
            Grant::Expired => " --replace",
            Grant::None => "",
        };
        let file = file_option(Path::new(&status.allowlist.file));
        Some(format!("trailgate allow add {} --name NAME{replace}{file}", self.address))
    }
}

/// Formats the time between the two, rounded to its largest unit.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> String {
    round_duration(to.duration_since(from).unsigned_abs())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::history::Point;
    use super::*;

    /// Returns a status with a value in each field.
    pub(crate) fn sample() -> Status {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let refused = |address: &str, count, last: i64| Refused {
            address: address.parse().unwrap(),
            count,
            first: at(-600),
            last: at(last),
            grant: Grant::None,
            forwards: false,
        };
        let point = |requests| Point { requests, failed: 3, rejected: 20, p50_ms: Some(4.5), p99_ms: Some(120.0) };
        Status {
            version: "0.1.0".to_owned(),
            started: at(-7500),
            now: at(0),
            ready: false,
            checks: vec![
                Check::new("credentials", None),
                Check::new("upstream", Some("the domain cannot be reached".to_owned())),
            ],
            upstream: Upstream {
                domain: "search-trail-abc.eu-west-1.es.amazonaws.com".to_owned(),
                answered: Some(at(-90)),
                status: Some(200),
                failed: Some(at(-5)),
                failure: Some("upstream_unreachable".to_owned()),
                connections: 4,
                clock_offset_s: 0,
            },
            credentials: Some(Credentials {
                source: "the instance's role".to_owned(),
                access_key_id: "AKIDEXAMPLE".to_owned(),
                expires: Some(at(3720)),
            }),
            roles: vec![
                Role {
                    arn: "arn:aws:iam::123456789012:role/Auditor".to_owned(),
                    kind: "read".to_owned(),
                    sessions: 3,
                    valid: 3,
                    expires: Some(at(3000)),
                    failed: None,
                    failure: None,
                },
                Role {
                    arn: "arn:aws:iam::123456789012:role/Contractor".to_owned(),
                    kind: "entry".to_owned(),
                    sessions: 1,
                    valid: 0,
                    expires: None,
                    failed: Some(at(-20)),
                    failure: Some("AccessDenied: not authorized to perform: sts:AssumeRole".to_owned()),
                },
            ],
            allowlist: Allowlist {
                file: "/etc/trailgate/allowlist.toml".to_owned(),
                version: "3f2a1b9c0d1e".to_owned(),
                modified: Some(at(-86_400)),
                loaded: at(-7500),
                entries: 4,
                expired: 1,
                used_last_hour: 2,
                unused_last_day: 1,
                ending: vec![Ending {
                    cidr: "198.51.100.0/24".to_owned(),
                    name: "<b>auditors</b>".to_owned(),
                    expires: at(86_400 * 3),
                }],
            },
            certificates: vec![Certificate {
                file: "/etc/trailgate/cert.pem".to_owned(),
                expires: at(86_400 * 40),
                loaded: at(-7500),
                error: Some("key.pem: does not match".to_owned()),
            }],
            history: Periods { hour: vec![point(100), point(250)], day: vec![point(5000)] },
            traffic: Traffic {
                rates: vec![Rate { window_s: 60, requests: 12.34, failed: 0.5, refused: 0.1 }],
                requests: 5000,
                in_flight: 3,
                connections: 17,
                max_connections: 10_000,
                buffered_bytes: 1,
                buffer_bytes: 256 * 1024 * 1024,
            },
            refused: vec![refused("198.51.100.4", 12, -30), refused("2001:db8::7", 1, -600)],
        }
    }
}
