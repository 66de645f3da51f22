//! A Kibana 5.1 in front of an Elasticsearch 5.6, as AWS's domains of that time had them, and what is in them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use fake_domain::Backend;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use trailgate_ingest::dashboards::SOURCE;
use trailgate_ingest::dashboards::install::{Installed, Plan, install};
use trailgate_ingest::dashboards::source::Source;
use trailgate_ingest::delivery::Limits;
use trailgate_ingest::domain::Domain;
use trailgate_ingest::function::Function;
use trailgate_ingest::settings::Settings;
use trailgate_ingest::setup;

/// Both servers on loopback; they end when this is dropped.
pub(crate) struct Stack {
    elasticsearch: u16,
    kibana: u16,
    _children: [Child; 2],
    _data: TempDir,
}

impl Stack {
    /// Downloads and builds what is missing, and starts both; `say` is told of what is under way.
    pub(crate) async fn start(say: impl Fn(&str)) -> anyhow::Result<Self> {
        say("Elasticsearch 5.6 (the first time it is downloaded: 54 MB, half a minute)");
        prepare("run.sh", &["elasticsearch-5.6", "--prepare"]).await?;
        say("Kibana 5.1 (the first time it is downloaded and bundled: 222 MB, three minutes)");
        prepare("kibana-5.1/run.sh", &["--prepare"]).await?;
        say("Both start (ten seconds)");
        let data = tempfile::tempdir()?;
        let (elasticsearch, kibana) = (free_port().await?, free_port().await?);
        let folder = data.path().display().to_string();
        let engine = script("run.sh", &["elasticsearch-5.6", &elasticsearch.to_string(), &folder]).spawn()?;
        answers(elasticsearch, "/_cluster/health?wait_for_status=yellow", "\"status\"").await?;
        let url = format!("http://127.0.0.1:{elasticsearch}");
        let pages = script("kibana-5.1/run.sh", &[&kibana.to_string(), &url]).spawn()?;
        answers(kibana, "/api/status", "\"overall\":{\"state\":\"green\"").await?;
        Ok(Self { elasticsearch, kibana, _children: [engine, pages], _data: data })
    }

    /// Both as what is behind a domain.
    pub(crate) fn backend(&self) -> Backend {
        let uri = |port| format!("http://127.0.0.1:{port}").parse().expect("it is a URI");
        Backend::PassOn { elasticsearch: uri(self.elasticsearch), kibana: Some(uri(self.kibana)) }
    }
}

/// Gives a domain the sample events by the function that ingests them, and the dashboards.
pub(crate) async fn fill(domain: &str, key: Credentials, now: Timestamp) -> anyhow::Result<Installed> {
    let settings = Settings::read(|variable| match variable {
        "ENDPOINT" => Some(domain.to_owned()),
        "REGION" => Some("eu-west-1".to_owned()),
        "SERVICE" => Some("es".to_owned()),
        _ => None,
    })?;
    let domain = Arc::new(Domain::connect(&settings, SharedCredentialsProvider::new(key))?);
    let function = Function::new(&settings, Arc::clone(&domain), Limits::default());
    let payload = delivery(&recent(now)?)?;
    let outcome = function.invoke(payload.to_string().as_bytes(), Instant::now() + START, now).await;
    outcome.answer.context("the events cannot be indexed")?;
    let source = Source::parse(SOURCE)?;
    let plan = Plan { source, pattern: "cwl-*".to_owned(), mapping: setup::mapping()?, is_forced: false };
    Ok(install(&domain, &plan, START).await?)
}

/// The sample events, which happened within an hour, as if they had within the six days up to `now`. One of the users
/// is made one of another account, for there is no third party in them.
fn recent(now: Timestamp) -> anyhow::Result<Vec<Value>> {
    let lines = BufReader::new(GzDecoder::new(EVENTS)).lines();
    let mut events: Vec<Value> = lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<anyhow::Result<_>>()?;
    let time = |event: &Value| -> anyhow::Result<Timestamp> { Ok(serde_json::from_value(event["eventTime"].clone())?) };
    let last = time(events.last().context("there are no events")?)?;
    for event in &mut events {
        let before = last.duration_since(time(event)?).as_secs() * STRETCH + LONGEST_LAG;
        let shifted = Timestamp::from_second(now.as_second() - before)?;
        event["eventTime"] = json!(shifted);
        if event["userIdentity"]["userName"] == "benjamin" {
            event["userIdentity"]["accountId"] = json!("210987654321");
            event["userIdentity"]["arn"] = json!("arn:aws:iam::210987654321:user/benjamin");
        }
    }
    Ok(events)
}

/// What Lambda is called with when CloudWatch Logs has these events, some minutes after they happened.
fn delivery(events: &[Value]) -> anyhow::Result<Value> {
    let events = events.iter().zip(0_i64..).map(|(event, nth)| {
        let time: Timestamp = serde_json::from_value(event["eventTime"].clone())?;
        let lag = if nth % 40 == 0 { LONGEST_LAG } else { 120 + nth * 37 % 210 };
        let logged = time.as_millisecond() + lag * 1000;
        Ok(json!({ "id": event["eventID"], "timestamp": logged, "message": event.to_string() }))
    });
    let batch = json!({
        "messageType": "DATA_MESSAGE",
        "owner": "123837392027",
        "logGroup": "CloudTrail/logs",
        "logStream": "123837392027_CloudTrail_us-east-1",
        "subscriptionFilters": ["all"],
        "logEvents": events.collect::<anyhow::Result<Vec<_>>>()?,
    });
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(batch.to_string().as_bytes())?;
    Ok(json!({ "awslogs": { "data": BASE64_STANDARD.encode(encoder.finish()?) } }))
}

fn script(name: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/engines").join(name));
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    command
}

async fn prepare(name: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let status = script(name, arguments).status().await?;
    anyhow::ensure!(status.success(), "{name} {} does not succeed", arguments.join(" "));
    Ok(())
}

/// A port that is free at this moment: neither server can pick one and say which.
async fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

/// Waits until the server's answer has `wanted` in it. Nothing tells when a server is up but the server.
async fn answers(port: u16, path: &str, wanted: &str) -> anyhow::Result<()> {
    let asked = async {
        while !answer(port, path).await.is_ok_and(|answer| answer.contains(wanted)) {
            sleep(Duration::from_millis(200)).await;
        }
    };
    timeout(START, asked).await.with_context(|| format!("the server at port {port} is not ready in time"))
}

async fn answer(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

const EVENTS: &[u8] = include_bytes!("../../data/cloudtrail/events.jsonl.gz");

/// Fifty minutes become six days.
const STRETCH: i64 = 170;

/// Of the events that were logged late, in seconds; most are within five minutes, as with CloudTrail.
const LONGEST_LAG: i64 = 1200;

/// On a busy machine, once all is downloaded.
const START: Duration = Duration::from_mins(5);
