mod read_grant;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use fake_domain::{Backend, Options};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::support::{Rig, Setup};

/// A real server on loopback; it ends when this is dropped.
struct Engine {
    _child: Child,
    _data: tempfile::TempDir,
    port: u16,
}

impl Engine {
    async fn start(name: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        // Free at this moment. An engine cannot pick a port and say which.
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let child = Command::new(engines().join("run.sh"))
            .args([name, &port.to_string(), &data.path().display().to_string()])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { _child: child, _data: data, port }
    }

    /// A gate in front of it, once it answers.
    async fn rig(&self) -> Rig {
        let elasticsearch = format!("http://127.0.0.1:{}", self.port).parse().unwrap();
        let backend = Backend::PassOn { elasticsearch, kibana: None };
        let rig = Rig::with(Setup { domain: Options { backend, ..Options::default() }, ..Setup::default() }).await;
        let is_ready = async {
            while rig.get("/_cluster/health?wait_for_status=yellow").await.status() != 200 {
                // Nothing tells when a server is up but the server.
                sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(START, is_ready).await.expect("the engine starts in time");
        rig
    }
}

fn engines() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines")
}

/// Runs the engine's official client against the gate in front of the engine: every request is signed by the gate,
/// checked by the stand-in, and answered by the real server.
async fn official_client_reads_back_what_it_wrote(name: &str) {
    let engine = Engine::start(name).await;
    let rig = engine.rig().await;
    let setup = Command::new(engines().join("clients/setup.sh")).status().await.unwrap();
    assert!(setup.success(), "the clients cannot be installed");
    let script = engines().join("clients/clients.py");
    let run = Command::new("python3").arg(script).args([name, &format!("http://{}", rig.address)]).status();
    assert!(timeout(RUN, run).await.expect("the client ends in time").unwrap().success());

    let seen = rig.domain.seen();
    let refused: Vec<_> = seen.iter().filter(|seen| seen.refusal.is_some()).map(|seen| &seen.target).collect();
    assert!(seen.len() > 1000 && refused.is_empty(), "{} requests, refused: {refused:?}", seen.len());
}

/// An engine that was never prepared is downloaded and built first.
const START: Duration = Duration::from_mins(5);
const RUN: Duration = Duration::from_mins(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn elasticsearch_5_and_its_client_work_through_the_gate() {
    official_client_reads_back_what_it_wrote("elasticsearch-5.6").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn elasticsearch_7_and_its_client_work_through_the_gate() {
    official_client_reads_back_what_it_wrote("elasticsearch-7.10").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn opensearch_2_and_its_client_work_through_the_gate() {
    official_client_reads_back_what_it_wrote("opensearch-2.19").await;
}
