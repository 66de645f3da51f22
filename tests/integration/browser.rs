//! The proxy with foreign clients: Chromium, curl, OpenSSL and h2load.

use std::process::Stdio;

use bytes::Bytes;
use fake_domain::{FakeDomain, Options};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use trailgate_testkit::repository;

use crate::admin::ask;
use crate::program::Program;
use crate::support::{Rig, Setup, patiently, request};
use crate::tls::secure;

/// Asserts that a program succeeds, and returns its output.
async fn output(command: &mut Command) -> String {
    let output = patiently(command.kill_on_drop(true).output()).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn install() {
    output(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(repository("tests/browser"))).await;
}

fn page(name: &str, response: &Response<Bytes>) -> Value {
    let header = |(name, value): (&hyper::header::HeaderName, &hyper::header::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap().into())
    };
    let headers: Map<String, Value> = response.headers().iter().map(header).collect();
    json!({ "name": name, "headers": headers, "body": std::str::from_utf8(response.body()).unwrap() })
}

/// Checks pages in Chromium, and leaves pictures of them.
async fn check_pages(pages: &[Value]) {
    install().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pages.json");
    std::fs::write(&file, json!(pages).to_string()).unwrap();
    let screenshots = repository("target/pages");
    std::fs::create_dir_all(&screenshots).unwrap();
    let mut check = Command::new("node");
    check.arg(repository("tests/browser/pages.mjs")).arg(file).arg(screenshots);
    assert_eq!(output(&mut check).await.trim(), "[]");
}

#[tokio::test]
#[ignore = "needs Node and Chromium"]
async fn status_page_is_valid_and_accessible() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    assert_eq!(program.status().await, StatusCode::OK);
    let refused = Program::with(&domain, "203.0.113.7", |_| {}).await;
    assert_eq!(refused.status().await, StatusCode::FORBIDDEN);
    let pages =
        [page("status", &ask(program.admin, "/").await), page("status-refused", &ask(refused.admin, "/").await)];
    check_pages(&pages).await;
}

#[tokio::test]
#[ignore = "needs Node and Chromium"]
async fn rejection_pages_are_valid_and_accessible() {
    let entry = |address: &str, more: &str| format!("[[allow]]\ncidr = \"{address}\"\nname = \"a\"\n{more}\n");
    let rig = Rig::with(Setup {
        config: "[listen]\nhosts = [\"gate.test\"]\ntrusted_proxies = [\"127.0.0.1\"]\n[reject]\ncontact = \"mailto:audit@example.com\"\n"
            .to_owned(),
        allow: [
            entry("203.0.113.8/32", "expires = 2026-11-28T10:00:00Z"),
            entry("203.0.113.9/32", "access = \"read\""),
            entry("203.0.113.10/32", "access = \"full\""),
        ]
        .concat(),
        ..Setup::default()
    })
    .await;
    let mut pages = Vec::new();
    for (name, client, method, path, more) in [
        ("not-listed", "203.0.113.7", "GET", "/", ("x-a", "a")),
        ("expired", "203.0.113.8", "GET", "/", ("x-a", "a")),
        ("read-only", "203.0.113.9", "DELETE", "/cwl-2026.11.29/_doc/%3Cscript%3E", ("x-a", "a")),
        ("long-path", "203.0.113.9", "DELETE", &format!("/{}", "x".repeat(5000)), ("x-a", "a")),
        ("unknown-host", "203.0.113.10", "GET", "/", ("x-forwarded-host", "evil.test")),
        ("cross-site", "203.0.113.10", "POST", "/", ("origin", "https://evil.test")),
        ("malformed-target", "203.0.113.10", "GET", "/..", ("x-a", "a")),
    ] {
        let headers = [("accept", "text/html"), ("x-forwarded-for", client), more];
        let response = rig.send(request(method, path, &headers, "")).await;
        let line = rig.access_line().await;
        assert!(line["status"].as_u64() >= Some(400), "{name}: {line}");
        pages.push(page(name, &response));
    }
    let down = Rig::with(Setup { endpoint: Some("http://127.0.0.1:9".to_owned()), ..Setup::default() }).await;
    pages.push(page("unreachable", &down.send(request("GET", "/a", &[("accept", "text/html")], "")).await));
    check_pages(&pages).await;
}

#[tokio::test]
#[ignore = "needs Node and Chromium"]
async fn browser_loads_page_over_http_2_while_handshake_stalls() {
    let (rig, _) = secure(Setup::default()).await;
    rig.domain.load("cwl-2026.01.01", [serde_json::json!({ "@timestamp": "2026-01-01T00:00:00Z", "eventName": "a" })]);
    let mut stalled = rig.open().await;
    stalled.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
    install().await;
    let url = format!("https://{}/", rig.address);
    let seen = output(Command::new("node").arg(repository("tests/browser/see.mjs")).args([&url, "tbody tr"])).await;
    let seen: Value = serde_json::from_str(&seen).unwrap();
    assert_eq!(seen["url"], format!("{url}_plugin/kibana/"));
    assert_eq!((&seen["title"], &seen["shown"]), (&"CloudTrail events".into(), &1.into()));
    assert_eq!(seen["failed"], serde_json::json!([]));
    let protocols = seen["protocols"].as_array().unwrap();
    assert!(!protocols.is_empty() && protocols.iter().all(|protocol| protocol == "h2"), "{seen}");
}

#[tokio::test]
#[ignore = "needs curl"]
async fn curl_is_served_by_the_http_version_it_requests() {
    let (rig, _) = secure(Setup::default()).await;
    let port = rig.address.port();
    for (version, expected) in [("--http2", "2 200"), ("--http1.1", "1.1 200")] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}", version]);
        curl.args(["--resolve", &format!("gate.test:{port}:127.0.0.1"), "--cacert"]);
        curl.arg(rig.folder.path().join("cert.pem")).arg(format!("https://gate.test:{port}/"));
        assert_eq!(output(&mut curl).await, expected);
    }
}

#[tokio::test]
#[ignore = "needs OpenSSL"]
async fn openssl_client_resumes_its_session() {
    let (rig, _) = secure(Setup::default()).await;
    let session = rig.folder.path().join("session.pem");
    for version in ["-tls1_2", "-tls1_3"] {
        for (option, expected) in [("-sess_out", "New, TLSv1."), ("-sess_in", "Reused, TLSv1.")] {
            let mut client = Command::new("openssl");
            client.args(["s_client", version, "-ign_eof", "-connect", &rig.address.to_string(), option]).arg(&session);
            let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
            let request = b"GET / HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n\r\n";
            client.stdin.take().unwrap().write_all(request).await.unwrap();
            let output = patiently(client.wait_with_output()).await.unwrap();
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(expected) && text.contains("HTTP/1.1 200 OK"), "{version} {option}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs h2load"]
async fn h2load_reports_no_failed_request() {
    let (rig, _) = secure(Setup::default()).await;
    let url = format!("https://{}/", rig.address);
    let report = output(Command::new("h2load").args(["-n", "2000", "-c", "20", "-m", "10", &url])).await;
    assert!(report.contains("requests: 2000 total, 2000 started, 2000 done, 2000 succeeded, 0 failed"), "{report}");
    assert!(report.contains("Application protocol: h2"), "{report}");
}
