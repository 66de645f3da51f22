use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use trailgate::credentials;
use trailgate::endpoint::Endpoint;
use trailgate::exchange::Exchange;
use trailgate::sign::Signer;
use trailgate::upstream::{self, Upstream, UpstreamLimits};
use trailgate_domain::{Backend, Options};
use trailgate_ingest::domain::{Body, Domain};

/// A stand-in and the signed way to it.
pub(crate) struct Rig {
    pub(crate) stand_in: trailgate_domain::Domain,
    pub(crate) domain: Domain,
}

impl Rig {
    pub(crate) async fn new(backend: Backend) -> Self {
        let stand_in = trailgate_domain::Domain::start(Options { backend, ..Options::default() }).await.unwrap();
        let endpoint = Endpoint::parse(&stand_in.url()).unwrap();
        let key = Credentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", None, None, "test");
        let (cache, renewal) = credentials::cache(SharedCredentialsProvider::new(key));
        tokio::spawn(renewal.run());
        let signer = Signer::new(endpoint.authority(), "eu-west-1", "es");
        let limits = UpstreamLimits { connect_timeout: PATIENCE, response_timeout: PATIENCE, pool_idle: 4 };
        let upstream = Upstream::new(endpoint, upstream::roots(None).unwrap(), limits, Arc::default());
        Self { stand_in, domain: Domain::new(Exchange::new(upstream, signer, cache, Arc::default())) }
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<String>) -> (StatusCode, Value) {
        let body = Body { bytes: body.into().into(), content_type: "application/json", is_gzip: false };
        let reply = self.domain.send(method, path, body, PATIENCE).await.unwrap();
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
}

/// A real server behind a stand-in; it ends when this is dropped.
pub(crate) struct Engine {
    pub(crate) rig: Rig,
    _child: Child,
    _data: tempfile::TempDir,
}

impl Engine {
    pub(crate) async fn start(name: &str, settings: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        // Free at this moment. An engine cannot pick a port and say which.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let child = Command::new(project().join("tests/engines/run.sh"))
            .args([name, &port.to_string(), &data.path().display().to_string()])
            .args(settings)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let elasticsearch = format!("http://127.0.0.1:{port}").parse().unwrap();
        let rig = Rig::new(Backend::PassOn { elasticsearch, kibana: None }).await;
        let is_ready = async {
            while rig.send(Method::GET, "/_cluster/health?wait_for_status=yellow", "").await.0 != StatusCode::OK {
                // Nothing tells when a server is up but the server.
                sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(START, is_ready).await.expect("the engine starts in time");
        Self { rig, _child: child, _data: data }
    }
}

/// The project's top folder.
pub(crate) fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// An engine that was never prepared is downloaded and built first.
const START: Duration = Duration::from_mins(5);
