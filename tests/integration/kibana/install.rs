//! The dashboards' way into a real Kibana through the gate.

use fake_domain::{FakeDomain, Options};
use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;
use trailgate_testkit::{KibanaStack, program};

use super::session::STEP;
use super::{let_in, reader};
use crate::program::Program;
use crate::support::{Connection, allow, json, request};

/// Runs `trailgate-ingest dashboards` and returns its output, or its errors if it fails.
async fn install(gate: &Program) -> Result<String, String> {
    let endpoint = format!("http://{}", gate.address);
    let mut command = Command::new(program("trailgate-ingest").unwrap());
    let run = command.args(["dashboards", "--unsigned", "--endpoint", &endpoint]).output();
    let output = timeout(STEP, run).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

/// Returns the number of dashboards that Kibana's own page finds.
async fn dashboards(gate: &Program) -> u64 {
    let target = "/_plugin/kibana/elasticsearch/.kibana/dashboard/_search?size=0";
    let headers = [("content-type", "application/json"), ("kbn-version", "5.1.1")];
    let search = request("POST", target, &headers, json!({ "query": { "match_all": {} } }).to_string());
    json(&Connection::open(gate.address).await.send(search).await)["hits"]["total"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Node"]
async fn dashboards_install_through_the_proxy_as_the_grant_permits() {
    let stack = KibanaStack::start(|_| ()).await.unwrap();
    let domain = FakeDomain::start(Options { backend: stack.backend(), ..Options::default() }).await.unwrap();
    let mut gate = Program::asking_for_engine(&domain).await;

    // Kibana 5 keeps its objects in an index, and many at once could be of any.
    let_in(&mut gate, &reader()).await;
    let refused = install(&gate).await.unwrap_err();
    assert!(refused.contains("trailgate-ingest: PUT /.kibana/_mapping/search: 403 Forbidden"), "{refused}");
    assert!(refused.contains("read_only_grant"), "{refused}");
    assert_eq!(dashboards(&gate).await, 0);

    let_in(&mut gate, &allow("127.0.0.1")).await;
    let installed = install(&gate).await.unwrap();
    assert!(installed.contains(" objects installed, 0 replaced, 0 there already\n"), "{installed}");
    assert!(installed.ends_with("the index pattern is the default one now\n"), "{installed}");
    assert_eq!(dashboards(&gate).await, 4);

    // To see that all are there changes nothing.
    let_in(&mut gate, &reader()).await;
    let again = install(&gate).await.unwrap();
    assert!(again.contains(": 0 objects installed, 0 replaced, "), "{again}");
}
