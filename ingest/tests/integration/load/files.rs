use std::process::Command;

use flate2::Compression;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use trailgate_testkit::gzip;

use super::{Rig, assert_ran, assert_says, end, record, records, sample};
use crate::payloads::log_data_at;
use crate::rig::with_timeout;

#[tokio::test]
async fn all_events_of_a_folder_reach_the_index_by_their_own_ids() {
    let rig = Rig::new().await;
    rig.write("logs/2026/01/30/a.json.gz", gzip(&records(&[record("1", "2026-01-30"), record("2", "2026-01-30")])));
    rig.write("logs/2026/01/31/b.json", records(&[record("3", "2026-01-31")]));
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "3 events in 2 files, 3 indexed");
    assert_eq!(rig.sent(), ["1", "2", "3"]);
    assert!(!std::path::Path::new(&rig.path("done")).exists());
}

#[tokio::test]
async fn dry_run_prints_counts_and_sends_no_request() {
    let rig = Rig::new().await;
    rig.write("a.json", records(&[record("1", "2026-01-30"), record("2", "2026-01-31")]));
    let ran = rig.load(&["--dry-run", &rig.path("a.json")], b"").await;
    let expected = "2 events in 1 files, 2 would be indexed\ncwl-2026.01.30: 1\ncwl-2026.01.31: 1\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected));
    assert!(rig.domain().seen().is_empty());
}

#[tokio::test]
async fn summary_into_a_closed_pipe_is_no_error() {
    let rig = Rig::new().await;
    rig.write("a.json", records(&[record("1", "2026-01-30")]));
    let mut child = rig.start(&rig.domain().url(), &[&rig.path("a.json")]);
    drop(child.stdout.take());
    let ran = end(child).await;
    assert_eq!((ran.code, ran.stderr.contains("stdout")), (Some(0), false), "{}", ran.stderr);
    assert!(!std::path::Path::new(&rig.path("done")).exists());
}

/// Asserts that each event of a sample reaches the index once, under an id that begins with `ids`.
async fn loads(name: &'static str, ids: &'static str, events: usize) {
    let rig = Rig::new().await;
    let ran = rig.load(&[&sample(name)], b"").await;
    assert_ran(&ran, 0, &format!("{events} events in 1 files, {events} indexed"));
    let indexed = rig.indexed().await;
    assert_eq!(indexed.len(), events, "{name}: {indexed:?}");
    assert!(indexed.iter().all(|id| id.starts_with(ids)), "{name}: {indexed:?}");
}

#[tokio::test]
async fn envelopes_on_each_line_are_opened() {
    loads("records-envelope-lines.jsonl", "a01", 6).await;
    loads("deliveries-lines.jsonl", "a02", 6).await;
    loads("eventbridge-lines.jsonl", "a13", 5).await;
}

#[tokio::test]
async fn concatenated_deliveries_are_read() {
    loads("deliveries-concatenated.json", "a03", 6).await;
}

#[tokio::test]
async fn gzip_members_of_one_file_are_all_read() {
    loads("gzip-members.json.gz", "a05", 6).await;
}

#[tokio::test]
async fn payloads_of_lambda_are_opened() {
    loads("kinesis-event.json", "a09", 3).await;
    loads("sqs-event.json", "a10", 3).await;
    loads("subscription.lambda-event.json", "aaaaaaaa", 3).await;
}

#[tokio::test]
async fn byte_order_mark_is_skipped() {
    loads("records-bom.json", "a33", 3).await;
}

#[tokio::test]
async fn pretty_printed_records_are_read() {
    loads("record-pretty.json", "a36", 1).await;
    loads("array-pretty.json", "a37", 2).await;
}

#[tokio::test]
async fn duplicate_records_key_is_read_twice() {
    loads("records-key-twice.json", "a48", 6).await;
}

#[tokio::test]
async fn output_of_lookup_events_and_eventbridge_is_read() {
    loads("lookup-events.json", "aaaaaaaa", 1).await;
    loads("eventbridge.json", "", 1).await;
}

#[tokio::test]
async fn aggregated_events_have_their_own_ids() {
    loads("aggregated-events.json", "bbbbbbbb", 2).await;
}

