//! A stand-in domain, the way to it, and what is in it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use bytes::Bytes;
use hyper::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use trailgate_domain::Options;
use trailgate_ingest::delivery::{Delivery, Limits};
use trailgate_ingest::document::Document;
use trailgate_ingest::domain::{Body, Domain};
use trailgate_ingest::ledger::Report;
use trailgate_ingest::settings::Settings;

/// A stand-in domain, and a delivery to it.
pub(crate) struct Rig {
    /// The stand-in.
    pub(crate) stand_in: trailgate_domain::Domain,
    /// The way to it.
    pub(crate) domain: Arc<Domain>,
    /// What is tested.
    pub(crate) delivery: Delivery,
}

/// Like those in use, but not as patient.
pub(crate) const LIMITS: Limits = Limits {
    body_bytes: 16 * 1024,
    parallel: 4,
    patience: Duration::from_secs(10),
    first_backoff: Duration::from_millis(1),
    longest_backoff: Duration::from_millis(20),
    jitter: || 1.0,
};

impl Rig {
    /// Without compression.
    pub(crate) async fn new() -> Self {
        Self::with(LIMITS, false, signing_key()).await
    }

    pub(crate) async fn with(limits: Limits, gzip: bool, provider: SharedCredentialsProvider) -> Self {
        let stand_in = trailgate_domain::Domain::start(Options::default()).await.unwrap();
        let settings = settings(&[("ENDPOINT", &stand_in.url()), ("REGION", "eu-west-1"), ("SERVICE", "es")]);
        let domain = Arc::new(Domain::connect(&settings, provider).unwrap());
        let delivery = Delivery::new(Arc::clone(&domain), limits, gzip);
        Self { stand_in, domain, delivery }
    }

    /// Delivers documents with all the time that they may need.
    pub(crate) async fn deliver(&self, documents: Vec<Document>) -> Report {
        let deadline = Instant::now() + Duration::from_mins(1);
        patiently(self.delivery.run(documents, &degraded, None, deadline)).await
    }

    /// The numbers of all documents in the index, and whether each is degraded, as soon as the domain behaves again.
    pub(crate) async fn indexed(&self) -> BTreeMap<u64, bool> {
        self.stand_in.clear_faults();
        let path = "/cwl-*/_search?size=100000";
        let reply = self.domain.send(Method::GET, path, Body::default(), Duration::from_secs(10)).await.unwrap();
        let reply: Value = serde_json::from_slice(&reply.body).unwrap();
        let hits = reply["hits"]["hits"].as_array().unwrap();
        let sources = hits.iter().map(|hit| &hit["_source"]);
        let indexed: BTreeMap<_, _> =
            sources.map(|source| (source["number"].as_u64().unwrap(), source.get("reason").is_some())).collect();
        assert_eq!(indexed.len(), hits.len(), "a document is there twice");
        indexed
    }
}

/// Settings that say this.
pub(crate) fn settings(variables: &[(&str, &str)]) -> Settings {
    let value = |name: &str| variables.iter().find(|(variable, _)| *variable == name).map(|(_, value)| *value);
    Settings::read(|name| value(name).map(str::to_owned)).unwrap()
}

/// Documents numbered from 0, of about this many bytes.
pub(crate) fn documents(count: usize, bytes: usize) -> Vec<Document> {
    (0..count).map(|number| with(number, &json!({ "number": number, "padding": "x".repeat(bytes) }))).collect()
}

/// What is made of a document that does not fit.
pub(crate) fn degraded(number: usize, reason: &str) -> Document {
    with(number, &json!({ "number": number, "reason": reason }))
}

fn with(number: usize, source: &Value) -> Document {
    let source = Bytes::from(source.to_string());
    Document { index: format!("cwl-2026.01.{:02}", 1 + number % 2), id: Some(number.to_string()), source }
}

/// What the stand-in accepts by default.
pub(crate) fn signing_key() -> SharedCredentialsProvider {
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    SharedCredentialsProvider::new(Credentials::new("AKIDEXAMPLE", secret, None, None, "test"))
}

/// Ends a test that would hang. Nothing waits for this long unless something is broken.
pub(crate) async fn patiently<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(30), future).await.expect("this takes too long")
}
