//! The function's settings, read from its environment.

mod plan;
mod role_plan;
mod verification_plan;

use std::path::PathBuf;

use trailgate_client::{Endpoint, EndpointError, is_region};

pub use self::plan::SetupPlan;
pub use self::role_plan::{RolePlan, ThirdParty};
pub use self::verification_plan::{BucketFolder, VerificationPlan};
use crate::document::{DocumentId, DocumentOptions, IndexDay};

/// The settings of the function. They exist only if every value is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `ENDPOINT`: the domain, as `https://HOST` or `HOST` alone. Plain http to another machine needs
    /// `ALLOW_PLAINTEXT=true`.
    pub endpoint: Endpoint,
    /// The region of signatures: `REGION`, else the region that the endpoint names, else `AWS_REGION`.
    pub region: String,
    /// `SERVICE`, else the service that the endpoint names: `es` or `aoss`.
    pub service: String,
    /// `INDEX_PREFIX`, `DOCUMENT_ID` (`log_event_id`, the default, or `event_id`) and `INDEX_DAY` (`log_timestamp`, the
    /// default, or `event_time`): the index and id of documents. With `TIME_SERIES=true` they have no ids, because such
    /// collections of the service `aoss` accept none; an event that is sent twice is then indexed twice. `ACCESS_LOG`
    /// (`skip`, the default, or `index`): the handling of trailgate's access lines.
    pub document_options: DocumentOptions,
    /// `RETENTION_DAYS`: the age in days at which an index is deleted; never by default. `ENGINE_VERSION`, such as
    /// `Elasticsearch_5.6`: the domain's engine, if `GET /` does not report it.
    pub plan: SetupPlan,
    /// `SECURITY_API` and the roles: the function maps roles and indexes nothing; none by default.
    pub roles: Option<RolePlan>,
    /// `TRAIL` and its companions: the function verifies a day and indexes nothing; none by default.
    pub verification: Option<VerificationPlan>,
    /// `GZIP`: `true`, the default, compresses requests as long as the domain accepts that.
    pub gzip: bool,
    /// `CA_FILE`: the certificates that may sign the domain's, if not the platform's.
    pub ca_file: Option<PathBuf>,
}

/// An environment variable that is missing or invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct SettingsError {
    variable: &'static str,
    problem: String,
}

impl Settings {
    /// Reads the settings; `variable` returns the value of an environment variable. An empty one counts as missing,
    /// because a template sets it so where a parameter is left empty.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let environment = Environment(|name: &str| variable(name).filter(|value| !value.is_empty()));
        let endpoint = environment.endpoint()?;
        let region = environment.text("REGION").or_else(|| endpoint.region().map(str::to_owned));
        let region = region.or_else(|| environment.text("AWS_REGION"));
        if let Some(region) = region.as_ref().filter(|region| !is_region(region)) {
            return Err(problem("REGION", format!("{region:?} is not a region: write one like \"eu-west-1\"")));
        }
        let service = match environment.text("SERVICE") {
            Some(service) if service == "es" || service == "aoss" => Some(service),
            Some(other) => return Err(problem("SERVICE", format!("{other:?} is neither \"es\" nor \"aoss\""))),
            None => endpoint.service().map(str::to_owned),
        };
        let document_options = DocumentOptions {
            prefix: environment.text("INDEX_PREFIX").unwrap_or_else(|| DocumentOptions::default().prefix),
            id: environment
                .choice("DOCUMENT_ID", &[("log_event_id", DocumentId::LogEvent), ("event_id", DocumentId::EventId)])?,
            day: environment.choice(
                "INDEX_DAY",
                &[("log_timestamp", IndexDay::LogTimestamp), ("event_time", IndexDay::EventTime)],
            )?,
            access_log: environment.choice("ACCESS_LOG", &[("skip", false), ("index", true)])?,
        };
        let is_time_series = environment.flag("TIME_SERIES", false)?;
        if is_time_series && service.as_deref() != Some("aoss") {
            return Err(problem("TIME_SERIES", "needs the service \"aoss\""));
        }
        Ok(Self {
            region: region.ok_or_else(|| problem("REGION", "is not set, and ENDPOINT does not name a region"))?,
            service: service.ok_or_else(|| problem("SERVICE", "is not set, and ENDPOINT does not name a service"))?,
            plan: environment.plan(&document_options.prefix)?,
            roles: environment.role_plan(document_options.access_log)?,
            verification: environment.verification_plan()?,
            document_options: if is_time_series {
                DocumentOptions { id: DocumentId::None, ..document_options }
            } else {
                document_options
            },
            gzip: environment.flag("GZIP", true)?,
            ca_file: environment.text("CA_FILE").map(PathBuf::from),
            endpoint,
        })
    }
}

