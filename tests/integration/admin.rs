/// Metrics, and access to them.
pub(crate) mod metrics;

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;

use bytes::Bytes;
use fake_domain::{FakeDomain, Fault, Options, Times};
use hyper::header::{HOST, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::sync::Notify;

use self::metrics::{metrics, reaches, value};
use crate::program::{Program, command, output, path};
use crate::support::{Connection, allow, get, header, json, patiently, request};

/// Requests `target` from an admin address.
pub(crate) async fn ask(admin: SocketAddr, target: &str) -> Response<Bytes> {
    send(admin, "GET", target).await
}

async fn send(admin: SocketAddr, method: &str, target: &str) -> Response<Bytes> {
    let mut request = request(method, target, &[], "");
    request.headers_mut().insert(HOST, HeaderValue::from_static("localhost"));
    Connection::open(admin).await.send(request).await
}

/// Returns the status and the lines of `/readyz`.
async fn readiness(program: &Program) -> (StatusCode, Vec<String>) {
    let response = ask(program.admin, "/readyz").await;
    let text = String::from_utf8(response.body().to_vec()).unwrap();
    (response.status(), text.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn liveness_is_ok_while_the_domain_fails() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    domain.fault(Fault::BreakOff, Times::UntilCleared);
    let program = Program::start(&domain).await;
    assert_eq!(ask(program.admin, "/healthz").await.status(), StatusCode::OK);
    assert!(domain.seen().is_empty());
}

#[tokio::test]
async fn idle_proxy_is_ready_after_one_request_for_all_probes() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    let admin = program.admin;
    let asked = (0..10).map(|_| tokio::spawn(async move { ask(admin, "/readyz").await.status() }));
    for asked in asked.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap(), StatusCode::OK);
    }
    let expected = ["credentials: ok", "allowlist: ok", "upstream: ok"].map(str::to_owned).to_vec();
    assert_eq!(readiness(&program).await, (StatusCode::OK, expected));
    let seen = domain.seen();
    assert_eq!((seen.len(), &seen[0].refusal), (1, &None));
}

#[tokio::test]
async fn response_to_a_client_makes_the_proxy_ready() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    assert_eq!(program.status().await, StatusCode::OK);
    assert_eq!(readiness(&program).await.0, StatusCode::OK);
    assert_eq!(domain.seen().len(), 1);
}

#[tokio::test]
async fn failed_client_request_makes_readiness_probe_again() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    assert_eq!(program.status().await, StatusCode::OK);
    domain.fault(Fault::Garbage("no HTTP\r\n\r\n".into()), Times::UntilCleared);
    assert_eq!(program.status().await, StatusCode::BAD_GATEWAY);
    let (status, lines) = readiness(&program).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(lines[2].starts_with("upstream: the domain broke off, or its response is malformed"), "{lines:?}");
}

#[tokio::test]
async fn domain_that_answers_503_makes_the_proxy_unready() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    domain.fault(Fault::status(503, "{}"), Times::UntilCleared);
    let program = Program::start(&domain).await;
    let (status, lines) = readiness(&program).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(lines[2], "upstream: the domain answers 503 Service Unavailable");
}

#[tokio::test]
async fn credentials_rejected_by_the_domain_make_proxy_unready() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::with(&domain, "127.0.0.1", |command| {
        command.env("AWS_ACCESS_KEY_ID", "AKIDUNKNOWN");
    })
    .await;
    let (status, lines) = readiness(&program).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(lines[2], "upstream: the domain did not accept the credentials");
    assert_ne!(value(&metrics(&program).await, "trailgate_upstream_forbidden_total{kind=\"credentials\"}"), "0");
}

#[tokio::test]
async fn proxy_without_credentials_is_unready() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::with(&domain, "127.0.0.1", |command| {
        command.env_remove("AWS_ACCESS_KEY_ID").env("AWS_EC2_METADATA_DISABLED", "true");
    })
    .await;
    let (status, lines) = readiness(&program).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(lines[0], "credentials: none were found");
    let metrics = metrics(&program).await;
    assert_eq!(value(&metrics, "trailgate_credentials_valid"), "0");
    assert_eq!(value(&metrics, "trailgate_credentials_expiry_timestamp_seconds"), "0.0");
}

