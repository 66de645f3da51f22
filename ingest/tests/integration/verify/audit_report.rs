//! The report that an auditor files.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::json;
use tokio::process::Command;
use trailgate_ingest::verify::audit_report::{AuditContext, ReportFile};
use trailgate_ingest::verify::verify_bucket;
use trailgate_testkit::{gzip, repository};

use super::bucket::inflate;
use super::evidence::{PERIOD, evidence, no_progress};
use trailgate_testkit::trail::{TrailBucket, log_key};

const HOSTILE: &str = "<img src=x onerror=alert(1)>|`[a](b)\u{202e}.json.gz";

/// Writes the report of a bucket with a removed file and an added one with a hostile name.
async fn write_report(month: &TrailBucket, name: &str) -> String {
    let log = log_key(Date::constant(2026, 1, 15), 0);
    let added = format!("{}{HOSTILE}", log.trim_end_matches("0.json.gz"));
    month.put(&added, &gzip(&inflate(month, &log)));
    month.remove(&log);
    let report = verify_bucket(&evidence(month, PERIOD).await, &no_progress()).await.unwrap();
    let context = AuditContext {
        time: Timestamp::UNIX_EPOCH,
        path: "s3://trail/AWSLogs".to_owned(),
        endpoint: "https://domain.test".to_owned(),
        prefix: "cwl-".to_owned(),
        keys: "keys.json".to_owned(),
        period: PERIOD,
    };
    let file = month.path(name);
    ReportFile::parse(&file).unwrap().write(&context, None, &report).unwrap();
    std::fs::read_to_string(file).unwrap()
}

#[tokio::test]
async fn report_says_what_was_compared_and_found() {
    let month = TrailBucket::write();
    let report = write_report(&month, "evidence.md").await;
    for line in [
        "Verdict: differences: not everything is as CloudTrail delivered it.",
        "| Period | 2026-01-01 to 2026-01-31, days in UTC, both included |",
        "| Accounts | 123456789012 |",
        "| Regions | us-east-1 |",
        "| Verified at | 1970-01-01T00:00:00Z |",
        "- Key fingerprint: trail",
        "| 2026-01-15 | 16 |",
    ] {
        assert!(report.contains(line), "{line}\n{report}");
    }
    assert!(report.contains("| missing\\_file | 2026-01-15 | AWSLogs/"), "{report}");
    let hostile = r"\<img src=x onerror=alert(1)\>\|\`\[a\](b)\\u{202e}.json.gz | no digest lists this file |";
    assert!(report.contains(hostile), "{report}");
}

#[test]
fn report_file_of_another_kind_or_that_exists_is_rejected() {
    let error = |path: &Path| ReportFile::parse(path).unwrap_err().to_string();
    assert_eq!(error(Path::new("evidence.pdf")), "--report evidence.pdf: the name must end with .html or .md");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evidence.html");
    std::fs::write(&path, "").unwrap();
    assert!(error(&path).ends_with("exists already; name another file"), "{}", error(&path));
}

#[tokio::test]
#[ignore = "needs Node and Chromium"]
async fn report_is_a_valid_and_accessible_page() {
    let month = TrailBucket::write();
    let body = write_report(&month, "evidence.html").await;
    assert!(body.contains("&lt;img src=x onerror=alert(1)&gt;"), "{body}");
    let pages =
        json!([{ "name": "evidence", "headers": { "content-type": "text/html; charset=utf-8" }, "body": body }]);
    month.put("pages.json", pages.to_string().as_bytes());
    let browser = repository("tests/browser");
    let install = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&browser).output().await;
    assert!(install.unwrap().status.success());
    let screenshots = repository("target/pages");
    std::fs::create_dir_all(&screenshots).unwrap();
    let mut check = Command::new("node");
    check.arg(browser.join("pages.mjs")).arg(month.path("pages.json")).arg(screenshots).kill_on_drop(true);
    let checked = check.output().await.unwrap();
    let (problems, errors) = (String::from_utf8_lossy(&checked.stdout), String::from_utf8_lossy(&checked.stderr));
    assert_eq!(problems.trim(), "[]", "{errors}");
}
