//! Installs the roles of a domain with fine-grained access control, and maps IAM roles to them.
//!
//! Only the domain's master may do this. In the stack a separate function has the master's role, so that no process of
//! a gate can use it.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use trailgate_client::RoleArn;

use crate::domain::Domain;
use crate::domain::json_client::{JSON, JsonClient, JsonRequestError};
use crate::settings::RolePlan;

/// The result of [`map_roles`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MappedRoles {
    /// The names of the domain's roles.
    pub mapped: Vec<&'static str>,
}

/// Installs the roles of `plan` and maps them. Retries until `deadline` if the domain is not ready. Idempotent.
pub async fn map_roles(domain: &Domain, plan: &RolePlan, deadline: Instant) -> Result<MappedRoles, JsonRequestError> {
    let api = SecurityApi { client: JsonClient::new(domain, TIMEOUT), path: &plan.api, deadline };
    let mut mapped = Vec::new();
    for (name, role, mapped_to) in definitions(plan) {
        api.put(&format!("roles/{name}"), &role).await?;
        api.put(&format!("rolesmapping/{name}"), &json!({ "backend_roles": mapped_to })).await?;
        mapped.push(name);
    }
    if let Some(former) = &plan.former_master {
        for name in MASTER_ROLES {
            api.retire(name, former).await?;
        }
    }
    Ok(MappedRoles { mapped })
}

/// Returns the domain's roles: the name, the definition, and the IAM roles that have it.
fn definitions(plan: &RolePlan) -> Vec<(&'static str, Value, Vec<&str>)> {
    let ingest = plan.ingest.iter().map(RoleArn::as_str).collect();
    let mut all = vec![
        ("trailgate-ingest", ingest_role(plan.access_log), ingest),
        ("trailgate-auditor", auditor_role(), vec![plan.auditor.as_str()]),
        ("trailgate-editor", editor_role(), vec![plan.editor.as_str()]),
    ];
    if let Some(verifier) = &plan.verifier {
        all.push(("trailgate-verifier", verifier_role(), vec![verifier.as_str()]));
    }
    if let Some(third_party) = &plan.third_party {
        all.push(("trailgate-third-party", third_party_role(&third_party.account), vec![third_party.role.as_str()]));
    }
    all
}

/// Returns the role that writes events, and access lines if the stack indexes them.
fn ingest_role(access_log: bool) -> Value {
    let patterns: &[&str] = if access_log { &["cwl-*", ACCESS_LINES] } else { &["cwl-*"] };
    json!({
        "cluster_permissions":
            ["cluster_monitor", "cluster_composite_ops", "cluster_manage_index_templates", "cluster:admin/opendistro/ism/*"],
        "index_permissions": [{
            "index_patterns": patterns,
            "allowed_actions": ["create_index", "write", "indices:admin/mapping/put"],
        }],
    })
}

/// Returns the role that reads events, and keeps searches and dashboards. It writes nothing else.
fn auditor_role() -> Value {
    json!({
        "cluster_permissions": [
            "cluster_composite_ops_ro",
            "cluster:monitor/main",
            "cluster:monitor/health",
            "cluster:monitor/state",
            "cluster:monitor/nodes/info",
            "indices:data/read/scroll/clear",
            // Dashboards stores saved objects so; the permissions below name the indices.
            "indices:data/write/bulk",
        ],
        "index_permissions": [
            { "index_patterns": ["cwl-*"], "allowed_actions": READS },
            {
                "index_patterns": SAVED_OBJECTS,
                "allowed_actions": [
                    "read",
                    "write",
                    "create_index",
                    "indices:admin/get",
                    "indices:admin/mapping/put",
                    "indices:admin/mappings/get",
                    "indices:admin/refresh",
                    "indices:monitor/*",
                ],
            },
        ],
        "tenant_permissions": [{ "tenant_patterns": ["global_tenant"], "allowed_actions": ["kibana_all_write"] }],
    })
}

/// Returns the role that writes events and saved objects, and prepares indices as the function does. It reads access
/// lines, and manages no users, roles or settings.
fn editor_role() -> Value {
    json!({
        "cluster_permissions":
            ["cluster_monitor", "cluster_composite_ops", "cluster_manage_index_templates", "cluster:admin/opendistro/ism/*"],
        "index_permissions": [
            { "index_patterns": ["cwl-*"], "allowed_actions": ["indices_all"] },
            { "index_patterns": [ACCESS_LINES], "allowed_actions": READS },
            { "index_patterns": SAVED_OBJECTS, "allowed_actions": ["indices_all"] },
        ],
        "tenant_permissions": [{ "tenant_patterns": ["global_tenant"], "allowed_actions": ["kibana_all_write"] }],
    })
}

/// Returns the role that searches events, page by page, and does nothing else.
fn verifier_role() -> Value {
    json!({
        "cluster_permissions": ["indices:data/read/scroll", "indices:data/read/scroll/clear"],
        "index_permissions": [{ "index_patterns": ["cwl-*"], "allowed_actions": ["indices:data/read/search"] }],
    })
}