#[tokio::test]
async fn invalid_allowlist_makes_the_proxy_unready_until_corrected() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::start(&domain).await;
    program.replace_allowlist("[[allow]]\ncidr = \"203.0.113.7/8\"\nname = \"typo\"\n");
    program.event("allowlist not reloaded").await;
    let (status, lines) = readiness(&program).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(lines[1].starts_with("allowlist: an older list is in effect: "), "{lines:?}");
    assert!(lines[1].contains("allowlist.toml:2: cidr"), "{lines:?}");
    program.replace_allowlist("[[allow]]\ncidr = \"127.0.0.0/8\"\nname = \"all\"\n");
    program.event("allowlist reloaded").await;
    assert_eq!(readiness(&program).await.0, StatusCode::OK);
    let metrics = metrics(&program).await;
    for (series, expected) in [
        ("trailgate_allowlist_reloads_total", "1"),
        ("trailgate_allowlist_reload_failures_total", "1"),
        ("trailgate_allowlist_current", "1"),
        ("trailgate_allowlist_entries{state=\"in_force\"}", "1"),
    ] {
        assert_eq!(value(&metrics, series), expected, "{series}");
    }
}

#[tokio::test]
async fn draining_proxy_is_unready() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::start(&domain).await;
    let release = Arc::new(Notify::new());
    domain.fault(Fault::HoldHead(Arc::clone(&release)), Times::Once);
    let address = program.address;
    let sent = tokio::spawn(async move { Connection::open(address).await.send(get("/")).await });
    domain.wait_for_requests(1).await;
    program.signal("-TERM").await;
    program.event("draining").await;
    let (status, lines) = readiness(&program).await;
    assert_eq!((status, lines[3].as_str()), (StatusCode::SERVICE_UNAVAILABLE, "listening: the proxy is draining"));
    release.notify_one();
    assert_eq!(sent.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn dns_rebinding_to_the_admin_address_is_rejected() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    for target in ["/healthz", "/readyz", "/metrics", "/status", "/status.json"] {
        let request = request("GET", target, &[], "");
        assert_eq!(request.headers()["host"], "gate.test");
        let response = Connection::open(program.admin).await.send(request).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{target}");
    }
    assert!(domain.seen().is_empty());
}

#[tokio::test]
async fn admin_rejects_other_methods_and_unknown_paths() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    assert_eq!(send(program.admin, "POST", "/healthz").await.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(program.admin, "/_search").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn status_lists_rejected_clients_and_the_command_to_allow() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::with(&domain, "203.0.113.7", |_| {}).await;
    assert_eq!(program.status().await, StatusCode::FORBIDDEN);
    assert_eq!(program.status().await, StatusCode::FORBIDDEN);
    reaches(&program, "trailgate_requests_total{outcome=\"client_not_allowed\",status=\"4xx\"}", "2").await;

    let status = json(&ask(program.admin, "/status.json").await);
    assert_eq!(status["ready"], true);
    assert_eq!((&status["refused"][0]["address"], &status["refused"][0]["count"]), (&"127.0.0.1".into(), &2.into()));
    for period in ["hour", "day"] {
        let points = status["history"][period].as_array().unwrap();
        let sum = |part: &str| points.iter().map(|point| point[part].as_u64().unwrap()).sum::<u64>();
        assert_eq!((sum("requests"), sum("rejected"), sum("failed")), (2, 2, 0), "{period}");
    }
    assert_eq!(status["credentials"]["source"], "the environment");
    assert_eq!((&status["allowlist"]["entries"], &status["allowlist"]["expired"]), (&1.into(), &0.into()));

    let (code, text) = printed(&program, &[]).await;
    assert_eq!(code, Some(0));
    assert!(text.starts_with("ready, version "), "{text}");
    assert!(text.contains("  127.0.0.1, 2 times, last "), "{text}");
    let file = path(&program.folder, "allowlist.toml");
    assert!(text.ends_with(&format!("    trailgate allow add 127.0.0.1 --name NAME --file {file}\n")), "{text}");

    let (code, text, _) = output(&["top", "--once", "--config", &path(&program.folder, "status.toml")]).await;
    assert_eq!(code, Some(0));
    assert!(text.contains("\nrejected ") && text.contains("  trailgate allow add 127.0.0.1 --name NAME"), "{text}");

    let (code, text) = printed(&program, &["--json"]).await;
    let printed: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &printed["refused"]), (Some(0), &status["refused"]));

    let page = ask(program.admin, "/status?paused").await;
    assert_eq!(header(&page, "refresh"), None);
    let page = ask(program.admin, "/status").await;
    assert_eq!(header(&page, "refresh"), Some("15"));
    let policy = header(&page, "content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = String::from_utf8(page.body().to_vec()).unwrap();
    assert!(page.contains("<strong>127.0.0.1</strong> 2 times"), "{page}");
}

