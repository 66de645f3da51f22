//! Each change of the bucket is named, and nothing else is.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::civil::{Date, DateTime};
use serde_json::{Value, json};
use trailgate_ingest::verify::report::{Kind, Report, Verdict};
use trailgate_ingest::verify::verify_bucket;
use trailgate_testkit::gzip;

use super::evidence::{PERIOD, evidence, no_progress};
use trailgate_testkit::trail::{
    TrailBucket, TrailShape, backfill_key, digest_key, digest_signing_key, log_key, sign_digest,
};

async fn report(month: &TrailBucket) -> Report {
    verify_bucket(&evidence(month, PERIOD).await, &no_progress()).await.unwrap()
}

/// Asserts the verdict and the findings of the month after `change`, each finding by its kind and the key that it
/// names.
#[track_caller]
fn test(change: impl FnOnce(&TrailBucket), verdict: Verdict, expected: &[(Kind, String)]) {
    let month = TrailBucket::write();
    change(&month);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(report(&month));
    let found: Vec<_> = report.findings().map(|it| (it.kind, it.subject.clone())).collect();
    assert_eq!((report.verdict(), &found[..]), (verdict, expected), "{report}");
}

pub(crate) fn inflate(month: &TrailBucket, key: &str) -> String {
    let bytes = std::fs::read(month.path(key)).unwrap();
    std::io::read_to_string(flate2::read::GzDecoder::new(&bytes[..])).unwrap()
}

fn log() -> String {
    log_key(Date::constant(2026, 1, 15), 0)
}

fn digest() -> String {
    digest_key(DateTime::constant(2026, 1, 15, 13, 0, 0, 0))
}

#[test]
fn unaltered_bucket_is_proven() {
    test(|_| {}, Verdict::Proven, &[]);
}

#[test]
fn changed_log_file_is_reported() {
    let change = |month: &TrailBucket| {
        let text = inflate(month, &log()).replacen("eventName", "eventname", 1);
        month.put(&log(), &gzip(&text));
    };
    test(change, Verdict::Differences, &[(Kind::ChangedFile, log())]);
}

#[test]
fn truncated_log_file_is_reported() {
    let change = |month: &TrailBucket| {
        let bytes = std::fs::read(month.path(&log())).unwrap();
        month.put(&log(), &bytes[..bytes.len() / 2]);
    };
    test(change, Verdict::Differences, &[(Kind::ChangedFile, log())]);
}

#[test]
fn recompressed_log_file_is_proven() {
    let change = |month: &TrailBucket| {
        let before = std::fs::read(month.path(&log())).unwrap();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
        encoder.write_all(inflate(month, &log()).as_bytes()).unwrap();
        let after = encoder.finish().unwrap();
        assert_ne!(before, after);
        month.put(&log(), &after);
    };
    test(change, Verdict::Proven, &[]);
}

#[test]
fn removed_log_file_is_reported() {
    test(|month| month.remove(&log()), Verdict::Differences, &[(Kind::MissingFile, log())]);
}

#[test]
fn added_log_file_is_reported() {
    let added = log_key(Date::constant(2026, 1, 15), 7);
    let change = |month: &TrailBucket| month.put(&added, &gzip(&inflate(month, &log())));
    test(change, Verdict::Differences, &[(Kind::ExtraFile, added.clone())]);
}

/// The digest of an hour without log files.
#[test]
fn removed_digest_is_reported() {
    let key = digest_key(DateTime::constant(2026, 1, 15, 3, 0, 0, 0));
    test(|month| month.remove(&key), Verdict::Differences, &[(Kind::MissingDigest, key.clone())]);
}

#[test]
fn changed_digest_is_reported() {
    let key = digest_key(DateTime::constant(2026, 1, 15, 3, 0, 0, 0));
    let change = |month: &TrailBucket| {
        let mut content: Value = serde_json::from_str(&inflate(month, &key)).unwrap();
        content["oldestEventTime"] = json!("2026-01-15T02:00:00Z");
        month.put(&key, &gzip(&content.to_string()));
    };
    test(change, Verdict::Differences, &[(Kind::InvalidDigest, key.clone())]);
}

#[test]
fn digest_signed_with_another_key_is_reported() {
    let key = digest_key(DateTime::constant(2026, 1, 15, 3, 0, 0, 0));
    let change = |month: &TrailBucket| {
        let signature = sign_digest(&digest_signing_key("other"), &inflate(month, &key));
        month.put(&format!("{key}.sig"), signature.as_bytes());
    };
    test(change, Verdict::Differences, &[(Kind::InvalidDigest, key.clone())]);
}

