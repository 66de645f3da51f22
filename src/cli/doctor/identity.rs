//! The signer: the source of the credentials, and their owner according to STS.

use std::time::{Duration, SystemTime};

use anyhow::anyhow;
use aws_config::retry::RetryConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_sdk_sts::error::{ProvideErrorMetadata as _, SdkError};
use aws_sdk_sts::operation::get_caller_identity::GetCallerIdentityError;
use tokio::time::timeout;
use trailgate_client::RoleArn;

use super::report::Problem;
use crate::config::Config;
use crate::human::{join_sources, round_duration};

/// Finds credentials in the same places as the proxy.
pub(super) async fn find(config: &Config) -> anyhow::Result<Credentials> {
    let signing = &config.domain.signing;
    let provider = trailgate_client::provider(&signing.region, signing.assume_role.as_ref().map(RoleArn::as_str));
    let found = timeout(FIND_TIMEOUT, provider.provide_credentials()).await;
    Ok(found.map_err(|_| anyhow!("no credentials found within {} s", FIND_TIMEOUT.as_secs()))??)
}

/// Checks the credentials found at `now`, or the failure to find any.
pub(super) fn credentials(
    found: &anyhow::Result<Credentials>,
    assume_role: Option<&str>,
    now: SystemTime,
) -> Result<String, Problem> {
    let credentials = match (found, assume_role) {
        (Ok(credentials), _) => credentials,
        (Err(error), Some(role)) => {
            let advice = format!(
                "trailgate signs as aws.assume_role. The base credentials need sts:AssumeRole on it, and the trust policy of \
                 {role} has to name their owner.\n{WHERE}"
            );
            return Err(Problem::new(format!("no credentials: {error:#}"), advice));
        }
        (Err(error), None) => return Err(Problem::new(format!("no credentials: {error:#}"), WHERE)),
    };
    let (key, source) = (credentials.access_key_id(), trailgate_client::source(credentials));
    match credentials.expiry().map(|expiry| expiry.duration_since(now)) {
        None => Ok(format!("{key} from {source}, without an expiry")),
        Some(Ok(left)) => Ok(format!("{key} from {source}, valid for {}", round_duration(left))),
        Some(Err(ago)) => Err(Problem::new(
            format!("{key} from {source} expired {} ago", round_duration(ago.duration())),
            "Renew them at their source. On EC2 and ECS they renew themselves: check this machine's clock.",
        )),
    }
}

/// Requests the owner of the credentials from STS.
pub(super) async fn of(credentials: Credentials, region: &str) -> Identity {
    let sdk = trailgate_client::sdk_config(region).await;
    // A person waits, and a retry would bring no new information.
    let sts = aws_sdk_sts::config::Builder::from(&sdk).retry_config(RetryConfig::disabled());
    let sts = aws_sdk_sts::Client::from_conf(sts.credentials_provider(credentials).build());
    match timeout(STS_TIMEOUT, sts.get_caller_identity().send()).await {
        Ok(Ok(caller)) => caller.arn().map_or(Identity::Unknown("STS names no identity".to_owned()), Identity::of_arn),
        Ok(Err(error)) => read_error(&error),
        Err(_) => Identity::Unknown(format!("STS sends no response within {} s", STS_TIMEOUT.as_secs())),
    }
}

fn read_error(error: &SdkError<GetCallerIdentityError>) -> Identity {
    let service = error.as_service_error();
    match (service.and_then(|error| error.code()), error.raw_response()) {
        (Some(code), _) => {
            let message = service.and_then(|error| error.message()).unwrap_or(code).to_owned();
            let is_refused = REFUSALS.contains(&code);
            if is_refused {
                Identity::Refused(message)
            } else {
                Identity::Unknown(format!("STS rejects the call: {message}"))
            }
        }
        // The error has all of what the SDK cannot parse.
        (None, Some(response)) => {
            let status = response.status().as_u16();
            Identity::Unknown(format!(
                "a response of status {status} is not from STS: a proxy or AWS_ENDPOINT_URL is in between"
            ))
        }
        (None, None) => Identity::Unknown(format!("STS cannot be reached: {}", join_sources(error))),
    }
}

/// The owner of the credentials according to STS.
#[derive(Clone, Debug)]
pub(super) enum Identity {
    /// The ARN of a user, or of a session in a role.
    Known(String),
    /// STS rejected the credentials as unknown or expired.
    Refused(String),
    /// STS did not identify the owner. This is harmless: the proxy does not use STS.
    Unknown(String),
}

impl Identity {
    fn of_arn(arn: &str) -> Self {
        Self::Known(arn.to_owned())
    }

    pub(super) fn arn(&self) -> Option<&str> {
        match self {
            Self::Known(arn) => Some(arn),
            Self::Refused(_) | Self::Unknown(_) => None,
        }
    }
}

/// Error codes of STS for credentials that a domain rejects as well.
const REFUSALS: [&str; 4] =
    ["ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"];

const WHERE: &str = "Credentials are read from the environment (AWS_ACCESS_KEY_ID and so on), in the profile that \
                     AWS_PROFILE names, as a web identity, from ECS, and as the instance's role. On EC2: give the \
                     instance a role, and allow it the metadata service (IMDSv2, hop limit 2 from within a container).";

/// The timeout for all credential providers together.
const FIND_TIMEOUT: Duration = Duration::from_secs(20);
const STS_TIMEOUT: Duration = Duration::from_secs(5);