/// The environment variables that are set and not empty.
struct Environment<F>(F);

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn text(&self, variable: &str) -> Option<String> {
        (self.0)(variable)
    }

    fn flag(&self, variable: &'static str, default: bool) -> Result<bool, SettingsError> {
        let mut choices = [("true", true), ("false", false)];
        choices.rotate_left(usize::from(!default));
        self.choice(variable, &choices)
    }

    /// Returns the choice that the variable names; by default the first.
    fn choice<T: Copy>(&self, variable: &'static str, choices: &[(&str, T)]) -> Result<T, SettingsError> {
        let Some(text) = self.text(variable) else { return Ok(choices[0].1) };
        choices.iter().find(|(name, _)| *name == text).map(|&(_, value)| value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
            problem(variable, format!("{text:?} is invalid; write one of {}", names.join(", ")))
        })
    }

    fn endpoint(&self) -> Result<Endpoint, SettingsError> {
        let text = self.text("ENDPOINT").ok_or_else(|| problem("ENDPOINT", "is not set"))?;
        let endpoint =
            Endpoint::parse(&text).map_err(|error: EndpointError| problem("ENDPOINT", format!("{text:?} {error}")))?;
        if endpoint.is_exposed() && !self.flag("ALLOW_PLAINTEXT", false)? {
            return Err(problem(
                "ENDPOINT",
                "is plain http to another machine; write https, or set ALLOW_PLAINTEXT to true",
            ));
        }
        Ok(endpoint)
    }

    fn plan(&self, prefix: &str) -> Result<SetupPlan, SettingsError> {
        let retention = match self.text("RETENTION_DAYS") {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| {
                problem("RETENTION_DAYS", format!("{text:?} is not a number of days; write 1 or more"))
            })?),
        };
        let plan = SetupPlan::new(prefix, retention).filter(|_| prefix.len() <= PREFIX_BYTES).ok_or_else(|| {
            let advice = "write lower-case letters, digits, - or _, a letter first";
            problem("INDEX_PREFIX", format!("{prefix:?} cannot begin an index name; {advice}"))
        })?;
        let Some(engine) = self.text("ENGINE_VERSION") else { return Ok(plan) };
        let parsed = engine.parse().map_err(|error| problem("ENGINE_VERSION", format!("{engine:?} {error}")))?;
        Ok(plan.with_engine(parsed))
    }
}

fn problem(variable: &'static str, problem: impl Into<String>) -> SettingsError {
    SettingsError { variable, problem: problem.into() }
}

