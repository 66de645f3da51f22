//! The connection to a domain that the command line names.

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use trailgate_client::{Endpoint, provider, sdk_config};
use trailgate_ingest::domain::Domain;
use trailgate_ingest::settings::Settings;

use crate::args::Connection;

impl Connection {
    pub(super) fn domain(&self, settings: &Settings) -> anyhow::Result<Domain> {
        let provider = if self.unsigned {
            SharedCredentialsProvider::new(Credentials::new("unsigned", "unsigned", None, None, "unsigned"))
        } else {
            provider(&settings.region, None)
        };
        Domain::connect(settings, provider)
    }

    /// Adds a hint at `--unsigned` to the error of a domain over plain http, and of a domain of AWS.
    pub(super) fn with_hint(&self, error: anyhow::Error) -> anyhow::Error {
        let is_plain = self.endpoint.starts_with("http://");
        let is_aws = Endpoint::parse(&self.endpoint).is_ok_and(|endpoint| endpoint.service().is_some());
        let hint = match self.unsigned {
            false if is_plain => {
                "if the endpoint is a trailgate or a local server, add --unsigned: it needs no signature"
            }
            true if is_aws => "the endpoint is a domain of AWS, which needs a signature: remove --unsigned",
            _ => return error,
        };
        anyhow::anyhow!("{error:#}; {hint}")
    }
}

/// Reads the function's settings from flags instead of variables.
pub(super) fn settings(connection: &Connection) -> anyhow::Result<Settings> {
    let settings = Settings::read(|variable| match variable {
        "ENDPOINT" => Some(connection.endpoint.clone()),
        // A trailgate and a local server name neither, and do not verify signatures.
        "REGION" => connection.region.clone().or_else(|| connection.unsigned.then(|| "us-east-1".to_owned())),
        "SERVICE" => connection.service.clone().or_else(|| connection.unsigned.then(|| "es".to_owned())),
        "INDEX_PREFIX" => Some(connection.index_prefix.clone()),
        "AWS_REGION" | "ALLOW_PLAINTEXT" | "CA_FILE" | "ENGINE_VERSION" | "TIME_SERIES" | "GZIP" | "ACCESS_LOG" => {
            std::env::var(variable).ok()
        }
        // The same document for a file's record and for a delivery of CloudWatch Logs, and the same as the stack's
        // functions make of them, so that no event is indexed twice.
        "DOCUMENT_ID" => std::env::var(variable).ok().or_else(|| Some("event_id".to_owned())),
        "INDEX_DAY" => std::env::var(variable).ok().or_else(|| Some("event_time".to_owned())),
        _ => None,
    });
    settings.map_err(|error| anyhow::anyhow!("{}", in_flags(&error.to_string())))
}

/// Returns the message with flags in place of the function's variables.
fn in_flags(message: &str) -> String {
    let flags = [
        ("ENDPOINT", "--endpoint"),
        ("REGION", "--region"),
        ("SERVICE", "--service"),
        ("INDEX_PREFIX", "--index-prefix"),
    ];
    flags.iter().fold(message.to_owned(), |message, (variable, flag)| message.replace(variable, flag))
}

pub(super) async fn s3(region: &str) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::new(&sdk_config(region).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_names_the_flag_to_add_or_to_remove() {
        let hint = |endpoint: &str, unsigned| {
            let connection = Connection {
                endpoint: endpoint.to_owned(),
                region: None,
                service: None,
                index_prefix: "cwl-".to_owned(),
                unsigned,
            };
            connection.with_hint(anyhow::anyhow!("rejected")).to_string()
        };
        let domain = "https://search-trail-abc123.eu-west-1.es.amazonaws.com";
        assert!(hint("http://127.0.0.1:8080", false).contains("add --unsigned"));
        assert!(hint(domain, true).contains("remove --unsigned"));
        for (endpoint, unsigned) in [("http://127.0.0.1:8080", true), (domain, false), ("https://search.test", true)] {
            assert_eq!(hint(endpoint, unsigned), "rejected", "{endpoint}");
        }
    }
}