/// Returns the role that reads the events of `account`, and opens dashboards.
fn third_party_role(account: &str) -> Value {
    let is_of_account =
        ["recipientAccountId", "userIdentity.accountId"].map(|field| json!({ "term": { field: account } }));
    let documents = json!({ "bool": { "should": is_of_account, "minimum_should_match": 1 } });
    json!({
        "cluster_permissions": [
            "cluster_composite_ops_ro",
            "cluster:monitor/main",
            "cluster:monitor/health",
            "indices:data/read/scroll/clear",
        ],
        "index_permissions": [
            { "index_patterns": ["cwl-*"], "dls": documents.to_string(), "allowed_actions": READS },
            {
                "index_patterns": SAVED_OBJECTS,
                "allowed_actions": ["read", "indices:admin/get", "indices:admin/mappings/get"],
            },
        ],
        "tenant_permissions": [{ "tenant_patterns": ["global_tenant"], "allowed_actions": ["kibana_all_read"] }],
    })
}

/// The security plug-in's API of a domain.
struct SecurityApi<'a> {
    client: JsonClient<'a>,
    path: &'a str,
    deadline: Instant,
}

/// A mapping as the API returns it, and as it is put, but for what only the API sets.
#[derive(Deserialize, Serialize)]
struct Mapping {
    #[serde(default)]
    backend_roles: Vec<String>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    and_backend_roles: Vec<String>,
}

impl SecurityApi<'_> {
    async fn put(&self, name: &str, body: &Value) -> Result<(), JsonRequestError> {
        let path = format!("{}/{name}", self.path);
        self.retry_until_ready(async || self.client.send(Method::PUT, &path, JSON, body.to_string()).await?.check())
            .await
    }

    /// Removes the IAM role `former` from the mapping of `role`.
    async fn retire(&self, role: &str, former: &RoleArn) -> Result<(), JsonRequestError> {
        type Mappings = std::collections::HashMap<String, Mapping>;
        let name = format!("rolesmapping/{role}");
        let path = format!("{}/{name}", self.path);
        let found: Option<Mappings> = self.retry_until_ready(async || self.client.get(&path).await).await?;
        let Some(mut mapping) = found.and_then(|mut found| found.remove(role)) else { return Ok(()) };
        let before = mapping.backend_roles.len();
        mapping.backend_roles.retain(|mapped| mapped != former.as_str());
        if mapping.backend_roles.len() == before { Ok(()) } else { self.put(&name, &json!(mapping)).await }
    }

    /// Retries a request that may succeed later: a new domain answers 503 until the plug-in is ready.
    async fn retry_until_ready<T>(
        &self,
        request: impl AsyncFn() -> Result<T, JsonRequestError>,
    ) -> Result<T, JsonRequestError> {
        loop {
            match request().await {
                Err(error) if is_transient(&error) && Instant::now() + PAUSE < self.deadline => sleep(PAUSE).await,
                result => return result,
            }
        }
    }
}

fn is_transient(error: &JsonRequestError) -> bool {
    match error {
        JsonRequestError::NoResponse { error, .. } => error.is_transient(),
        JsonRequestError::Unexpected { status, .. } => {
            status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
        }
    }
}

/// The permissions that read events.
const READS: [&str; 7] = [
    "read",
    "indices:admin/get",
    "indices:admin/mappings/get",
    "indices:admin/mappings/fields/get*",
    "indices:admin/aliases/get",
    "indices:admin/resolve/index",
    "indices:monitor/*",
];
/// The indices of trailgate's access lines.
const ACCESS_LINES: &str = "gate-*";
/// The indices of saved objects.
const SAVED_OBJECTS: [&str; 2] = [".kibana*", ".opensearch_dashboards*"];
/// The domain's roles that its master is mapped to.
const MASTER_ROLES: [&str; 2] = ["all_access", "security_manager"];
/// The longest time for each request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The time between a request and its repetition.
const PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_lines_are_written_only_where_they_are_indexed() {
        let patterns = |access_log| ingest_role(access_log)["index_permissions"][0]["index_patterns"].clone();
        assert_eq!(patterns(false), json!(["cwl-*"]));
        assert_eq!(patterns(true), json!(["cwl-*", "gate-*"]));
    }

    #[test]
    fn account_of_the_third_party_is_the_only_one_in_its_query() {
        let role = third_party_role("222222222222");
        let query: Value = serde_json::from_str(role["index_permissions"][0]["dls"].as_str().unwrap()).unwrap();
        let terms = [
            json!({ "term": { "recipientAccountId": "222222222222" } }),
            json!({ "term": { "userIdentity.accountId": "222222222222" } }),
        ];
        assert_eq!(query, json!({ "bool": { "should": terms, "minimum_should_match": 1 } }));
    }
}