/// Maximum bytes of a prefix: an index's name has at most 255, and the day needs ten.
const PREFIX_BYTES: usize = 200;

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const ENDPOINT: (&str, &str) = ("ENDPOINT", "https://search-trail-abc.eu-west-1.es.amazonaws.com");

    fn read(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::read(|name| {
            variables.iter().rev().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[track_caller]
    fn rejects(variables: &[(&str, &str)], expected: &str) {
        assert_eq!(read(variables).expect_err("these settings are wrong").to_string(), expected);
    }

    #[test]
    fn endpoint_alone_is_a_valid_configuration() {
        let settings = read(&[ENDPOINT, ("AWS_REGION", "us-east-1"), ("RETENTION_DAYS", "")]).unwrap();
        assert_eq!((settings.region.as_str(), settings.service.as_str()), ("eu-west-1", "es"));
        assert_eq!(settings.document_options, DocumentOptions::default());
        assert_eq!((Some(settings.plan), settings.gzip), (SetupPlan::new("cwl-", None), true));
    }

    #[test]
    fn every_setting_has_a_variable() {
        let settings = read(&[
            ("ENDPOINT", "http://search.example"),
            ("ALLOW_PLAINTEXT", "true"),
            ("AWS_REGION", "us-east-1"),
            ("SERVICE", "es"),
            ("INDEX_PREFIX", "trail-"),
            ("DOCUMENT_ID", "event_id"),
            ("INDEX_DAY", "event_time"),
            ("RETENTION_DAYS", "90"),
            ("ENGINE_VERSION", "Elasticsearch_6.8"),
            ("GZIP", "false"),
            ("ACCESS_LOG", "index"),
            ("CA_FILE", "/var/task/ca.pem"),
        ])
        .unwrap();
        assert_eq!(settings.region, "us-east-1");
        let document_options = DocumentOptions {
            prefix: "trail-".to_owned(),
            id: DocumentId::EventId,
            day: IndexDay::EventTime,
            access_log: true,
        };
        assert_eq!(settings.document_options, document_options);
        let plan =
            SetupPlan::new("trail-", NonZeroU32::new(90)).unwrap().with_engine("Elasticsearch_6.8".parse().unwrap());
        assert_eq!((settings.plan, settings.gzip), (plan, false));
        assert_eq!(settings.ca_file, Some(PathBuf::from("/var/task/ca.pem")));
    }

    #[test]
    fn time_series_collection_gets_no_document_ids() {
        let collection = ("ENDPOINT", "https://abc.eu-west-1.aoss.amazonaws.com");
        assert_eq!(read(&[collection, ("TIME_SERIES", "true")]).unwrap().document_options.id, DocumentId::None);
        rejects(&[ENDPOINT, ("TIME_SERIES", "true")], "TIME_SERIES: needs the service \"aoss\"");
    }

    #[test]
    fn settings_error_names_the_variable() {
        rejects(&[], "ENDPOINT: is not set");
        rejects(&[("ENDPOINT", "")], "ENDPOINT: is not set");
        rejects(
            &[("ENDPOINT", "https://a.test/x")],
            "ENDPOINT: \"https://a.test/x\" has a path: write only scheme and host",
        );
        rejects(
            &[("ENDPOINT", "http://a.test")],
            "ENDPOINT: is plain http to another machine; write https, or set ALLOW_PLAINTEXT to true",
        );
        rejects(
            &[("ENDPOINT", "a.test"), ("SERVICE", "es")],
            "REGION: is not set, and ENDPOINT does not name a region",
        );
        rejects(
            &[("ENDPOINT", "a.test"), ("REGION", "eu-west-1")],
            "SERVICE: is not set, and ENDPOINT does not name a service",
        );
        rejects(&[ENDPOINT, ("REGION", "moon")], "REGION: \"moon\" is not a region: write one like \"eu-west-1\"");
        rejects(&[ENDPOINT, ("SERVICE", "ec2")], "SERVICE: \"ec2\" is neither \"es\" nor \"aoss\"");
        rejects(
            &[ENDPOINT, ("DOCUMENT_ID", "id")],
            "DOCUMENT_ID: \"id\" is invalid; write one of log_event_id, event_id",
        );
        rejects(
            &[ENDPOINT, ("INDEX_DAY", "now")],
            "INDEX_DAY: \"now\" is invalid; write one of log_timestamp, event_time",
        );
        rejects(&[ENDPOINT, ("GZIP", "yes")], "GZIP: \"yes\" is invalid; write one of true, false");
        rejects(
            &[ENDPOINT, ("ENGINE_VERSION", "6.8")],
            "ENGINE_VERSION: \"6.8\" is not an engine and version; write one like Elasticsearch_5.6 or OpenSearch_2.19",
        );
        rejects(&[ENDPOINT, ("RETENTION_DAYS", "0")], "RETENTION_DAYS: \"0\" is not a number of days; write 1 or more");
        rejects(
            &[ENDPOINT, ("INDEX_PREFIX", "Trail-")],
            "INDEX_PREFIX: \"Trail-\" cannot begin an index name; write lower-case letters, digits, - or _, a letter first",
        );
    }
}
