//! A month of events loaded and verified, at once and after a kill.

use std::path::Path;
use std::time::Duration;

use jiff::civil::Date;
use serde_json::{Value, json};
use trailgate_testkit::trail::{TrailBucket, TrailShape, key_list, log_key};
use trailgate_testkit::{Engine, sample_events};

use crate::command::Run;

/// Measures a bucket of at least `events` events.
pub(crate) async fn measure(events: usize) {
    let files_a_day = events.div_ceil(31_000).max(1);
    let samples = sample_events().unwrap();
    let bucket = TrailBucket::with_logs(Vec::new(), TrailShape::default(), |bucket, hour| {
        let day = hour.date();
        let write = |number: usize| {
            let copies: Vec<Value> = samples.iter().map(|event| copy(event, day, number)).collect();
            bucket.write_log(&log_key(day, number), &copies.iter().collect::<Vec<_>>())
        };
        if hour.hour() == 12 { (0..files_a_day).map(write).collect() } else { Vec::new() }
    });
    bucket.put("keys.json", key_list().as_bytes());
    println!("{} events in {} log files", files_a_day * 31_000, files_a_day * 31);
    let engine = Engine::start("opensearch-2.19", &[]).await.unwrap();
    let path = |name: &str| bucket.path(name).display().to_string();
    let (logs, keys, loading, done) = (path("AWSLogs"), path("keys.json"), path("load.done"), path("verify.done"));
    let url = engine.url();
    let common = ["--endpoint", &url, "--unsigned", "--from", "2026-01-01", "--to", "2026-01-31"];
    let load = Run::until(&[&["load", &logs, "--done", &loading], &common[..]].concat(), || false);
    println!("load: {load}\n{}", load.stdout.lines().next().unwrap_or_default());
    // A search finds a document after the next refresh, which the engine does each second.
    std::thread::sleep(Duration::from_secs(5));

    let arguments = [&["verify", &logs, "--json", "--public-keys", &keys, "--done", &done], &common[..]].concat();
    let whole = Run::until(&arguments, || false);
    println!("verify: {whole}\n{}", whole.last_line());
    let killed = Run::until(&arguments, || days_done(Path::new(&done)) >= 16);
    println!("verify, killed after half of the days: {killed}");
    let resumed = Run::until(&arguments, || false);
    println!("verify, resumed: {resumed}\n{}", resumed.last_line());
    assert_eq!(verdict(&resumed), verdict(&whole));
}

/// Returns the number of days that the checkpoint records, a line each after the one of its scope.
fn days_done(checkpoint: &Path) -> usize {
    std::fs::read_to_string(checkpoint).map_or(0, |text| text.lines().count().saturating_sub(1))
}

/// Returns the last line without the number of requests, which a resumed run continues from nothing.
fn verdict(run: &Run) -> Value {
    let mut verdict: Value = serde_json::from_str(run.last_line()).unwrap();
    verdict["requests"] = Value::Null;
    verdict
}

/// Returns an event of that day, under an id of its own.
fn copy(event: &Value, day: Date, number: usize) -> Value {
    let mut copy = event.clone();
    let id = event["eventID"].as_str().unwrap();
    copy["eventID"] = json!(format!("{:02}{number:04}{}", day.day(), &id[6..]));
    copy["eventTime"] = json!(format!("{day}{}", &event["eventTime"].as_str().unwrap()[10..]));
    copy
}