#[tokio::test]
async fn utf16_of_powershell_is_read() {
    let rig = Rig::new().await;
    let text = format!("\u{feff}{}\r\n", records(&[record("1", "2026-01-30")]));
    rig.write("a.json", text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    assert_ran(&rig.load(&[&rig.path("a.json")], b"").await, 0, "1 events in 1 files, 1 indexed");
}

#[tokio::test]
async fn invalid_line_fails_alone_and_is_reported() {
    let rig = Rig::new().await;
    let ran = rig.load(&[&sample("bad-line.jsonl")], b"").await;
    assert_ran(&ran, 1, "100 events in 1 files, 100 indexed, 1 failed");
    assert_says(&ran, &format!("failed: {}:51: invalid JSON: a value is missing", sample("bad-line.jsonl")));
    assert_eq!(rig.indexed().await.len(), 100);
}

#[tokio::test]
async fn values_of_another_kind_are_reported_with_their_lines() {
    let rig = Rig::new().await;
    rig.write("a.json", format!("{{\"a\":1}}\n{}\n\nno JSON\nnor this\n", record("1", "2026-01-30")));
    let ran = rig.load(&[&rig.path("a.json")], b"").await;
    assert_ran(&ran, 1, "1 events in 1 files, 1 indexed, 2 failed");
    let path = rig.path("a.json");
    assert_says(&ran, &format!("failed: {path}:1: not a CloudTrail record: an object with the keys a"));
    assert_says(&ran, &format!("failed: {path}:4-5: not JSON: a line of text that begins with \"no JSON\""));
    assert_eq!(rig.sent(), ["1"]);
}

#[tokio::test]
async fn mixed_bucket_succeeds_and_indexes_only_events() {
    let rig = Rig::new().await;
    let ran = rig.load(&[&sample("mixed-bucket")], b"").await;
    assert_ran(&ran, 0, "3 events in 2 files, 3 indexed");
    for kind in ["1 files skipped: AWS Config items", "2 files skipped: GuardDuty findings"] {
        assert!(ran.stdout.contains(kind), "{}", ran.stdout);
    }
    assert!(ran.stdout.contains("1 files skipped: VPC flow logs"), "{}", ran.stdout);
    assert!(ran.stdout.contains("2 files skipped: empty"), "{}", ran.stdout);
    assert_eq!(rig.indexed().await.len(), 3);
}

#[tokio::test]
async fn foreign_file_is_recognised_by_its_content() {
    let rig = Rig::new().await;
    for (nth, name) in ["Config", "GuardDuty", "vpcflowlogs"].into_iter().enumerate() {
        let folder = sample(&format!("mixed-bucket/AWSLogs/111122223333/{name}"));
        let found = Command::new("find").args([&folder, "-name", "*.gz"]).output().unwrap();
        for path in String::from_utf8(found.stdout).unwrap().lines() {
            let file = std::path::Path::new(path).file_name().unwrap().to_str().unwrap();
            rig.write(&format!("logs/{nth}{file}"), std::fs::read(path).unwrap());
        }
    }
    rig.write("logs/z.json", records(&[record("1", "2026-01-30")]));
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "1 events in 1 files, 1 indexed");
    for kind in ["1 files skipped: AWS Config items", "2 files skipped: GuardDuty", "1 files skipped: VPC"] {
        assert!(ran.stdout.contains(kind), "{}", ran.stdout);
    }
    assert_eq!(rig.sent(), ["1"]);
}

#[tokio::test]
async fn skipped_files_are_counted_and_listed() {
    let rig = Rig::new().await;
    for name in ["a.log", "b.gz", "c.ndjson", "d.JSON", "firehose-1-2026-01-30-00-00-00-0a"] {
        rig.write(&format!("logs/{name}"), records(&[record(name, "2026-01-30")]));
    }
    rig.write("logs/notes.txt", "no log");
    rig.write("logs/.hidden.json", "");
    rig.write("logs/z.json", "");
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "5 events in 5 files, 5 indexed");
    for (reason, name) in
        [("empty", "z.json"), ("hidden files", ".hidden.json"), ("not a log file by its name", "notes.txt")]
    {
        assert_says(&ran, &format!("1 files skipped: {reason} ({})", rig.path(&format!("logs/{name}"))));
    }
}

#[tokio::test]
async fn unsupported_compression_is_reported() {
    let rig = Rig::new().await;
    rig.write("logs/a.json.zst", b"\x28\xb5\x2f\xfd....");
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 1, "0 events in 0 files, 0 indexed, 1 failed");
    let advice = "is zstd data; load it with: zstdcat FILE | trailgate-ingest load … -";
    assert_says(&ran, &format!("failed: {}: {advice}", rig.path("logs/a.json.zst")));
}