#[test]
fn digest_of_unknown_key_is_reported() {
    let key = digest_key(DateTime::constant(2026, 1, 15, 3, 0, 0, 0));
    let change = |month: &TrailBucket| {
        let content = inflate(month, &key)
            .replace(r#""digestPublicKeyFingerprint":"trail""#, r#""digestPublicKeyFingerprint":"other""#);
        month.put(&key, &gzip(&content));
        month.put(&format!("{key}.sig"), sign_digest(&digest_signing_key("other"), &content).as_bytes());
    };
    test(change, Verdict::Differences, &[(Kind::InvalidDigest, key.clone())]);
}

#[test]
fn digest_at_another_object_key_is_reported() {
    let (from, to) = (
        digest_key(DateTime::constant(2026, 1, 15, 3, 0, 0, 0)),
        digest_key(DateTime::constant(2026, 1, 15, 3, 0, 1, 0)),
    );
    let change = |month: &TrailBucket| {
        for ending in ["", ".sig"] {
            std::fs::rename(month.path(&format!("{from}{ending}")), month.path(&format!("{to}{ending}"))).unwrap();
        }
    };
    let expected = [(Kind::InvalidDigest, to.clone()), (Kind::MissingDigest, from.clone())];
    test(change, Verdict::Differences, &expected);
}

/// A copy made without the signatures' metadata: each digest but the last is proven by the next one.
#[test]
fn copy_without_signatures_is_proven_except_for_its_end() {
    let last = digest_key(DateTime::constant(2026, 2, 1, 2, 0, 0, 0));
    let change = |month: &TrailBucket| {
        let mut end = DateTime::constant(2026, 1, 1, 1, 0, 0, 0);
        while end <= DateTime::constant(2026, 2, 1, 2, 0, 0, 0) {
            month.remove(&format!("{}.sig", digest_key(end)));
            end += jiff::ToSpan::hour(1);
        }
    };
    test(change, Verdict::Undecided, &[(Kind::Unproven, last.clone())]);
}

#[test]
fn chain_that_ends_early_is_undecided() {
    let chain =
        "AWSLogs/123456789012/CloudTrail-Digest/us-east-1/123456789012_CloudTrail-Digest_us-east-1_trail_us-east-1";
    let change = |month: &TrailBucket| {
        let mut end = DateTime::constant(2026, 1, 31, 23, 0, 0, 0);
        while end <= DateTime::constant(2026, 2, 1, 2, 0, 0, 0) {
            month.remove(&digest_key(end));
            end += jiff::ToSpan::hour(1);
        }
    };
    test(change, Verdict::Undecided, &[(Kind::Unproven, chain.to_owned())]);
}

/// An hour's digest with its log files: their events have no proof.
#[test]
fn removed_digest_of_log_files_leaves_them_unproven() {
    let month = TrailBucket::write();
    month.remove(&digest());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(report(&month));
    let found: Vec<_> = report.findings().map(|it| (it.kind, it.subject.clone())).collect();
    assert_eq!((report.unproven_files(), found), (2, vec![(Kind::MissingDigest, digest())]));
}

/// Several hours' digests: the next one names the last of them.
#[test]
fn chain_cut_in_the_middle_is_named() {
    let hours = [3, 4, 5].map(|hour| digest_key(DateTime::constant(2026, 1, 15, hour, 0, 0, 0)));
    let change = |month: &TrailBucket| hours.iter().for_each(|key| month.remove(key));
    test(change, Verdict::Differences, &[(Kind::MissingDigest, hours[2].clone())]);
}

/// The new chain has no digest before it, so that nothing proves what was before.
#[test]
fn trail_that_was_created_again_is_undecided() {
    let restart = Some(DateTime::constant(2026, 1, 15, 3, 0, 0, 0));
    let month = TrailBucket::write_as(TrailShape { restart, ..TrailShape::default() });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(report(&month));
    let found: Vec<_> = report.findings().map(|it| (it.kind, it.reason.as_str())).collect();
    let reason = "the chain ends at 2026-01-15T03:00:00Z and begins again at 2026-01-15T03:00:00Z: logging was off, or the \
                  trail was created again";
    assert_eq!((report.verdict(), &found[..]), (Verdict::Undecided, &[(Kind::Unproven, reason)][..]));
}

/// Returns the report of a month with a log file in a folder of its own at noon, which a digest lists if `is_listed`.
fn report_with_folder(folder: &str, event: &Value, is_listed: bool) -> Report {
    let write = |month: &TrailBucket, hour: DateTime| {
        if hour != DateTime::constant(2026, 1, 15, 12, 0, 0, 0) {
            return Vec::new();
        }
        let key = log().replace("CloudTrail", folder);
        let times = ("2026-01-15T11:00:00Z", "2026-01-15T11:00:00Z");
        let listed = month.put_log(&key, &json!({ "Records": [event] }).to_string(), times.0, times.1);
        if is_listed { vec![listed] } else { Vec::new() }
    };
    let month = TrailBucket::with_logs(Vec::new(), TrailShape::default(), write);
    tokio::runtime::Runtime::new().unwrap().block_on(report(&month))
}

/// Returns the folders of events that are not in `CloudTrail`, each with one of its events.
fn folders() -> [(&'static str, Value); 3] {
    let insight = json!({
        "eventID": "of the insight", "eventTime": "2026-01-15T11:00:00Z", "eventType": "AwsCloudTrailInsight",
        "awsRegion": "us-east-1", "recipientAccountId": "123456789012", "insightDetails": { "state": "Start" },
    });
    let network = json!({
        "eventVersion": "1.11", "eventID": "of the network", "eventTime": "2026-01-15T11:00:00Z",
        "eventType": "AwsVpceEvent", "eventCategory": "NetworkActivity", "errorCode": "VpceAccessDenied",
    });
    let window =
        json!({ "windowStart": "2026-01-15T11:00:00Z", "windowEnd": "2026-01-15T11:05:00Z", "windowSize": "PT5M" });
    let aggregated = json!({
        "eventVersion": "1.0", "accountId": "123456789012", "eventId": "of the window", "eventCategory": "Aggregated",
        "eventType": "AwsAggregatedEvent", "timeWindow": window, "summary": {},
    });
    [("CloudTrail-Insight", insight), ("CloudTrail-NetworkActivity", network), ("CloudTrail-Aggregated", aggregated)]
}

#[test]
fn listed_files_of_other_folders_are_proven() {
    for (folder, event) in folders() {
        let report = report_with_folder(folder, &event, true);
        assert_eq!((report.verdict(), report.proven_files(), report.events()), (Verdict::Proven, 1, 1), "{report}");
    }
}

#[test]
fn unlisted_files_of_other_folders_are_undecided() {
    for (folder, event) in folders() {
        let report = report_with_folder(folder, &event, false);
        assert_eq!(
            (report.verdict(), report.unproven_files(), report.events()),
            (Verdict::Undecided, 1, 1),
            "{report}"
        );
    }
}

/// Writes a log file that the hour's digest lacks, and the backfill digest that lists it; returns their keys.
pub(crate) fn write_late(month: &TrailBucket) -> (String, String) {
    let late = log_key(Date::constant(2026, 1, 15), 7);
    let listed = month.put_log(&late, &inflate(month, &log()), "2026-01-15T11:00:00Z", "2026-01-15T11:00:00Z");
    (late, month.write_backfill(DateTime::constant(2026, 1, 15, 12, 0, 0, 0), &[listed], None).key)
}

#[test]
fn log_file_of_a_backfill_digest_is_proven() {
    test(|month| drop(write_late(month)), Verdict::Proven, &[]);
}

#[test]
fn changed_log_file_of_a_backfill_digest_is_reported() {
    let late = log_key(Date::constant(2026, 1, 15), 7);
    let change = |month: &TrailBucket| {
        write_late(month);
        month.put(&late, &gzip(&inflate(month, &log()).replacen("eventName", "eventname", 1)));
    };
    test(change, Verdict::Differences, &[(Kind::ChangedFile, late.clone())]);
}

#[test]
fn changed_backfill_digest_is_reported() {
    let key = backfill_key(DateTime::constant(2026, 1, 15, 13, 0, 0, 0));
    let change = |month: &TrailBucket| {
        write_late(month);
        let content = inflate(month, &key).replacen("2026-01-15T11:00:00Z", "2026-01-15T10:00:00Z", 1);
        month.put(&key, &gzip(&content));
    };
    let late = log_key(Date::constant(2026, 1, 15), 7);
    let expected = [(Kind::InvalidDigest, key.clone()), (Kind::ExtraFile, late)];
    test(change, Verdict::Differences, &expected);
}

#[test]
fn backfill_digest_names_a_removed_one() {
    let removed = backfill_key(DateTime::constant(2026, 1, 15, 5, 0, 0, 0));
    let change = |month: &TrailBucket| {
        let first = month.write_backfill(DateTime::constant(2026, 1, 15, 4, 0, 0, 0), &[], None);
        let _ = month.write_backfill(DateTime::constant(2026, 1, 15, 5, 0, 0, 0), &[], Some(&first));
        month.remove(&first.key);
    };
    test(change, Verdict::Differences, &[(Kind::MissingDigest, removed.clone())]);
}

#[test]
fn removed_backfill_digest_leaves_an_extra_file() {
    let change = |month: &TrailBucket| month.remove(&write_late(month).1);
    let late = log_key(Date::constant(2026, 1, 15), 7);
    test(change, Verdict::Differences, &[(Kind::ExtraFile, late)]);
}

#[test]
fn organisation_trail_is_proven() {
    let month = TrailBucket::write_as(TrailShape { root: "AWSLogs/o-abc123/", ..TrailShape::default() });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let report = runtime.block_on(report(&month));
    assert_eq!((report.verdict(), report.proven_files()), (Verdict::Proven, 62), "{report}");
    assert_eq!(report.accounts.iter().collect::<Vec<_>>(), ["123456789012"]);
}