#[tokio::test]
async fn status_needs_no_command_for_a_client_that_is_allowed_by_now() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::with(&domain, "203.0.113.7", |_| {}).await;
    assert_eq!(program.status().await, StatusCode::FORBIDDEN);

    for (end, grant) in [("expires = 2026-01-01T00:00:00Z\n", "expired"), ("", "in_effect")] {
        program.replace_allowlist(&(allow("127.0.0.1") + end));
        program.event("allowlist reloaded").await;
        let status = json(&ask(program.admin, "/status.json").await);
        assert_eq!(status["refused"][0]["grant"], grant);
    }
}

#[tokio::test]
async fn status_marks_a_rejected_client_that_forwards_others() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::with(&domain, "203.0.113.7", |_| {}).await;
    let forwarded = request("GET", "/", &[("x-forwarded-for", "198.51.100.4")], "");
    assert_eq!(Connection::open(program.address).await.send(forwarded).await.status(), StatusCode::FORBIDDEN);
    let status = json(&ask(program.admin, "/status.json").await);
    assert_eq!(
        (&status["refused"][0]["address"], &status["refused"][0]["forwards"]),
        (&"127.0.0.1".into(), &true.into())
    );
}

#[tokio::test]
async fn untrusted_proxy_on_this_machine_is_warned_of() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::start(&domain).await;
    let forwarded = request("GET", "/", &[("x-forwarded-for", "198.51.100.4")], "");
    assert_eq!(Connection::open(program.address).await.send(forwarded).await.status(), StatusCode::OK);
    let warning = program.event("a proxy on this machine is not in listen.trusted_proxies").await;
    assert_eq!(warning["client"], "127.0.0.1");
}

/// Returns the exit code and the output of `trailgate status` for a program that listens on a random admin port.
async fn printed(program: &Program, arguments: &[&str]) -> (Option<i32>, String) {
    let config = path(&program.folder, "status.toml");
    let text = std::fs::read_to_string(path(&program.folder, "trailgate.toml")).unwrap();
    let admin = format!("[admin]\naddress = \"{}\"", program.admin);
    std::fs::write(&config, text.replace("[admin]\naddress = \"127.0.0.1:0\"", &admin)).unwrap();
    let (code, stdout, stderr) = output(&[&["status", "--config", &config], arguments].concat()).await;
    assert_eq!(stderr, "");
    (code, stdout)
}

#[tokio::test]
async fn status_of_an_unready_proxy_exits_with_1() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    domain.fault(Fault::status(503, "{}"), Times::UntilCleared);
    let program = Program::start(&domain).await;
    let (code, text) = printed(&program, &[]).await;
    assert_eq!(code, Some(1));
    assert!(text.starts_with("not ready"), "{text}");
    assert!(text.contains("\n  upstream: the domain answers 503 Service Unavailable\n"), "{text}");
}

#[tokio::test]
async fn status_without_a_running_proxy_names_the_address() {
    let folder = crate::program::files("https://a.test", "");
    let config = path(&folder, "trailgate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("[admin]\naddress = \"127.0.0.1:0\"", "[admin]\naddress = \"unix:nobody.sock\""),
    )
    .unwrap();
    let (code, stdout, stderr) = output(&["status", "--config", &config]).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let expected =
        format!("trailgate: cannot get the status of a proxy at unix:{}: No such file", path(&folder, "nobody.sock"));
    assert!(stderr.starts_with(&expected), "{stderr}");
}

#[tokio::test]
async fn admin_address_accepts_a_unix_socket() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let folder = crate::program::files(&domain.url(), &crate::support::allow("127.0.0.1"));
    let config = path(&folder, "trailgate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let (listen, admin) = text.rsplit_once("127.0.0.1:0").unwrap();
    std::fs::write(&config, format!("{listen}unix:admin.sock{admin}")).unwrap();
    let mut child = command(&["run", "--config", &config]).stderr(Stdio::piped()).spawn().unwrap();
    let status = patiently(async {
        loop {
            let (code, stdout, _) = output(&["status", "--config", &config]).await;
            if code == Some(0) {
                return stdout;
            }
        }
    })
    .await;
    assert!(status.starts_with("ready"), "{status}");
    child.kill().await.unwrap();
}
