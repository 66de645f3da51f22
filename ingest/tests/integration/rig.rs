//! A stand-in domain, and the signed way to it.

use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use fake_domain::{Backend, FakeDomain, Options};
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::time::timeout;
use trailgate_ingest::delivery::DeliveryLimits;
use trailgate_ingest::domain::{Domain, RequestBody};
use trailgate_ingest::settings::Settings;

/// A stand-in domain, and the function's way to it.
pub(crate) struct Rig {
    pub(crate) stand_in: FakeDomain,
    pub(crate) settings: Settings,
    pub(crate) domain: Arc<Domain>,
}

impl Rig {
    /// Starts a domain in memory.
    pub(crate) async fn new() -> Self {
        Self::with(Backend::Memory, signing_key()).await
    }

    pub(crate) async fn with(backend: Backend, provider: SharedCredentialsProvider) -> Self {
        let stand_in = FakeDomain::start(Options { backend, ..Options::default() }).await.unwrap();
        let settings = Settings::read(|variable| match variable {
            "ENDPOINT" => Some(stand_in.url()),
            "REGION" => Some("eu-west-1".to_owned()),
            "SERVICE" => Some("es".to_owned()),
            _ => None,
        });
        let settings = settings.unwrap();
        let domain = Arc::new(Domain::connect(&settings, provider).unwrap());
        Self { stand_in, settings, domain }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<String>) -> (StatusCode, Value) {
        let body = RequestBody { bytes: body.into().into(), content_type: "application/json", is_gzip: false };
        let reply = self.domain.send(method, path, body, TIMEOUT).await.unwrap();
        (reply.status, serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    /// Sends a request that has to succeed.
    #[track_caller]
    pub(crate) fn ask<'a>(&'a self, method: Method, path: &'a str, body: &Value) -> impl Future<Output = Value> + 'a {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        async move {
            let (status, answer) = self.send(method, path, body).await;
            assert!(status.is_success(), "{path}: {status}: {answer}");
            answer
        }
    }

    #[track_caller]
    pub(crate) fn get<'a>(&'a self, path: &'a str) -> impl Future<Output = Value> + 'a {
        self.ask(Method::GET, path, &Value::Null)
    }
}

/// Returns the signing key that the stand-in accepts by default.
pub(crate) fn signing_key() -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(trailgate_testkit::signing_key(None))
}

/// Ends a test that would hang. Nothing waits for this long unless something is broken, however busy the machine is.
pub(crate) async fn with_timeout<F: Future>(future: F) -> F::Output {
    timeout(TIMEOUT, future).await.expect("this takes too long")
}

/// Like those in use, with shorter waits between tries.
pub(crate) const LIMITS: DeliveryLimits = DeliveryLimits {
    body_bytes: 16 * 1024,
    parallel: 4,
    timeout: TIMEOUT,
    first_backoff: Duration::from_millis(1),
    longest_backoff: Duration::from_millis(20),
    jitter: || 1.0,
};

pub(crate) const TIMEOUT: Duration = Duration::from_mins(3);
