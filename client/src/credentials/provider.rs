//! Credential providers: AWS's default credential chain, and a role to assume.

use std::time::Duration;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_sts::config::SharedHttpClient;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;

/// Returns AWS's default credential chain ("Standardized credential providers" in the AWS SDKs and Tools Reference
/// Guide). With `assume_role` (an ARN), the chain's credentials assume that role.
#[must_use]
pub fn provider(region: &str, assume_role: Option<&str>) -> SharedCredentialsProvider {
    SharedCredentialsProvider::new(Chain { region: region.to_owned(), assume_role: assume_role.map(str::to_owned) })
}

/// Returns the configuration of AWS's own clients: the default credential chain, HTTP over the same TLS library as
/// requests to the domain, and a timeout for the beginning of a response, which these clients do not have by default.
pub async fn sdk_config(region: &str) -> SdkConfig {
    let region = Region::new(region.to_owned());
    let timeouts = TimeoutConfig::builder().read_timeout(READ_TIMEOUT).build();
    let defaults = aws_config::defaults(BehaviorVersion::latest());
    defaults.http_client(http()).region(region).timeout_config(timeouts).load().await
}

fn http() -> SharedHttpClient {
    aws_smithy_http_client::Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https()
}

/// Loads the platform's root certificates for AWS's clients now. They load them only once per process, with the first
/// client: if connections hold all file descriptors at that time, there are no roots for the rest of the process.
pub fn load_sdk_roots() {
    let config = aws_sdk_sts::Config::builder().behavior_version(BehaviorVersion::latest()).http_client(http());
    drop(aws_sdk_sts::Client::from_conf(config.build()));
}

/// A provider that reads every source at each fetch. AWS's own chain caches: profiles from its start, a metadata token
/// that the service no longer accepts, and the last keys, which it returns again if it gets no others.
#[derive(Debug)]
struct Chain {
    region: String,
    assume_role: Option<String>,
}

impl Chain {
    async fn fetch(&self) -> provider::Result {
        let sdk = sdk_config(&self.region).await;
        let Some(role) = &self.assume_role else {
            let chain = sdk.credentials_provider();
            let chain = chain.ok_or_else(|| CredentialsError::not_loaded("there is no chain of AWS credentials"))?;
            return chain.provide_credentials().await;
        };
        let assumed = AssumeRoleProvider::builder(role).session_name("trailgate").configure(&sdk).build().await;
        assumed.provide_credentials().await
    }
}

impl ProvideCredentials for Chain {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.fetch())
    }
}

/// The longest time until a response begins. A connection that a firewall dropped never gets one.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_of_aws_have_timeouts() {
        let config = sdk_config("eu-west-1").await;
        let timeouts = config.timeout_config().unwrap();
        assert_eq!(timeouts.read_timeout(), Some(READ_TIMEOUT));
        assert!(timeouts.connect_timeout().is_some());
    }
}
