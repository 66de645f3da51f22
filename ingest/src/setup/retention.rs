//! The policy that deletes indices of a certain age.
//!
//! New indices take the policy by their names, those that are there have to be told, which can fail by itself. Until
//! they are told, the policy's own description says so, for whoever comes next.

use std::fmt;
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
    Put { path: String, verb: Verb },
}

/// How the indices that are there are told. An index that somebody has taken out of the policy stays out: each verb is
/// said until it was heard once, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// To those without a policy: take this one.
    Add,
    /// To those that have it: take it as it is now. An index keeps the version of the policy that it was given.
    ChangePolicy,
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Add => "add",
            Self::ChangePolicy => "change_policy",
        })
    }
}

/// The policy that deletes what matches `pattern` after `days`; `untold` as long as the indices are not told.
pub(crate) fn policy(pattern: &str, days: NonZeroU32, untold: Option<Verb>) -> Value {
    let untold = untold.map_or_else(String::new, |verb| format!("{UNTOLD}{verb}"));
    json!({ "policy": {
        "description": format!("{pattern} is deleted after {days} days.{untold}"),
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
    let Some(found) = found else { return Step::Put { path: path.to_owned(), verb: Verb::Add } };
    if says(&found.policy, &wanted["policy"]) {
        return Step::Keep;
    }
    let description = found.policy["description"].as_str().unwrap_or_default();
    let is_untold_of = |verb: Verb| description.ends_with(&format!("{UNTOLD}{verb}"));
    let verb = if is_untold_of(Verb::Add) { Verb::Add } else { Verb::ChangePolicy };
    Step::Put { path: found.place(path), verb }
}

impl Found {
    /// Where to replace it. The numbers make the domain refuse that when someone else has changed the policy meanwhile.
    pub(crate) fn place(&self, path: &str) -> String {
        format!("{path}?if_seq_no={}&if_primary_term={}", self.seq_no, self.primary_term)
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

/// What a policy's description ends in, before the verb, as long as the indices are not told.
const UNTOLD: &str = " Indices are still to be told: ";

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: u32) -> NonZeroU32 {
        NonZeroU32::new(days).unwrap()
    }

    /// As a domain gives back what it was given.
    fn found() -> Found {
        let mut policy = policy("cwl-*", days(30), None)["policy"].take();
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
        let step = step("/p", Some(&found()), &policy("cwl-*", days(30), None));
        assert_eq!(step, Step::Keep);
    }

    #[test]
    fn another_age_or_pattern_replaces_the_policy_that_was_seen() {
        for wanted in [policy("cwl-*", days(31), None), policy("audit-*", days(30), None)] {
            let path = "/p?if_seq_no=42&if_primary_term=3".to_owned();
            assert_eq!(step("/p", Some(&found()), &wanted), Step::Put { path, verb: Verb::ChangePolicy });
        }
    }

    #[test]
    fn a_new_policy_is_given_to_the_indices_that_are_there() {
        let step = step("/p", None, &policy("cwl-*", days(30), None));
        assert_eq!(step, Step::Put { path: "/p".to_owned(), verb: Verb::Add });
    }

    #[test]
    fn indices_that_were_not_told_are_told_the_same() {
        for verb in [Verb::Add, Verb::ChangePolicy] {
            let policy = policy("cwl-*", days(30), Some(verb))["policy"].take();
            let found = Found { seq_no: 42, primary_term: 3, policy };
            let step = step("/p", Some(&found), &super::policy("cwl-*", days(30), None));
            assert_eq!(step, Step::Put { path: "/p?if_seq_no=42&if_primary_term=3".to_owned(), verb });
        }
    }
}
