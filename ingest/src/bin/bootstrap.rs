//! The program of the Lambda function: starts once, then handles one invocation after another.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aws_credential_types::provider::ProvideCredentials as _;
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
use trailgate_ingest::function::reload::{ReloadRequest, ReloadResult};
use trailgate_ingest::function::verification::{VerifierAccess, VerifyRequest, VerifyResponse};
use trailgate_ingest::function::{BatchResponse, Function};
use trailgate_ingest::settings::{Settings, VerificationPlan};
use trailgate_ingest::setup::roles::{MappedRoles, map_roles};

// A function has a fraction of a processor, and one invocation at a time.
#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    start_log();
    let program = start().inspect_err(|error| tracing::error!(error = format!("{error:#}"), "cannot start"))?;
    let handler = service_fn(|event| invoke(&program, event));
    lambda_runtime::run(handler).await.map_err(|error| anyhow::anyhow!(error))
}

/// The state of the process from one invocation to the next.
struct Program {
    function: Function,
    settings: Settings,
    domain: Arc<Domain>,
}

fn start() -> anyhow::Result<Program> {
    let settings = Settings::read(|variable| std::env::var(variable).ok())?;
    let provider = provider(&settings.region, None);
    let domain = Arc::new(Domain::connect(&settings, provider).context("cannot create the client of the domain")?);
    let function = Function::new(&settings, Arc::clone(&domain), DeliveryLimits::default());
    Ok(Program { function, settings, domain })
}

/// The response to an invocation: the records that failed, the result of a reload or a verification, or the roles that are
/// mapped.
#[derive(Serialize)]
#[serde(untagged)]
enum FunctionResponse {
    Records(BatchResponse),
    Reload(ReloadResult),
    Roles(MappedRoles),
    Verify(VerifyResponse),
}

async fn invoke(program: &Program, event: LambdaEvent<Box<RawValue>>) -> Result<FunctionResponse, Diagnostic> {
    let left = event.context.deadline().duration_since(SystemTime::now()).unwrap_or_default();
    let deadline = Instant::now() + left.saturating_sub(MARGIN);
    if let Some(plan) = &program.settings.verification {
        let response = verify(program, plan, event.payload.get().as_bytes(), deadline).await.map_err(|error| {
            let message = format!("{error:#}");
            tracing::error!(error = message, request_id = event.context.request_id, "the verification failed");
            Diagnostic { error_type: "Verify".to_owned(), error_message: message }
        })?;
        if let VerifyResponse::Verified(verified) = &response {
            println!("{}", verified.metric_line(&event.context.env_config.function_name, Timestamp::now()));
        }
        return Ok(FunctionResponse::Verify(response));
    }
    // The payload is not read: a gate may invoke this function, and must not influence it.
    if let Some(plan) = &program.settings.roles {
        let mapped = map_roles(&program.domain, plan, deadline).await;
        return mapped.map(FunctionResponse::Roles).map_err(|error| {
            tracing::error!(%error, request_id = event.context.request_id, "cannot map the roles");
            Diagnostic { error_type: "Roles".to_owned(), error_message: error.to_string() }
        });
    }
    if let Some(request) = ReloadRequest::parse(event.payload.get().as_bytes()) {
        return reload(program, request, deadline).await.map(FunctionResponse::Reload).map_err(|error| {
            let message = format!("{error:#}");
            tracing::error!(error = message, request_id = event.context.request_id, "reload failed");
            Diagnostic { error_type: "Reload".to_owned(), error_message: message }
        });
    }
    let outcome = program.function.invoke(event.payload.get().as_bytes(), deadline, Timestamp::now()).await;
    println!("{}", outcome.metrics.line(&event.context.env_config.function_name, Timestamp::now()));
    outcome.response.map(FunctionResponse::Records).map_err(|error| {
        tracing::error!(%error, request_id = event.context.request_id, "invocation failed");
        Diagnostic { error_type: error.error_type().to_owned(), error_message: error.to_string() }
    })
}

async fn reload(
    program: &Program,
    request: anyhow::Result<ReloadRequest>,
    deadline: Instant,
) -> anyhow::Result<ReloadResult> {
    let client = aws_sdk_s3::Client::new(&sdk_config(&program.settings.region).await);
    let reloaded = request?.run(&program.settings, Arc::clone(&program.domain), &client, deadline).await?;
    tracing::info!(files = reloaded.files, events = reloaded.events, indexed = reloaded.indexed, "reloaded");
    Ok(reloaded)
}

async fn verify(
    program: &Program,
    plan: &VerificationPlan,
    payload: &[u8],
    deadline: Instant,
) -> anyhow::Result<VerifyResponse> {
    let pause = Instant::now() + plan.pause_after;
    let region = &program.settings.region;
    let credentials = provider(region, None).provide_credentials().await.context("there are no credentials of AWS")?;
    let access = VerifierAccess {
        domain: Arc::clone(&program.domain),
        s3: aws_sdk_s3::Client::new(&sdk_config(region).await),
        credentials,
        cloudtrail: std::env::var("AWS_ENDPOINT_URL_CLOUDTRAIL").ok(),
    };
    VerifyRequest::parse(payload, Timestamp::now())?.run(&program.settings, plan, &access, pause, deadline).await
}

fn start_log() {
    let lines =
        tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr).json().flatten_event(true);
    // With the runtime's own spans, which name the invocation of a line.
    let targets = Targets::new()
        .with_targets([("trailgate", tracing::Level::INFO), ("lambda_runtime", tracing::Level::INFO)])
        .with_default(tracing::Level::WARN);
    tracing_subscriber::registry().with(targets).with(lines).init();
}

/// The time before an invocation's end at which sending stops, so that the function still responds before Lambda ends
/// it.
const MARGIN: Duration = Duration::from_secs(2);
