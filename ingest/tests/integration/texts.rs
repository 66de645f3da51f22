//! The texts that people read, as snapshots: help, errors, the summary of `load`, the report of `verify`.
//!
//! After a change of a text: `INSTA_UPDATE=always cargo test -p trailgate-ingest --test integration texts`, and read the
//! diff.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;

use fake_domain::{FakeDomain, ItemRefusal, Options};
use jiff::civil::{Date, DateTime};
use tokio::process::Command;
use trailgate_ingest::verify::verify_bucket;
use trailgate_testkit::trail::{TrailBucket, digest_key, log_key};
use trailgate_testkit::{AWS_KEY, ReservedPort, gzip};

use crate::load::{record, records};
use crate::rig::with_timeout;
use crate::verify::bucket::inflate;
use crate::verify::evidence::{PERIOD, evidence, no_progress};

/// Runs the program, and returns its command line, its exit code and all that it prints. The folder of its files is
/// `FOLDER`, a port that `names` has is its name.
async fn run(folder: &Path, arguments: &[&str], names: &[(u16, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trailgate-ingest"));
    command.args(arguments).current_dir(folder).env_clear().envs(AWS_KEY).env("NO_COLOR", "1");
    let output = with_timeout(command.stdin(Stdio::null()).output()).await.unwrap();
    let mut text = format!("$ trailgate-ingest {}\n", arguments.join(" "));
    for stream in [output.stdout, output.stderr] {
        for line in String::from_utf8(stream).unwrap().lines() {
            text += without_time(line);
            text.push('\n');
        }
    }
    writeln!(text, "[exit code {}]\n", output.status.code().unwrap()).unwrap();
    let text = text.replace(&folder.display().to_string(), "FOLDER");
    names.iter().fold(text, |text, (port, name)| text.replace(&format!(":{port}"), &format!(":{name}")))
}

/// Returns a line of the log without its time, and every other line as it is.
fn without_time(line: &str) -> &str {
    let is_time = |word: &str| word.ends_with('Z') && word.starts_with("20");
    line.split_once(' ').filter(|(word, _)| is_time(word)).map_or(line, |(_, rest)| rest.trim_start())
}

#[tokio::test]
async fn help_of_each_command_matches_its_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 8] = [
        &["--help"],
        &["-h"],
        &["load", "--help"],
        &["verify", "--help"],
        &["dashboards", "--help"],
        &["write-dashboards", "--help"],
        &[],
        &["load"],
    ];
    let mut texts = String::new();
    for arguments in commands {
        texts += &run(folder.path(), arguments, &[]).await;
    }
    let long: Vec<_> = texts.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(long, Vec::<&str>::new(), "help fits into 80 columns");
    insta::assert_snapshot!(texts);
}

#[tokio::test]
async fn errors_match_their_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a.json", &records(&[record("1", "2026-01-30")]));
    write("there.html", "");
    write("text.json", "no keys");
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let closed = ReservedPort::bind().unwrap();
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let (unsigned, served) = (closed.url(), domain.url());
    let names = [(port(&unsigned), "CLOSED"), (port(&served), "DOMAIN")];
    let (no_region, unsigned) = ("https://es.example.com", &["--unsigned", "--endpoint", &unsigned][..]);
    let days = &["--from", "2026-01-01", "--to", "2026-01-31"][..];
    let cases: [&[&[&str]]; 22] = [
        &[&["load", "a.json", "--endpoint", no_region]],
        &[&["load", "a.json", "--endpoint", no_region, "--region", "moon"]],
        &[&["load", "a.json", "--endpoint", no_region, "--region", "eu-west-1"]],
        &[&["load", "a.json", "--endpoint", no_region, "--region", "eu-west-1", "--service", "s3"]],
        &[&["load", "a.json", "--endpoint", "http://es.example.com", "--unsigned"]],
        &[&["load", "a.json", "--endpoint", "https://es.example.com/path", "--unsigned"]],
        &[&["load", "a.json", "--endpoint", "ftp://es.example.com", "--unsigned"]],
        &[&["load", "a.json", "--index-prefix", "Trail-"], unsigned],
        &[&["load", "a.json", "--from", "soon"], unsigned],
        &[&["load", "a.json", "--from", "2026-02-01", "--to", "2026-01-31"], unsigned],
        &[&["load", "nowhere.json"], unsigned],
        &[&["load", "empty"], unsigned],
        &[&["load", "a.json", "--done", "empty"], unsigned],
        &[&["load", "a.json", "--failures", "there.html"], unsigned],
        &[&["load", "a.json"], unsigned],
        &[&["load", "a.json", "--endpoint", &served, "--region", "us-east-1", "--service", "es"]],
        &[&["verify", "empty", "--from", "2026-02-01", "--to", "2026-01-31"], unsigned],
        &[&["verify", "empty", "--report", "report.pdf"], days, unsigned],
        &[&["verify", "empty", "--report", "there.html"], days, unsigned],
        &[&["verify", "empty", "--public-keys", "nowhere.json"], days, unsigned],
        &[&["verify", "empty", "--public-keys", "text.json"], days, unsigned],
        &[&["write-dashboards", "nowhere"]],
    ];
    let mut texts = String::new();
    for arguments in cases {
        texts += &run(folder.path(), &arguments.concat(), &names).await;
    }
    insta::assert_snapshot!(texts);
}

