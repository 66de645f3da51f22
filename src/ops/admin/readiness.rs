//! Readiness checks: the conditions under which the proxy can serve requests.

use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use serde::{Deserialize, Serialize};
use trailgate_client::{UpstreamHealth, is_valid};

use crate::human::round_duration;
use crate::ops::metrics::CertificateState;
use crate::ops::reload::allowlist::AllowlistState;

/// One readiness condition and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// The name of the condition.
    pub name: String,
    /// The reason why the condition does not hold.
    pub problem: Option<String>,
}

impl Check {
    pub(super) fn new(name: &str, problem: Option<String>) -> Self {
        Self { name: name.to_owned(), problem }
    }

    /// Returns whether the condition holds.
    #[must_use]
    pub(crate) fn passes(&self) -> bool {
        self.problem.is_none()
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            None => write!(f, "{}: ok", self.name),
            Some(problem) => write!(f, "{}: {problem}", self.name),
        }
    }
}

pub(super) fn credentials_problem(latest: Option<&Credentials>, now: SystemTime) -> Option<String> {
    match latest {
        None => Some("none were found".to_owned()),
        Some(credentials) if !is_valid(credentials, now) => Some("they have expired".to_owned()),
        Some(_) => None,
    }
}

/// Returns why an older allowlist is, or may be, in effect: the file is invalid, or cannot be read.
pub(super) fn allowlist_problem(state: &AllowlistState) -> Option<String> {
    let wrong = state.error.as_ref().map(|error| format!("an older list is in effect: {error}"));
    let unread = || {
        let (file, age) = (state.file.display(), round_duration(state.stale()?));
        Some(format!(
            "an older list may be in effect: {file} has not been read for {age}, reading it hangs or it never stops changing"
        ))
    };
    unread().or(wrong)
}

/// Returns why an older certificate may be in effect: its files cannot be read. An invalid file is no problem of
/// readiness while the certificate in effect is valid.
pub(super) fn certificate_problem(file: &Path, state: &CertificateState) -> Option<String> {
    let (file, age) = (file.display(), round_duration(state.stale()?));
    Some(format!(
        "an older one may be in effect: {file} or its key has not been read for {age}, reading it hangs or it never stops \
         changing"
    ))
}

/// Returns whether the domain needs no health check request: it succeeded recently and has not failed since.
///
/// A 5xx response is neither success nor failure, because a client's query can cause it.
pub(super) fn is_answering(health: &UpstreamHealth, now: SystemTime) -> bool {
    let Some(sound) = health.last_success() else { return false };
    let is_recent = now.duration_since(sound).is_ok_and(|age| age < RECENT);
    is_recent && health.last_failure().is_none_or(|failure| failure.at <= sound)
}

/// The time for which a response proves the domain healthy. After that a request is sent only on a probe, so an idle
/// proxy neither becomes unready nor loads the domain.
const RECENT: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn missing_or_expired_credentials_are_a_problem() {
        let until = |expiry| Credentials::new("AKID", "secret", None, expiry, "test");
        assert_eq!(credentials_problem(None, at(10)), Some("none were found".to_owned()));
        assert_eq!(credentials_problem(Some(&until(Some(at(10)))), at(10)), Some("they have expired".to_owned()));
        assert_eq!(credentials_problem(Some(&until(Some(at(11)))), at(10)), None);
        assert_eq!(credentials_problem(Some(&until(None)), at(10)), None);
    }

    #[test]
    fn check_displays_its_problem() {
        assert_eq!(Check::new("credentials", None).to_string(), "credentials: ok");
        let check = Check::new("credentials", Some("they have expired".to_owned()));
        assert_eq!(check.to_string(), "credentials: they have expired");
    }
}
