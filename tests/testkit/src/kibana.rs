use std::process::Stdio;

use anyhow::Context as _;
use fake_domain::Backend;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::access_lines::sample_access_lines;
use crate::engine::{Engine, Server, script};
use crate::{AWS_KEY, ENGINE_START, FakeLambda, ReservedPort, function, pack_log_data, program, sample_events};

/// A Kibana 5.1 and its Elasticsearch 5.6, as in AWS's domains of that time; both stop when this is dropped.
#[derive(Debug)]
pub struct KibanaStack {
    elasticsearch: Engine,
    kibana: Server,
}

impl KibanaStack {
    /// Downloads and builds what is missing, starts both, and calls `report` with each step.
    pub async fn start(report: impl Fn(&str)) -> anyhow::Result<Self> {
        report("Preparing Elasticsearch 5.6 (the first time: downloads 54 MB, half a minute)");
        run(script("run.sh").args(["elasticsearch-5.6", "--prepare"])).await?;
        report("Preparing Kibana 5.1 (the first time: downloads 222 MB and bundles it, three minutes)");
        run(script("kibana-5.1/run.sh").arg("--prepare")).await?;
        report("Starting both (ten seconds)");
        let elasticsearch = Engine::start("elasticsearch-5.6", &[]).await?;
        let (port, folder) = (ReservedPort::bind()?, tempfile::tempdir()?);
        let mut command = script("kibana-5.1/run.sh");
        command.args([&port.number().to_string(), &elasticsearch.url()]);
        let ready = "\"overall\":{\"state\":\"green\"";
        let kibana = Server::start(command, port, folder, "/api/status", ready).await?;
        Ok(Self { elasticsearch, kibana })
    }

    /// Returns both as the backend of a fake domain.
    #[must_use]
    pub fn backend(&self) -> Backend {
        Backend::PassOn { elasticsearch: self.elasticsearch.uri(), kibana: Some(self.kibana.uri()) }
    }
}

/// Fills a domain that accepts [`AWS_KEY`] with the sample events and with access lines, through the ingest function, and
/// installs the dashboards. Returns the installer's report.
pub async fn fill(domain: &str, now: Timestamp) -> anyhow::Result<String> {
    let batches = [logged(&recent(now)?)?, logged_access_lines(&sample_access_lines(now)?)?];
    let mut lambda = FakeLambda::start(ENGINE_START).await?;
    let mut function = function(&[("AWS_LAMBDA_RUNTIME_API", lambda.address()), ("ENDPOINT", domain), INDEXED])?
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the function")?;
    for batch in batches {
        let payload = json!({ "awslogs": { "data": pack_log_data(&batch) } });
        let (path, answer) = tokio::select! {
            answer = lambda.invoke(payload) => answer?,
            ended = function.wait() => anyhow::bail!("the function ended without a response: {}", ended?),
        };
        anyhow::ensure!(path.ends_with("/response"), "the function did not index the events: {answer}");
    }

    let mut installer = Command::new(program("trailgate-ingest")?);
    installer.args(["dashboards", "--endpoint", domain, "--region", "eu-west-1", "--service", "es"]);
    let output =
        installer.env_clear().envs(AWS_KEY).envs([INDEXED]).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    anyhow::ensure!(output.status.success(), "cannot install the dashboards: {stderr}");
    Ok(String::from_utf8(output.stdout)?)
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.stdout(Stdio::null()).status().await?;
    anyhow::ensure!(status.success(), "{:?}: {status}", command.as_std());
    Ok(())
}

/// Returns the sample events, which span an hour, spread over the six days before `now`. Moves one of the users to
/// another account, because the sample has no third party.
fn recent(now: Timestamp) -> anyhow::Result<Vec<Value>> {
    let mut events = sample_events()?;
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

/// Returns the batch that `CloudWatch` Logs delivers for these events, some minutes after they occurred.
fn logged(events: &[Value]) -> anyhow::Result<Value> {
    let events = events.iter().zip(0_i64..).map(|(event, nth)| {
        let lag = if nth % 40 == 0 { LONGEST_LAG } else { 120 + nth * 37 % 210 };
        let logged = time(event)?.as_millisecond() + lag * 1000;
        Ok(json!({ "id": event["eventID"], "timestamp": logged, "message": event.to_string() }))
    });
    Ok(json!({
        "messageType": "DATA_MESSAGE",
        "owner": "123837392027",
        "logGroup": "CloudTrail/logs",
        "logStream": "123837392027_CloudTrail_us-east-1",
        "subscriptionFilters": ["all"],
        "logEvents": events.collect::<anyhow::Result<Vec<_>>>()?,
    }))
}

/// Returns the batch of a subscription of trailgate's log group.
fn logged_access_lines(lines: &[Value]) -> anyhow::Result<Value> {
    let events = lines.iter().zip(0..).map(|(line, nth)| {
        let time: Timestamp = serde_json::from_value(line["time"].clone())?;
        Ok(json!({ "id": format!("{nth:056}"), "timestamp": time.as_millisecond(), "message": line.to_string() }))
    });
    Ok(json!({
        "messageType": "DATA_MESSAGE",
        "owner": "123837392027",
        "logGroup": "/trailgate/gate",
        "logStream": "i-0abc",
        "subscriptionFilters": ["all"],
        "logEvents": events.collect::<anyhow::Result<Vec<_>>>()?,
    }))
}

fn time(event: &Value) -> anyhow::Result<Timestamp> {
    Ok(serde_json::from_value(event["eventTime"].clone())?)
}

/// The setting by which access lines are indexed, and their dashboard is installed.
const INDEXED: (&str, &str) = ("ACCESS_LOG", "index");

/// Stretches the fifty minutes of the sample to six days.
const STRETCH: i64 = 170;

/// The delay of late events in seconds. Most are logged within five minutes, as by `CloudTrail`.
const LONGEST_LAG: i64 = 1200;
