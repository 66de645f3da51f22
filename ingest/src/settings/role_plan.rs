//! The plan for mapping roles in a domain with fine-grained access control.

use trailgate_client::RoleArn;

use super::{Environment, SettingsError, problem};

/// The IAM roles that the domain's own roles are mapped to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolePlan {
    /// `SECURITY_API`: the path of the security plug-in's API, `/_plugins/_security/api`, or on Elasticsearch
    /// `/_opendistro/_security/api`.
    pub api: String,
    /// `INGEST_ROLES`, separated by commas: they write events.
    pub ingest: Vec<RoleArn>,
    /// `AUDITOR_ROLE`: it reads events, and keeps saved objects.
    pub auditor: RoleArn,
    /// `EDITOR_ROLE`: it writes events and saved objects, and manages no users.
    pub editor: RoleArn,
    /// `VERIFIER_ROLE`: it searches events.
    pub verifier: Option<RoleArn>,
    /// `THIRD_PARTY_ROLE` and `THIRD_PARTY_ACCOUNT`: it reads the events of one account.
    pub third_party: Option<ThirdParty>,
    /// `ACCESS_LOG=index`: the roles that write events write trailgate's access lines, too.
    pub access_log: bool,
    /// `FORMER_MASTER_ROLE`: it is no longer the domain's master.
    pub former_master: Option<RoleArn>,
}

/// A role that reads the events of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThirdParty {
    /// The role.
    pub role: RoleArn,
    /// The account's id, 12 digits.
    pub account: String,
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    /// Returns the plan, or none without `SECURITY_API`.
    pub(super) fn role_plan(&self, access_log: bool) -> Result<Option<RolePlan>, SettingsError> {
        let Some(api) = self.text("SECURITY_API") else { return Ok(None) };
        if !APIS.contains(&api.as_str()) {
            return Err(problem("SECURITY_API", format!("{api:?} is invalid; write one of {}", APIS.join(", "))));
        }
        let required = |variable| self.role(variable)?.ok_or_else(|| problem(variable, "is not set"));
        let ingest = self.text("INGEST_ROLES").unwrap_or_default();
        let ingest = ingest.split(',').filter(|role| !role.is_empty());
        Ok(Some(RolePlan {
            api,
            ingest: ingest.map(|role| parse("INGEST_ROLES", role)).collect::<Result<_, _>>()?,
            auditor: required("AUDITOR_ROLE")?,
            editor: required("EDITOR_ROLE")?,
            verifier: self.role("VERIFIER_ROLE")?,
            third_party: self.third_party()?,
            access_log,
            former_master: self.role("FORMER_MASTER_ROLE")?,
        }))
    }

    fn third_party(&self) -> Result<Option<ThirdParty>, SettingsError> {
        match (self.role("THIRD_PARTY_ROLE")?, self.text("THIRD_PARTY_ACCOUNT")) {
            (None, None) => Ok(None),
            (Some(role), Some(account)) => {
                // It becomes a part of a query.
                let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
                let unknown =
                    || problem("THIRD_PARTY_ACCOUNT", format!("{account:?} is not an account id; write its 12 digits"));
                if is_account { Ok(Some(ThirdParty { role, account })) } else { Err(unknown()) }
            }
            (Some(_), None) => Err(problem("THIRD_PARTY_ACCOUNT", "is not set, but THIRD_PARTY_ROLE is; set both")),
            (None, Some(_)) => Err(problem("THIRD_PARTY_ROLE", "is not set, but THIRD_PARTY_ACCOUNT is; set both")),
        }
    }

    fn role(&self, variable: &'static str) -> Result<Option<RoleArn>, SettingsError> {
        self.text(variable).map(|text| parse(variable, &text)).transpose()
    }
}

fn parse(variable: &'static str, role: &str) -> Result<RoleArn, SettingsError> {
    role.parse().map_err(|error| problem(variable, format!("{error}")))
}

/// The API's path on OpenSearch, and on Elasticsearch 7.10.
const APIS: [&str; 2] = ["/_plugins/_security/api", "/_opendistro/_security/api"];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(changed: &[(&str, &str)]) -> Result<Option<RolePlan>, SettingsError> {
        let all = [
            ("SECURITY_API", "/_plugins/_security/api"),
            ("INGEST_ROLES", "arn:aws:iam::123456789012:role/Function,arn:aws:iam::123456789012:role/Reload"),
            ("AUDITOR_ROLE", "arn:aws:iam::123456789012:role/Auditor"),
            ("EDITOR_ROLE", "arn:aws:iam::123456789012:role/Editor"),
        ];
        let variables: Vec<_> = all.iter().chain(changed).collect();
        let environment = Environment(|name: &str| {
            let found = variables.iter().rev().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned()).filter(|value| !value.is_empty())
        });
        environment.role_plan(true)
    }

    #[track_caller]
    fn rejects(changed: &[(&str, &str)], expected: &str) {
        assert_eq!(read(changed).unwrap_err().to_string(), expected);
    }

    #[test]
    fn function_without_a_security_api_maps_no_roles() {
        assert_eq!(read(&[("SECURITY_API", "")]), Ok(None));
    }

    #[test]
    fn plan_names_all_roles() {
        let role = |name: &str| format!("arn:aws:iam::123456789012:role/{name}").parse::<RoleArn>().unwrap();
        let plan = read(&[
            ("VERIFIER_ROLE", "arn:aws:iam::123456789012:role/Verifier"),
            ("THIRD_PARTY_ROLE", "arn:aws:iam::123456789012:role/ThirdParty"),
            ("THIRD_PARTY_ACCOUNT", "222222222222"),
            ("FORMER_MASTER_ROLE", "arn:aws:iam::123456789012:role/Gate"),
        ]);
        let expected = RolePlan {
            api: "/_plugins/_security/api".to_owned(),
            ingest: vec![role("Function"), role("Reload")],
            auditor: role("Auditor"),
            editor: role("Editor"),
            verifier: Some(role("Verifier")),
            third_party: Some(ThirdParty { role: role("ThirdParty"), account: "222222222222".to_owned() }),
            access_log: true,
            former_master: Some(role("Gate")),
        };
        assert_eq!(plan, Ok(Some(expected)));
    }

    #[test]
    fn invalid_variable_is_reported() {
        rejects(
            &[("SECURITY_API", "/_security")],
            "SECURITY_API: \"/_security\" is invalid; write one of /_plugins/_security/api, /_opendistro/_security/api",
        );
        rejects(&[("EDITOR_ROLE", "")], "EDITOR_ROLE: is not set");
        rejects(
            &[("INGEST_ROLES", "Function")],
            "INGEST_ROLES: \"Function\" is not the ARN of a role: write one like \"arn:aws:iam::123456789012:role/trailgate\"",
        );
        let role = ("THIRD_PARTY_ROLE", "arn:aws:iam::123456789012:role/ThirdParty");
        rejects(&[role], "THIRD_PARTY_ACCOUNT: is not set, but THIRD_PARTY_ROLE is; set both");
        rejects(
            &[role, ("THIRD_PARTY_ACCOUNT", "2222\"}}")],
            "THIRD_PARTY_ACCOUNT: \"2222\\\"}}\" is not an account id; write its 12 digits",
        );
    }
}
