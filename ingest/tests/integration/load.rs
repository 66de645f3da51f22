use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use trailgate_domain::{Domain, Fault};

use crate::payloads::gzip;
use crate::rig::{AWS_KEY, patiently};

/// What a run of the program left.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A folder of CloudTrail's files, and a domain to load them into.
pub(crate) struct Rig {
    domain: Domain,
    folder: TempDir,
    /// Where S3 is.
    pub(crate) s3: String,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self {
            domain: Domain::start(trailgate_domain::Options::default()).await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
            s3: String::new(),
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) async fn load(&self, arguments: &[&str], stdin: &[u8]) -> Ran {
        let mut child = self.start(arguments);
        let mut pipe = child.stdin.take().unwrap();
        // A program that does not read its standard input may be gone by now.
        let _ = pipe.write_all(stdin).await;
        drop(pipe);
        end(child).await
    }

    fn start(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_ingest"))
            .args(["load", "--endpoint", &self.domain.url(), "--region", "eu-west-1", "--service", "es"])
            .args(["--done", &self.path("done")])
            .args(arguments)
            .env_clear()
            .envs(AWS_KEY)
            .env("AWS_ENDPOINT_URL_S3", &self.s3)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// The ids of the documents that the domain was sent, in order.
    pub(crate) fn sent(&self) -> Vec<String> {
        let bulks = self.domain.seen().into_iter().filter(|seen| seen.target.starts_with("/_bulk"));
        let lines = bulks.flat_map(|seen| body(&seen).lines().step_by(2).map(str::to_owned).collect::<Vec<_>>());
        let id =
            |line: String| serde_json::from_str::<Value>(&line).unwrap()["index"]["_id"].as_str().unwrap().to_owned();
        lines.map(id).collect()
    }
}

/// Waits for the program's end.
async fn end(child: Child) -> Ran {
    let Output { status, stdout, stderr } = child.wait_with_output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

/// A request's body as text.
fn body(seen: &trailgate_domain::Seen) -> String {
    if seen.header("content-encoding") != Some("gzip") {
        return String::from_utf8(seen.body.to_vec()).unwrap();
    }
    std::io::read_to_string(flate2::read::GzDecoder::new(&seen.body[..])).unwrap()
}

pub(crate) fn record(id: &str, day: &str) -> Value {
    json!({ "eventID": id, "eventTime": format!("{day}T12:00:00Z"), "eventName": "GetObject", "recipientAccountId": "123456789012" })
}

pub(crate) fn records(records: &[Value]) -> String {
    json!({ "Records": records }).to_string()
}

#[tokio::test]
async fn all_events_of_a_folder_reach_the_index_by_their_own_ids() {
    let rig = Rig::new().await;
    rig.write("logs/2026/01/30/a.json.gz", gzip(&records(&[record("1", "2026-01-30"), record("2", "2026-01-30")])));
    rig.write("logs/2026/01/31/b.json", records(&[record("3", "2026-01-31")]));
    rig.write("logs/notes.txt", "no log");
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "3 events in 2 files, 3 indexed\n"), "{}", ran.stderr);
    assert_eq!(rig.sent(), ["1", "2", "3"]);
    assert!(!Path::new(&rig.path("done")).exists());
}

#[tokio::test]
async fn a_dry_run_says_what_it_would_do_and_asks_the_domain_nothing() {
    let rig = Rig::new().await;
    rig.write("a.json", records(&[record("1", "2026-01-30"), record("2", "2026-01-31")]));
    let ran = rig.load(&["--dry-run", &rig.path("a.json")], b"").await;
    let expected = "2 events in 1 files, 2 would be indexed\ncwl-2026.01.30: 1\ncwl-2026.01.31: 1\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected));
    assert!(rig.domain.seen().is_empty());
}

