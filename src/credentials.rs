//! The credentials in use: one set for all requests, renewed in the background ahead of its expiry.

mod chain;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use futures_util::FutureExt as _;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use chain::{load_roots, provider, sdk_config};

/// What each request asks for its credentials; cheap to clone.
#[derive(Clone, Debug)]
pub struct CredentialCache {
    latest: watch::Receiver<Option<Credentials>>,
    /// When a fetch failed last.
    failed: watch::Receiver<Option<Instant>>,
    wanted: Arc<Notify>,
}

/// The one that fetches credentials, whoever wants them.
#[derive(Debug)]
pub struct Renewal {
    provider: SharedCredentialsProvider,
    latest: watch::Sender<Option<Credentials>>,
    failed: watch::Sender<Option<Instant>>,
    wanted: Arc<Notify>,
}

/// A cache, and the renewal that has to run for it.
#[must_use]
pub fn cache(provider: SharedCredentialsProvider) -> (CredentialCache, Renewal) {
    let (sender, latest) = watch::channel(None);
    let (failure, failed) = watch::channel(None);
    let wanted = Arc::new(Notify::new());
    let cache = CredentialCache { latest, failed, wanted: Arc::clone(&wanted) };
    (cache, Renewal { provider, latest: sender, failed: failure, wanted })
}

impl CredentialCache {
    /// Credentials that are valid at `now`, this machine's time.
    ///
    /// Waits only when there are none: for the fetch that is under way, or that this call asks for. Not if one has just
    /// failed: the next one, which this call asks for as well, is for the client's next try.
    pub async fn current(&self, now: SystemTime) -> Result<Credentials, NoCredentials> {
        if let Some(credentials) = self.latest.borrow().as_ref().filter(|credentials| is_valid(credentials, now)) {
            return Ok(credentials.clone());
        }
        self.wanted.notify_one();
        if self.failed.borrow().is_some_and(|failed| failed.elapsed() < FRESH) {
            return Err(NoCredentials);
        }
        let mut latest = self.latest.clone();
        let valid = latest.wait_for(|latest| latest.as_ref().is_some_and(|credentials| is_valid(credentials, now)));
        match timeout(PATIENCE, valid).await {
            Ok(Ok(credentials)) => credentials.clone().ok_or(NoCredentials),
            _ => Err(NoCredentials),
        }
    }

    /// The last credentials that were found, valid or not.
    #[must_use]
    pub fn latest(&self) -> Option<Credentials> {
        self.latest.borrow().clone()
    }

    /// Asks for a fetch ahead of time. The credentials in use stay until others come.
    pub fn hurry(&self) {
        self.wanted.notify_one();
    }

    /// Fetches credentials again because the domain has rejected `refused`, and returns whether others are in use now.
    ///
    /// Keys that were rotated in a file, or revoked, are replaced by the request that meets them. Until others come, the
    /// rejected ones stay in use.
    pub async fn replace(&self, refused: &Credentials) -> bool {
        let mut latest = self.latest.clone();
        // Another request may have met the same rejection before.
        if latest.borrow_and_update().as_ref().is_some_and(|latest| !are_same(latest, refused)) {
            return true;
        }
        self.hurry();
        let fetched = timeout(PATIENCE, latest.changed()).await;
        matches!(fetched, Ok(Ok(()))) && latest.borrow().as_ref().is_some_and(|latest| !are_same(latest, refused))
    }
}

fn are_same(one: &Credentials, other: &Credentials) -> bool {
    one.access_key_id() == other.access_key_id()
        && one.secret_access_key() == other.secret_access_key()
        && one.session_token() == other.session_token()
}

/// Nothing valid to sign with, and nothing came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there are no valid AWS credentials")]
pub struct NoCredentials;

