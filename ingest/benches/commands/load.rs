//! `load` compared with a plain sender of the same requests.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fake_domain::{FakeDomain, Options};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use trailgate_testkit::{Engine, sample_events};

use crate::command::Run;
use crate::paced_domain::PacedDomain;

/// Starts an engine for [`compare`].
pub(crate) async fn compare_with_own_engine(events: usize) {
    let engine = Engine::start("opensearch-2.19", &[]).await.unwrap();
    compare(events, &engine.url()).await;
}

/// Loads a file of JSON lines in turns with a sender of recorded requests, four in flight as `load` has them. Deletes all
/// `cwl-*` indices of the engine at `url`.
pub(crate) async fn compare(events: usize, url: &str) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    write_events(&file, events);
    let one = folder.path().join("one.jsonl");
    write_events(&one, 1);
    let requests = record_requests(&file).await;
    let bytes: usize = requests.iter().map(|request| request.body.len()).sum();
    println!("{events} events, {} requests of {bytes} bytes together", requests.len());
    let client: HttpClient = Client::builder(TokioExecutor::new()).build_http();
    let rate = |time: Duration| u128::from(events as u64) * 1000 / time.as_millis();
    let start = load(&one, &["--endpoint", url, "--unsigned"]);
    clear(&client, url).await;
    println!("start and set-up of load: {:.1?}", start.time);
    for round in 0..WARM_UP + ROUNDS {
        // Each is first in every other round: an engine gets faster for minutes.
        for is_load in [round % 2 == 0, round % 2 == 1] {
            let (sender, time, run) = if is_load {
                let run = load(&file, &["--endpoint", url, "--unsigned"]);
                ("load", run.time, run.to_string())
            } else {
                let time = send(&client, url, requests.clone()).await;
                ("plain sender", time, format!("{time:.1?}"))
            };
            assert_eq!(clear(&client, url).await, events);
            if round >= WARM_UP {
                println!("{sender}: {} events a second, {run}", rate(time));
            }
        }
    }
}

/// Compares as [`compare`] does, with a [`PacedDomain`]: so the clients are compared, and not what is left of the
/// processors for the engine.
pub(crate) async fn compare_at_a_paced_domain(events: usize) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.jsonl");
    write_events(&file, events);
    let requests = record_requests(&file).await;
    println!("{events} events, {} requests", requests.len());
    let domain = PacedDomain::start(requests.iter().map(|request| &request.body)).await;
    let client: HttpClient = Client::builder(TokioExecutor::new()).build_http();
    for round in 0..ROUNDS {
        for is_load in [round % 2 == 0, round % 2 == 1] {
            if is_load {
                println!("load: {}", load(&file, &["--endpoint", &domain.url, "--unsigned"]));
            } else {
                println!("plain sender: {:.2?}", send(&client, &domain.url, requests.clone()).await);
            }
        }
    }
}

type HttpClient = Client<HttpConnector, Full<Bytes>>;

/// A bulk request of `load`.
#[derive(Clone)]
struct BulkRequest {
    target: String,
    encoding: Option<String>,
    body: Bytes,
}

/// Writes real events under ids of their own, over January 2026.
fn write_events(file: &Path, count: usize) {
    let samples = sample_events().unwrap();
    let mut lines = String::new();
    for number in 0..count {
        let mut event = samples[number % samples.len()].clone();
        event["eventID"] = json!(format!("{number:08}{}", &event["eventID"].as_str().unwrap()[8..]));
        let time = &event["eventTime"].as_str().unwrap()[10..];
        event["eventTime"] = json!(format!("2026-01-{:02}{time}", number * 31 / count + 1));
        writeln!(lines, "{event}").unwrap();
    }
    std::fs::write(file, lines).unwrap();
}

/// Loads the file into a fake domain; returns the bulk requests that arrived there.
async fn record_requests(file: &Path) -> Vec<BulkRequest> {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    load(file, &["--endpoint", &domain.url(), "--region", "eu-west-1", "--service", "es"]);
    let bulks = domain.seen().into_iter().filter(|seen| seen.target.starts_with("/_bulk"));
    let requests = bulks.map(|seen| BulkRequest {
        encoding: seen.header("content-encoding").map(str::to_owned),
        target: seen.target,
        body: seen.body,
    });
    requests.collect()
}

fn load(file: &Path, connection: &[&str]) -> Run {
    let done = file.with_extension("done");
    let arguments = ["load", file.to_str().unwrap(), "--done", done.to_str().unwrap()];
    let run = Run::until(&[&arguments, connection].concat(), || false);
    assert!(!done.exists(), "{}", run.stdout);
    run
}

/// Sends the requests, four at once; returns the time.
async fn send(client: &HttpClient, url: &str, requests: Vec<BulkRequest>) -> Duration {
    let start = Instant::now();
    let queue = Arc::new(Mutex::new(requests.into_iter()));
    let senders: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (queue, client, url) = (Arc::clone(&queue), client.clone(), url.to_owned());
            tokio::spawn(async move {
                loop {
                    let Some(request) = queue.lock().unwrap().next() else { return };
                    send_one(&client, &url, request).await;
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    start.elapsed()
}

/// Sends a request until the engine has the memory for it.
async fn send_one(client: &HttpClient, url: &str, bulk: BulkRequest) {
    loop {
        let mut request = Request::post(format!("{url}{}", bulk.target)).header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(encoding) = &bulk.encoding {
            request = request.header(CONTENT_ENCODING, encoding);
        }
        let response = client.request(request.body(Full::new(bulk.body.clone())).unwrap()).await.unwrap();
        let status = response.status();
        let answer = response.into_body().collect().await.unwrap().to_bytes();
        if status.is_success() {
            assert!(answer.windows(15).take(200).any(|part| part == b"\"errors\":false,"), "{answer:?}");
            return;
        }
        assert_eq!(status, 429);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Removes the events; returns their number.
async fn clear(client: &HttpClient, url: &str) -> usize {
    let call = async |method: &str, path: &str| -> Value {
        let request = Request::builder().method(method).uri(format!("{url}{path}"));
        let response = client.request(request.body(Full::default()).unwrap()).await.unwrap();
        serde_json::from_slice(&response.into_body().collect().await.unwrap().to_bytes()).unwrap()
    };
    // An index that was just created has no shards to count in.
    call("GET", "/_cluster/health/cwl-*?wait_for_status=yellow").await;
    call("POST", "/cwl-*/_refresh").await;
    let count = call("GET", "/cwl-*/_count").await;
    let count = count["count"].as_u64().unwrap_or_else(|| panic!("{count}"));
    call("DELETE", "/cwl-*").await;
    usize::try_from(count).unwrap()
}

const IN_FLIGHT: usize = 4;
const WARM_UP: usize = 2;
const ROUNDS: usize = 6;
