//! An allowlist entry in a report.

use std::fmt;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::Listed;
use crate::human::round_duration;
use crate::policy::cidr;
use crate::policy::grant::Access;

/// An entry and its state at one time.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    /// The line of the file on which it begins.
    pub(super) line: usize,
    pub(super) cidr: String,
    pub(super) name: String,
    pub(super) access: Access,
    pub(super) state: State,
    pub(super) expires: Option<String>,
    /// The entry's own role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<String>,
    /// True if the entry may search the access log's indices.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) access_log: bool,
    /// The expiry as text.
    #[serde(skip)]
    ends: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Active,
    /// Expires within [`SOON`].
    EndsSoon,
    Expired,
}

impl Row {
    pub(super) fn new(Listed { entry, line }: &Listed, now: SystemTime) -> Self {
        let end = entry.expires.map(|at| (at, at.duration_since(now).map_err(|error| error.duration())));
        let state = match end {
            Some(_) if entry.has_expired(now) => State::Expired,
            Some((_, Ok(left))) if left <= SOON => State::EndsSoon,
            _ => State::Active,
        };
        let expires = end.and_then(|(at, _)| Timestamp::try_from(at).ok()).map(|at| at.to_string());
        let ends = match end.map(|(_, left)| left) {
            None => String::new(),
            Some(Ok(left)) if !left.is_zero() => format!("in {}", round_duration(left)),
            Some(Ok(ago) | Err(ago)) => format!("{} ago", round_duration(ago)),
        };
        let (cidr, name) = (cidr::text(entry.cidr), entry.name.to_string());
        let role = entry.role.as_ref().map(ToString::to_string);
        Self { line: *line, cidr, name, access: entry.access, state, expires, role, access_log: entry.access_log, ends }
    }

    pub(super) fn is_of(&self, block: IpNet) -> bool {
        self.cidr == cidr::text(block)
    }

    pub(super) fn end(&self) -> String {
        let verb = if self.state == State::Expired { "ended" } else { "ends" };
        self.expires.as_ref().map(|at| format!("{verb} {at} ({})", self.ends)).unwrap_or_default()
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} (line {}), {}", self.cidr, self.name, self.line, self.access)?;
        if self.expires.is_some() {
            write!(f, ", {}", self.end())?;
        }
        if self.access_log {
            write!(f, ", may search the access log")?;
        }
        self.role.as_ref().map_or(Ok(()), |role| write!(f, ", signed by {role}"))
    }
}

/// The time before its expiry from which an entry counts as ending soon, so that people can request an extension.
const SOON: Duration = Duration::from_hours(7 * 24);

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_false(value: &bool) -> bool {
    !*value
}
