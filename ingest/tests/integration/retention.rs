use std::num::NonZeroU32;

use bytes::Bytes;
use fake_domain::{Fault, Seen, Times};
use serde_json::{Value, json};
use trailgate_ingest::domain::json_client::JsonRequestError;
use trailgate_ingest::settings::SetupPlan;
use trailgate_ingest::setup::{SetupError, SetupResult, SetupState, set_up_domain};

use crate::rig::{Rig, TIMEOUT};

/// Plays `answers` in turn, as a domain with index state management gives them, and gives what it was asked.
///
/// The real servers of these tests lack that plug-in; the answers follow its documentation.
async fn ensure(answers: &[(u16, Value)]) -> (SetupResult, Vec<Seen>) {
    let rig = Rig::new().await;
    for (status, body) in answers {
        rig.stand_in.fault(Fault::status(*status, body.to_string()), Times::Once);
    }
    let plan = SetupPlan::new("cwl-", NonZeroU32::new(30)).unwrap();
    let ensured = set_up_domain(&rig.domain, &plan, TIMEOUT).await;
    let seen = rig.stand_in.seen();
    assert!(seen.iter().all(|seen| seen.refusal.is_none()));
    (ensured, seen)
}

fn requests(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
}

fn json(body: &Bytes) -> Value {
    serde_json::from_slice(body).unwrap()
}

fn opensearch() -> (u16, Value) {
    (
        200,
        json!({ "version": { "distribution": "opensearch", "number": "2.19.0" }, "tagline": "The OpenSearch Project" }),
    )
}

fn current_template() -> (u16, Value) {
    let file: Value = serde_json::from_str(include_str!("../../../config/cwl-template.json")).unwrap();
    (200, json!({ "index_templates": [{ "name": "trailgate-cwl", "index_template": file }] }))
}

fn installed(days: &str) -> (u16, Value) {
    let retry = json!({ "count": 3, "backoff": "exponential", "delay": "1m" });
    let policy = json!({
        "policy_id": "trailgate-cwl",
        "description": format!("cwl-* is deleted after {days} days."),
        "last_updated_time": 1_700_000_000_000_u64,
        "schema_version": 21,
        "error_notification": null,
        "default_state": "kept",
        "states": [
            { "name": "kept", "actions": [],
              "transitions": [{ "state_name": "deleted", "conditions": { "min_index_age": format!("{days}d") } }] },
            { "name": "deleted", "actions": [{ "retry": retry, "delete": {} }], "transitions": [] },
        ],
        "ism_template": [
            { "index_patterns": ["cwl-*"], "priority": 100, "last_updated_time": 1_700_000_000_000_u64 },
        ],
    });
    (200, json!({ "_id": "trailgate-cwl", "_version": 2, "_seq_no": 5, "_primary_term": 2, "policy": policy }))
}

/// Returns the response to a policy that was put.
fn stored(version: u64) -> (u16, Value) {
    let seq_no = 10 + version;
    let answer =
        json!({ "_id": "trailgate-cwl", "_version": version, "_seq_no": seq_no, "_primary_term": 2, "policy": {} });
    (200, answer)
}

fn attached() -> (u16, Value) {
    (200, json!({ "updated_indices": 7, "failures": false, "failed_indices": [] }))
}

fn not_found() -> (u16, Value) {
    (404, json!({ "error": { "type": "status_exception", "reason": "Policy not found" }, "status": 404 }))
}

const POLICY: &str = "/_plugins/_ism/policies/trailgate-cwl";

#[tokio::test]
async fn template_response_that_is_no_json_is_an_error() {
    let rig = Rig::new().await;
    let (status, engine) = opensearch();
    rig.stand_in.fault(Fault::status(status, engine.to_string()), Times::Once);
    rig.stand_in.fault(Fault::status(200, "<html>".to_owned()), Times::Once);
    let setup = set_up_domain(&rig.domain, &SetupPlan::new("cwl-", None).unwrap(), TIMEOUT).await;
    let error = setup.template.unwrap_err();
    assert!(matches!(&error, SetupError::Request(JsonRequestError::Unexpected { .. })), "{error:?}");
    assert_eq!(error.to_string(), "GET /_index_template/trailgate-cwl: 200 OK: <html>");
}

#[tokio::test]
async fn policy_is_created_and_attached_to_existing_indices() {
    let answers = [opensearch(), current_template(), not_found(), stored(1), attached(), stored(2)];
    let (ensured, seen) = ensure(&answers).await;
    assert!(matches!(
        (&ensured.template, &ensured.retention),
        (Ok(SetupState::Current), Some(Ok(SetupState::Installed)))
    ));

    let expected = [
        "GET /".to_owned(),
        "GET /_index_template/trailgate-cwl".to_owned(),
        format!("GET {POLICY}"),
        format!("PUT {POLICY}"),
        "POST /_plugins/_ism/add/cwl-%2A".to_owned(),
        format!("PUT {POLICY}?if_seq_no=11&if_primary_term=2"),
    ];
    assert_eq!(requests(&seen), expected);
    let states = &json(&seen[3].body)["policy"]["states"];
    assert_eq!(states[0]["transitions"][0]["conditions"]["min_index_age"], "30d");
    assert_eq!(json(&seen[4].body), json!({ "policy_id": "trailgate-cwl" }));
    assert_eq!(json(&seen[5].body)["policy"]["description"], "cwl-* is deleted after 30 days.");
}

