//! The AWS command line, `aws cloudtrail validate-logs`, gives the same verdict on the same files.

use jiff::civil::{Date, DateTime};
use serde_json::{Value, json};
use trailgate_ingest::verify::report::{Kind, Verdict};
use trailgate_ingest::verify::{Period, verify_bucket};
use trailgate_testkit::{AwsMock, gzip, repository};

use super::bucket::{inflate, write_late};
use super::evidence::{evidence, no_progress};
use trailgate_testkit::trail::{TrailBucket, digest_key, digest_signing_key, key_list, log_key, sign_digest};

type Change<'a> = &'a dyn Fn(&TrailBucket);

/// Returns whether the command line finds the files valid, and its output.
async fn validate_logs(month: &TrailBucket) -> (bool, String) {
    let keys = month.folder().join("keys.json");
    std::fs::write(&keys, key_list()).unwrap();
    let mut command = AwsMock::command("python").await.unwrap();
    command.arg(repository("tests/aws/validate_logs.py")).arg(month.folder()).arg(&keys);
    let output = command.output().await.unwrap();
    std::fs::remove_file(keys).unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("digest files"), "it summarizes what it validated: {text}");
    (output.status.success(), text)
}

#[tokio::test]
#[ignore = "needs Python"]
async fn verdict_on_a_bucket_equals_that_of_validate_logs() {
    let log = log_key(Date::constant(2026, 1, 15), 0);
    let digest = digest_key(DateTime::constant(2026, 1, 15, 3, 0, 0, 0));
    let with_files = digest_key(DateTime::constant(2026, 1, 15, 13, 0, 0, 0));
    let alter = |month: &TrailBucket, key: &str| {
        let mut content: Value = serde_json::from_str(&inflate(month, key)).unwrap();
        content["oldestEventTime"] = json!("2026-01-15T02:00:00Z");
        month.put(key, &gzip(&content.to_string()));
    };
    let late = log_key(Date::constant(2026, 1, 15), 7);
    let changes: [(&str, Change); 12] = [
        ("unaltered", &|_| {}),
        ("log file changed", &|month| {
            month.put(&log, &gzip(&inflate(month, &log).replacen("eventName", "eventname", 1)));
        }),
        ("log file removed", &|month| month.remove(&log)),
        ("log file compressed once more", &|month| month.put(&log, &gzip(&inflate(month, &log)))),
        ("digest changed", &|month| alter(month, &digest)),
        ("digest with log files changed", &|month| alter(month, &with_files)),
        ("digest removed", &|month| month.remove(&digest)),
        ("digest signed with another key", &|month| {
            let signature = sign_digest(&digest_signing_key("other"), &inflate(month, &digest));
            month.put(&format!("{digest}.sig"), signature.as_bytes());
        }),
        ("log file cut short", &|month| {
            let bytes = std::fs::read(month.path(&log)).unwrap();
            month.put(&log, &bytes[..bytes.len() / 2]);
        }),
        ("backfill digest", &|month| drop(write_late(month))),
        ("backfill digest changed", &|month| alter(month, &write_late(month).1)),
        ("log file of a backfill digest changed", &|month| {
            write_late(month);
            month.put(&late, &gzip(&inflate(month, &late).replacen("eventName", "eventname", 1)));
        }),
    ];
    let period = Period { from: Date::constant(2026, 1, 14), to: Date::constant(2026, 1, 16) };
    for (name, change) in changes {
        let month = TrailBucket::write();
        change(&month);
        let (is_valid, output) = validate_logs(&month).await;
        let report = verify_bucket(&evidence(&month, period).await, &no_progress()).await.unwrap();
        assert_eq!(report.verdict() == Verdict::Proven, is_valid, "{name}: {report}\n{output}");
    }
}

/// The one difference: a file that no digest lists is no concern of the command line.
#[tokio::test]
#[ignore = "needs Python"]
async fn added_file_is_found_only_by_verify() {
    let month = TrailBucket::write();
    let added = log_key(Date::constant(2026, 1, 15), 7);
    month.put(&added, &gzip(&inflate(&month, &log_key(Date::constant(2026, 1, 15), 0))));
    assert!(validate_logs(&month).await.0);
    let period = Period { from: Date::constant(2026, 1, 14), to: Date::constant(2026, 1, 16) };
    let report = verify_bucket(&evidence(&month, period).await, &no_progress()).await.unwrap();
    let found: Vec<_> = report.findings().map(|it| (it.kind, it.subject.clone())).collect();
    assert_eq!(found, [(Kind::ExtraFile, added)]);
}