impl Renewal {
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
                    // Who waited for this fetch does not ask for another.
                    let _ = self.wanted.notified().now_or_never();
                    renewal_delay(expiry, SystemTime::now(), fastrand::f64())
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
            // A request that has none hurries the renewal, but not without bound: the metadata service throttles.
            let earliest = Instant::now() + GAP;
            tokio::select! {
                () = sleep(next) => {}
                () = self.wanted.notified() => sleep_until(earliest).await,
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

    /// How long the credentials in use are good for, if they say so.
    fn left(&self, now: SystemTime) -> Option<Duration> {
        let expiry = self.latest.borrow().as_ref()?.expiry()?;
        expiry.duration_since(now).ok()
    }
}

/// Does not believe in a later expiry of the same key: AWS gives new keys with new times, and it is its own libraries
/// that add minutes to those of an instance when the metadata service gives keys that have expired.
fn keep_expiry(fetched: &mut Credentials, last: &Credentials) {
    if fetched.access_key_id() == last.access_key_id() && last.expiry().is_some() {
        *fetched.expiry_mut() = last.expiry().min(fetched.expiry().or(last.expiry()));
    }
}

/// Removes white space around keys, which an editor or `echo` leaves there, and rejects control characters: they cannot
/// be sent in a header.
fn trim(fetched: Credentials) -> Result<Credentials, CredentialsError> {
    let parts = [
        ("access key id", Some(fetched.access_key_id())),
        ("secret access key", Some(fetched.secret_access_key())),
        ("session token", fetched.session_token()),
    ];
    let (mut is_padded, mut trimmed) = (false, [const { None }; 3]);
    for ((name, part), place) in parts.into_iter().zip(&mut trimmed) {
        let Some(part) = part else { continue };
        let plain = part.trim();
        if plain.is_empty() || !plain.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            let source = source(&fetched);
            return Err(CredentialsError::invalid_configuration(format!(
                "the {name} from {source} is empty, or has a control character or one that is not ASCII"
            )));
        }
        if plain.len() < part.len() {
            is_padded = true;
            tracing::warn!("the {name} from {} has white space around it, which is removed", source(&fetched));
        }
        *place = Some(plain.to_owned());
    }
    if !is_padded {
        return Ok(fetched);
    }
    let [Some(id), Some(secret), token] = trimmed else { return Ok(fetched) };
    let mut plain = Credentials::new(id, secret, token, fetched.expiry(), "trailgate");
    if let Some(features) = fetched.get_property::<Vec<Feature>>() {
        plain.set_property(features.clone());
    }
    Ok(plain)
}

/// Whether `credentials` have not expired at `now`.
#[must_use]
pub fn is_valid(credentials: &Credentials, now: SystemTime) -> bool {
    credentials.expiry().is_none_or(|expiry| now < expiry)
}

/// Where credentials come from. A source that goes through others stands behind them.
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

/// When to fetch anew: five minutes ahead of the expiry, less up to a minute so that a fleet does not ask at once.
///
/// `jitter` is between 0 and 1. Credentials that say no expiry are asked for again now and then: files get edited.
fn renewal_delay(expiry: Option<SystemTime>, now: SystemTime, jitter: f64) -> Duration {
    let Some(expiry) = expiry else { return RECHECK };
    let left = expiry.duration_since(now).unwrap_or_default();
    left.saturating_sub(AHEAD + Duration::from_mins(1).mul_f64(jitter)).max(left / 10).max(GAP)
}

/// Longer with each failure, but not so long that credentials which are good for `left` expire meanwhile.
fn retry_delay(failures: u32, left: Option<Duration>) -> Duration {
    let delay = Duration::from_secs(1 << failures.min(6)).min(Duration::from_mins(1));
    left.map_or(delay, |left| delay.min(left / 4).max(GAP))
}

