use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use fake_domain::{FakeDomain, Fault, Options, Times};
use hyper::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::ask;
use crate::program::{Program, command, files, path};
use crate::support::{Connection, allow, get, header, json, patiently, request};
use crate::tls::SelfSigned;

pub(crate) async fn metrics(program: &Program) -> String {
    let response = ask(program.admin, "/metrics").await;
    assert_eq!(header(&response, "content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    String::from_utf8(response.body().to_vec()).unwrap()
}

/// Returns the value of a series, written with its labels.
#[track_caller]
pub(crate) fn value<'a>(metrics: &'a str, series: &str) -> &'a str {
    let mut values = metrics.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    values.next().unwrap_or_else(|| panic!("no {series} in\n{metrics}"))
}

/// Waits until a series has a value; a request is counted a moment after its answer is there.
pub(crate) async fn reaches(program: &Program, series: &str, expected: &str) {
    patiently(async {
        while value(&metrics(program).await, series) != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn requests_are_counted_by_outcome_and_status() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    let mut connection = Connection::open(program.address).await;
    assert_eq!(connection.send(get("/")).await.status(), StatusCode::OK);
    assert_eq!(connection.send(get("/nowhere/_doc/1")).await.status(), StatusCode::NOT_FOUND);
    let post = request("POST", "/nowhere/_count", &[("content-type", "application/json")], "{}");
    assert_eq!(connection.send(post).await.status(), StatusCode::NOT_FOUND);
    assert_eq!(connection.send(get("/..")).await.status(), StatusCode::BAD_REQUEST);
    reaches(&program, "trailgate_requests_total{outcome=\"malformed_target\",status=\"4xx\"}", "1").await;
    let metrics = metrics(&program).await;
    for (series, expected) in [
        ("trailgate_requests_total{outcome=\"forwarded\",status=\"2xx\"}", "1"),
        ("trailgate_requests_total{outcome=\"forwarded\",status=\"4xx\"}", "2"),
        ("trailgate_requests_in_flight", "0"),
        ("trailgate_requests_total{outcome=\"client_not_allowed\",status=\"4xx\"}", "0"),
        ("trailgate_request_duration_seconds_count", "4"),
        ("trailgate_upstream_duration_seconds_count", "3"),
        ("trailgate_request_body_bytes_total", "2"),
        ("trailgate_connections", "1"),
        ("trailgate_connections_accepted_total", "1"),
        ("trailgate_upstream_connections", "1"),
        ("trailgate_upstream_connections_opened_total", "1"),
        ("trailgate_upstream_connections_reused_total", "2"),
        ("trailgate_buffered_bytes", "0"),
        ("trailgate_buffer_limit_bytes", "268435456"),
        ("trailgate_log_lines_dropped_total{log=\"access\"}", "0"),
        ("trailgate_credentials_expiry_timestamp_seconds", "inf"),
    ] {
        assert_eq!(value(&metrics, series), expected, "{series}");
    }
}

#[tokio::test]
async fn openmetrics_format_is_served_on_request() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    let accept = [("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];
    let mut request = request("GET", "/metrics", &accept, "");
    request.headers_mut().insert("host", "localhost".parse().unwrap());
    let response = Connection::open(program.admin).await.send(request).await;
    let expected = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(header(&response, "content-type"), Some(expected));
    assert!(response.body().ends_with(b"# EOF\n"));
}

#[tokio::test]
#[ignore = "needs Prometheus"]
async fn metrics_pass_promtool() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    assert_eq!(program.status().await, StatusCode::OK);
    let file = program.folder.path().join("metrics");
    std::fs::write(&file, metrics(&program).await).unwrap();
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(std::fs::File::open(file).unwrap());
    let output = patiently(promtool.output()).await.unwrap();
    let found = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert_eq!((output.status.success(), found.as_str()), (true, ""));
}

#[tokio::test]
async fn upstream_retry_is_counted() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    domain.fault(Fault::BreakOff, Times::Once);
    assert_eq!(program.status().await, StatusCode::OK);
    let metrics = metrics(&program).await;
    assert_eq!(value(&metrics, "trailgate_upstream_retries_total{reason=\"connection_closed\"}"), "1");
}

/// Returns the names of the metrics in `text`.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|byte: char| !byte.is_ascii_alphanumeric() && byte != '_');
    let names = words.filter(|word| word.starts_with("trailgate_"));
    let family = |name: &str| {
        ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name).to_owned()
    };
    names.map(family).collect()
}

#[tokio::test]
async fn metrics_page_rules_and_dashboard_name_existing_metrics() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = Program::start(&domain).await;
    let metrics = metrics(&program).await;
    let series: Vec<_> = metrics.lines().filter(|line| !line.starts_with('#')).collect();
    let mut there = names(&series.join("\n"));
    // No listener has a certificate here, and a family without members is not written.
    there.extend(["expiry_timestamp_seconds", "current"].map(|name| format!("trailgate_certificate_{name}")));
    assert_eq!(names(include_str!("../../../docs/metrics.md")), there, "docs/metrics.md lists all");
    for file in
        [include_str!("../../../config/prometheus-rules.yaml"), include_str!("../../../config/grafana-dashboard.json")]
    {
        let unknown: Vec<_> = names(file).difference(&there).cloned().collect();
        assert_eq!(unknown, Vec::<String>::new());
    }
}

