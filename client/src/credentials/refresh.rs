//! Refreshes credentials in the background, before their expiry.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::failure::{FetchCounts, FetchFailure};
use super::is_valid;
use super::normalize::{keep_expiry, trim};
use crate::role::{RoleArn, SessionName};

/// The task that fetches the credentials of one [`CredentialCache`](super::CredentialCache).
#[derive(Debug)]
pub struct CredentialRefresher {
    provider: SharedCredentialsProvider,
    latest: watch::Sender<Option<Credentials>>,
    failed: watch::Sender<Option<FetchFailure>>,
    refresh_wanted: Arc<Notify>,
    counts: Arc<FetchCounts>,
    /// The session of the credentials, for the log, unless they are the base credentials.
    session: Option<(RoleArn, SessionName)>,
}

impl CredentialRefresher {
    pub(super) fn new(
        provider: SharedCredentialsProvider,
        latest: watch::Sender<Option<Credentials>>,
        failed: watch::Sender<Option<FetchFailure>>,
        refresh_wanted: Arc<Notify>,
        counts: Arc<FetchCounts>,
    ) -> Self {
        Self { provider, latest, failed, refresh_wanted, counts, session: None }
    }

    /// Names the session in the log.
    pub(super) fn for_session(self, role: &RoleArn, session: &SessionName) -> Self {
        Self { session: Some((role.clone(), session.clone())), ..self }
    }

    /// Fetches credentials until it is cancelled. The last ones stay in use until they expire (static stability).
    pub async fn run(self) {
        let mut failures = 0_u32;
        let (role, session) = self.session.as_ref().map(|(role, session)| (role.as_str(), session.as_str())).unzip();
        loop {
            let next = match self.fetch().await {
                Ok(credentials) => {
                    if failures > 0 || self.latest.borrow().is_none() {
                        let access_key_id = credentials.access_key_id();
                        tracing::info!(role, session, access_key_id, "AWS credentials found");
                    }
                    failures = 0;
                    self.counts.count(true);
                    self.failed.send_replace(None);
                    let expiry = credentials.expiry();
                    self.latest.send_replace(Some(credentials));
                    // A request that waited for this fetch needs no other.
                    let _ = self.refresh_wanted.notified().now_or_never();
                    refresh_delay(expiry, SystemTime::now(), fastrand::f64())
                }
                Err(error) => {
                    failures += 1;
                    self.counts.count(false);
                    self.failed.send_replace(Some(FetchFailure::new(&error)));
                    let delay = retry_delay(failures, self.left(SystemTime::now()));
                    tracing::error!(
                        role,
                        session,
                        error = format!("{:#}", anyhow::Error::from(error)),
                        retry_in_s = delay.as_secs(),
                        "no AWS credentials"
                    );
                    delay
                }
            };
            // A request without credentials requests a fetch at once, but within a rate limit: the metadata service
            // throttles.
            let earliest = Instant::now() + FETCH_INTERVAL;
            tokio::select! {
                () = sleep(next) => {}
                () = self.refresh_wanted.notified() => sleep_until(earliest).await,
            }
        }
    }

    async fn fetch(&self) -> Result<Credentials, CredentialsError> {
        let fetched = timeout(FETCH_TIMEOUT, self.provider.provide_credentials()).await;
        let fetched = fetched.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(FETCH_TIMEOUT)))?;
        let mut fetched = trim(fetched)?;
        if let Some(last) = &*self.latest.borrow() {
            keep_expiry(&mut fetched, last);
        }
        if is_valid(&fetched, SystemTime::now()) {
            Ok(fetched)
        } else {
            Err(CredentialsError::not_loaded("the credentials that are there have expired"))
        }
    }

    /// Returns the remaining validity of the credentials in use, if they have an expiry.
    fn left(&self, now: SystemTime) -> Option<Duration> {
        let expiry = self.latest.borrow().as_ref()?.expiry()?;
        expiry.duration_since(now).ok()
    }
}

/// Returns the time until the next fetch: five minutes before the expiry, minus a jitter of up to a minute, so that a
/// fleet does not fetch at the same time.
///
/// `jitter` is between 0 and 1. Credentials without an expiry are fetched every 15 minutes, because files are edited.
pub(super) fn refresh_delay(expiry: Option<SystemTime>, now: SystemTime, jitter: f64) -> Duration {
    let Some(expiry) = expiry else { return RECHECK_INTERVAL };
    let left = expiry.duration_since(now).unwrap_or_default();
    left.saturating_sub(REFRESH_AHEAD + Duration::from_mins(1).mul_f64(jitter)).max(left / 10).max(FETCH_INTERVAL)
}

/// Returns the time until the next attempt. It backs off exponentially, but at most to a quarter of `left`, the
/// remaining validity of the credentials in use.
pub(super) fn retry_delay(failures: u32, left: Option<Duration>) -> Duration {
    let delay = Duration::from_secs(1 << failures.min(6)).min(Duration::from_mins(1));
    left.map_or(delay, |left| delay.min(left / 4).max(FETCH_INTERVAL))
}

/// The minimum time between two fetches.
pub(super) const FETCH_INTERVAL: Duration = Duration::from_secs(1);
/// The timeout of a fetch, over all providers of the chain.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The time before the expiry at which credentials are refreshed.
const REFRESH_AHEAD: Duration = Duration::from_mins(5);
/// The time after which credentials without an expiry are fetched again.
pub(super) const RECHECK_INTERVAL: Duration = Duration::from_mins(15);
