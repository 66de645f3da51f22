//! In = out, and nothing twice, whatever the domain does.

use std::sync::atomic::{AtomicUsize, Ordering};

use fake_domain::{Fault, ItemRefusal, Seen};

use super::{Rig, assert_ran, record};

const EVENTS: usize = 600;

fn lines() -> String {
    let lines = (0..EVENTS).map(|id| record(&format!("event-{id}"), "2026-01-30").to_string());
    lines.collect::<Vec<_>>().join("\n") + "\n"
}

/// The number of times that each fault is still to happen.
static LEFT: [AtomicUsize; 7] = [const { AtomicUsize::new(3) }; 7];

fn rule<const NTH: usize>(seen: &Seen) -> Option<Fault> {
    if !seen.target.starts_with("/_bulk") {
        return None;
    }
    LEFT[NTH].fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).ok()?;
    let block = r#"{"error":{"type":"cluster_block_exception","reason":"disk full"},"status":403}"#;
    Some(match NTH {
        0 => Fault::status(429, r#"{"message":"429 Too Many Requests /_bulk"}"#),
        1 => Fault::status(503, ""),
        2 => Fault::status(413, r#"{"Message":"Request size exceeded 10485760 bytes"}"#),
        3 => Fault::BreakOff,
        4 => Fault::BreakBody,
        5 => Fault::Garbage(bytes::Bytes::from_static(b"garbage\r\n\r\n")),
        _ => Fault::status(403, block),
    })
}

async fn loads_despite_fault<const NTH: usize>() {
    let rig = Rig::new().await;
    rig.write("a.jsonl", lines());
    rig.domain().judge_requests(rule::<NTH>);
    let ran = rig.load(&[&rig.path("a.jsonl")], b"").await;
    assert_ran(&ran, 0, "600 events in 1 files, 600 indexed");
    assert_eq!(LEFT[NTH].load(Ordering::SeqCst), 0);
    assert_eq!(rig.indexed().await.len(), EVENTS);
}

#[tokio::test]
async fn load_survives_too_many_requests() {
    loads_despite_fault::<0>().await;
}

#[tokio::test]
async fn load_survives_service_unavailable() {
    loads_despite_fault::<1>().await;
}

#[tokio::test]
async fn load_survives_payload_too_large() {
    loads_despite_fault::<2>().await;
}

#[tokio::test]
async fn load_survives_connection_resets() {
    loads_despite_fault::<3>().await;
}

#[tokio::test]
async fn load_survives_truncated_responses() {
    loads_despite_fault::<4>().await;
}

#[tokio::test]
async fn load_survives_garbage() {
    loads_despite_fault::<5>().await;
}

#[tokio::test]
async fn load_survives_a_full_disk_that_is_emptied() {
    loads_despite_fault::<6>().await;
}

#[tokio::test]
async fn load_survives_rejected_items() {
    let rig = Rig::new().await;
    rig.write("a.jsonl", lines());
    rig.domain().judge_items(|number, _| {
        (number % 7 == 0 && number < 400)
            .then_some(ItemRefusal { status: 429, kind: "es_rejected_execution_exception" })
    });
    assert_ran(&rig.load(&[&rig.path("a.jsonl")], b"").await, 0, "600 events in 1 files, 600 indexed");
    assert_eq!(rig.indexed().await.len(), EVENTS);
}

#[tokio::test]
async fn failures_file_can_be_loaded() {
    let rig = Rig::new().await;
    rig.write("a.jsonl", format!("{}{{broken\n", lines()));
    rig.domain().judge_items(|_, source| {
        let is_refused = source["eventID"].as_str().is_some_and(|id| id.ends_with('7'));
        is_refused.then_some(ItemRefusal { status: 404, kind: "index_not_found_exception" })
    });
    let failures = rig.path("failures.jsonl");
    let ran = rig.load(&["--failures", &failures, &rig.path("a.jsonl")], b"").await;
    assert_ran(&ran, 1, "600 events in 1 files, 540 indexed, 61 failed");

    rig.domain().clear_faults();
    let ran = rig.load(&["--failures", &rig.path("rest.jsonl"), &failures], b"").await;
    assert_ran(&ran, 1, "60 events in 1 files, 60 indexed, 1 failed");
    assert_eq!(rig.indexed().await.len(), EVENTS);
    let rest = std::fs::read_to_string(rig.path("rest.jsonl")).unwrap();
    assert_eq!(rest.lines().count(), 1, "{rest}");
    assert!(rest.contains("{broken"), "{rest}");

    let ran = rig.load(&["--failures", &failures, &failures], b"").await;
    assert!(ran.stderr.contains("exists already"), "{}", ran.stderr);
}