/// Grafana's dashboard linter is a program that Go's module proxy does not have; these are its rules.
#[test]
fn grafana_dashboard_follows_the_rules_of_its_linter() {
    let dashboard = grafana_dashboard();
    assert_eq!(dashboard["editable"], false);
    let variables: Vec<_> = dashboard["templating"]["list"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(variables, ["datasource", "job", "instance"]);
    for panel in dashboard["panels"].as_array().unwrap() {
        let (title, description) = (panel["title"].as_str().unwrap(), panel["description"].as_str().unwrap());
        assert!(!title.is_empty() && description.ends_with('.'), "{title}: {description}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        for target in panel["targets"].as_array().unwrap() {
            let query = target["expr"].as_str().unwrap();
            let selectors = query.matches("trailgate_").count();
            assert_eq!(query.matches("{job=~\"$job\",instance=~\"$instance\"").count(), selectors, "{query}");
            let is_over_time = query.contains("rate(") || query.contains("increase(");
            assert_eq!(query.matches("[$__rate_interval]").count(), usize::from(is_over_time), "{query}");
            assert_eq!(query.contains("_total{") || query.contains("_bucket{"), is_over_time, "{query}");
        }
    }
}

fn grafana_dashboard() -> Value {
    serde_json::from_str(include_str!("../../../config/grafana-dashboard.json")).unwrap()
}

/// Starts a program with a second listener, which has a certificate.
pub(crate) async fn start_with_certificate(domain: &FakeDomain) -> Program {
    let folder = files(&domain.url(), &allow("127.0.0.1"));
    for (name, text) in SelfSigned::new().files() {
        std::fs::write(path(&folder, name), text).unwrap();
    }
    let config = path(&folder, "trailgate.toml");
    let listeners = "[[listen]]\naddress = \"127.0.0.1:0\"\n[[listen]]\naddress = \"127.0.0.2:0\"\n\
                     [listen.tls]\ncertificate = \"cert.pem\"\nkey = \"key.pem\"\n";
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("[listen]\naddress = \"127.0.0.1:0\"\n", listeners)).unwrap();
    Program::of(command(&["run", "--config", &config]), folder).await
}

fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |encoded, byte| format!("{encoded}%{byte:02X}"))
}

#[tokio::test]
#[ignore = "needs Prometheus"]
async fn prometheus_accepts_metrics_rules_and_queries() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let program = start_with_certificate(&domain).await;
    assert_eq!(program.status().await, StatusCode::OK);
    let folder = program.folder.path();
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/config/prometheus-rules.yaml");
    let config = format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rules:?}]\n\
         scrape_configs: [{{job_name: trailgate, static_configs: [{{targets: [\"{}\"]}}]}}]\n",
        program.admin
    );
    std::fs::write(folder.join("prometheus.yaml"), config).unwrap();
    let mut prometheus = Command::new("prometheus")
        .arg(format!("--config.file={}", folder.join("prometheus.yaml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(prometheus.stderr.take().unwrap()).lines();
    let address: SocketAddr = patiently(async {
        loop {
            let line = lines.next_line().await.unwrap().expect("Prometheus runs");
            if let Some((_, address)) = line.split_once("msg=\"Listening on\" address=") {
                return address.parse().unwrap();
            }
        }
    })
    .await;
    tokio::spawn(async move { while lines.next_line().await.is_ok_and(|line| line.is_some()) {} });

    // Neither Prometheus, nor a scrape of it, nor a sample, nor a rule's first turn is there when the one before is.
    let told = async |path: &str, pointer: &str, known: fn(&Value) -> bool| {
        patiently(async {
            loop {
                let answer = ask(address, path).await;
                if answer.status() == StatusCode::OK
                    && let Some(found) = json(&answer).pointer(pointer)
                    && known(found)
                {
                    return found.clone();
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
    };
    let target = told("/api/v1/targets", "/data/activeTargets/0", |target| target["health"] != "unknown").await;
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()));
    let expiry = "/api/v1/query?query=trailgate_credentials_expiry_timestamp_seconds";
    assert_eq!(told(expiry, "/data/result/0/value/1", |_| true).await, "+Inf");
    let rules = told("/api/v1/rules", "/data/groups/0/rules", |rules| {
        rules.as_array().unwrap().iter().all(|rule| rule["health"] != "unknown")
    })
    .await;
    let rules = rules.as_array().unwrap();
    assert!(rules.len() > 10 && rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");

    let address_of_clients = program.address;
    let load = tokio::spawn(async move {
        loop {
            Connection::open(address_of_clients).await.send(get("/")).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let dashboard = grafana_dashboard();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    for target in panels.flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let query = target["expr"].as_str().unwrap();
        let query = query.replace("$__rate_interval", "10s").replace("$job", ".+").replace("$instance", ".+");
        told(&format!("/api/v1/query?query={}", percent_encode(&query)), "/data/result/0/value/1", |_| true).await;
    }
    load.abort();
}
