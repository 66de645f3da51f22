//! Fetches credentials in the background, ahead of their expiry.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::is_valid;
use super::normalize::{keep_expiry, trim};

/// Fetches the credentials of one [`CredentialCache`](super::CredentialCache).
#[derive(Debug)]
pub struct CredentialRefresher {
    provider: SharedCredentialsProvider,
    latest: watch::Sender<Option<Credentials>>,
    failed: watch::Sender<Option<Instant>>,
    refresh_wanted: Arc<Notify>,
}

impl CredentialRefresher {
    pub(super) fn new(
        provider: SharedCredentialsProvider,
        latest: watch::Sender<Option<Credentials>>,
        failed: watch::Sender<Option<Instant>>,
        refresh_wanted: Arc<Notify>,
    ) -> Self {
        Self { provider, latest, failed, refresh_wanted }
    }

    /// Fetches credentials for as long as it runs. The last ones stay in use until they really expire.
    pub async fn run(self) {
        let mut failures = 0_u32;
        loop {
            let next = match self.fetch().await {
                Ok(credentials) => {
                    if failures > 0 || self.latest.borrow().is_none() {
                        tracing::info!(access_key_id = credentials.access_key_id(), "AWS credentials found");
                    }
                    failures = 0;
                    self.failed.send_replace(None);
                    let expiry = credentials.expiry();
                    self.latest.send_replace(Some(credentials));
                    // A request that waited for this fetch does not want another.
                    let _ = self.refresh_wanted.notified().now_or_never();
                    refresh_delay(expiry, SystemTime::now(), fastrand::f64())
                }
                Err(error) => {
                    failures += 1;
                    self.failed.send_replace(Some(Instant::now()));
                    let delay = retry_delay(failures, self.left(SystemTime::now()));
                    tracing::error!(
                        error = format!("{:#}", anyhow::Error::from(error)),
                        retry_in_s = delay.as_secs(),
                        "no AWS credentials"
                    );
                    delay
                }
            };
            // A request without credentials asks for a fetch at once, but not without bound: the metadata service throttles.
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

    /// Returns how long the credentials in use are valid, if they have an expiry.
    fn left(&self, now: SystemTime) -> Option<Duration> {
        let expiry = self.latest.borrow().as_ref()?.expiry()?;
        expiry.duration_since(now).ok()
    }
}

/// Returns the time until the next fetch: five minutes ahead of the expiry, less up to a minute so that a fleet does not fetch at once.
///
/// `jitter` is between 0 and 1. Credentials that say no expiry are asked for again now and then: files get edited.
pub(super) fn refresh_delay(expiry: Option<SystemTime>, now: SystemTime, jitter: f64) -> Duration {
    let Some(expiry) = expiry else { return RECHECK_INTERVAL };
    let left = expiry.duration_since(now).unwrap_or_default();
    left.saturating_sub(REFRESH_AHEAD + Duration::from_mins(1).mul_f64(jitter)).max(left / 10).max(FETCH_INTERVAL)
}

/// Returns the time until the next attempt: longer with each failure, but not so long that credentials which are good for `left` expire meanwhile.
pub(super) fn retry_delay(failures: u32, left: Option<Duration>) -> Duration {
    let delay = Duration::from_secs(1 << failures.min(6)).min(Duration::from_mins(1));
    left.map_or(delay, |left| delay.min(left / 4).max(FETCH_INTERVAL))
}

/// The time between two fetches, at the least.
pub(super) const FETCH_INTERVAL: Duration = Duration::from_secs(1);
/// The time that a fetch may take, all providers of the chain tried.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// The time before their expiry at which credentials are refreshed.
const REFRESH_AHEAD: Duration = Duration::from_mins(5);
/// The time after which credentials without an expiry are fetched again.
pub(super) const RECHECK_INTERVAL: Duration = Duration::from_mins(15);
