//! The status of the proxy: the body of `/status.json`, which `/status` and `trailgate status` display.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use trailgate_client::RoleKind;

use super::history::Periods;
use super::observed_proxy::ObservedProxy;
use super::rates::Rate;
use super::readiness::{Check, certificate_problem};
use crate::human::{file_option, round_duration};
use crate::ops::outcome::Outcome;
use crate::ops::reload::allowlist::AllowlistState;
use crate::policy::allowlist::{Entries, Entry};
use crate::policy::signing_role::SigningRoles;

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

/// Builds the status at `now`.
pub(super) fn build(
    proxy: &ObservedProxy,
    state: &AllowlistState,
    checks: Vec<Check>,
    (rates, history): (Vec<Rate>, Periods),
    started: SystemTime,
    now: SystemTime,
) -> Status {
    let (upstream, metrics) = (&proxy.upstream, &proxy.metrics);
    let health = upstream.health();
    let entries = proxy.allowlist.entries();
    let expired = entries.expired(now);
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: timestamp(started),
        now: timestamp(now),
        ready: checks.iter().all(Check::passes),
        checks,
        upstream: Upstream {
            domain: upstream.authority().to_string(),
            answered: health.last_response().map(|answer| timestamp(answer.at)),
            status: health.last_response().map(|answer| answer.status),
            failed: health.last_failure().map(|failure| timestamp(failure.at)),
            failure: health.last_failure().map(|failure| Outcome::from(failure.kind).to_string()),
            connections: upstream.stats().open_connections(),
            clock_offset_s: upstream.clock().offset(),
        },
        credentials: upstream.credentials().latest().map(|latest| Credentials {
            source: trailgate_client::source(&latest).to_owned(),
            access_key_id: latest.access_key_id().to_owned(),
            expires: latest.expiry().map(timestamp),
        }),
        roles: roles(&proxy.roles, now),
        allowlist: Allowlist {
            file: state.file.display().to_string(),
            version: state.sha256.chars().take(12).collect(),
            modified: state.modified,
            loaded: timestamp(state.loaded),
            entries: entries.len() - expired,
            expired,
            used_last_hour: count_used(&entries, now, Duration::from_hours(1)),
            unused_last_day: entries.len() - expired - count_used(&entries, now, Duration::from_hours(24)),
            ending: ending(&entries, now),
        },
        certificates: metrics
            .certificates()
            .into_iter()
            .map(|(file, state)| Certificate {
                file: file.display().to_string(),
                expires: timestamp(state.expires),
                loaded: timestamp(state.loaded),
                error: state.error.clone().or_else(|| certificate_problem(&file, &state)),
            })
            .collect(),
        history,
        traffic: Traffic {
            rates,
            requests: metrics.totals().requests,
            in_flight: metrics.in_flight.get(),
            connections: metrics.connections.open.get(),
            max_connections: proxy.max_connections,
            buffered_bytes: proxy.budget.taken(),
            buffer_bytes: proxy.budget.limit(),
        },
        refused: metrics
            .rejected_clients
            .latest()
            .into_iter()
            .map(|client| Refused {
                address: client.address,
                count: client.count,
                first: timestamp(client.first),
                last: timestamp(client.last),
                grant: grant(&entries, client.address, now),
            })
            .collect(),
    }
}

fn grant(entries: &Entries, client: IpAddr, now: SystemTime) -> Grant {
    if entries.find(client, now).is_some() {
        Grant::InEffect
    } else if entries.get(client).is_some() {
        Grant::Expired
    } else {
        Grant::None
    }
}

/// Counts the entries in effect with a request within `period`.
fn count_used(entries: &Entries, now: SystemTime, period: Duration) -> usize {
    let is_used = |at: SystemTime| now.duration_since(at).unwrap_or_default() <= period;
    entries.iter().filter(|entry| !entry.has_expired(now) && entry.last_used().is_some_and(is_used)).count()
}

fn ending(entries: &Entries, now: SystemTime) -> Vec<Ending> {
    let is_soon = |at: &SystemTime| *at > now && *at <= now + SOON;
    let soon = entries.iter().filter_map(|entry| Some((entry.expires.filter(is_soon)?, entry)));
    let mut soon: Vec<_> = soon.collect();
    soon.sort_by_key(|(at, _)| *at);
    soon.truncate(MAX_ENDING);
    let ending = |(at, entry): (SystemTime, &Arc<Entry>)| Ending {
        cidr: entry.cidr.to_string(),
        name: entry.name.clone(),
        expires: timestamp(at),
    };
    soon.into_iter().map(ending).collect()
}

/// Returns the state of the configured roles and of those with live sessions.
fn roles(signing: &SigningRoles, now: SystemTime) -> Vec<Role> {
    let live = signing.sessions().states(now).into_iter().map(|state| Role {
        arn: state.role.to_string(),
        kind: <&str>::from(state.kind).to_owned(),
        sessions: state.sessions,
        valid: state.valid,
        expires: state.expires.map(timestamp),
        failed: state.failure.as_ref().map(|failure| timestamp(failure.at)),
        failure: state.failure.map(|failure| failure.reason),
    });
    let mut roles: Vec<_> = live.collect();
    let defaults = signing.defaults();
    for (kind, role) in [(RoleKind::Full, &defaults.full), (RoleKind::Read, &defaults.read)] {
        let Some(role) = role.as_ref().filter(|role| roles.iter().all(|live| live.arn != role.as_str())) else {
            continue;
        };
        let (arn, kind) = (role.to_string(), <&str>::from(kind).to_owned());
        roles.insert(0, Role { arn, kind, sessions: 0, valid: 0, expires: None, failed: None, failure: None });
    }
    roles
}

/// Returns a status line for `systemctl status`.
pub(super) fn line(proxy: &ObservedProxy, state: &AllowlistState, rate: Option<&Rate>, now: SystemTime) -> String {
    let entries = proxy.allowlist.entries();
    let in_force = entries.len() - entries.expired(now);
    let rate = rate.map_or(0.0, |rate| rate.requests);
    let mut line = format!("{in_force} entries in effect, {rate:.1} requests/s");
    if state.stale().is_some() {
        line.push_str("; the allowlist file cannot be read, an older list is in effect");
    } else if state.error.is_some() {
        line.push_str("; the allowlist file is wrong, an older list is in effect");
    }
    match proxy.upstream.credentials().latest() {
        Some(credentials) if trailgate_client::is_valid(&credentials, now) => {}
        _ => line.push_str("; there are no valid credentials"),
    }
    line
}

/// Formats the time between the two, rounded to its largest unit.
pub(crate) fn span(from: Timestamp, to: Timestamp) -> String {
    round_duration(to.duration_since(from).unsigned_abs())
}

fn timestamp(time: SystemTime) -> Timestamp {
    // Only a time after the year 9999 has no timestamp.
    Timestamp::try_from(time).unwrap_or_default()
}

/// The time before its expiry at which an entry is listed.
const SOON: Duration = Duration::from_hours(14 * 24);
/// The maximum number of listed entries.
const MAX_ENDING: usize = 50;

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
