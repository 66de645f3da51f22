//! The policy that deletes indices of a certain age.
//!
//! New indices get the policy by their names. To existing ones it is attached by a request of its own, which can fail
//! by itself; until that request succeeds, the policy's description says so, and the next run repeats it.

use std::fmt;
use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::{Value, json};

/// The policy as the domain stores it.
#[derive(Debug, Deserialize)]
pub(crate) struct InstalledPolicy {
    #[serde(rename = "_seq_no")]
    seq_no: u64,
    #[serde(rename = "_primary_term")]
    primary_term: u64,
    policy: Value,
}

/// The change that the policy needs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PolicyUpdate {
    /// None.
    Keep,
    /// Put it at this path, then attach it to the existing indices by this action.
    Put { path: String, action: AttachAction },
}

/// The request that attaches the policy to existing indices. It is repeated until it succeeds once and no more, so that
/// an index that an operator took out of the policy stays out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttachAction {
    /// For indices without a policy.
    Add,
    /// For indices that have the policy: each keeps the version of it that was attached.
    ChangePolicy,
}

impl fmt::Display for AttachAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::ChangePolicy => "change_policy",
        })
    }
}

/// Returns the policy that deletes what matches `pattern` after `days`; `pending` is the action that is still to
/// succeed.
pub(crate) fn policy(pattern: &str, days: NonZeroU32, pending: Option<AttachAction>, priority: u64) -> Value {
    let pending = pending.map_or_else(String::new, |action| format!("{PENDING}{action}"));
    json!({ "policy": {
        "description": format!("{pattern} is deleted after {days} days.{pending}"),
        "default_state": "kept",
        "states": [
            {
                "name": "kept",
                "actions": [],
                "transitions": [{ "state_name": "deleted", "conditions": { "min_index_age": format!("{days}d") } }],
            },
            { "name": "deleted", "actions": [{ "delete": {} }], "transitions": [] },
        ],
        "ism_template": [{ "index_patterns": [pattern], "priority": priority }],
    } })
}

/// Returns the priority of a policy that an earlier run installed, or else the one to begin with.
pub(crate) fn priority(installed: Option<&InstalledPolicy>) -> u64 {
    let priority = installed.and_then(|installed| installed.policy["ism_template"][0]["priority"].as_u64());
    priority.map_or(FIRST_PRIORITY, |priority| priority.max(FIRST_PRIORITY))
}

/// Returns whether a policy was rejected because another one matches the same names with the same priority.
pub(crate) fn is_of_equal_priority(refusal: &[u8]) -> bool {
    String::from_utf8_lossy(refusal).contains("please use a different priority than")
}

/// Compares the policy that is installed at `path` with the wanted one.
pub(crate) fn plan_update(path: &str, installed: Option<&InstalledPolicy>, wanted: &Value) -> PolicyUpdate {
    let Some(installed) = installed else {
        return PolicyUpdate::Put { path: path.to_owned(), action: AttachAction::Add };
    };
    if covers(&installed.policy, &wanted["policy"]) {
        return PolicyUpdate::Keep;
    }
    let description = installed.policy["description"].as_str().unwrap_or_default();
    let is_pending = |action: AttachAction| description.ends_with(&format!("{PENDING}{action}"));
    let action = if is_pending(AttachAction::Add) { AttachAction::Add } else { AttachAction::ChangePolicy };
    PolicyUpdate::Put { path: installed.replace_path(path), action }
}

impl InstalledPolicy {
    /// Returns the path that replaces exactly this version: the domain rejects it if the policy changed meanwhile.
    pub(crate) fn replace_path(&self, path: &str) -> String {
        format!("{path}?if_seq_no={}&if_primary_term={}", self.seq_no, self.primary_term)
    }
}

/// Returns whether `installed` has all members of `wanted`; the domain adds defaults and dates of its own.
fn covers(installed: &Value, wanted: &Value) -> bool {
    match (installed, wanted) {
        (Value::Object(installed), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| installed.get(key).is_some_and(|installed| covers(installed, wanted)))
        }
        (Value::Array(installed), Value::Array(wanted)) => {
            installed.len() == wanted.len()
                && installed.iter().zip(wanted).all(|(installed, wanted)| covers(installed, wanted))
        }
        _ => installed == wanted,
    }
}

/// The priority among the policies that match an index: the highest applies.
const FIRST_PRIORITY: u64 = 100;

/// The end of a policy's description, before the action that is still to succeed.
const PENDING: &str = " Indices are still to be told: ";

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: u32) -> NonZeroU32 {
        NonZeroU32::new(days).unwrap()
    }

    /// Returns a policy as a domain stores it.
    fn installed() -> InstalledPolicy {
        let mut policy = policy("cwl-*", days(30), None, FIRST_PRIORITY)["policy"].take();
        policy["policy_id"] = json!("trailgate-cwl");
        policy["last_updated_time"] = json!(1_700_000_000_000_u64);
        policy["schema_version"] = json!(21);
        policy["error_notification"] = Value::Null;
        policy["states"][1]["actions"][0]["retry"] = json!({ "count": 3, "backoff": "exponential", "delay": "1m" });
        policy["ism_template"][0]["last_updated_time"] = json!(1_700_000_000_000_u64);
        InstalledPolicy { seq_no: 42, primary_term: 3, policy }
    }

    #[test]
    fn same_policy_is_kept_with_members_the_domain_adds() {
        let update = plan_update("/p", Some(&installed()), &policy("cwl-*", days(30), None, FIRST_PRIORITY));
        assert_eq!(update, PolicyUpdate::Keep);
    }

    #[test]
    fn other_age_or_pattern_replaces_the_seen_version() {
        for wanted in
            [policy("cwl-*", days(31), None, FIRST_PRIORITY), policy("audit-*", days(30), None, FIRST_PRIORITY)]
        {
            let path = "/p?if_seq_no=42&if_primary_term=3".to_owned();
            assert_eq!(
                plan_update("/p", Some(&installed()), &wanted),
                PolicyUpdate::Put { path, action: AttachAction::ChangePolicy }
            );
        }
    }

    #[test]
    fn new_policy_is_attached_to_existing_indices() {
        let update = plan_update("/p", None, &policy("cwl-*", days(30), None, FIRST_PRIORITY));
        assert_eq!(update, PolicyUpdate::Put { path: "/p".to_owned(), action: AttachAction::Add });
    }

    #[test]
    fn pending_action_is_retried() {
        for action in [AttachAction::Add, AttachAction::ChangePolicy] {
            let policy = policy("cwl-*", days(30), Some(action), FIRST_PRIORITY)["policy"].take();
            let installed = InstalledPolicy { seq_no: 42, primary_term: 3, policy };
            let update = plan_update("/p", Some(&installed), &super::policy("cwl-*", days(30), None, FIRST_PRIORITY));
            assert_eq!(update, PolicyUpdate::Put { path: "/p?if_seq_no=42&if_primary_term=3".to_owned(), action });
        }
    }
}
