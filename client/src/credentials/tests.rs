use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, future};

use tokio::time::{Instant, sleep};

use super::normalize::{keep_expiry, trim};
use super::refresh::{FETCH_INTERVAL, RECHECK_INTERVAL, refresh_delay, retry_delay};
use super::*;

/// A provider that returns `answer(n)` to the n-th call, and counts the calls.
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

fn scripted(
    answer: fn(usize) -> Result<Credentials, CredentialsError>,
) -> (CredentialCache, CredentialRefresher, Scripted) {
    let provider = Scripted { calls: Arc::default(), answer };
    let (cache, refresher) = CredentialCache::new(SharedCredentialsProvider::new(provider.clone()));
    (cache, refresher, provider)
}

fn key(name: &str, expiry: Option<SystemTime>) -> Credentials {
    Credentials::new(name, "secret", None, expiry, "test")
}

fn in_seconds(seconds: u64) -> SystemTime {
    SystemTime::now() + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn many_requests_at_once_cost_one_fetch() {
    let (cache, refresher, provider) = scripted(|_| Ok(key("AKID", None)));
    tokio::spawn(refresher.run());
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
    let (cache, refresher, _) = scripted(|call| Ok(key(&format!("AKID{call}"), Some(in_seconds(3600)))));
    tokio::spawn(refresher.run());
    assert_eq!(cache.current(SystemTime::now()).await.unwrap().access_key_id(), "AKID0");
    let mut latest = cache.latest.clone();
    let started = Instant::now();
    latest.wait_for(|latest| latest.as_ref().is_some_and(|latest| latest.access_key_id() == "AKID1")).await.unwrap();
    let waited = started.elapsed().as_secs();
    assert!((3230..=3300).contains(&waited), "renewed after {waited} s");
}

#[tokio::test(start_paused = true)]
async fn credentials_stay_in_use_while_fetches_fail() {
    let (cache, refresher, provider) = scripted(|call| match call {
        0 => Ok(key("AKID", Some(in_seconds(3600)))),
        _ => Err(CredentialsError::not_loaded("the metadata service is away")),
    });
    tokio::spawn(refresher.run());
    assert!(cache.current(SystemTime::now()).await.is_ok());
    sleep(Duration::from_secs(3500)).await;
    assert!(provider.calls.load(Ordering::SeqCst) > 1, "no refresher was tried");
    assert!(cache.current(SystemTime::now()).await.is_ok());
    assert_eq!(cache.current(in_seconds(3601)).await, Err(NoCredentials));
}

#[tokio::test(start_paused = true)]
async fn request_without_credentials_waits_for_the_first_fetch() {
    let (cache, refresher, _) = scripted(|call| match call {
        0 => Err(CredentialsError::not_loaded("not yet")),
        _ => Ok(key("AKID", None)),
    });
    tokio::spawn(refresher.run());
    assert!(cache.current(SystemTime::now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn continuous_requests_refresh_at_most_once_a_second() {
    let (cache, refresher, provider) = scripted(|_| Err(CredentialsError::not_loaded("never")));
    tokio::spawn(refresher.run());
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        assert_eq!(cache.current(SystemTime::now()).await, Err(NoCredentials));
        sleep(Duration::from_millis(50)).await;
    }
    assert!(provider.calls.load(Ordering::SeqCst) <= 22);
}

#[tokio::test(start_paused = true)]
async fn rejected_credentials_are_renewed_soon() {
    let (cache, refresher, _) = scripted(|call| Ok(key(&format!("AKID{call}"), None)));
    tokio::spawn(refresher.run());
    assert_eq!(cache.current(SystemTime::now()).await.unwrap().access_key_id(), "AKID0");
    let refused = key("AKID0", None);
    assert!(timeout(Duration::from_secs(2), cache.replace(&refused)).await.expect("they are renewed"));
    assert_eq!(cache.current(SystemTime::now()).await.unwrap().access_key_id(), "AKID1");
    assert!(timeout(Duration::ZERO, cache.replace(&refused)).await.expect("others are there already"));
}

#[tokio::test(start_paused = true)]
async fn rejected_credentials_fetched_again_are_not_replaced() {
    let (cache, refresher, provider) = scripted(|_| Ok(key("AKID", None)));
    tokio::spawn(refresher.run());
    assert!(cache.current(SystemTime::now()).await.is_ok());
    assert!(!cache.replace(&key("AKID", None)).await);
    assert_eq!(provider.calls.load(Ordering::SeqCst), 2);
    assert!(cache.current(SystemTime::now()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn fetched_credentials_that_have_expired_are_none() {
    let (cache, refresher, _) = scripted(|_| Ok(key("AKID", Some(SystemTime::now() - Duration::from_secs(1)))));
    tokio::spawn(refresher.run());
    assert_eq!(cache.current(SystemTime::now()).await, Err(NoCredentials));
}

#[tokio::test(start_paused = true)]
async fn request_after_a_failed_fetch_fails_at_once() {
    let (cache, refresher, provider) = scripted(|_| Err(CredentialsError::not_loaded("never")));
    tokio::spawn(refresher.run());
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
fn keys_are_trimmed_and_control_characters_rejected() {
    let keys = |id: &str, secret: &str, token: Option<&str>| {
        let plain = trim(Credentials::new(id, secret, token.map(str::to_owned), None, "test"));
        plain.map(|it| [it.access_key_id(), it.secret_access_key(), it.session_token().unwrap_or_default()].join(" "))
    };
    assert_eq!(keys("AKID", "secret", None).unwrap(), "AKID secret ");
    assert_eq!(keys("AKID\n", "secret\r\n", Some(" token ")).unwrap(), "AKID secret token");
    assert_eq!(keys("\"AKID\"", "'secret'\n", Some("\"token")).unwrap(), "AKID secret \"token");
    for (id, secret, token) in [
        ("\"\"", "secret", None),
        ("AK\nID", "secret", None),
        ("AKID", "sec\u{1}ret", None),
        ("AKID", "secret", Some("to\0ken")),
        ("", "s", None),
    ] {
        assert!(keys(id, secret, token).is_err(), "{id:?} {secret:?} {token:?}");
    }
}

#[test]
fn refetched_key_keeps_its_first_expiry() {
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
fn failed_fetch_is_retried_while_credentials_are_valid() {
    assert_eq!(retry_delay(1, None).as_secs(), 2);
    assert_eq!(retry_delay(9, None).as_secs(), 60);
    assert_eq!(retry_delay(9, Some(Duration::from_secs(100))).as_secs(), 25);
    assert_eq!(retry_delay(9, Some(Duration::ZERO)), FETCH_INTERVAL);
}

#[test]
fn refresh_precedes_expiry_and_is_never_immediate() {
    let now = SystemTime::now();
    let delay = |left, jitter| refresh_delay(Some(now + Duration::from_secs(left)), now, jitter).as_secs();
    assert_eq!(delay(3600, 0.0), 3300);
    assert_eq!(delay(3600, 1.0), 3240);
    assert_eq!(delay(100, 0.5), 10);
    assert_eq!(delay(0, 0.5), 1);
    assert_eq!(refresh_delay(None, now, 0.5), RECHECK_INTERVAL);
}
