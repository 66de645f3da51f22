//! Assumes roles by STS, with the base credentials.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use aws_config::identity::IdentityCache;
use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature as Feature;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_sdk_sts::types::Tag;
use aws_sdk_sts::{Client, Config};
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use super::{CredentialCache, sdk_config};
use crate::role::{RoleArn, SessionUser};

/// The parameters of `AssumeRole` that all roles share.
#[derive(Clone, Debug)]
pub struct AssumeRoleSettings {
    /// The region of STS.
    pub region: String,
    /// The external ID, which a role's trust policy may require.
    pub external_id: Option<String>,
    /// Set if sessions have tags. The role's trust policy then has to allow `sts:TagSession`.
    pub tags: bool,
    /// The duration of a session; STS's default (1 hour) if `None`.
    pub duration: Option<Duration>,
}

/// A function that returns the provider of one session's credentials.
pub type Assumer = Box<dyn Fn(&RoleArn, &SessionUser) -> SharedCredentialsProvider + Send + Sync>;

impl AssumeRoleSettings {
    /// Returns a function whose providers assume roles by STS with the credentials of `base`.
    #[must_use]
    pub fn assumer(self, base: CredentialCache) -> Assumer {
        let shared = Arc::new(Shared {
            settings: self,
            base,
            client: OnceCell::new(),
            calls: Semaphore::new(CALLS),
            calls_of_roles: Mutex::default(),
        });
        Box::new(move |role, user| {
            let calls_of_role = shared.calls_of(role);
            let (shared, role, user) = (Arc::clone(&shared), role.clone(), user.clone());
            SharedCredentialsProvider::new(AssumedRole { shared, role, user, calls_of_role })
        })
    }
}

#[derive(Debug)]
struct Shared {
    settings: AssumeRoleSettings,
    base: CredentialCache,
    client: OnceCell<Client>,
    /// Bounds the calls in flight.
    calls: Semaphore,
    /// The same for each role with sessions.
    calls_of_roles: Mutex<HashMap<RoleArn, Weak<Semaphore>>>,
}

/// The provider of one session's credentials. It calls STS at each fetch.
#[derive(Debug)]
struct AssumedRole {
    shared: Arc<Shared>,
    role: RoleArn,
    user: SessionUser,
    /// Bounds the calls in flight for this role, so that one for which STS is slow does not hold up the others.
    calls_of_role: Arc<Semaphore>,
}

impl Shared {
    fn calls_of(&self, role: &RoleArn) -> Arc<Semaphore> {
        let mut all = self.calls_of_roles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = all.get(role).and_then(Weak::upgrade) {
            return calls;
        }
        all.retain(|_, calls| calls.strong_count() > 0);
        let calls = Arc::new(Semaphore::new(CALLS_OF_ROLE));
        all.insert(role.clone(), Arc::downgrade(&calls));
        calls
    }

    async fn client(&self) -> &Client {
        let build = async || {
            let sdk = sdk_config(&self.settings.region).await;
            let config = Config::from(&sdk).to_builder().credentials_provider(Base(self.base.clone()));
            // The base credentials have a cache of their own, which replaces keys before they expire.
            Client::from_conf(config.identity_cache(IdentityCache::no_cache()).build())
        };
        self.client.get_or_init(build).await
    }
}

impl AssumedRole {
    async fn assume(&self) -> provider::Result {
        let Shared { settings, base, calls, .. } = &*self.shared;
        // The role's permit first: a call that waits for calls of its own role must not hold a permit that another role
        // needs.
        let _of_role = self.calls_of_role.acquire().await;
        let _of_all = calls.acquire().await;
        let mut call = self.shared.client().await.assume_role();
        call = call.role_arn(self.role.as_str()).role_session_name(self.user.name.as_str());
        call = call.set_external_id(settings.external_id.clone());
        call = call.set_duration_seconds(settings.duration.and_then(|duration| i32::try_from(duration.as_secs()).ok()));
        if settings.tags {
            let tag = |(key, value)| Tag::builder().key(key).value(value).build();
            let tags: Result<Vec<_>, _> = self.user.tags().into_iter().map(tag).collect();
            call = call.set_tags(Some(tags.map_err(CredentialsError::unhandled)?));
        }
        let answer = timeout(CALL_TIMEOUT, call.send()).await;
        let answer = answer.map_err(|_| refused(format!("STS did not answer within {} s", CALL_TIMEOUT.as_secs())))?;
        let answer = answer.map_err(|error| {
            if error.code().is_some_and(|code| BASE_REJECTED.contains(&code)) {
                base.refresh_now();
            }
            refused(explain(&error))
        })?;
        let assumed = answer.credentials().ok_or_else(|| refused("STS answered without credentials".to_owned()))?;
        let expiry = SystemTime::try_from(*assumed.expiration());
        let expiry = expiry.map_err(|error| refused(format!("STS answered with an invalid expiration: {error}")))?;
        let token = Some(assumed.session_token().to_owned());
        let (id, secret) = (assumed.access_key_id(), assumed.secret_access_key());
        let mut credentials = Credentials::new(id, secret, token, Some(expiry), "trailgate");
        credentials.set_property(vec![Feature::CredentialsStsAssumeRole]);
        Ok(credentials)
    }
}

impl ProvideCredentials for AssumedRole {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}

/// The base credentials as a provider.
#[derive(Debug)]
struct Base(CredentialCache);

impl ProvideCredentials for Base {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let current = async || self.0.current(SystemTime::now()).await.map_err(CredentialsError::not_loaded);
        future::ProvideCredentials::new(current())
    }
}

fn refused(reason: String) -> CredentialsError {
    CredentialsError::provider_error(reason)
}

/// Returns the reason that AWS states, or what is wrong with its answer.
fn explain(error: &SdkError<AssumeRoleError>) -> String {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => format!("cannot call STS: {}", join_causes(error)),
    }
}

fn join_causes(error: &SdkError<AssumeRoleError>) -> String {
    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Error codes of AWS for credentials that are unknown or expired.
const BASE_REJECTED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId"];
/// Calls of STS in flight. A fleet of proxies shares the account's quota (600 calls per second).
const CALLS: usize = 32;
/// Calls of STS in flight for one role.
const CALLS_OF_ROLE: usize = 4;
/// The timeout of a call, including the retries of AWS's client.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
