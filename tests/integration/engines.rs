use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use hyper::Response;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use trailgate_domain::{Backend, Options};

use crate::support::{Rig, Setup, allow, json, request};

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

/// Asks for every route there is under a read grant, and compares what the engine holds before and after.
async fn a_read_grant_changes_nothing(name: &str, document: &str) {
    let engine = Engine::start(name).await;
    let rig = engine.rig().await;
    let write = request("PUT", &format!("{document}?refresh=true"), &[JSON], "{\"eventName\":\"DeleteTrail\"}");
    assert_eq!(rig.send(write).await.status(), 201);

    rig.allow(&allow("127.0.0.1").replace("full", "read"));
    let before = state(&rig).await;
    let mut passed = 0;
    for line in include_str!("../data/kibana-traffic/routes.tsv").lines().skip(1) {
        let (method, rest) = line.split_once('\t').unwrap();
        let path = rest.split('\t').next().unwrap().replace("{index}", "cwl-2023.07.10").replace(['{', '}'], "");
        for body in ["", "{}", "{\"eventName\":\"Forged\"}"] {
            let response = rig.send(request(method, &path, &[JSON], body)).await;
            // `HEAD` gives no reason.
            let is_refused = if method == "HEAD" { response.status() == 403 } else { is_read_only_grant(&response) };
            passed += u32::from(!is_refused);
        }
    }
    assert!(passed > 500, "{passed} requests passed");
    assert_eq!(state(&rig).await, before);
}

/// All that a reader could have changed, as the engine tells it.
async fn state(rig: &Rig) -> Vec<String> {
    let mut state = Vec::new();
    for target in STATE {
        let response = rig.get(target).await;
        assert!(!is_read_only_grant(&response), "{target}");
        state.push(String::from_utf8_lossy(response.body()).into_owned());
    }
    state
}

fn is_read_only_grant(response: &Response<Bytes>) -> bool {
    response.status() == 403 && json(response)["error"]["type"] == "read_only_grant"
}

const JSON: (&str, &str) = ("content-type", "application/json");

const STATE: [&str; 7] = [
    "/_cat/indices?h=index,status,docs.count,docs.deleted",
    "/_all/_search?sort=_doc&version=true&filter_path=hits.hits",
    "/_mapping",
    "/_settings",
    "/_alias",
    "/_template",
    "/_ingest/pipeline",
];

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn a_read_grant_changes_nothing_on_elasticsearch_5() {
    a_read_grant_changes_nothing("elasticsearch-5.6", "/cwl-2023.07.10/cloudtrail/1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn a_read_grant_changes_nothing_on_elasticsearch_7() {
    a_read_grant_changes_nothing("elasticsearch-7.10", "/cwl-2023.07.10/_doc/1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn a_read_grant_changes_nothing_on_opensearch_2() {
    a_read_grant_changes_nothing("opensearch-2.19", "/cwl-2023.07.10/_doc/1").await;
}
