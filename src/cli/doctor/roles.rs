//! The roles that sign requests: whether the base credentials can assume each, and what the domain lets it do.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use hyper::{Method, StatusCode};
use serde_json::json;
use trailgate_client::{CredentialCache, RoleArn, SessionUser, Signer, Target, UpstreamError};

use super::denial::Context;
use super::diagnose::forbidden;
use super::network::{self, Answer, Caller};
use super::report::{Problem, Report};
use super::{Reachable, SignerIdentity};
use crate::config::Config;
use crate::policy::allowlist::Entries;
use crate::policy::grant::Access;

/// Checks the roles that `config` and its allowlist name, or `only`.
pub(super) async fn check(
    config: &Config,
    only: Option<&RoleArn>,
    reachable: Option<&Reachable>,
    base: Option<&SignerIdentity>,
    report: &mut Report,
) {
    let mut roles = named(config);
    if let Some(only) = only {
        let is_for_readers = roles.get(only).copied().unwrap_or(true);
        roles = BTreeMap::from([(only.clone(), is_for_readers)]);
    }
    let Some(base) = base else {
        if !roles.is_empty() {
            report.add_unknown("role", "not tried without credentials");
        }
        return;
    };
    for (role, is_for_readers) in roles.iter().take(MAX_ROLES) {
        let access = if *is_for_readers { Access::Read } else { Access::Full };
        match assume(config, role, access, base).await {
            Ok(credentials) => {
                report.add("role", Ok(format!("{role} can be assumed")));
                if let Some(reachable) = reachable {
                    try_out(config, role, *is_for_readers, &credentials, reachable, report).await;
                }
            }
            Err(reason) => report.add("role", Err(not_assumed(role, &reason, base.identity.arn()))),
        }
    }
    if let Some(more) = roles.len().checked_sub(MAX_ROLES).filter(|more| *more > 0) {
        report.add_unknown("role", format!("{more} more roles are not tried: --role ARN checks one"));
    }
}

/// Assumes `role` as the proxy does. The error is AWS's reason.
pub(super) async fn assume(
    config: &Config,
    role: &RoleArn,
    access: Access,
    base: &SignerIdentity,
) -> Result<Credentials, String> {
    let (cache, refresher) = CredentialCache::new(SharedCredentialsProvider::new(base.credentials.clone()));
    let assumer = config.roles.settings.clone().assumer(cache);
    let user = SessionUser::new("trailgate-doctor", access.name());
    let provider = assumer(role, &user);
    tokio::select! {
        found = provider.provide_credentials() => found.map_err(|error| trailgate_client::innermost(&error)),
        () = refresher.run() => Err("the renewal of the base credentials has ended".to_owned()),
    }
}

/// Returns the roles by ARN, and whether entries that may only read use them.
fn named(config: &Config) -> BTreeMap<RoleArn, bool> {
    let defaults = &config.roles.defaults;
    let configured = [(defaults.read.as_ref(), true), (defaults.full.as_ref(), false)];
    let configured = configured.into_iter().filter_map(|(role, is_for_readers)| Some((role?.clone(), is_for_readers)));
    let mut roles = BTreeMap::new();
    // A list with a mistake has a step of its own.
    let entries = Entries::load(&config.allowlist).unwrap_or_default();
    let of_entries = entries.iter().filter_map(|entry| Some((entry.role.clone()?, entry.access != Access::Full)));
    for (role, is_for_readers) in configured.chain(of_entries) {
        *roles.entry(role).or_default() |= is_for_readers;
    }
    roles
}

/// Returns the problem of a role that STS does not let the base credentials assume, with the statement that is missing.
fn not_assumed(role: &RoleArn, reason: &str, base: Option<&str>) -> Problem {
    let text = format!("{role} cannot be assumed: {reason}");
    let base = base.map_or_else(|| "the base role".to_owned(), super::denial::principal);
    let action = if reason.contains("sts:TagSession") { "sts:TagSession" } else { "sts:AssumeRole" };
    let permission = json!({ "Effect": "Allow", "Action": action, "Resource": role.as_str() });
    let trust = json!({ "Effect": "Allow", "Principal": { "AWS": base }, "Action": action });
    let permission = format!("to a policy of {base}:\n{permission:#}");
    let trust = format!("to the trust policy of {role}:\n{trust:#}");
    let advice = if !reason.starts_with("AccessDenied") {
        "Entries with this role get 503 until it can be assumed. A duration beyond the role's maximum, or beyond 1 h if the \
         base role is itself assumed, is set by aws.roles.session_duration."
            .to_owned()
    } else if reason.contains("explicit deny") {
        "Find the matching statement with \"Effect\": \"Deny\" in the policies of the base role, the trust policy, or those \
         of the organization. A Deny outweighs every Allow."
            .to_owned()
    } else if reason.contains("no identity-based policy") {
        format!("Add {permission}")
    } else if reason.contains("no resource-based policy") || reason.contains("trust policy") {
        format!("Add {trust}")
    } else {
        format!(
            "AWS does not say which side is missing, or whether the role exists. Add {permission}\nand add {trust}\nIf the \
             trust policy requires an external ID, set aws.roles.external_id."
        )
    };
    Problem::new(text, advice)
}