#[tokio::test]
async fn a_run_that_failed_goes_on_where_it_was() {
    let rig = Rig::new().await;
    rig.write("logs/a.json", records(&[record("1", "2026-01-30")]));
    rig.write("logs/b.json.gz", &gzip(&records(&[record("2", "2026-01-30")]))[..20]);
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    let failed = format!("1 events in 1 files, 1 indexed\nfailed: {}: is broken gzip data", rig.path("logs/b.json.gz"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.starts_with(&failed), "{}", ran.stdout);

    rig.write("logs/b.json.gz", gzip(&records(&[record("2", "2026-01-30")])));
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    let expected = "1 events in 1 files, 1 indexed\n1 files passed over: done before\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected));
    assert_eq!(rig.sent(), ["1", "2"]);
}

#[tokio::test]
async fn a_run_that_is_interrupted_goes_on_where_it_was() {
    let rig = Rig::new().await;
    // More than is gathered from files before it is sent.
    let large = |id: usize| {
        let mut record = record(&id.to_string(), "2026-01-30");
        record["requestParameters"] = "x".repeat(500_000).into();
        record
    };
    rig.write("logs/a.json", records(&(0..40).map(large).collect::<Vec<_>>()));
    rig.write("logs/b.json", records(&[record("last", "2026-01-30")]));
    rig.domain
        .judge_requests(|seen| seen.target.starts_with("/_bulk").then(|| Fault::Slow(Duration::from_millis(300))));
    let child = rig.start(&[&rig.path("logs")]);
    let pid = child.id().unwrap().to_string();
    patiently(async {
        while rig.sent().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
    let ran = end(child).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "40 events in 1 files, 40 indexed\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("interrupted; the same command goes on from here"), "{}", ran.stderr);

    rig.domain.clear_faults();
    let before = rig.sent().len();
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    let expected = "1 events in 1 files, 1 indexed\n1 files passed over: done before\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected));
    assert_eq!(rig.sent()[before..], ["last"]);
}

#[tokio::test]
async fn only_the_days_that_are_wanted_are_loaded() {
    let rig = Rig::new().await;
    rig.write("logs/2026/01/29/a.json", records(&[record("1", "2026-01-29")]));
    rig.write("logs/2026/01/30/b.json", records(&[record("2", "2026-01-29"), record("3", "2026-01-30")]));
    rig.write("logs/2026/01/31/c.json", records(&[record("4", "2026-01-31")]));
    let ran = rig.load(&["--from", "2026-01-30", "--to", "2026-01-30", &rig.path("logs")], b"").await;
    let expected = "1 events in 1 files, 1 indexed\n2 files passed over: of other days\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected));
    assert_eq!(rig.sent(), ["3"]);
}

#[tokio::test]
async fn standard_input_and_records_by_the_line_are_read() {
    let rig = Rig::new().await;
    let lines = format!("{}\n{}\n", record("1", "2026-01-30"), record("2", "2026-01-30"));
    let ran = rig.load(&["-"], lines.as_bytes()).await;
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "2 events in 1 files, 2 indexed\n"));
    assert_eq!(rig.sent(), ["1", "2"]);
}

#[tokio::test]
async fn digests_are_passed_over_and_payloads_of_cloudwatch_are_read() {
    let rig = Rig::new().await;
    rig.write("logs/digest.json", json!({ "digestS3Bucket": "b", "logFiles": [] }).to_string());
    let message = record("of the record", "2026-01-30").to_string();
    let events = json!([{ "id": "of the log event", "timestamp": 1_769_774_400_000_i64, "message": message }]);
    let delivery =
        json!({ "messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "g", "logStream": "s", "logEvents": events });
    rig.write("logs/delivery.json.gz", gzip(&delivery.to_string()));
    let ran = rig.load(&[&rig.path("logs")], b"").await;
    let expected = "1 events in 1 files, 1 indexed\n1 files passed over: digest files\n";
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), expected), "{}", ran.stderr);
    assert_eq!(rig.sent(), ["of the log event"]);
}

#[tokio::test]
async fn a_file_of_another_kind_is_named() {
    let rig = Rig::new().await;
    rig.write("a.json", "{\"a\":1}");
    rig.write("b.json", "no JSON");
    let ran = rig.load(&[&rig.path("a.json"), &rig.path("b.json")], b"").await;
    let unknown = "is no CloudTrail file: it has neither Records nor the payload of a subscription";
    let expected = format!(
        "0 events in 0 files, 0 indexed\nfailed: {}: {unknown}\nfailed: {}: is no JSON",
        rig.path("a.json"),
        rig.path("b.json")
    );
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.starts_with(&expected), "{}", ran.stdout);
}

#[tokio::test]
async fn a_path_that_is_not_there_is_named() {
    let rig = Rig::new().await;
    let ran = rig.load(&[&rig.path("nowhere")], b"").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains(&format!("ingest: {}: No such file", rig.path("nowhere"))), "{}", ran.stderr);
}
