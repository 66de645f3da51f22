//! A 403 not caused by the signature: the layer that denied, the principal and action, and the policy that would allow
//! it.
//!
//! There are three layers, in the order of "Fine-grained access control in Amazon OpenSearch Service": the network, the
//! access policies, which AWS checks in front of the domain, and the roles of the domain's own security plugin.

use serde_json::{Value, json};

use super::report::Problem;

/// The layer that denied the request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Denial {
    /// An access policy, checked by AWS in front of the domain.
    Policy {
        /// The ARN of the signer.
        user: String,
        /// The action, for instance `es:ESHttpGet`.
        action: String,
        /// The ARN of the requested resource, if AWS names it.
        resource: Option<String>,
        /// The policy responsible, if AWS names it.
        cause: Cause,
    },
    /// A role of the domain's security plugin.
    Role {
        /// The missing permission, for instance `cluster:monitor/main`.
        permission: String,
        /// The plugin's name of the signer: the ARN of the role.
        user: String,
    },
    /// A serverless collection, which states no cause.
    Collection,
    /// An unrecognized response.
    Unknown,
}

/// The policy that lacks an `Allow` or has a `Deny`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The domain's access policy; also assumed if AWS does not say.
    Domain,
    /// A policy of the role or user that signs.
    Identity,
    /// An explicit `Deny`, which overrides every `Allow`.
    Explicit,
}

/// The facts besides the denial that the advice depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context<'a> {
    /// The domain's host name.
    pub(super) host: &'a str,
    pub(super) region: &'a str,
    pub(super) service: &'a str,
    /// The signer's ARN according to STS.
    pub(super) identity: Option<&'a str>,
}

impl Denial {
    /// Parses the body of a 403.
    pub(super) fn read(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<Value>(body) else { return Self::Unknown };
        let text = |pointer| body.pointer(pointer).and_then(Value::as_str);
        if let Some(message) = text("/Message").or(text("/message")) {
            return Self::of_policy(message).unwrap_or(Self::Unknown);
        }
        match text("/error/reason") {
            Some(reason) if reason.starts_with("no permissions for ") => Self::of_role(reason).unwrap_or(Self::Unknown),
            Some("403 Forbidden") => Self::Collection,
            _ => Self::Unknown,
        }
    }

    /// Parses `User: ARN is not authorized to perform: ACTION [on resource: ARN] [because …|with an explicit deny …]`.
    fn of_policy(message: &str) -> Option<Self> {
        let (user, rest) = message.strip_prefix("User: ")?.split_once(" is not authorized to perform: ")?;
        let action = rest.split_whitespace().next()?;
        let resource = rest.split_once(" on resource: ").and_then(|(_, rest)| rest.split_whitespace().next());
        let cause = if rest.contains("explicit deny") {
            Cause::Explicit
        } else if rest.contains("no identity-based policy") {
            Cause::Identity
        } else {
            Cause::Domain
        };
        let (user, action, resource) = (user.to_owned(), action.to_owned(), resource.map(str::to_owned));
        Some(Self::Policy { user, action, resource, cause })
    }

    /// Parses `no permissions for [PERMISSION] and User [name=ARN, backend_roles=[ARN, …], requestedTenant=…]`.
    fn of_role(reason: &str) -> Option<Self> {
        let (permission, rest) = reason.strip_prefix("no permissions for [")?.split_once(']')?;
        let user = rest.split_once("[name=")?.1.split([',', ']']).next()?;
        Some(Self::Role { permission: permission.to_owned(), user: user.to_owned() })
    }

