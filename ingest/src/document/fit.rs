//! Checks values against the mapping before an engine rejects the document or drops them silently.
//!
//! With `ignore_malformed`, engines leave out what they cannot parse without a trace, and each engine parses something
//! else: `"False"` is true for Elasticsearch 5, and nothing for OpenSearch.

use std::borrow::Cow;

use super::identity::{parse_epoch, parse_time};
use crate::json::Node;

/// The parts of a CloudTrail record that differ from call to call: stored, but not indexed.
pub(super) const UNMAPPED: [&str; 4] =
    ["requestParameters", "responseElements", "additionalEventData", "serviceEventDetails"];

/// The form in which a document has a member of the record.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// The member as it is written.
    AsIs,
    /// This JSON instead: the same value in the form that all engines read.
    Rewritten(Cow<'static, str>),
    /// Left out, for this reason. The message still has it.
    LeftOut(&'static str),
}

/// Checks the member `name` of a record.
pub(super) fn check_member(name: &str, node: &Node<'_>) -> Fit {
    if node.value == "null" {
        return Fit::AsIs;
    }
    match name {
        "eventTime" => check_time(node),
        "readOnly" | "managementEvent" => check_boolean(node),
        _ if KEYWORDS.contains(&name) && is_structured(node) => Fit::LeftOut("no text"),
        _ if OBJECTS.contains(&name) && !node.is_object() => Fit::LeftOut("no object"),
        _ => Fit::AsIs,
    }
}

/// Checks a member at any depth of one that [`has_fields`].
pub(super) fn check_nested_member(name: &str, node: &Node<'_>) -> Fit {
    if name == "creationDate" && node.value != "null" {
        return check_time(node);
    }
    if is_structured(node) && KEYWORDS_WITHIN.contains(&name) { Fit::LeftOut("no text") } else { Fit::AsIs }
}

fn check_time(node: &Node<'_>) -> Fit {
    let text = node.as_string();
    let time = text.as_deref().map_or_else(|| parse_epoch(node.value), parse_time);
    match time {
        None => Fit::LeftOut("no time"),
        Some(_) if text.is_some_and(|text| is_engine_time(&text)) => Fit::AsIs,
        Some(time) => Fit::Rewritten(format!("\"{time}\"").into()),
    }
}

/// Returns whether all engines read `text` as a date without another format: `2024-10-08T17:52:46Z`, with a fraction
/// or an offset or without.
pub(super) fn is_engine_time(text: &str) -> bool {
    let Some((local, rest)) = text.split_at_checked(19) else { return false };
    let is_local = local.bytes().zip(b"0000-00-00T00:00:00").all(|(byte, wanted)| match wanted {
        b'0' => byte.is_ascii_digit(),
        separator => byte == *separator,
    });
    let zone =
        rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|digit: char| digit.is_ascii_digit()));
    is_local && (zone == "Z" || zone.len() == 6 && zone.starts_with(['+', '-']) && zone.as_bytes()[3] == b':')
}

fn check_boolean(node: &Node<'_>) -> Fit {
    let Some(text) = node.as_string() else {
        return if matches!(node.value, "true" | "false") { Fit::AsIs } else { Fit::LeftOut("no boolean") };
    };
    let text = text.trim();
    if text.eq_ignore_ascii_case("true") {
        Fit::Rewritten("true".into())
    } else if text.eq_ignore_ascii_case("false") {
        Fit::Rewritten("false".into())
    } else {
        Fit::LeftOut("no boolean")
    }
}

/// Returns whether it is an object, or has one in it: a keyword may be a list.
fn is_structured(node: &Node<'_>) -> bool {
    node.is_object() || node.is_array() && node.value.contains('{')
}

/// The members of a record that the template maps as keywords.
const KEYWORDS: [&str; 18] = [
    "eventVersion",
    "eventID",
    "requestID",
    "sharedEventID",
    "eventSource",
    "eventName",
    "eventType",
    "eventCategory",
    "apiVersion",
    "awsRegion",
    "recipientAccountId",
    "sourceIPAddress",
    "userAgent",
    "errorCode",
    "errorMessage",
    "vpcEndpointId",
    "vpcEndpointAccountId",
    "sessionCredentialFromConsole",
];

/// The members of these that the template maps as keywords.
const KEYWORDS_WITHIN: [&str; 29] = [
    "type",
    "principalId",
    "arn",
    "accountId",
    "accessKeyId",
    "userName",
    "invokedBy",
    "identityProvider",
    "credentialId",
    "userId",
    "identityStoreArn",
    "mfaAuthenticated",
    "federatedProvider",
    "sourceIdentity",
    "ec2RoleDelivery",
    "assumedRoot",
    "ARN",
    "tlsVersion",
    "cipherSuite",
    "clientProvidedHostHeader",
    "reason",
    "updatedFields",
    "originalRequestID",
    "originalEventID",
    "state",
    "insightType",
    "eventSource",
    "eventName",
    "errorCode",
];

