//! The texts that people read, as snapshots: help, `check`, `allow`, `doctor`.
//!
//! After a change of a text: `INSTA_UPDATE=always cargo test -p trailgate --test integration texts`, and read the diff.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use fake_domain::{FakeDomain, Fault, Options, Times};
use tempfile::TempDir;

use crate::doctor::case::Case;
use crate::program::program_path;
use crate::support::patiently;

/// Runs the program, and returns its command line, its exit code and all that it prints. The folder of its files is
/// `FOLDER`.
fn run(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(program_path());
    let output = command.args(arguments).current_dir(folder).env_clear().stdin(Stdio::null()).output().unwrap();
    let mut text = format!("$ trailgate {}\n", arguments.join(" "));
    for stream in [output.stdout, output.stderr] {
        text += &String::from_utf8(stream).unwrap();
    }
    writeln!(text, "[exit code {}]\n", output.status.code().unwrap()).unwrap();
    // The warning that depends on the machine's limit of file descriptors.
    let is_fixed = |line: &&str| !line.contains("file descriptors");
    let text: String = text.lines().filter(is_fixed).flat_map(|line| [line, "\n"]).collect();
    text.replace(&folder.display().to_string(), "FOLDER")
}

fn folder(config: &str, allowlist: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("trailgate.toml"), config).unwrap();
    std::fs::write(folder.path().join("allowlist.toml"), allowlist).unwrap();
    folder
}

const ENDPOINT: &str = "[upstream]\nendpoint = \"https://search-trail-abc123.eu-west-1.es.amazonaws.com\"\n";

/// Entries whose state does not depend on the time of the test.
const ENTRIES: &str = "[[allow]]\ncidr = \"198.51.100.0/24\"\nname = \"Head office\"\naccess = \"full\"\n\n\
                       [[allow]]\ncidr = \"2001:db8:100::/48\"\nname = \"Head office\"\n\n\
                       [[allow]]\ncidr = \"203.0.113.7\"\nname = \"Auditor\"\naccess = \"view\"\n";

#[test]
fn help_of_each_command_matches_its_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let commands: [&[&str]; 13] = [
        &["--help"],
        &["-h"],
        &["run", "--help"],
        &["check", "--help"],
        &["status", "--help"],
        &["top", "--help"],
        &["doctor", "--help"],
        &["allow", "--help"],
        &["allow", "list", "--help"],
        &["allow", "add", "--help"],
        &["allow", "remove", "--help"],
        &["allow", "check", "--help"],
        &["allow", "who", "--help"],
    ];
    let texts: String = commands.iter().map(|arguments| run(folder.path(), arguments)).collect();
    let long: Vec<_> = texts.lines().filter(|line| line.chars().count() > 80).collect();
    assert_eq!(long, Vec::<&str>::new(), "help fits into 80 columns");
    insta::assert_snapshot!(texts);
}

#[test]
fn configuration_errors_match_their_snapshot() {
    let mistakes = [
        "",
        "[upstream]\n",
        "[upstream]\nendpoint = \"\"\n",
        "[upstream]\nendpoint = \"ftp://domain\"\n",
        "[upstream]\nendpoint = \"https://user@domain\"\n",
        "[upstream]\nendpoint = \"https://domain/path\"\n",
        "[upstream]\nendpoint = \"http://domain.test\"\n",
        "[upstream]\nendpoint = \"https://domain.test\"\n",
        "[aws]\nregion = \"moon\"\n",
        "[aws]\nassume_role = \"trailgate\"\n",
        "[aws]\nservice = \"s3\"\n",
        "[admin]\naddress = \"localhost:9180\"\n",
        "[listen]\naddress = \"localhost\"\n",
        "[listen]\ntrusted_proxies = [\"10.0.0.0/33\"]\n",
        "[listen]\nhosts = [\"a b\"]\n",
        "[listen]\ntrusted_origins = [\"dashboard.test\"]\n",
        "[listen]\nproxy_protocol = true\n",
        "[limits]\nmax_body = \"1 parsec\"\n",
        "[limits]\nmax_body = \"512 MiB\"\nbuffer_memory = \"1 MiB\"\n",
        "[limits]\nheader_timeout = \"soon\"\n",
        "[log]\nlevel = \"loud\"\n",
        "[log]\nformat = \"xml\"\n",
        "[log]\non_failure = \"panic\"\n",
        "[upstream]\nca_file = \"missing.pem\"\n",
        "[nginx]\n",
        "endpoint\n",
    ];
    let mut texts = String::new();
    for mistake in mistakes {
        let whole = match mistake.strip_prefix("[upstream]\n") {
            Some(rest) if !rest.contains("endpoint") && !rest.is_empty() => format!("{ENDPOINT}{rest}"),
            None if mistake.starts_with('[') => format!("{ENDPOINT}{mistake}"),
            _ => mistake.to_owned(),
        };
        let folder = folder(&whole, ENTRIES);
        writeln!(texts, "{whole}---").unwrap();
        texts += &run(folder.path(), &["check", "--config", "trailgate.toml"]);
    }
    insta::assert_snapshot!(texts);
}

