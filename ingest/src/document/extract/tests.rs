use std::collections::HashSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::*;

mod shapes;

#[track_caller]
fn promoted(event: &Value) -> Value {
    let text = event.to_string();
    let mut out = Vec::new();
    if !write_promoted_fields(&Tape::parse(&text).unwrap(), &mut out) {
        assert!(out.is_empty());
        return json!(null);
    }
    serde_json::from_slice(&out).unwrap()
}

#[test]
fn field_names_are_unique_and_lower_case() {
    let names: Vec<_> = fields().collect();
    assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')), "{names:?}");
    let paths: Vec<_> = FIELDS.iter().flat_map(|field| field.paths).map(|path| (path.service, path.keys)).collect();
    assert_eq!(paths.iter().collect::<HashSet<_>>().len(), paths.len());
}

#[test]
fn values_are_collected_from_all_paths_and_through_arrays() {
    let event = json!({
        "eventSource": "ec2.amazonaws.com",
        "requestParameters": {
            "instancesSet": { "items": [{ "instanceId": "i-1" }, { "instanceId": "i-2" }] },
            "groupId": "sg-1",
            "vpcId": 7,
        },
        "responseElements": { "instancesSet": { "items": { "instanceId": "i-1" } }, "vpcId": true },
    });
    let wanted = json!({ "instance_id": ["i-1", "i-2"], "security_group": "sg-1", "vpc_id": ["7", "true"] });
    assert_eq!(promoted(&event), wanted);
}

#[test]
fn common_keys_are_promoted_by_service() {
    let event =
        |service: &str| json!({ "eventSource": service, "requestParameters": { "name": "x", "groupName": "g" } });
    assert_eq!(promoted(&event("cloudtrail.amazonaws.com")), json!({ "trail_name": "x" }));
    assert_eq!(promoted(&event("ssm.amazonaws.com")), json!({ "parameter_name": "x" }));
    assert_eq!(promoted(&event("iam.amazonaws.com")), json!({ "group_name": "g" }));
    assert_eq!(promoted(&event("ec2.amazonaws.com")), json!({ "security_group": "g" }));
    assert_eq!(promoted(&event("other")), json!(null));
}

#[test]
fn cross_account_call_is_marked() {
    let event = |identity: Value| json!({ "userIdentity": identity, "recipientAccountId": "2" });
    assert_eq!(
        promoted(&event(json!({ "accountId": "1" }))),
        json!({ "principal": "account/1", "source_account": "1", "cross_account": "true" })
    );
    assert_eq!(
        promoted(&event(json!({ "accountId": "2" }))),
        json!({ "principal": "account/2", "source_account": "2", "cross_account": "false" })
    );
    assert_eq!(promoted(&event(json!({ "invokedBy": "x" }))), json!({ "principal": "service/x", "invoked_by": "x" }));
    assert_eq!(promoted(&event(json!("x"))), json!(null));
}

#[test]
fn console_login_has_its_fields() {
    let event = json!({
        "responseElements": { "ConsoleLogin": "Failure" },
        "additionalEventData": { "MFAUsed": "No" },
        "userIdentity": { "arn": "arn:aws:iam::1:root", "accessKeyId": "" },
    });
    assert_eq!(
        promoted(&event),
        json!({ "principal": "root", "user_arn": "arn:aws:iam::1:root", "console_login": "Failure", "mfa_used": "No" })
    );
}

#[test]
fn values_of_other_types_are_not_promoted() {
    for parameters in [
        json!(null),
        json!("HIDDEN_DUE_TO_SECURITY_REASONS"),
        json!([]),
        json!({ "bucketName": { "a": 1 } }),
        json!({ "bucketName": [null, ""] }),
    ] {
        assert_eq!(promoted(&json!({ "requestParameters": parameters })), json!(null));
    }
}

#[test]
fn values_and_their_number_are_bounded() {
    let long = format!("{}\u{e9}", "x".repeat(MAX_VALUE - 1));
    assert_eq!(
        promoted(&json!({ "requestParameters": { "bucketName": long } }))["bucket"],
        json!(&long[..MAX_VALUE - 1])
    );
    let truncated = |count: usize| {
        let ids: Vec<_> = (0..count).chain(0..count).collect();
        let promoted = promoted(&json!({ "requestParameters": { "instanceIds": ids } }));
        (promoted["instance_id"].as_array().unwrap().len(), promoted["truncated"].clone())
    };
    assert_eq!(truncated(MAX_VALUES), (MAX_VALUES, json!(null)));
    assert_eq!(truncated(MAX_VALUES + 1), (MAX_VALUES, json!("instance_id")));
    assert_eq!(truncated(50_000), (MAX_VALUES, json!("instance_id")));
}

#[test]
fn real_events_fill_most_fields() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/cloudtrail/events.jsonl.gz");
    let mut events = String::new();
    GzDecoder::new(&std::fs::read(sample).unwrap()[..]).read_to_string(&mut events).unwrap();
    let filled: HashSet<_> = events
        .lines()
        .flat_map(|event| promoted(&serde_json::from_str(event).unwrap()).as_object().cloned().unwrap_or_default())
        .map(|(name, _)| name)
        .collect();
    // What the sample, an hour of one account, has none of.
    let missing = [
        "mfa_serial",
        "external_id",
        "federated_user",
        "identity_provider",
        "group_name",
        "policy_cidr",
        "block_public_acls",
        "block_public_policy",
        "ignore_public_acls",
        "restrict_public_buckets",
        "object_key",
        "copy_source",
        "encryption",
        "target_bucket",
        "file_system_id",
        "key_pair",
        "launch_template",
        "session_id",
        "network_acl_id",
        "traffic_mirror",
        "load_balancer",
        "distribution_id",
        "api_id",
        "log_stream",
        "guardduty_set",
        "finding_id",
        "config_recorder",
        "layer",
        "build_project",
        "model_id",
        "stack_name",
        "cluster",
        "repository",
        "export_task",
        "table_name",
        "domain_name",
        "queue_url",
        "topic_arn",
        "stream_name",
        "target_account",
        "truncated",
    ];
    assert!(fields().filter(|name| !filled.contains(*name)).eq(missing), "{filled:?}");
}
