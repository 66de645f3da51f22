//! Installs the dashboards in a real Kibana through the proxy.

use fake_domain::{FakeDomain, Options};
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::timeout;
use trailgate_testkit::{KibanaStack, program};

use super::session::STEP;
use super::{put_allowlist, reader};
use crate::program::Program;
use crate::support::{Connection, allow, json, request};

/// Runs `trailgate-ingest dashboards`, and returns its output, or its exit code and all that it prints.
async fn install(proxy: &Program) -> Result<String, (Option<i32>, String)> {
    let endpoint = format!("http://{}", proxy.address);
    let mut command = Command::new(program("trailgate-ingest").unwrap());
    let run = command.args(["dashboards", "--unsigned", "--endpoint", &endpoint]).output();
    let output = timeout(STEP, run).await.unwrap().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(output.stdout), text(output.stderr));
    if output.status.success() { Ok(stdout) } else { Err((output.status.code(), stdout + &stderr)) }
}

/// Returns the dashboards that Kibana's own page finds.
async fn dashboards(proxy: &Program) -> Vec<Value> {
    let target = "/_plugin/kibana/elasticsearch/.kibana/dashboard/_search?size=100";
    let headers = [("content-type", "application/json"), ("kbn-version", "5.1.1")];
    let search = request("POST", target, &headers, json!({ "query": { "match_all": {} } }).to_string());
    json(&Connection::open(proxy.address).await.send(search).await)["hits"]["hits"].as_array().unwrap().clone()
}

/// Changes the title of a dashboard.
async fn change(proxy: &Program, dashboard: &Value) {
    let target = format!("/.kibana/dashboard/{}/_update?refresh=true", dashboard["_id"].as_str().unwrap());
    let body = json!({ "doc": { "title": "Without root's calls" } }).to_string();
    let update = request("POST", &target, &[("content-type", "application/json")], body);
    assert_eq!(json(&Connection::open(proxy.address).await.send(update).await)["result"], "updated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Node"]
async fn dashboards_install_through_the_proxy_as_the_grant_permits() {
    let stack = KibanaStack::start(|_| ()).await.unwrap();
    let domain = FakeDomain::start(Options { backend: stack.backend(), ..Options::default() }).await.unwrap();
    let mut proxy = Program::detecting_engine(&domain).await;

    // Kibana 5 keeps its objects in an index, and many at once could be of any.
    put_allowlist(&mut proxy, &reader()).await;
    let (code, refused) = install(&proxy).await.unwrap_err();
    assert_eq!(code, Some(1), "{refused}");
    assert!(refused.contains("trailgate-ingest: PUT /.kibana/_mapping/search: 403 Forbidden"), "{refused}");
    assert!(refused.contains("read_only_grant"), "{refused}");
    assert_eq!(dashboards(&proxy).await, Vec::<Value>::new());

    put_allowlist(&mut proxy, &allow("127.0.0.1")).await;
    let installed = install(&proxy).await.unwrap();
    assert!(installed.contains(" objects installed, 0 replaced, 0 unchanged\n"), "{installed}");
    assert!(installed.ends_with("set the index pattern as the default\n"), "{installed}");
    let found = dashboards(&proxy).await;
    assert_eq!(found.len(), 4);

    // To see that all are there changes nothing.
    put_allowlist(&mut proxy, &reader()).await;
    let again = install(&proxy).await.unwrap();
    assert!(again.contains(": 0 objects installed, 0 replaced, "), "{again}");

    put_allowlist(&mut proxy, &allow("127.0.0.1")).await;
    change(&proxy, &found[0]).await;
    let (code, changed) = install(&proxy).await.unwrap_err();
    assert_eq!(code, Some(3), "{changed}");
    assert!(changed.contains("kept, because a user changed it: dashboard "), "{changed}");
}
