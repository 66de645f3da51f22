//! The rate of `verify`, next to that of `load`, with a real OpenSearch 2.19 on the same machine.
//!
//! `cargo bench -p trailgate-ingest --bench verify -- 1000000` writes a bucket of about a million events, loads it and
//! verifies it. Without a number it does nothing, so that a run of all benches does not take a quarter of an hour.

#[path = "../tests/integration/verify/month.rs"]
#[expect(dead_code, reason = "tests use the rest")]
mod month;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use serde_json::{Value, json};
use trailgate_testkit::{AWS_KEY, Engine, sample_events};

use self::month::{Month, Shape, key_list, log_key};

fn main() {
    let Some(events) = std::env::args().skip(1).find_map(|argument| argument.parse::<usize>().ok()) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let files_a_day = events.div_ceil(31_000).max(1);
    let samples = sample_events().unwrap();
    let month = Month::with_logs(Vec::new(), Shape::default(), |month, hour| {
        let day = hour.date();
        let write = |number: usize| {
            let copies: Vec<Value> = samples.iter().map(|event| copy(event, day, number)).collect();
            month.write_log(&log_key(day, number), &copies.iter().collect::<Vec<_>>())
        };
        if hour.hour() == 12 { (0..files_a_day).map(write).collect() } else { Vec::new() }
    });
    month.put("keys.json", key_list().as_bytes());
    println!("{} events in {} log files", files_a_day * 31_000, files_a_day * 31);
    let engine = runtime.block_on(Engine::start("opensearch-2.19", &[])).unwrap();
    let bucket = month.path("AWSLogs").display().to_string();
    let done = |name: &str| month.path(name).display().to_string();
    let keys = done("keys.json");
    let period = ["--from", "2026-01-01", "--to", "2026-01-31"];
    run("load", &engine.url(), &[&["load", &bucket, "--done", &done("load.done")], &period[..]].concat());
    // A search finds a document after the next refresh, which the engine does each second.
    std::thread::sleep(Duration::from_secs(5));
    let verify = ["verify", &bucket, "--json", "--public-keys", &keys, "--done", &done("verify.done")];
    run("verify", &engine.url(), &[&verify[..], &period[..]].concat());
}

/// Returns an event of that day, under an id of its own.
fn copy(event: &Value, day: Date, number: usize) -> Value {
    let mut copy = event.clone();
    let id = event["eventID"].as_str().unwrap();
    copy["eventID"] = json!(format!("{:02}{number:04}{}", day.day(), &id[6..]));
    copy["eventTime"] = json!(format!("{day}{}", &event["eventTime"].as_str().unwrap()[10..]));
    copy
}

/// Runs the program, and prints its time, its peak memory and its last line.
fn run(name: &str, endpoint: &str, arguments: &[&str]) {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_trailgate-ingest"))
        .args(arguments)
        .args(["--endpoint", endpoint, "--unsigned"])
        .env_clear()
        .envs(AWS_KEY)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let path = format!("/proc/{}/status", child.id());
    let mut peak = String::new();
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(&path).unwrap_or_default();
        if let Some(line) = status.lines().find(|line| line.starts_with("VmHWM:")) {
            line.clone_into(&mut peak);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    println!("{name}: {:.1?}, {peak}, {}", start.elapsed(), stdout.lines().last().unwrap_or_default());
}