    /// Returns the problem, with the policy that would allow the request.
    pub(super) fn problem(&self, context: &Context<'_>) -> Problem {
        match self {
            Self::Policy { user, action, cause: Cause::Explicit, .. } => Problem::new(
                format!("a policy denies {action} to {user}"),
                "Find the matching statement with \"Effect\": \"Deny\" in the domain's access policy, the policies of the \
                 signing role, or those of the organization. A Deny outweighs every Allow.",
            ),
            Self::Policy { user, action, resource, cause } => {
                // AWS reports "anonymous" if an intermediary removed the signature.
                let signer = if user.starts_with("arn:") { user } else { context.identity.unwrap_or(NOBODY) };
                let principal = principal(signer);
                let resource = resource.as_deref().map_or_else(|| context.resource(&principal), whole_domain);
                let mut statement = json!({ "Effect": "Allow", "Principal": { "AWS": principal } });
                statement["Action"] = "es:ESHttp*".into();
                statement["Resource"] = resource.into();
                let place = if *cause == Cause::Identity {
                    statement.as_object_mut().map(|statement| statement.shift_remove("Principal"));
                    "a policy of the signing role or user"
                } else {
                    "the domain's access policy"
                };
                let text = format!("no policy allows {action} to {user}");
                Problem::new(text, format!("Add to {place}:\n{}", pretty(&statement)))
            }
            Self::Role { permission, user } => {
                let patch = json!([{ "op": "add", "path": "/backend_roles/-", "value": principal(user) }]);
                let advice = format!(
                    "Map the signing role as the domain's master user, for example in the Dev Tools of Dashboards:\n\
                     PATCH _plugins/_security/api/rolesmapping/readall_and_monitor\n{}\n\
                     and the same for kibana_user; or for all_access alone, if access = \"full\" is to write.\n\
                     On Elasticsearch the path begins with _opendistro/_security. A mapping that is not there yet is \
                     made by PUT with {}",
                    pretty(&patch),
                    json!({ "backend_roles": [principal(user)] }),
                );
                Problem::new(format!("fine-grained access control denies {permission} to {user}"), advice)
            }
            Self::Collection => {
                let principal = principal(context.identity.unwrap_or(NOBODY));
                let access = json!([{
                    "Rules": [{
                        "ResourceType": "index",
                        "Resource": ["index/COLLECTION/*"],
                        "Permission": ["aoss:DescribeIndex", "aoss:ReadDocument"],
                    }],
                    "Principal": [principal],
                }]);
                let statement = json!({
                    "Effect": "Allow",
                    "Action": ["aoss:APIAccessAll", "aoss:DashboardsAccessAll"],
                    "Resource": "*",
                });
                let advice = format!(
                    "Write a data access policy for the collection:\n{}\n\
                     and add to a policy of the signing role:\n{}",
                    pretty(&access),
                    pretty(&statement)
                );
                Problem::new("the collection denies the request", advice)
            }
            Self::Unknown => Problem::new(
                "the domain responds with 403, in words that are neither AWS's nor the security plugin's",
                "Look for a proxy or firewall in front of the domain that may have responded instead of it.",
            ),
        }
    }
}

impl Context<'_> {
    /// Returns the ARN of everything in the domain, derived from its host name and the account of `principal`.
    fn resource(&self, principal: &str) -> String {
        let mut parts = principal.split(':');
        let partition = parts.nth(1).unwrap_or("aws");
        let account = parts.nth(2).filter(|account| !account.is_empty()).unwrap_or("ACCOUNT");
        let Self { region, service, .. } = self;
        format!("arn:{partition}:{service}:{region}:{account}:domain/{}/*", domain_name(self.host).unwrap_or("DOMAIN"))
    }
}

/// Returns the ARN that a policy can name: the role, if STS reports an assumed-role session.
pub(super) fn principal(arn: &str) -> String {
    let Some((head, session)) = arn.split_once(":assumed-role/") else { return arn.to_owned() };
    let role = session.split_once('/').map_or(session, |(role, _)| role);
    format!("{}:role/{role}", head.replacen(":sts:", ":iam:", 1))
}

/// Returns the ARN of the whole domain: `…:domain/trail/*` for
/// `arn:aws:es:eu-west-1:123456789012:domain/trail/_search`.
fn whole_domain(resource: &str) -> String {
    let Some((head, path)) = resource.split_once('/') else { return resource.to_owned() };
    format!("{head}/{}/*", path.split('/').next().unwrap_or(path))
}

/// Returns the domain's name: `trail` for `search-trail-abc123.eu-west-1.es.amazonaws.com`.
fn domain_name(host: &str) -> Option<&str> {
    let label = host.split('.').next()?;
    let name = label.strip_prefix("search-").or(label.strip_prefix("vpc-"))?;
    name.rsplit_once('-').map(|(name, _)| name)
}

