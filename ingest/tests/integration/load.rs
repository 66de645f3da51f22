/// The checkpoint, and runs that are interrupted.
mod checkpoint;

/// Access lines in files.
mod access_log;

/// Faults of the domain during a run.
mod faults;

/// Files as the field keeps them.
mod files;

/// Files of every framing and nesting.
mod property;

/// Messages to the operator.
mod messages;

use std::collections::BTreeSet;
use std::process::{Output, Stdio};

use fake_domain::{FakeDomain, Seen};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use trailgate_testkit::{AWS_KEY, repository};

use crate::rig;

/// The exit code and output of a run of the program.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A folder of CloudTrail's files, and a domain to load them into.
pub(crate) struct Rig {
    /// The domain, and a signed way to look into it.
    signed: rig::Rig,
    folder: TempDir,
    /// The endpoint of S3.
    pub(crate) s3: String,
    /// `ACCESS_LOG` in the program's environment.
    access_log: &'static str,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self { signed: rig::Rig::new().await, folder: tempfile::tempdir().unwrap(), s3: String::new(), access_log: "" }
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
        self.load_into(&self.signed.stand_in.url(), arguments, stdin).await
    }

    /// Loads into the domain at another address.
    async fn load_into(&self, endpoint: &str, arguments: &[&str], stdin: &[u8]) -> Ran {
        let mut child = self.start(endpoint, arguments);
        let mut pipe = child.stdin.take().unwrap();
        // A program that does not read its standard input may be gone by now.
        let _ = pipe.write_all(stdin).await;
        drop(pipe);
        end(child).await
    }

    fn start(&self, endpoint: &str, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_trailgate-ingest"))
            .args(["load", "--endpoint", endpoint, "--region", "eu-west-1", "--service", "es"])
            .args(arguments)
            .args(if arguments.contains(&"--done") { Vec::new() } else { vec!["--done".to_owned(), self.path("done")] })
            .env_clear()
            .envs(AWS_KEY)
            .env("AWS_ENDPOINT_URL_S3", &self.s3)
            .env("ACCESS_LOG", self.access_log)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    fn domain(&self) -> &FakeDomain {
        &self.signed.stand_in
    }

    /// Returns the ids of the documents in the index, as soon as the domain behaves again.
    async fn indexed(&self) -> BTreeSet<String> {
        self.domain().clear_faults();
        let reply = self.signed.get("/cwl-*/_search?size=1000000").await;
        let hits = reply["hits"]["hits"].as_array().unwrap();
        let ids: BTreeSet<String> = hits.iter().map(|hit| hit["_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(ids.len(), hits.len(), "a document is there twice");
        ids
    }

    /// Returns the names of the indices that have documents.
    async fn indices(&self) -> BTreeSet<String> {
        let reply = self.signed.get("/cwl-*/_search?size=1000000").await;
        let hits = reply["hits"]["hits"].as_array().unwrap();
        hits.iter().map(|hit| hit["_index"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns the ids of the documents that were sent to the domain, in order.
    pub(crate) fn sent(&self) -> Vec<String> {
        let bulks = self.domain().seen().into_iter().filter(|seen| seen.target.starts_with("/_bulk"));
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

/// Returns a request's body as text.
fn body(seen: &Seen) -> String {
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

/// Returns the path of an input in the repository.
fn sample(name: &str) -> String {
    repository("tests/data/ingest").join(name).display().to_string()
}

/// Asserts the exit code, and the first line of the output.
#[track_caller]
pub(crate) fn assert_ran(ran: &Ran, code: i32, first_line: &str) {
    let Ran { code: ended, stdout, stderr } = ran;
    assert_eq!((*ended, stdout.lines().next().unwrap_or_default()), (Some(code), first_line), "{stdout}{stderr}");
}

/// Asserts that the output has this line.
#[track_caller]
pub(crate) fn assert_says(ran: &Ran, line: &str) {
    assert!(ran.stdout.lines().any(|said| said == line), "no {line:?} in {}{}", ran.stdout, ran.stderr);
}
