//! A real server behind a stand-in.

use std::process::Stdio;
use std::time::Duration;

use fake_domain::Backend;
use hyper::{Method, StatusCode};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::rig::{Rig, project, signing_key};

/// A real server behind a stand-in; it ends when this is dropped.
pub(crate) struct Server {
    pub(crate) rig: Rig,
    _child: Child,
    _data: tempfile::TempDir,
}

impl Server {
    pub(crate) async fn start(engine: &str, settings: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let port = free_port().await;
        let child = Command::new(project().join("tests/engines/run.sh"))
            .args([engine, &port.to_string(), &data.path().display().to_string()])
            .args(settings)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let elasticsearch = format!("http://127.0.0.1:{port}").parse().unwrap();
        let rig = Rig::with(Backend::PassOn { elasticsearch, kibana: None }, signing_key()).await;
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

/// A port that is free at this moment, for a program that cannot pick one and say which.
pub(crate) async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// An engine that was never prepared is downloaded and built first.
const START: Duration = Duration::from_mins(5);
