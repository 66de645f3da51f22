use std::sync::atomic::AtomicUsize;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use hyper::http::uri::Authority;

use super::*;
use crate::credentials::NoCredentials;

/// An STS that assumes every role whose name does not begin with `Refused`.
#[derive(Clone, Debug, Default)]
struct Sts {
    calls: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Assumed {
    sts: Sts,
    key: String,
}

impl ProvideCredentials for Assumed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let call = self.sts.calls.fetch_add(1, Ordering::SeqCst);
        let expiry = SystemTime::now() + Duration::from_hours(1);
        future::ProvideCredentials::ready(if self.key.starts_with("Refused") {
            Err(CredentialsError::provider_error("AccessDenied: not authorized to perform: sts:AssumeRole"))
        } else {
            Ok(Credentials::new(format!("{} {call}", self.key), "secret", None, Some(expiry), "test"))
        })
    }
}

fn sessions(idle: Duration, live: usize) -> (RoleSessions, Sts) {
    let sts = Sts::default();
    let called = sts.clone();
    let assumer: Assumer = Box::new(move |role, user| {
        let key = format!("{}/{}", role.name(), user.name);
        SharedCredentialsProvider::new(Assumed { sts: called.clone(), key })
    });
    let signer = Signer::new(&Authority::from_static("domain.test"), "eu-west-1", "es");
    let (sessions, keeper) = RoleSessions::new(&signer, assumer, SessionLimits { idle, live });
    tokio::spawn(keeper.run());
    (sessions, sts)
}

fn role(name: &str) -> RoleArn {
    format!("arn:aws:iam::123456789012:role/{name}").parse().unwrap()
}

fn user(name: &str) -> SessionUser {
    SessionUser::new(name, "read")
}

async fn key(sessions: &RoleSessions, role_name: &str, user_name: &str) -> Result<String, NoCredentials> {
    let session = sessions.session(RoleKind::Read, &role(role_name), &user(user_name));
    let current = session.credentials().current(SystemTime::now()).await;
    current.map(|credentials| credentials.access_key_id().to_owned())
}

#[tokio::test(start_paused = true)]
async fn each_role_and_user_has_one_session() {
    let (sessions, sts) = sessions(Duration::from_mins(15), 100);
    for _ in 0..3 {
        for (role, user) in [("Auditor", "jane"), ("Auditor", "john"), ("Editor", "jane")] {
            let key = key(&sessions, role, user).await.unwrap();
            assert!(key.starts_with(&format!("{role}/{user} ")), "{key}");
        }
    }
    assert_eq!(sts.calls.load(Ordering::SeqCst), 3);
    assert_eq!(sessions.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn denied_role_fails_only_its_own_sessions() {
    let (sessions, _) = sessions(Duration::from_mins(15), 100);
    assert_eq!(key(&sessions, "Refused", "jane").await, Err(NoCredentials));
    assert!(key(&sessions, "Auditor", "jane").await.is_ok());
    let states = sessions.states(SystemTime::now());
    let summary: Vec<_> = states.iter().map(|state| (state.role.name(), state.sessions, state.valid)).collect();
    assert_eq!(summary, [("Auditor", 1, 1), ("Refused", 1, 0)]);
    assert!(states[0].failure.is_none());
    let failure = states[1].failure.as_ref().unwrap();
    assert_eq!(failure.reason, "AccessDenied: not authorized to perform: sts:AssumeRole");
    assert!(sessions.counts(RoleKind::Read).failed() >= 1);
    assert_eq!(sessions.counts(RoleKind::Read).succeeded(), 1);
}

#[tokio::test(start_paused = true)]
async fn idle_session_ends_and_is_renewed_on_use() {
    let (sessions, sts) = sessions(Duration::from_mins(15), 100);
    assert!(key(&sessions, "Auditor", "jane").await.is_ok());
    sleep(Duration::from_mins(10)).await;
    assert!(key(&sessions, "Auditor", "jane").await.is_ok());
    sleep(Duration::from_mins(14)).await;
    assert_eq!(sessions.len(), 1, "ended while it was in use");
    sleep(Duration::from_mins(2)).await;
    assert_eq!(sessions.len(), 0);
    assert_eq!(sts.calls.load(Ordering::SeqCst), 1);
    assert!(key(&sessions, "Auditor", "jane").await.is_ok());
    assert_eq!(sts.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn idle_session_fetches_nothing_more() {
    let (sessions, sts) = sessions(Duration::from_mins(15), 100);
    assert!(key(&sessions, "Auditor", "jane").await.is_ok());
    sleep(Duration::from_hours(5)).await;
    assert_eq!(sts.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn session_in_use_is_refreshed_before_its_expiry() {
    let (sessions, sts) = sessions(Duration::from_mins(15), 100);
    for _ in 0..12 {
        assert!(key(&sessions, "Auditor", "jane").await.is_ok());
        sleep(Duration::from_mins(10)).await;
    }
    assert!((2..=4).contains(&sts.calls.load(Ordering::SeqCst)), "{sts:?}");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_users_have_a_bounded_number_of_sessions() {
    let (sessions, _) = sessions(Duration::from_mins(15), 100);
    for number in 0..10_000 {
        assert!(key(&sessions, &format!("Role{number}"), "jane").await.is_ok());
        assert!(sessions.len() <= 100);
    }
    // The last ones live.
    sleep(Duration::from_millis(1)).await;
    assert!(sessions.states(SystemTime::now()).iter().any(|state| state.role.name() == "Role9999"));
}

#[tokio::test(start_paused = true)]
async fn session_without_an_entry_is_dropped() {
    let (sessions, _) = sessions(Duration::from_mins(15), 100);
    assert!(key(&sessions, "Auditor", "jane").await.is_ok());
    assert!(key(&sessions, "Editor", "jane").await.is_ok());
    let held = sessions.session(RoleKind::Read, &role("Auditor"), &user("jane"));
    sessions.retain(|role, _| role.name() == "Editor");
    assert_eq!(sessions.len(), 1);
    // A request that took it from the table before still gets its credentials.
    assert!(held.credentials().current(SystemTime::now()).await.is_ok());
    let credentials = held.credentials().clone();
    drop(held);
    sleep(Duration::from_secs(2)).await;
    assert!(credentials.latest.has_changed().is_err(), "its credentials are still refreshed");
}

#[tokio::test(start_paused = true)]
async fn request_that_waits_keeps_a_dropped_session() {
    let (sessions, _) = sessions(Duration::from_mins(15), 100);
    let session = sessions.session(RoleKind::Read, &role("Auditor"), &user("jane"));
    sessions.retain(|_, _| false);
    assert!(session.credentials().current(SystemTime::now()).await.is_ok());
}
