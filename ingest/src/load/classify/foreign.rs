//! Logs and findings of other services, which share CloudTrail's buckets.

use super::GATE_EVENTS;
use super::members::{Members, string_at};
use crate::document::access_line::{self, GateLine};

/// Returns the kind of an object that is known to be of another service.
pub(super) fn kind_of_object(members: &Members<'_>) -> Option<&'static str> {
    let has = |keys: &[&str]| keys.iter().all(|key| members.has(key));
    let says = |key: &str, part: &str| string_at(members, key).is_some_and(|value| value.contains(part));
    let is_config = members.has("configurationItems")
        || members.has("configurationItem")
        || has(&["configurationItemVersion", "resourceType"])
        || has(&["configRuleName", "resourceType"]);
    let kinds = [
        (has(&["schemaVersion", "service", "severity"]) && says("arn", ":guardduty:"), "GuardDuty findings"),
        (is_config, "AWS Config items"),
        (has(&["class_uid", "category_uid"]), "OCSF events"),
        (has(&["SchemaVersion", "ProductArn"]), "Security Hub findings"),
        (has(&["webaclId", "httpRequest"]), "WAF logs"),
        (has(&["query_name", "query_type", "rcode"]), "DNS query logs"),
        (has(&["firewall_name", "event_timestamp"]), "Network Firewall logs"),
        (says("Event", "s3:TestEvent"), "test notifications of S3"),
    ];
    kinds.iter().find(|(is_it, _)| *is_it).map(|(_, kind)| *kind)
}

/// Returns the kind of a log event's message that is known to be of another service.
pub(super) fn kind_of_message(message: &str) -> Option<&'static str> {
    if is_flow_log(message) {
        return Some("VPC flow logs");
    }
    if access_line::classify(message) == Some(GateLine::Event) {
        return Some(GATE_EVENTS);
    }
    // The keys show quickly that most messages are none of these.
    if !message.starts_with('{') || message.contains("\"eventVersion\"") {
        return None;
    }
    kind_of_object(&serde_json::from_str(message).ok()?)
}

/// Returns whether a line is of a VPC flow log, in its default format, or names that format's fields.
pub(super) fn is_flow_log(line: &str) -> bool {
    let mut words = line.split(' ');
    let (Some(version), Some(account), Some(interface)) = (words.next(), words.next(), words.next()) else {
        return false;
    };
    if line.contains("srcaddr") && line.contains("dstaddr") {
        return line.split(' ').all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
    }
    let is_digits = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    is_digits(version)
        && version.len() <= 2
        && account.len() == 12
        && is_digits(account)
        && interface.starts_with("eni-")
}

/// Returns the service whose logs are kept below such a path, if it is not CloudTrail:
/// `AWSLogs/[ORGANIZATION/]ACCOUNT/SERVICE/…`.
pub(in crate::load) fn kind_of_path(path: &str) -> Option<&'static str> {
    let mut folders = path.split(['/', '\\']).skip_while(|folder| *folder != "AWSLogs").skip(1);
    let account = folders.find(|folder| !folder.starts_with("o-"))?;
    let service = folders.next()?;
    // The last part is the file's own name.
    folders.next()?;
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    SERVICES.iter().find(|(folder, _)| *folder == service).map(|(_, kind)| *kind)
}

/// The folders in which services keep what are no CloudTrail records.
const SERVICES: [(&str, &str); 11] = [
    ("CloudFront", "CloudFront logs"),
    ("Config", "AWS Config items"),
    ("GuardDuty", "GuardDuty findings"),
    ("RedshiftLogs", "Redshift logs"),
    ("S3", "S3 access logs"),
    ("WAFLogs", "WAF logs"),
    ("elasticloadbalancing", "load balancer logs"),
    ("network-firewall", "Network Firewall logs"),
    ("redshift", "Redshift logs"),
    ("vpcdnsquerylogs", "DNS query logs"),
    ("vpcflowlogs", "VPC flow logs"),
];
