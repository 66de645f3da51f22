//! Builds the status from the parts of the proxy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use trailgate_client::{RoleKind, SignedClient};

use super::{Allowlist, Certificate, Credentials, Ending, Grant, Refused, Role, Status, Traffic, Upstream};
use crate::ops::admin::history::Periods;
use crate::ops::admin::observed_proxy::ObservedProxy;
use crate::ops::admin::rates::Rate;
use crate::ops::admin::readiness::{Check, certificate_problem};
use crate::ops::metrics::{Metrics, RejectedClient};
use crate::ops::outcome::Outcome;
use crate::ops::reload::allowlist::AllowlistState;
use crate::policy::allowlist::{Entries, Entry};
use crate::policy::signing_role::SigningRoles;

/// Builds the status at `now`.
pub(in crate::ops::admin) fn build(
    proxy: &ObservedProxy,
    state: &AllowlistState,
    checks: Vec<Check>,
    (rates, history): (Vec<Rate>, Periods),
    started: SystemTime,
    now: SystemTime,
) -> Status {
    let metrics = &proxy.metrics;
    let entries = proxy.allowlist.entries();
    Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started: timestamp(started),
        now: timestamp(now),
        ready: checks.iter().all(Check::passes),
        checks,
        upstream: upstream(&proxy.upstream),
        credentials: proxy.upstream.credentials().latest().map(|latest| Credentials {
            source: trailgate_client::source(&latest).to_owned(),
            access_key_id: latest.access_key_id().to_owned(),
            expires: latest.expiry().map(timestamp),
        }),
        roles: roles(&proxy.roles, now),
        allowlist: allowlist(&entries, state, now),
        certificates: certificates(metrics),
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
        refused: metrics.rejected_clients.latest().iter().map(|client| refused(client, &entries, now)).collect(),
    }
}

fn upstream(client: &SignedClient) -> Upstream {
    let health = client.health();
    Upstream {
        domain: client.authority().to_string(),
        answered: health.last_response().map(|answer| timestamp(answer.at)),
        status: health.last_response().map(|answer| answer.status),
        failed: health.last_failure().map(|failure| timestamp(failure.at)),
        failure: health.last_failure().map(|failure| Outcome::from(failure.kind).to_string()),
        connections: client.stats().open_connections(),
        clock_offset_s: client.clock().offset(),
    }
}

fn allowlist(entries: &Entries, state: &AllowlistState, now: SystemTime) -> Allowlist {
    let expired = entries.expired(now);
    let in_effect = entries.len() - expired;
    Allowlist {
        file: state.file.display().to_string(),
        version: state.sha256.chars().take(12).collect(),
        modified: state.modified,
        loaded: timestamp(state.loaded),
        entries: in_effect,
        expired,
        used_last_hour: count_used(entries, now, Duration::from_hours(1)),
        unused_last_day: in_effect - count_used(entries, now, Duration::from_hours(24)),
        ending: ending(entries, now),
    }
}

fn certificates(metrics: &Metrics) -> Vec<Certificate> {
    let certificates = metrics.certificates().into_iter().map(|(file, state)| Certificate {
        file: file.display().to_string(),
        expires: timestamp(state.expires),
        loaded: timestamp(state.loaded),
        error: state.error.clone().or_else(|| certificate_problem(&file, &state)),
    });
    certificates.collect()
}

fn refused(client: &RejectedClient, entries: &Entries, now: SystemTime) -> Refused {
    let grant = if entries.find(client.address, now).is_some() {
        Grant::InEffect
    } else if entries.get(client.address).is_some() {
        Grant::Expired
    } else {
        Grant::None
    };
    let (first, last) = (timestamp(client.first), timestamp(client.last));
    Refused { address: client.address, count: client.count, first, last, grant, forwards: client.forwards }
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
        name: entry.name.to_string(),
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
pub(in crate::ops::admin) fn line(
    proxy: &ObservedProxy,
    state: &AllowlistState,
    rate: Option<&Rate>,
    now: SystemTime,
) -> String {
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

fn timestamp(time: SystemTime) -> Timestamp {
    // Only a time after the year 9999 has no timestamp.
    Timestamp::try_from(time).unwrap_or_default()
}

/// The time before its expiry at which an entry is listed.
const SOON: Duration = Duration::from_hours(14 * 24);
/// The maximum number of listed entries.
const MAX_ENDING: usize = 50;