fn port(url: &str) -> u16 {
    url.trim_end_matches('/').rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Files of every class: records, other services, and what cannot be read.
#[tokio::test]
async fn summary_of_load_matches_its_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.path().join("files").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let events: Vec<_> = (0..10).map(|id| record(&id.to_string(), "2026-01-30")).collect();
    write("a.json", records(&events).as_bytes());
    write("b.json", records(&[record("x", "2026-02-01")]).as_bytes());
    write("AWSLogs/123456789012/vpcflowlogs/eu-west-1/c.log.gz", b"");
    write("digest.json", br#"{"digestS3Bucket":"trail"}"#);
    write("empty.json", b"");
    write(".hidden.json", b"{}");
    write("picture.png", b"");
    write("archive.json", b"PK\x03\x04");
    write("notification.json", br#"{"s3Bucket":"trail","s3ObjectKey":["a/b.json.gz"]}"#);
    write("unknown.json", br#"{"one":1,"two":2,"three":3,"four":4,"five":5,"six":6,"seven":7}"#);
    write("broken.jsonl", b"{\"eventID\":}\n[1]\nnull\ntext\n{\"Records\":[{\"a\":\"");
    write("stream.json", br#"{"kinesis":{"data":"!"}}"#);
    write("delivery.json", br#"{"awslogs":{}}"#);
    write("depth.json", format!("{}{}", "[".repeat(13), "]".repeat(13)).as_bytes());
    let domain = FakeDomain::start(Options { is_open: true, ..Options::default() }).await.unwrap();
    domain.judge_items(|number, _| match number {
        0..2 => Some(ItemRefusal { status: 400, kind: "mapper_parsing_exception" }),
        2 => Some(ItemRefusal { status: 403, kind: "security_exception" }),
        _ => None,
    });
    let url = domain.url();
    let names = [(port(&url), "DOMAIN")];
    let connection = ["load", "files", "--to", "2026-01-31", "--unsigned", "--endpoint", &url];
    let mut texts = String::new();
    for more in [&["--dry-run"][..], &["--failures", "failures"], &["--failures", "failures"]] {
        texts += &run(folder.path(), &[&connection[..], more].concat(), &names).await;
    }
    insta::assert_snapshot!(texts);
}

/// A bucket with each change that its digests show.
#[tokio::test]
async fn report_of_verify_matches_its_snapshot() {
    let month = TrailBucket::write();
    let log = |day: i8, half: usize| log_key(Date::constant(2026, 1, day), half);
    let digest = |day: i8| digest_key(DateTime::constant(2026, 1, day, 6, 0, 0, 0));
    month.put(&log(3, 0), &gzip(&inflate(&month, &log(3, 1))));
    month.remove(&log(5, 0));
    let added = format!("{}9.json.gz", log(7, 0).trim_end_matches("0.json.gz"));
    month.put(&added, &gzip(&inflate(&month, &log(7, 0))));
    month.put(&log(9, 0), b"\x1f\x8bcut");
    month.remove(&digest(11));
    month.put(&digest(13), &gzip(&inflate(&month, &digest(13)).replace("123456789012", "123456789013")));
    month.put(&digest(15), b"{}");
    month.remove_last_digests();
    let report = verify_bucket(&evidence(&month, PERIOD).await, &no_progress()).await.unwrap();
    insta::assert_snapshot!(report.to_string().replace(&month.folder().display().to_string(), "FOLDER"));
}