/// The placeholder for an unknown ARN.
const NOBODY: &str = "ARN-OF-WHO-SIGNS";

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/trailgate/i-0abc";
    const CONTEXT: Context<'static> = Context {
        host: "search-trail-abc123.eu-west-1.es.amazonaws.com",
        region: "eu-west-1",
        service: "es",
        identity: Some(SESSION),
    };

    fn problem(body: &Value, context: &Context<'_>) -> Problem {
        Denial::read(body.to_string().as_bytes()).problem(context)
    }

    /// Parses the JSON within an advice.
    #[track_caller]
    fn words(advice: &str) -> Value {
        let start = advice.find(['{', '[']).expect("there is JSON");
        let mut values = serde_json::Deserializer::from_str(&advice[start..]).into_iter();
        values.next().unwrap().unwrap()
    }

    #[test]
    fn policy_without_an_allow_gets_the_statement_to_add() {
        let message = format!("User: {SESSION} is not authorized to perform: es:ESHttpGet");
        let problem = problem(&json!({ "Message": message }), &CONTEXT);
        assert_eq!(problem.text, format!("no policy allows es:ESHttpGet to {SESSION}"));
        assert!(problem.advice.starts_with("Add to the domain's access policy:\n"), "{}", problem.advice);
        let expected = json!({
            "Effect": "Allow",
            "Principal": { "AWS": "arn:aws:iam::123456789012:role/trailgate" },
            "Action": "es:ESHttp*",
            "Resource": "arn:aws:es:eu-west-1:123456789012:domain/trail/*",
        });
        assert_eq!(words(&problem.advice), expected);
    }

    #[test]
    fn resource_in_the_denial_precedes_the_host_name() {
        let message = "User: arn:aws-cn:iam::123456789012:user/a is not authorized to perform: es:ESHttpGet on \
                       resource: arn:aws-cn:es:cn-north-1:210987654321:domain/other/_search because no \
                       resource-based policy allows the es:ESHttpGet action";
        let context = Context { identity: None, ..CONTEXT };
        let statement = words(&problem(&json!({ "message": message }), &context).advice);
        assert_eq!(statement["Resource"], "arn:aws-cn:es:cn-north-1:210987654321:domain/other/*");
        assert_eq!(statement["Principal"]["AWS"], "arn:aws-cn:iam::123456789012:user/a");
    }

    #[test]
    fn identity_policy_statement_has_no_principal() {
        let message = format!(
            "User: {SESSION} is not authorized to perform: es:ESHttpGet because no identity-based policy allows the \
             es:ESHttpGet action"
        );
        let problem = problem(&json!({ "Message": message }), &CONTEXT);
        assert!(problem.advice.starts_with("Add to a policy of the signing role or user:\n"), "{}", problem.advice);
        assert_eq!(words(&problem.advice).get("Principal"), None);
    }

    #[test]
    fn explicit_deny_gets_no_statement() {
        let message = format!(
            "User: {SESSION} is not authorized to perform: es:ESHttpGet with an explicit deny in a resource-based \
             policy"
        );
        let problem = problem(&json!({ "Message": message }), &CONTEXT);
        assert_eq!(problem.text, format!("a policy denies es:ESHttpGet to {SESSION}"));
        assert!(!problem.advice.contains('{'), "{}", problem.advice);
    }

    #[test]
    fn security_plugin_denial_proposes_a_role_mapping() {
        let role = "arn:aws:iam::123456789012:role/trailgate";
        let reason = format!(
            "no permissions for [cluster:monitor/main] and User [name={role}, backend_roles=[{role}], \
             requestedTenant=null]"
        );
        let body =
            json!({ "error": { "root_cause": [], "type": "security_exception", "reason": reason }, "status": 403 });
        let problem = problem(&body, &CONTEXT);
        assert_eq!(problem.text, format!("fine-grained access control denies cluster:monitor/main to {role}"));
        assert!(problem.advice.contains("\nPATCH _plugins/_security/api/rolesmapping/readall_and_monitor\n"));
        assert_eq!(words(&problem.advice), json!([{ "op": "add", "path": "/backend_roles/-", "value": role }]));
    }

    #[test]
    fn collection_denial_proposes_a_data_access_policy() {
        let body =
            json!({ "status": 403, "request-id": "a", "error": { "reason": "403 Forbidden", "type": "Forbidden" } });
        let context = Context { host: "abc123.eu-west-1.aoss.amazonaws.com", service: "aoss", ..CONTEXT };
        let policy = words(&problem(&body, &context).advice);
        assert_eq!(policy[0]["Principal"], json!(["arn:aws:iam::123456789012:role/trailgate"]));
    }

    #[test]
    fn unrecognised_403_body_is_an_unknown_denial() {
        for body in ["<html>Forbidden</html>", "", "{}", r#"{"error":"no"}"#, r#"{"message":"Forbidden"}"#] {
            assert_eq!(Denial::read(body.as_bytes()), Denial::Unknown, "{body}");
        }
    }

    #[test]
    fn custom_host_leaves_the_domain_name_as_a_placeholder() {
        let context = Context { host: "logs.example.com", ..CONTEXT };
        assert_eq!(context.resource("arn:aws:iam::1:role/a"), "arn:aws:es:eu-west-1:1:domain/DOMAIN/*");
    }
}