/// The members that the template maps as objects with fields.
const OBJECTS: [&str; 4] = ["userIdentity", "tlsDetails", "addendum", "insightDetails"];

/// Returns whether the template maps `name`, or stores it unmapped.
pub(super) fn is_mapped(name: &str) -> bool {
    KEYWORDS.contains(&name)
        || has_fields(name)
        || UNMAPPED.contains(&name)
        || matches!(name, "eventTime" | "readOnly" | "managementEvent")
}

/// Returns whether the members of `name` are indexed fields: unknown objects are stored only.
pub(super) fn has_fields(name: &str) -> bool {
    OBJECTS.contains(&name) || name == "resources"
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::json::Tape;
    use crate::setup;

    #[track_caller]
    #[expect(clippy::needless_pass_by_value, reason = "it is written at each call")]
    fn test(name: &str, value: &Value, expected: Fit) {
        let text = json!({ name: value }).to_string();
        let tape = Tape::parse(&text).unwrap();
        assert_eq!(check_member(name, tape.node(1)), expected, "{text}");
    }

    #[test]
    fn booleans_as_words_become_booleans() {
        for (word, boolean) in [("False", "false"), ("false", "false"), ("TRUE", "true"), (" true ", "true")] {
            test("readOnly", &json!(word), Fit::Rewritten(boolean.into()));
        }
        for plain in [json!(true), json!(false), json!(null)] {
            test("managementEvent", &plain, Fit::AsIs);
        }
        for other in [json!("yes"), json!(""), json!(1), json!({}), json!([true])] {
            test("readOnly", &other, Fit::LeftOut("no boolean"));
        }
    }

    #[test]
    fn times_are_rewritten_for_all_engines() {
        for plain in ["2024-10-08T17:52:46Z", "2024-10-08T17:52:46.123Z", "2024-10-08T17:52:46+02:00"] {
            test("eventTime", &json!(plain), Fit::AsIs);
        }
        for other in [json!("2024-10-08 17:52:46"), json!("20241008T175246Z"), json!(1_728_409_966)] {
            test("eventTime", &other, Fit::Rewritten("\"2024-10-08T17:52:46Z\"".into()));
        }
        for none in [json!("yesterday"), json!("2024-13-08T17:52:46Z"), json!(""), json!(true), json!({ "a": 1 })] {
            test("eventTime", &none, Fit::LeftOut("no time"));
        }
    }

    #[test]
    fn object_and_text_fields_reject_the_other_type() {
        test("eventName", &json!({ "a": 1 }), Fit::LeftOut("no text"));
        test("eventName", &json!([{ "a": 1 }]), Fit::LeftOut("no text"));
        for plain in [json!("x"), json!(1), json!(["x", "y"]), json!(null)] {
            test("eventName", &plain, Fit::AsIs);
        }
        test("userIdentity", &json!("x"), Fit::LeftOut("no object"));
        test("userIdentity", &json!({ "type": "Root" }), Fit::AsIs);
        test("unknown", &json!({}), Fit::AsIs);
    }

    #[test]
    fn known_fields_match_the_template() {
        let mapping = setup::index_mapping().unwrap();
        for (name, field) in mapping["properties"].as_object().unwrap() {
            if name.starts_with('@') || name == "ct" || name == "source" {
                continue;
            }
            assert!(is_mapped(name), "{name}");
            assert_eq!(has_fields(name), field.get("properties").is_some(), "{name}");
            assert_eq!(KEYWORDS.contains(&name.as_str()), field["type"] == "keyword", "{name}");
            assert_within(field);
        }
    }

    #[track_caller]
    fn assert_within(object: &Value) {
        for (name, field) in object["properties"].as_object().into_iter().flatten() {
            assert_eq!(KEYWORDS_WITHIN.contains(&name.as_str()), field["type"] == "keyword", "{name}");
            assert_eq!(name == "creationDate", field["type"] == "date", "{name}");
            assert_within(field);
        }
    }

    #[test]
    fn text_and_time_in_an_identity_are_checked() {
        let test = |name: &str, value: Value, expected: Fit| {
            let text = json!({ name: value }).to_string();
            assert_eq!(check_nested_member(name, Tape::parse(&text).unwrap().node(1)), expected, "{text}");
        };
        test("userName", json!({ "first": "A" }), Fit::LeftOut("no text"));
        test("userName", json!("alex"), Fit::AsIs);
        test("unknown", json!({ "a": 1 }), Fit::AsIs);
        test("creationDate", json!("20261119T010628Z"), Fit::Rewritten("\"2026-11-19T01:06:28Z\"".into()));
        test("creationDate", json!("no date"), Fit::LeftOut("no time"));
        test("creationDate", json!(null), Fit::AsIs);
    }
}