#[tokio::test]
async fn indices_without_the_policy_get_it_on_the_next_run() {
    for (found, verb) in [(not_found(), "add"), (installed("90"), "change_policy")] {
        let away = (503, json!({}));
        let (ensured, seen) = ensure(&[opensearch(), current_template(), found, stored(1), away]).await;
        assert!(
            matches!(ensured.retention, Some(Err(SetupError::Request(JsonRequestError::Unexpected { .. })))),
            "{ensured:?}"
        );

        // What the domain has kept.
        let mut kept = stored(1);
        kept.1["policy"] = json(&seen[3].body)["policy"].take();
        let (ensured, seen) = ensure(&[opensearch(), current_template(), kept, stored(2), attached(), stored(3)]).await;
        assert!(matches!(ensured.retention, Some(Ok(SetupState::Replaced))), "{ensured:?}");
        let expected = [
            format!("PUT {POLICY}?if_seq_no=11&if_primary_term=2"),
            format!("POST /_plugins/_ism/{verb}/cwl-%2A"),
            format!("PUT {POLICY}?if_seq_no=12&if_primary_term=2"),
        ];
        assert_eq!(requests(&seen)[3..], expected);
    }
}

#[tokio::test]
async fn same_policy_is_unchanged() {
    let (ensured, seen) = ensure(&[opensearch(), current_template(), installed("30")]).await;
    assert!(matches!(ensured.retention, Some(Ok(SetupState::Current))), "{ensured:?}");
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn changed_age_replaces_the_policy_that_was_read() {
    let (ensured, seen) =
        ensure(&[opensearch(), current_template(), installed("90"), stored(3), attached(), stored(4)]).await;
    assert!(matches!(ensured.retention, Some(Ok(SetupState::Replaced))), "{ensured:?}");
    let expected = [
        format!("PUT {POLICY}?if_seq_no=5&if_primary_term=2"),
        "POST /_plugins/_ism/change_policy/cwl-%2A".to_owned(),
        format!("PUT {POLICY}?if_seq_no=13&if_primary_term=2"),
    ];
    assert_eq!(requests(&seen)[3..], expected);
}

#[tokio::test]
async fn policy_created_by_a_concurrent_run_is_no_failure() {
    let conflict = (409, json!({ "error": { "type": "version_conflict_engine_exception" }, "status": 409 }));
    let (ensured, _) = ensure(&[opensearch(), current_template(), not_found(), conflict]).await;
    assert!(matches!(ensured.retention, Some(Ok(SetupState::Current))), "{ensured:?}");
}

/// The words are those of the plug-in's source.
#[tokio::test]
async fn policy_gets_the_next_free_priority() {
    let reason = "New policy trailgate-cwl has an ISM template with index pattern [cwl-*] matching existing policy templates, \
                  please use a different priority than 100";
    let taken = (400, json!({ "error": { "type": "index_management_exception", "reason": reason }, "status": 400 }));
    let answers = [opensearch(), current_template(), not_found(), taken, stored(1), attached(), stored(2)];
    let (ensured, seen) = ensure(&answers).await;
    assert!(matches!(ensured.retention, Some(Ok(SetupState::Installed))), "{ensured:?}");
    let priority = |seen: &Seen| json(&seen.body)["policy"]["ism_template"][0]["priority"].as_u64().unwrap();
    assert_eq!([3, 4, 6].map(|number| priority(&seen[number])), [100, 101, 101]);

    // The next run leaves it as it is.
    let mut kept = stored(2);
    kept.1["policy"] = json(&seen[6].body)["policy"].take();
    let (ensured, seen) = ensure(&[opensearch(), current_template(), kept]).await;
    assert!(matches!(ensured.retention, Some(Ok(SetupState::Current))), "{ensured:?}");
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn domain_without_an_engine_banner_follows_the_settings() {
    let rig = Rig::new().await;
    let acknowledged = json!({ "acknowledged": true }).to_string();
    rig.stand_in.fault(Fault::status(404, "{}"), Times::Once);
    rig.stand_in.fault(Fault::status(200, acknowledged), Times::Once);
    let plan = SetupPlan::new("cwl-", None).unwrap().with_engine("Elasticsearch_5.6".parse().unwrap());
    let ensured = set_up_domain(&rig.domain, &plan, TIMEOUT).await;
    assert_eq!(ensured.engine.document_type(), Some("event"));
    let seen = rig.stand_in.seen();
    assert_eq!(requests(&seen), ["GET /_template/trailgate-cwl", "PUT /_template/trailgate-cwl"]);
    assert_eq!(json(&seen[1].body)["template"], "cwl-*");
}

#[tokio::test]
async fn template_is_installed_without_state_management() {
    let elasticsearch = (200, json!({ "version": { "number": "6.8.0" }, "tagline": "You Know, for Search" }));
    let acknowledged = (200, json!({ "acknowledged": true }));
    let (ensured, seen) = ensure(&[elasticsearch, (404, json!({})), acknowledged]).await;
    assert!(matches!(ensured.template, Ok(SetupState::Installed)), "{ensured:?}");
    assert!(matches!(ensured.retention, Some(Err(SetupError::NoStateManagement(_)))), "{ensured:?}");
    assert_eq!(seen.len(), 3);
}

#[tokio::test]
async fn rejection_by_the_domain_is_reported_in_its_words() {
    let refusal = json!({ "message": "User: anonymous is not authorized to perform: es:ESHttpGet" });
    let (ensured, _) = ensure(&[opensearch(), (403, refusal.clone()), (403, refusal)]).await;
    let error = ensured.template.unwrap_err().to_string();
    assert!(
        error.starts_with("GET /_index_template/trailgate-cwl: 403 Forbidden: ") && error.contains("anonymous"),
        "{error}"
    );
    assert!(ensured.retention.unwrap().is_err());
}
