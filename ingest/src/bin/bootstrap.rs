//! The Lambda function's program: starts once, then answers invocation after invocation.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use jiff::Timestamp;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use trailgate_client::{provider, sdk_config};
use trailgate_ingest::delivery::DeliveryLimits;
use trailgate_ingest::domain::Domain;
use trailgate_ingest::function::reload::{Reload, Reloaded};
use trailgate_ingest::function::{Answer, Function};
use trailgate_ingest::settings::Settings;

// A function has a fraction of a processor, and one invocation at a time.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    start_log();
    let program = start().inspect_err(|error| tracing::error!(error = format!("{error:#}"), "cannot start"))?;
    let handler = service_fn(|event| invoke(&program, event));
    lambda_runtime::run(handler).await.map_err(|error| anyhow::anyhow!(error))
}

/// What lives from one invocation to the next.
struct Program {
    function: Function,
    settings: Settings,
    domain: Arc<Domain>,
}

fn start() -> anyhow::Result<Program> {
    let settings = Settings::read(|variable| std::env::var(variable).ok())?;
    let provider = provider(&settings.region, None);
    let domain = Arc::new(Domain::connect(&settings, provider).context("cannot connect")?);
    let function = Function::new(&settings, Arc::clone(&domain), DeliveryLimits::default());
    Ok(Program { function, settings, domain })
}

/// The answer to an invocation: the records that failed, or what a reload came to.
#[derive(Serialize)]
#[serde(untagged)]
enum Reply {
    Records(Answer),
    Reloaded(Reloaded),
}

async fn invoke(program: &Program, event: LambdaEvent<Box<RawValue>>) -> Result<Reply, Diagnostic> {
    let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let deadline = Instant::now() + left.saturating_sub(MARGIN);
    if let Some(wanted) = Reload::parse(event.payload.get().as_bytes()) {
        return reload(program, wanted, deadline).await.map(Reply::Reloaded).map_err(|error| {
            let message = format!("{error:#}");
            tracing::error!(error = message, request_id = event.context.request_id, "the reload failed");
            Diagnostic { error_type: "Reload".to_owned(), error_message: message }
        });
    }
    let outcome = program.function.invoke(event.payload.get().as_bytes(), deadline, Timestamp::now()).await;
    println!("{}", outcome.measures.line(&event.context.env_config.function_name, Timestamp::now()));
    outcome.answer.map(Reply::Records).map_err(|error| {
        tracing::error!(%error, request_id = event.context.request_id, "the invocation failed");
        Diagnostic { error_type: error.kind().to_owned(), error_message: error.to_string() }
    })
}

async fn reload(program: &Program, wanted: anyhow::Result<Reload>, deadline: Instant) -> anyhow::Result<Reloaded> {
    let client = aws_sdk_s3::Client::new(&sdk_config(&program.settings.region).await);
    let reloaded = wanted?.run(&program.settings, Arc::clone(&program.domain), &client, deadline).await?;
    tracing::info!(files = reloaded.files, events = reloaded.events, indexed = reloaded.indexed, "reloaded");
    Ok(reloaded)
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
