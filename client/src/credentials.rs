//! Cached AWS credentials, refreshed in the background before their expiry: the base credentials, and those of each
//! session of a role.

mod assume_role;
mod failure;
mod normalize;
mod provider;
mod refresh;
mod role_sessions;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_credential_types::provider::SharedCredentialsProvider;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

pub use self::assume_role::{AssumeRoleSettings, Assumer};
pub use self::failure::{FetchCounts, FetchFailure, innermost};
pub use self::provider::{load_sdk_roots, provider, sdk_config};
pub use self::refresh::CredentialRefresher;
pub use self::role_sessions::{RoleKind, RoleSession, RoleSessionKeeper, RoleSessions, RoleState, SessionLimits};

/// The credentials that requests are signed with; cheap to clone.
#[derive(Clone, Debug)]
pub struct CredentialCache {
    latest: watch::Receiver<Option<Credentials>>,
    /// The last fetch, if it failed.
    failed: watch::Receiver<Option<FetchFailure>>,
    refresh_wanted: Arc<Notify>,
    counts: Arc<FetchCounts>,
}

impl CredentialCache {
    /// Creates a cache of the credentials of `provider`, and the refresher that has to run for it.
    #[must_use]
    pub fn new(provider: SharedCredentialsProvider) -> (Self, CredentialRefresher) {
        Self::counted_by(Arc::default(), provider)
    }

    /// Creates a cache whose fetches `counts` counts.
    fn counted_by(counts: Arc<FetchCounts>, provider: SharedCredentialsProvider) -> (Self, CredentialRefresher) {
        let (sender, latest) = watch::channel(None);
        let (failure, failed) = watch::channel(None);
        let refresh_wanted = Arc::new(Notify::new());
        let cache = Self { latest, failed, refresh_wanted: Arc::clone(&refresh_wanted), counts: Arc::clone(&counts) };
        (cache, CredentialRefresher::new(provider, sender, failure, refresh_wanted, counts))
    }

    /// Returns credentials that are valid at `now`, in local time.
    ///
    /// Waits, for up to 5 seconds, only if there are none: for the fetch that is in flight, or that this call requests.
    /// Within 5 seconds of a failed fetch it returns an error at once. It requests the next fetch even then, for the
    /// caller's next attempt.
    pub async fn current(&self, now: SystemTime) -> Result<Credentials, NoCredentials> {
        if let Some(credentials) = self.latest.borrow().as_ref().filter(|credentials| is_valid(credentials, now)) {
            return Ok(credentials.clone());
        }
        self.refresh_wanted.notify_one();
        if self.failed.borrow().as_ref().is_some_and(|failed| failed.instant.elapsed() < FAILURE_TTL) {
            return Err(NoCredentials);
        }
        let mut latest = self.latest.clone();
        let valid = latest.wait_for(|latest| latest.as_ref().is_some_and(|credentials| is_valid(credentials, now)));
        match timeout(WAIT_TIMEOUT, valid).await {
            Ok(Ok(credentials)) => credentials.clone().ok_or(NoCredentials),
            _ => Err(NoCredentials),
        }
    }

    /// Returns the last fetched credentials, expired or not.
    #[must_use]
    pub fn latest(&self) -> Option<Credentials> {
        self.latest.borrow().clone()
    }

    /// Returns the last fetch, if it failed.
    #[must_use]
    pub fn failure(&self) -> Option<FetchFailure> {
        self.failed.borrow().clone()
    }

    /// Returns the number of fetches by outcome.
    #[must_use]
    pub fn counts(&self) -> &FetchCounts {
        &self.counts
    }

    /// Requests a fetch ahead of time. The credentials in use stay until it succeeds.
    pub fn refresh_now(&self) {
        self.refresh_wanted.notify_one();
    }

    /// Fetches credentials because the domain has rejected `refused`. Returns whether different ones are in use now.
    ///
    /// Keys that were rotated in a file, or revoked, are thus replaced at the first rejection. Waits for up to 5
    /// seconds; the rejected ones stay in use until others arrive.
    pub async fn replace(&self, refused: &Credentials) -> bool {
        let mut latest = self.latest.clone();
        // Another request may have handled the same rejection already.
        if latest.borrow_and_update().as_ref().is_some_and(|latest| !are_same(latest, refused)) {
            return true;
        }
        self.refresh_now();
        let fetched = timeout(WAIT_TIMEOUT, latest.changed()).await;
        matches!(fetched, Ok(Ok(()))) && latest.borrow().as_ref().is_some_and(|latest| !are_same(latest, refused))
    }
}

fn are_same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id()
        && one.secret_access_key() == other.secret_access_key()
        && one.session_token() == other.session_token()
}

/// An error: no valid credentials exist, and none arrived in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are no valid AWS credentials")]
pub struct NoCredentials;

/// Returns whether `credentials` are not expired at `now`.
#[must_use]
pub fn is_valid(credentials: &Credentials, now: SystemTime) -> bool {
    credentials.expiry().is_none_or(|expiry| now < expiry)
}

/// Returns a display name for the source of credentials. A source that uses another one is listed after it, so the name
/// is that of the origin.
#[must_use]
pub fn source(credentials: &Credentials) -> &'static str {
    let features = credentials.get_property::<Vec<Feature>>().map(Vec::as_slice).unwrap_or_default();
    match features.first() {
        Some(Feature::CredentialsEnvVars) => "the environment",
        Some(Feature::CredentialsImds) => "the instance's role",
        Some(Feature::CredentialsHttp) => "the container's role",
        Some(Feature::CredentialsProcess) => "a process",
        Some(Feature::CredentialsProfile) => "a profile",
        Some(Feature::CredentialsProfileStsWebIdToken) => "a web identity",
        Some(Feature::CredentialsSso) => "single sign-on",
        Some(Feature::CredentialsStsAssumeRole) => "an assumed role",
        _ => "the chain of AWS credentials",
    }
}

/// The time that a request waits for credentials.
const WAIT_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for which a failed fetch is not waited for again.
const FAILURE_TTL: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