#[test]
fn allowlist_errors_match_their_snapshot() {
    let mistakes = [
        "",
        "allow = []\n",
        "# [[allow]] cidr = \"10.0.0.1\" name = \"a\"\n",
        "[[allow]]\n",
        "[[allow]]\ncidr = \"10.0.0.300\"\nname = \"a\"\n",
        "[[allow]]\ncidr = \"10.0.0.1/24\"\nname = \"a\"\n",
        "[[allow]]\ncidr = \"10.0.0.0/24\"\n",
        "[[allow]]\ncidr = \"10.0.0.0/24\"\nname = \"\"\n",
        "[[allow]]\ncidr = \"10.0.0.0/24\"\nname = \"a\"\naccess = \"write\"\n",
        "[[allow]]\ncidr = \"10.0.0.0/24\"\nname = \"a\"\nexpires = \"tomorrow\"\n",
        "[[allow]]\ncidr = \"10.0.0.0/24\"\nname = \"a\"\nexpires = 2026-12-31\n",
        "[[allow]]\ncidr = \"10.0.0.0/24\"\nname = \"a\"\ncolour = \"red\"\n",
        "[[allow]]\ncidr = \"10.0.0.1\"\nname = \"a\"\n[[allow]]\ncidr = \"10.0.0.1/32\"\nname = \"b\"\n",
        "[[allow]]\ncidr = \"0.0.0.0/0\"\nname = \"everyone\"\naccess = \"full\"\n",
    ];
    let mut texts = String::new();
    for mistake in mistakes {
        let folder = folder(ENDPOINT, mistake);
        writeln!(texts, "{mistake}---").unwrap();
        texts += &run(folder.path(), &["check", "--config", "trailgate.toml"]);
    }
    insta::assert_snapshot!(texts);
}

#[test]
fn texts_of_allow_match_their_snapshot() {
    let folder = folder(ENDPOINT, ENTRIES);
    let commands: [&[&str]; 15] = [
        &["list"],
        &["who"],
        &["check", "198.51.100.4"],
        &["check", "203.0.113.8"],
        &["check", "somewhere"],
        &["add", "203.0.113.7", "--name", "Bob"],
        &["add", "203.0.113.9", "--name", ""],
        &["add", "203.0.113.9/24", "--name", "Bob"],
        &["add", "203.0.113.9", "--name", "Bob", "--dry-run"],
        &["add", "203.0.113.9", "--name", "Bob"],
        &["add", "203.0.113.7", "--name", "Bob", "--replace"],
        &["remove", "Head office"],
        &["remove", "10.0.0.1"],
        &["remove", "198.51.100.0/24"],
        &["remove", "nobody"],
    ];
    let mut texts = String::new();
    for arguments in commands {
        texts += &run(folder.path(), &[&["allow", "--config", "trailgate.toml"], arguments].concat());
    }
    insta::assert_snapshot!(texts);
}

#[tokio::test]
async fn texts_of_doctor_match_their_snapshot() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let case = Case::of(&domain);
    let mut texts = String::new();
    for (title, fault) in [
        ("a domain that answers", None),
        ("a domain that hangs up", Some(Fault::BreakOff)),
        ("a domain that is overloaded", Some(Fault::status(503, "busy"))),
    ] {
        domain.clear_faults();
        if let Some(fault) = fault {
            domain.fault(fault, Times::UntilCleared);
        }
        let output = patiently(case.command().output()).await.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let port = domain.url().rsplit_once(':').unwrap().1.trim_end_matches('/').to_owned();
        // The cause behind it is worded by the SDK and the system.
        let cut =
            |line: &str| line.split_once(": dispatch failure").map_or(line.to_owned(), |(head, _)| head.to_owned());
        let text: String = text.lines().map(|line| cut(line) + "\n").collect();
        let text = text.replace(&case.folder.path().display().to_string(), "FOLDER").replace(&port, "PORT");
        writeln!(texts, "# {title}\n{text}[exit code {}]\n", output.status.code().unwrap()).unwrap();
    }
    insta::assert_snapshot!(texts);
}
