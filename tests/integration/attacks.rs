//! Requests by which a client with a read grant could do harm, and similar ones that the pages send.
//!
//! `tests/data/attacks.jsonl` holds them, one a line, and grows with each that is found. `{ui}` stands for the prefix of
//! Kibana and of Dashboards. A line that `passes` must reach the domain, so that no rule holds by rejecting everything.

use std::fmt::Write as _;
use std::io::Write as _;

use bytes::Bytes;
use fake_domain::{Answer, Fault, Times};
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use serde::Deserialize;
use serde_json::Value;

use crate::support::{Rig, Setup, allow, json};

const TABLE: &str = include_str!("../data/attacks.jsonl");

/// A line of the table.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    what: String,
    method: String,
    target: String,
    #[serde(default = "json_type")]
    content_type: String,
    #[serde(default)]
    body: String,
    #[serde(default)]
    passes: bool,
}

/// A way to send the same request.
#[derive(Clone, Copy, Debug)]
enum Spelling {
    Plain,
    /// With a compressed body.
    Gzip,
    /// With another type for the same JSON.
    Suffix,
    /// With an escape in each name of the JSON.
    Escaped,
    /// With blanks in the JSON.
    Blanks,
}

const SPELLINGS: [Spelling; 5] =
    [Spelling::Plain, Spelling::Gzip, Spelling::Suffix, Spelling::Escaped, Spelling::Blanks];

impl Line {
    /// Returns the request in a spelling, or `None` if it cannot be spelled so.
    fn request(&self, spelling: Spelling) -> Option<Request<Full<Bytes>>> {
        let is_json = self.content_type == json_type() && !self.body.is_empty();
        let parsed = serde_json::from_str::<Value>(&self.body).ok();
        // A name that is there twice would be lost by parsing.
        let parsed = parsed.filter(|value| value.to_string().len() == self.body.len());
        let (mut content_type, mut coding, mut body) =
            (self.content_type.clone(), None, self.body.clone().into_bytes());
        match spelling {
            Spelling::Plain => {}
            Spelling::Gzip if !self.body.is_empty() => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&body).unwrap();
                body = encoder.finish().unwrap();
                coding = Some("gzip");
            }
            Spelling::Suffix if is_json => {
                content_type = "application/vnd.elasticsearch+json; compatible-with=7".into();
            }
            Spelling::Escaped if is_json => body = escaped(&parsed?).into_bytes(),
            Spelling::Blanks if is_json => body = serde_json::to_vec_pretty(&parsed?).unwrap(),
            _ => return None,
        }
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.target).header("host", "gate.test");
        if !body.is_empty() {
            request = request.header("content-type", content_type);
        }
        if let Some(coding) = coding {
            request = request.header("content-encoding", coding);
        }
        // Without these the pages' servers answer 400.
        let request = request.header("kbn-version", "5.1.1").header("osd-xsrf", "osd-fetch");
        Some(request.body(Full::new(body.into())).unwrap())
    }
}

/// Returns the lines that pass, or those that do not, once for each prefix that `{ui}` stands for.
fn lines(passes: bool, prefixes: &[&str]) -> Vec<Line> {
    let lines = TABLE.lines().map(|line| serde_json::from_str::<Line>(line).unwrap());
    lines
        .filter(|line| line.passes == passes)
        .flat_map(|line| {
            let count = if line.target.contains("{ui}") { prefixes.len() } else { 1 };
            prefixes[..count].iter().map(move |prefix| {
                let target = line.target.replace("{ui}", prefix);
                Line { target, ..line.clone() }
            })
        })
        .collect()
}

/// Returns JSON with the first character of each name escaped.
fn escaped(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(escaped).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let mut text = String::new();
            for (name, value) in members {
                let (first, rest) = name.split_at(1);
                let comma = if text.is_empty() { "" } else { "," };
                let quoted = Value::from(rest).to_string();
                write!(text, "{comma}\"\\u{:04x}{}:{}", first.as_bytes()[0], &quoted[1..], escaped(value)).unwrap();
            }
            format!("{{{text}}}")
        }
        other => other.to_string(),
    }
}

fn json_type() -> String {
    "application/json".to_owned()
}

/// Sends every attack in every spelling, and asserts that each is rejected.
pub(crate) async fn all_are_rejected(rig: &Rig, prefixes: &[&str]) {
    let (mut count, mut wrong) = (0, String::new());
    for line in lines(false, prefixes) {
        for spelling in SPELLINGS {
            let Some(request) = line.request(spelling) else { continue };
            let response = rig.send(request).await;
            count += 1;
            let kind = || json(&response)["error"]["type"].clone();
            if response.status() != StatusCode::FORBIDDEN || kind() != "read_only_grant" {
                let Line { what, method, target, body, .. } = &line;
                writeln!(wrong, "{} {what}: {spelling:?} {method} {target} {body}", response.status()).unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 1000, "{count} attacks");
}

/// Sends what the pages send, and returns the statuses of the answers with what was asked.
pub(crate) async fn page_responses(rig: &Rig, prefixes: &[&str]) -> Vec<(StatusCode, String)> {
    let mut answers = Vec::new();
    for line in lines(true, prefixes) {
        let request = line.request(Spelling::Plain).unwrap();
        answers.push((rig.send(request).await.status(), format!("{} {} {}", line.method, line.target, line.body)));
    }
    answers
}

#[tokio::test]
async fn every_attack_is_rejected_in_every_spelling() {
    let rig = Rig::with(Setup { allow: allow("127.0.0.1").replace("full", "read"), ..Setup::default() }).await;
    rig.learn_engine().await;
    let before = rig.domain.seen().len();
    all_are_rejected(&rig, &["/_plugin/kibana", "/_dashboards", "/_dashboards/w/x"]).await;
    // The proxy itself requests whether an access log exists.
    let seen = rig.domain.seen();
    let others = seen[before..].iter().filter(|seen| !(seen.method == "HEAD" && seen.target.starts_with("/gate-%2A?")));
    assert_eq!(others.count(), 0);
}

#[tokio::test]
async fn request_of_kibana_pages_passes_in_every_spelling() {
    let rig = Rig::with(Setup { allow: allow("127.0.0.1").replace("full", "read"), ..Setup::default() }).await;
    rig.learn_engine().await;
    // The response of a domain to the end of a scroll: one that the stand-in does not know must not stay counted.
    rig.domain
        .fault(Fault::Answer(Answer { status: 404, headers: Vec::new(), body: Bytes::new() }), Times::UntilCleared);
    for line in lines(true, &["/_plugin/kibana", "/_dashboards"]) {
        for spelling in SPELLINGS {
            let Some(request) = line.request(spelling) else { continue };
            let before = rig.domain.seen().len();
            let response = rig.send(request).await;
            let reason = String::from_utf8_lossy(response.body()).into_owned();
            assert_eq!(rig.domain.seen().len(), before + 1, "{spelling:?} {line:?} {reason}");
        }
    }
}
