//! The access log of a session, indexed for the dashboard *Who looked*.

use fake_domain::FakeDomain;
use hyper::Response;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;
use trailgate_testkit::{AWS_KEY, program};

use super::session::STEP;
use crate::program::Program;
use crate::roles::{connect, entry};
use crate::support::{Connection, json, request};

/// Returns the entries of two other clients: one with full access, and one that reads.
pub(super) fn others() -> String {
    entry(2, "Head office", "access = \"full\"") + &entry(3, "Contractor", "")
}

/// Sends requests of other clients, also of one that is not listed, and replaces the access log in the domain by the
/// lines of all requests so far. `open` is the same domain for unsigned requests. Returns the number of lines.
pub(super) async fn index_own_lines(proxy: &mut Program, domain: &FakeDomain, open: &FakeDomain) -> usize {
    for (client, method, target) in [
        (2, "PUT", "/scratch/note/1"),
        (2, "DELETE", "/scratch"),
        (3, "GET", "/cwl-*/_search"),
        (3, "DELETE", "/cwl-*"),
        (4, "GET", "/cwl-*/_search"),
        // The last line.
        (2, "GET", LAST),
    ] {
        let body = if method == "PUT" { "{}" } else { "" };
        let response =
            connect(proxy.address, client).await.send(request(method, target, &[JSON], body.to_owned())).await;
        assert!(!response.status().is_server_error(), "{method} {target}: {response:?}");
    }
    let mut lines = Vec::new();
    while lines.last().is_none_or(|line: &Value| line["target"] != LAST) {
        lines.push(proxy.access_line().await);
    }
    let file = proxy.file("own.log");
    let texts: Vec<_> = lines.iter().map(Value::to_string).collect();
    std::fs::write(&file, texts.join("\n")).unwrap();

    assert!(ask(open, "DELETE", "/gate-*").await.status().is_success());
    let mut load = Command::new(program("trailgate-ingest").unwrap());
    load.args(["load", "--endpoint", &domain.url(), "--region", "eu-west-1", "--service", "es", &file]);
    let load = load.env_clear().envs(AWS_KEY).env("ACCESS_LOG", "index").current_dir(proxy.folder.path()).output();
    let loaded = timeout(STEP, load).await.unwrap().unwrap();
    assert!(loaded.status.success(), "{loaded:?}");
    ask(open, "POST", "/gate-*/_refresh").await;
    assert_eq!(json(&ask(open, "GET", "/gate-*/_count").await)["count"], lines.len());
    lines.len()
}

async fn ask(domain: &FakeDomain, method: &str, target: &str) -> Response<bytes::Bytes> {
    let url = domain.url();
    let address = url.trim_start_matches("http://").parse().unwrap();
    Connection::open(address).await.send(request(method, target, &[], String::new())).await
}

const LAST: &str = "/_cluster/health?last";

const JSON: (&str, &str) = ("content-type", "application/json");