#[tokio::test]
async fn nothing_to_load_is_an_error() {
    let rig = Rig::new().await;
    std::fs::create_dir(rig.path("empty")).unwrap();
    let ran = rig.load(&[&rig.path("empty")], b"").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("found no files"), "{}", ran.stderr);

    let ran = rig.load(&["-"], b"").await;
    assert_ran(&ran, 1, "0 events in 0 files, 0 indexed");
    assert_says(&ran, "failed: found no CloudTrail events in these paths");
}

#[tokio::test]
async fn dangling_link_and_pipe_do_not_stop_the_run() {
    let rig = Rig::new().await;
    rig.write("logs/b.json", records(&[record("1", "2026-01-30")]));
    std::os::unix::fs::symlink("nowhere", rig.path("logs/a.json")).unwrap();
    std::os::unix::fs::symlink(".", rig.path("logs/circle")).unwrap();
    assert!(Command::new("mkfifo").arg(rig.path("logs/c.json")).status().unwrap().success());
    let ran = with_timeout(rig.load(&[&rig.path("logs")], b"")).await;
    assert_ran(&ran, 1, "1 events in 1 files, 1 indexed, 2 failed");
    assert!(ran.stdout.contains(&format!("failed: {}: cannot be read", rig.path("logs/a.json"))), "{}", ran.stdout);
    assert_says(&ran, &format!("1 files skipped: pipes and devices ({})", rig.path("logs/c.json")));
}

#[tokio::test]
async fn records_on_standard_input_are_read() {
    let rig = Rig::new().await;
    let lines = format!("{}\n{}\n", record("1", "2026-01-30"), record("2", "2026-01-30"));
    assert_ran(&rig.load(&["-"], lines.as_bytes()).await, 0, "2 events in 1 files, 2 indexed");
    assert_eq!(rig.sent(), ["1", "2"]);
}