/// How long a request waits when there are no credentials.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a failed fetch is an answer.
const FRESH: Duration = Duration::from_secs(5);
/// Seconds between two fetches, at the least.
const GAP: Duration = Duration::from_secs(1);
/// How long a fetch may take, all providers of the chain tried.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How long before their expiry credentials are renewed.
const AHEAD: Duration = Duration::from_mins(5);
/// How often credentials without an expiry are asked for again.
const RECHECK: Duration = Duration::from_mins(15);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use aws_credential_types::provider::future;

    use super::*;

    /// Answers the n-th call by `answer(n)`, and counts the calls.
    #[derive(Clone, Debug)]
    struct Scripted {
        calls: Arc<AtomicUsize>,
        answer: fn(usize) -> Result<Credentials, CredentialsError>,
    }

    impl ProvideCredentials for Scripted {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            future::ProvideCredentials::ready((self.answer)(self.calls.fetch_add(1, Ordering::SeqCst)))
        }
    }

    fn scripted(answer: fn(usize) -> Result<Credentials, CredentialsError>) -> (CredentialCache, Renewal, Scripted) {
        let provider = Scripted { calls: Arc::default(), answer };
        let (cache, renewal) = cache(SharedCredentialsProvider::new(provider.clone()));
        (cache, renewal, provider)
    }

    fn key(name: &str, expiry: Option<SystemTime>) -> Credentials {
        Credentials::new(name, "secret", None, expiry, "test")
    }

    fn in_seconds(seconds: u64) -> SystemTime {
        SystemTime::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn many_requests_at_once_cost_one_fetch() {
        let (cache, renewal, provider) = scripted(|_| Ok(key("AKID", None)));
        tokio::spawn(renewal.run());
        let requests = (0..20).map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.current(SystemTime::now()).await })
        });
        for request in requests.collect::<Vec<_>>() {
            assert_eq!(request.await.unwrap().unwrap().access_key_id(), "AKID");
        }
        assert_eq!(provider.calls.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_renewed_before_they_expire() {
        let (cache, renewal, _) = scripted(|call| Ok(key(&format!("AKID{call}"), Some(in_seconds(3600)))));
        tokio::spawn(renewal.run());
        assert_eq!(cache.current(SystemTime::now()).await.unwrap().access_key_id(), "AKID0");
        let mut latest = cache.latest.clone();
        let started = Instant::now();
        latest
            .wait_for(|latest| latest.as_ref().is_some_and(|latest| latest.access_key_id() == "AKID1"))
            .await
            .unwrap();
        let waited = started.elapsed().as_secs();
        assert!((3230..=3300).contains(&waited), "renewed after {waited} s");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_credentials_stay_in_use_while_fetches_fail() {
        let (cache, renewal, provider) = scripted(|call| match call {
            0 => Ok(key("AKID", Some(in_seconds(3600)))),
            _ => Err(CredentialsError::not_loaded("the metadata service is away")),
        });
        tokio::spawn(renewal.run());
        assert!(cache.current(SystemTime::now()).await.is_ok());
        sleep(Duration::from_secs(3500)).await;
        assert!(provider.calls.load(Ordering::SeqCst) > 1, "no renewal was tried");
        assert!(cache.current(SystemTime::now()).await.is_ok());
        assert_eq!(cache.current(in_seconds(3601)).await, Err(NoCredentials));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_without_credentials_is_served_as_soon_as_they_come() {
        let (cache, renewal, _) = scripted(|call| match call {
            0 => Err(CredentialsError::not_loaded("not yet")),
            _ => Ok(key("AKID", None)),
        });
        tokio::spawn(renewal.run());
        assert!(cache.current(SystemTime::now()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_keep_coming_do_not_hurry_the_renewal_past_once_a_second() {
        let (cache, renewal, provider) = scripted(|_| Err(CredentialsError::not_loaded("never")));
        tokio::spawn(renewal.run());
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until {
            assert_eq!(cache.current(SystemTime::now()).await, Err(NoCredentials));
            sleep(Duration::from_millis(50)).await;
        }
        assert!(provider.calls.load(Ordering::SeqCst) <= 22);
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_the_domain_does_not_take_are_renewed_soon() {
        let (cache, renewal, _) = scripted(|call| Ok(key(&format!("AKID{call}"), None)));
        tokio::spawn(renewal.run());
        assert_eq!(cache.current(SystemTime::now()).await.unwrap().access_key_id(), "AKID0");
        let refused = key("AKID0", None);
        assert!(timeout(Duration::from_secs(2), cache.replace(&refused)).await.expect("they are renewed"));
        assert_eq!(cache.current(SystemTime::now()).await.unwrap().access_key_id(), "AKID1");
        assert!(timeout(Duration::ZERO, cache.replace(&refused)).await.expect("others are there already"));
    }

    #[tokio::test(start_paused = true)]
    async fn rejected_credentials_that_a_fetch_brings_again_are_not_replaced() {
        let (cache, renewal, provider) = scripted(|_| Ok(key("AKID", None)));
        tokio::spawn(renewal.run());
        assert!(cache.current(SystemTime::now()).await.is_ok());
        assert!(!cache.replace(&key("AKID", None)).await);
        assert_eq!(provider.calls.load(Ordering::SeqCst), 2);
        assert!(cache.current(SystemTime::now()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_that_have_expired_already_are_none() {
        let (cache, renewal, _) = scripted(|_| Ok(key("AKID", Some(SystemTime::now() - Duration::from_secs(1)))));
        tokio::spawn(renewal.run());
        assert_eq!(cache.current(SystemTime::now()).await, Err(NoCredentials));
    }

    #[tokio::test(start_paused = true)]
    async fn request_behind_a_failed_fetch_is_answered_at_once() {
        let (cache, renewal, provider) = scripted(|_| Err(CredentialsError::not_loaded("never")));
        tokio::spawn(renewal.run());
        assert_eq!(cache.current(SystemTime::now()).await, Err(NoCredentials));
        let (since, fetches) = (Instant::now(), provider.calls.load(Ordering::SeqCst));
        for _ in 0..10 {
            assert_eq!(cache.current(SystemTime::now()).await, Err(NoCredentials));
        }
        assert_eq!(since.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(2)).await;
        assert!(provider.calls.load(Ordering::SeqCst) > fetches, "it is tried again");
    }

    #[test]
    fn blanks_around_keys_are_left_out_and_control_characters_rejected() {
        let keys = |id: &str, secret: &str, token: Option<&str>| {
            let plain = trim(Credentials::new(id, secret, token.map(str::to_owned), None, "test"));
            plain.map(|it| {
                [it.access_key_id(), it.secret_access_key(), it.session_token().unwrap_or_default()].join(" ")
            })
        };
        assert_eq!(keys("AKID", "secret", None).unwrap(), "AKID secret ");
        assert_eq!(keys("AKID\n", "secret\r\n", Some(" token ")).unwrap(), "AKID secret token");
        for (id, secret, token) in [
            ("AK\nID", "secret", None),
            ("AKID", "sec\u{1}ret", None),
            ("AKID", "secret", Some("to\0ken")),
            ("", "s", None),
        ] {
            assert!(keys(id, secret, token).is_err(), "{id:?} {secret:?} {token:?}");
        }
    }

    #[test]
    fn the_same_key_does_not_live_longer_than_it_said_at_first() {
        let (early, late) = (in_seconds(10), in_seconds(600));
        let kept = |name: &str, expiry| {
            let mut fetched = key(name, expiry);
            keep_expiry(&mut fetched, &key("AKID", Some(early)));
            fetched.expiry()
        };
        assert_eq!(kept("AKID", Some(late)), Some(early));
        assert_eq!(kept("OTHER", Some(late)), Some(late));
        assert_eq!(kept("OTHER", None), None);
        let mut lasting = key("AKID", Some(late));
        keep_expiry(&mut lasting, &key("AKID", None));
        assert_eq!(lasting.expiry(), Some(late));
    }

    #[test]
    fn a_failed_fetch_is_tried_again_while_the_last_credentials_are_good() {
        assert_eq!(retry_delay(1, None).as_secs(), 2);
        assert_eq!(retry_delay(9, None).as_secs(), 60);
        assert_eq!(retry_delay(9, Some(Duration::from_secs(100))).as_secs(), 25);
        assert_eq!(retry_delay(9, Some(Duration::ZERO)), GAP);
    }

    #[test]
    fn a_renewal_is_due_ahead_of_the_expiry_and_never_at_once() {
        let now = SystemTime::now();
        let delay = |left, jitter| renewal_delay(Some(now + Duration::from_secs(left)), now, jitter).as_secs();
        assert_eq!(delay(3600, 0.0), 3300);
        assert_eq!(delay(3600, 1.0), 3240);
        assert_eq!(delay(100, 0.5), 10);
        assert_eq!(delay(0, 0.5), 1);
        assert_eq!(renewal_delay(None, now, 0.5), RECHECK);
    }
}
