//! The policy that deletes indices of a certain age.

use std::num::NonZeroU32;

use serde::Deserialize;
use serde_json::{Value, json};

/// What is at the policy's place.
#[derive(Debug, Deserialize)]
pub(crate) struct Found {
    #[serde(rename = "_seq_no")]
    seq_no: u64,
    #[serde(rename = "_primary_term")]
    primary_term: u64,
    policy: Value,
}

/// What to do about the policy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Keep,
    /// Put it here, then tell the indices by this verb.
    Put { path: String, verb: &'static str },
}

/// The policy that deletes what matches `pattern` after `days`.
pub(crate) fn policy(pattern: &str, days: NonZeroU32) -> Value {
    json!({ "policy": {
        "description": format!("{pattern} is deleted after {days} days."),
        "default_state": "kept",
        "states": [
            {
                "name": "kept",
                "actions": [],
                "transitions": [{ "state_name": "deleted", "conditions": { "min_index_age": format!("{days}d") } }],
            },
            { "name": "deleted", "actions": [{ "delete": {} }], "transitions": [] },
        ],
        "ism_template": [{ "index_patterns": [pattern], "priority": 100 }],
    } })
}

/// What to do when `found` is at `path` and `wanted` should be.
pub(crate) fn step(path: &str, found: Option<&Found>, wanted: &Value) -> Step {
    match found {
        Some(found) if says(&found.policy, &wanted["policy"]) => Step::Keep,
        // The numbers make the domain refuse it when someone else has changed the policy meanwhile.
        Some(Found { seq_no, primary_term, .. }) => Step::Put {
            path: format!("{path}?if_seq_no={seq_no}&if_primary_term={primary_term}"),
            // An index keeps the version of the policy that it was given.
            verb: "change_policy",
        },
        // New indices take the policy by their names, those that are there do not.
        None => Step::Put { path: path.to_owned(), verb: "add" },
    }
}

/// Whether `found` says all that `wanted` does; the domain adds defaults and dates of its own.
fn says(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| says(found, wanted)))
        }
        (Value::Array(found), Value::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| says(found, wanted))
        }
        _ => found == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: u32) -> NonZeroU32 {
        NonZeroU32::new(days).unwrap()
    }

    /// As a domain gives back what it was given.
    fn found() -> Found {
        let mut policy = policy("cwl-*", days(30))["policy"].take();
        policy["policy_id"] = json!("trailgate-cwl");
        policy["last_updated_time"] = json!(1_700_000_000_000_u64);
        policy["schema_version"] = json!(21);
        policy["error_notification"] = Value::Null;
        policy["states"][1]["actions"][0]["retry"] = json!({ "count": 3, "backoff": "exponential", "delay": "1m" });
        policy["ism_template"][0]["last_updated_time"] = json!(1_700_000_000_000_u64);
        Found { seq_no: 42, primary_term: 3, policy }
    }

    #[test]
    fn the_same_policy_is_kept_whatever_the_domain_adds() {
        let step = step("/p", Some(&found()), &policy("cwl-*", days(30)));
        assert_eq!(step, Step::Keep);
    }

    #[test]
    fn another_age_or_pattern_replaces_the_policy_that_was_seen() {
        for wanted in [policy("cwl-*", days(31)), policy("audit-*", days(30))] {
            let path = "/p?if_seq_no=42&if_primary_term=3".to_owned();
            assert_eq!(step("/p", Some(&found()), &wanted), Step::Put { path, verb: "change_policy" });
        }
    }

    #[test]
    fn a_new_policy_is_given_to_the_indices_that_are_there() {
        let step = step("/p", None, &policy("cwl-*", days(30)));
        assert_eq!(step, Step::Put { path: "/p".to_owned(), verb: "add" });
    }
}