#[tokio::test]
async fn events_are_sent_before_the_input_ends() {
    let rig = Rig::new().await;
    let mut child = rig.start(&rig.domain().url(), &["-"]);
    let mut pipe = child.stdin.take().unwrap();
    let large = |id: usize| {
        let mut record = record(&id.to_string(), "2026-01-30");
        record["requestParameters"] = "x".repeat(500_000).into();
        format!("{record}\n")
    };
    with_timeout(async {
        for id in 0..40 {
            pipe.write_all(large(id).as_bytes()).await.unwrap();
        }
        while rig.sent().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    drop(pipe);
    assert_ran(&end(child).await, 0, "40 events in 1 files, 40 indexed");
}

#[tokio::test]
async fn digests_are_skipped_and_cloudwatch_payloads_read() {
    let rig = Rig::new().await;
    rig.write("logs/digest.json", json!({ "digestS3Bucket": "b", "logFiles": [] }).to_string());
    let message = record("of the record", "2026-01-30").to_string();
    let events = json!([{ "id": "of the log event", "timestamp": 1_769_774_400_000_i64, "message": message }]);
    let delivery =
        json!({ "messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "g", "logStream": "s", "logEvents": events });
    rig.write("logs/delivery.json.gz", gzip(&delivery.to_string()));
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_ran(&ran, 0, "1 events in 1 files, 1 indexed");
    assert_says(&ran, &format!("1 files skipped: digest files ({})", rig.path("logs/digest.json")));
    assert_eq!(rig.sent(), ["of the record"]);
}

#[tokio::test]
async fn only_requested_days_are_loaded() {
    let rig = Rig::new().await;
    rig.write("CloudTrail/eu-west-1/2026/01/29/a.json", records(&[record("1", "2026-01-29")]));
    rig.write(
        "CloudTrail/eu-west-1/2026/01/30/b.json",
        records(&[record("2", "2026-01-29"), record("3", "2026-01-30")]),
    );
    rig.write("CloudTrail/eu-west-1/2026/01/31/c.json", records(&[record("4", "2026-01-31")]));
    rig.write("CloudTrail/eu-west-1/2026/02/01/d.json", records(&[record("5", "2026-02-01")]));
    let ran = rig.load(&["--from", "2026-01-30", "--to", "2026-01-30", &rig.path("CloudTrail")], b"").await;
    assert_ran(&ran, 0, "1 events in 2 files, 1 indexed");
    assert_says(&ran, "2 events skipped: of other days");
    assert!(ran.stdout.contains("2 files skipped: of other days"), "{}", ran.stdout);
    assert_eq!(rig.sent(), ["3"]);
}

#[tokio::test]
async fn last_minutes_of_a_day_are_loaded_from_the_next_folder() {
    let rig = Rig::new().await;
    let ran = rig.load(&["--from", "2026-01-31", "--to", "2026-01-31", &sample("days")], b"").await;
    assert_ran(&ran, 0, "2 events in 2 files, 2 indexed");
    assert_says(&ran, "1 events skipped: of other days");
    assert_eq!(rig.indexed().await.into_iter().collect::<Vec<_>>(), ["d1", "d2"]);
}

/// A delivery after midnight, in the folder of the day on which a backup was made.
#[tokio::test]
async fn days_of_delivered_events_are_their_own() {
    let rig = Rig::new().await;
    let delivered: Timestamp = "2026-02-01T00:03:00Z".parse().unwrap();
    let events = ["2026-01-31", "2026-02-01"].map(|day| (delivered, record(day, day).to_string()));
    let delivery = json!({ "awslogs": { "data": log_data_at(0, events.into_iter()) } });
    rig.write("backup/2026/03/07/a", delivery.to_string());
    let ran = rig.load(&["--from", "2026-01-31", "--to", "2026-01-31", &rig.path("backup")], b"").await;
    assert_ran(&ran, 0, "1 events in 1 files, 1 indexed");
    assert_says(&ran, "1 events skipped: of other days");
    assert_eq!(rig.sent(), ["2026-01-31"]);
}

#[tokio::test]
async fn truncated_file_yields_its_complete_events() {
    let rig = Rig::new().await;
    let lines: Vec<String> = (0..2_000).map(|id| record(&format!("{id:08}"), "2026-01-30").to_string()).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::none());
    std::io::Write::write_all(&mut encoder, lines.join("\n").as_bytes()).unwrap();
    let whole = encoder.finish().unwrap();
    rig.write("a.json.gz", &whole[..whole.len() / 2]);
    let ran = rig.load(&[&rig.path("a.json.gz")], b"").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("cannot be read any further"), "{}", ran.stdout);
    assert!(rig.indexed().await.len() > 500);
}

/// Names and contents of the objects in which Lambda keeps what failed: an asynchronous invocation, and a batch of a
/// stream ("Capturing records of Lambda asynchronous invocations", "Retain discarded batch records").
fn failed_objects(first: &str, second: &str) -> [(String, Value); 2] {
    let folder = "aws/lambda";
    let invocation = json!({
        "version": "1.0", "timestamp": "2026-02-01T00:05:06.000Z",
        "requestContext": { "requestId": "r", "condition": "RetriesExhausted", "approximateInvokeCount": 3 },
        "requestPayload": { "awslogs": { "data": first } },
        "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
        "responsePayload": { "errorType": "NotIndexed", "errorMessage": "1 of 1 events not indexed; first reason: r" },
    });
    let record = json!({ "kinesis": { "sequenceNumber": "1", "data": second }, "eventSource": "aws:kinesis" });
    let batch = json!({
        "requestContext": { "requestId": "r", "condition": "RecordAgeExceeded", "approximateInvokeCount": 9 },
        "responseContext": { "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" },
        "version": "1.0", "timestamp": "2026-02-01T06:05:06.000Z",
        "KinesisBatchInfo": { "shardId": "shardId-000000000001", "batchSize": 1 },
        "payload": json!({ "Records": [record] }).to_string(),
    });
    [
        (format!("{folder}/async/audit-IngestFunction-1/2026/02/01/2026-02-01T00.05.06-0a1b2c3d-4e5f"), invocation),
        (format!("{folder}/0a1b2c3d-4e5f/shardId-000000000001/2026/02/01/2026-02-01T06.05.06-0a1b2c3d-4e5f"), batch),
    ]
}

#[tokio::test]
async fn failed_invocations_are_loaded_as_their_events() {
    let rig = Rig::new().await;
    let delivered: Timestamp = "2026-02-01T00:03:00Z".parse().unwrap();
    let delivery = |id: &str| log_data_at(0, [(delivered, record(id, "2026-01-31").to_string())].into_iter());
    for (name, object) in failed_objects(&delivery("a"), &delivery("b")) {
        rig.write(&name, object.to_string());
    }
    let ran = rig.load(&[&rig.path("aws")], b"").await;
    assert_ran(&ran, 0, "2 events in 2 files, 2 indexed");
    // Where a record of the trail's file is, too: by its own id, on its own day.
    rig.write("trail.json", records(&[record("a", "2026-01-31"), record("b", "2026-01-31")]));
    assert_ran(&rig.load(&[&rig.path("trail.json")], b"").await, 0, "2 events in 1 files, 2 indexed");
    assert_eq!(rig.indexed().await, ["a", "b"].map(str::to_owned).into());
    assert_eq!(rig.indices().await, ["cwl-2026.01.31".to_owned()].into());
}
