//! The Lambda function's program: starts once, then answers invocation after invocation.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use jiff::Timestamp;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use trailgate::credentials;
use trailgate_ingest::delivery::Limits;
use trailgate_ingest::domain::Domain;
use trailgate_ingest::invocation::{Answer, Function};
use trailgate_ingest::settings::Settings;

// A function has a fraction of a processor, and one invocation at a time.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    start_log();
    let function = start().inspect_err(|error| tracing::error!(error = format!("{error:#}"), "cannot start"))?;
    let handler = service_fn(|event| invoke(&function, event));
    lambda_runtime::run(handler).await.map_err(|error| anyhow::anyhow!(error))
}

fn start() -> anyhow::Result<Function> {
    let settings = Settings::read(|variable| std::env::var(variable).ok())?;
    let provider = credentials::provider(&settings.region, None);
    let domain = Domain::connect(&settings, provider).context("cannot connect")?;
    Ok(Function::new(&settings, Arc::new(domain), Limits::default()))
}

async fn invoke(function: &Function, event: LambdaEvent<Box<RawValue>>) -> Result<Answer, Diagnostic> {
    let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let deadline = Instant::now() + left.saturating_sub(MARGIN);
    let outcome = function.invoke(event.payload.get().as_bytes(), deadline, Timestamp::now()).await;
    println!("{}", outcome.measures.line(&event.context.env_config.function_name, Timestamp::now()));
    outcome.answer.map_err(|error| {
        tracing::error!(%error, request_id = event.context.request_id, "the invocation failed");
        Diagnostic { error_type: error.kind().to_owned(), error_message: error.to_string() }
    })
}

fn start_log() {
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr).json().flatten_event(true);
    // With the runtime's own spans, which say which invocation a line is of.
    let targets = Targets::new()
        .with_targets([("trailgate", tracing::Level::INFO), ("lambda_runtime", tracing::Level::INFO)])
        .with_default(tracing::Level::WARN);
    tracing_subscriber::registry().with(targets).with(lines).init();
}

/// What is left of the time of an invocation when it stops sending, so that Lambda hears of it before it ends it.
const MARGIN: Duration = Duration::from_secs(2);
