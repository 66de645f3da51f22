use anyhow::Context as _;
use flate2::read::GzDecoder;
use serde_json::Value;

/// Returns the 1,000 real `CloudTrail` events of `tests/data/cloudtrail`, as in `CloudTrail`'s files.
pub fn sample_events() -> anyhow::Result<Vec<Value>> {
    let events: Result<_, _> = sample_lines()?.lines().map(serde_json::from_str).collect();
    events.context("a sample event is not JSON")
}

/// Returns the same events as text, one per line.
pub fn sample_lines() -> anyhow::Result<String> {
    std::io::read_to_string(GzDecoder::new(EVENTS)).context("the sample events cannot be read")
}

const EVENTS: &[u8] = include_bytes!("../../data/cloudtrail/events.jsonl.gz");