/// Tries a search, and for a role that reads a write, which must be rejected.
async fn try_out(
    config: &Config,
    role: &RoleArn,
    is_for_readers: bool,
    credentials: &Credentials,
    reachable: &Reachable,
    report: &mut Report,
) {
    let signing = &config.domain.signing;
    let endpoint = &config.domain.endpoint;
    let signer = Signer::new(endpoint.authority(), &signing.region, &signing.service);
    let context = Context {
        host: endpoint.host(),
        region: &signing.region,
        service: &signing.service,
        identity: Some(role.as_str()),
    };
    let send = async |method: Method, path: &str, query: &str| {
        let target = Target::canonical(path, Some(query)).expect("is canonical");
        let time = reachable.clock.at(SystemTime::now());
        let caller = Caller { signer: &signer, credentials, time };
        network::send(method, &reachable.upstream, &target, super::ANY, Some(caller)).await
    };
    let found = send(Method::GET, "/cwl-*/_search", "size=0&ignore_unavailable=true").await;
    report.add("role search", search(role, &found, &context));
    if is_for_readers {
        // Without an alias of this name a domain that permits the write answers 404, and writes nothing.
        let written = send(Method::PUT, "/cwl-trailgate-doctor/_doc/1", "require_alias=true").await;
        match write(role, &written) {
            Written::Rejected => report.add("role write", Ok(format!("{} cannot write", role.name()))),
            Written::Permitted(problem) => report.add_warning("role write", problem),
            Written::Unknown(text) => report.add_unknown("role write", text),
        }
    }
}

fn search(role: &RoleArn, answer: &Result<Answer, UpstreamError>, context: &Context<'_>) -> Result<String, Problem> {
    match answer {
        Ok(answer) if answer.status == StatusCode::OK => Ok(format!("{} can search cwl-*", role.name())),
        Ok(answer) if answer.status == StatusCode::FORBIDDEN => Err(forbidden(answer, context)),
        Ok(answer) => Err(Problem::new(
            format!("the domain responds to a search by {role} with {}", answer.status),
            "Check the domain's health in the AWS console.",
        )),
        Err(error) => Err(Problem::new(format!("no response to a search by {role}: {error}"), "Run doctor again.")),
    }
}

/// The outcome of the write that a role for reading must not make.
enum Written {
    Rejected,
    Permitted(Problem),
    Unknown(String),
}

fn write(role: &RoleArn, answer: &Result<Answer, UpstreamError>) -> Written {
    match answer {
        Ok(answer) if answer.status == StatusCode::FORBIDDEN => Written::Rejected,
        Ok(answer) if answer.status == StatusCode::NOT_FOUND || answer.status.is_success() => {
            let statement = json!({
                "Effect": "Allow",
                "Principal": { "AWS": role.as_str() },
                "Action": ["es:ESHttpPut", "es:ESHttpDelete", "es:ESHttpPatch"],
            });
            let advice = format!(
                "A gap in trailgate's route table would then be enough to alter events. With fine-grained access control \
                 remove the mapping of {role} to roles with write, crud, index or indices_all on cwl-*, such as \
                 all_access:\nGET _plugins/_security/api/rolesmapping\nWithout it remove from the access policies:\n\
                 {statement:#}"
            );
            Written::Permitted(Problem::new(format!("{role} signs for readers, and can write to cwl-*"), advice))
        }
        Ok(answer) => Written::Unknown(format!("the domain responds to a write by {role} with {}", answer.status)),
        Err(error) => Written::Unknown(format!("no response to a write by {role}: {error}")),
    }
}

/// The maximum number of roles that are tried, so that a long allowlist does not exhaust STS's quota.
const MAX_ROLES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn advises(reason: &str, expected: &[&str], unexpected: &str) {
        let role: RoleArn = "arn:aws:iam::123456789012:role/Auditor".parse().unwrap();
        let base = "arn:aws:sts::123456789012:assumed-role/trailgate/i-0abc";
        let problem = not_assumed(&role, reason, Some(base));
        assert!(problem.text.ends_with(reason), "{}", problem.text);
        for expected in expected {
            assert!(problem.advice.contains(expected), "{}", problem.advice);
        }
        assert!(!problem.advice.contains(unexpected), "{}", problem.advice);
    }

    #[test]
    fn missing_permission_differs_from_missing_trust() {
        let reason = "AccessDenied: User: a is not authorized to perform: sts:AssumeRole on resource: b";
        let permission = "to a policy of arn:aws:iam::123456789012:role/trailgate:";
        let trust = "to the trust policy of arn:aws:iam::123456789012:role/Auditor:";
        let because = |cause: &str| format!("{reason} because no {cause} policy allows the sts:AssumeRole action");
        advises(&because("identity-based"), &[permission, "\"Resource\""], "trust policy");
        advises(&because("resource-based"), &[trust, "\"Principal\""], "to a policy of");
        advises(reason, &[permission, trust, "external_id"], "Deny");
        advises(&format!("{reason} with an explicit deny in a service control policy"), &["Deny"], "Add");
        let tags = "AccessDenied: User: a is not authorized to perform: sts:TagSession on resource: b";
        advises(tags, &["sts:TagSession"], "\"sts:AssumeRole\"");
        advises("ValidationError: DurationSeconds exceeds", &["session_duration"], "Add");
    }
}
