//! The caller in short, because an ARN does not fit into a column.

use std::borrow::Cow;

use crate::json::Tape;

/// Returns the caller of `event` without partition and account: `user/alex`, `role/ci/session`, `root`,
/// `service/ec2.amazonaws.com`, `account/111122223333`.
pub(super) fn describe_principal(event: &Tape<'_>) -> Option<String> {
    let (identity, _) = event.members().find(|(_, node)| node.key == "userIdentity")?;
    let text = |key: &str| {
        let (_, node) = event.children(identity).find(|(_, node)| node.key == key)?;
        node.as_string().filter(|text| !text.is_empty())
    };
    let kind = text("type").unwrap_or_default();
    if kind == "Root" {
        return Some("root".to_owned());
    }
    if let Some(resource) = text("arn").as_deref().and_then(resource) {
        return Some(
            resource
                .strip_prefix("assumed-role/")
                .map_or_else(|| resource.to_owned(), |role_and_session| format!("role/{role_and_session}")),
        );
    }
    if let Some(service) = text("invokedBy") {
        return Some(format!("service/{service}"));
    }
    let (prefix, name) = match (&*kind, text("userName")) {
        ("SAMLUser", Some(name)) => ("saml", name),
        ("WebIdentityUser", Some(name)) => ("web", name),
        ("IdentityCenterUser", Some(name)) => ("identity-center", name),
        (_, Some(name)) => ("user", name),
        ("IdentityCenterUser", None) => ("identity-center", on_behalf_of(event, identity)?),
        (_, None) => ("account", text("accountId")?),
    };
    Some(format!("{prefix}/{name}"))
}

/// Returns the part of an ARN after partition, service, region and account.
fn resource(arn: &str) -> Option<&str> {
    let resource = arn.strip_prefix("arn:")?.splitn(5, ':').nth(4)?;
    (!resource.is_empty()).then_some(resource)
}

fn on_behalf_of<'a>(event: &Tape<'a>, identity: usize) -> Option<Cow<'a, str>> {
    let (on_behalf_of, _) = event.children(identity).find(|(_, node)| node.key == "onBehalfOf")?;
    event.children(on_behalf_of).find(|(_, node)| node.key == "userId")?.1.as_string()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn test(identity: &Value, expected: Option<&str>) {
        let event = json!({ "userIdentity": identity }).to_string();
        assert_eq!(describe_principal(&Tape::parse(&event).unwrap()).as_deref(), expected, "{event}");
    }

    #[test]
    fn principal_is_short_for_each_kind_of_identity() {
        let of = |kind: &str, arn: &str| json!({ "type": kind, "arn": arn, "accountId": "1" });
        test(&of("IAMUser", "arn:aws:iam::1:user/alex"), Some("user/alex"));
        test(&of("IAMUser", "arn:aws-cn:iam::1:user/team/alex"), Some("user/team/alex"));
        test(&of("AssumedRole", "arn:aws:sts::1:assumed-role/ci/session"), Some("role/ci/session"));
        test(&of("Role", "arn:aws:iam::1:role/ci"), Some("role/ci"));
        test(&of("FederatedUser", "arn:aws:sts::1:federated-user/bob"), Some("federated-user/bob"));
        test(&of("Root", "arn:aws:iam::1:root"), Some("root"));
        test(&json!({ "type": "Root", "userName": "alias", "accountId": "1" }), Some("root"));
        test(&json!({ "type": "AWSService", "invokedBy": "ec2.amazonaws.com" }), Some("service/ec2.amazonaws.com"));
        test(&json!({ "type": "AWSAccount", "principalId": "AIDA", "accountId": "2" }), Some("account/2"));
        test(&json!({ "type": "SAMLUser", "userName": "alex@example.com" }), Some("saml/alex@example.com"));
        test(&json!({ "type": "IAMUser", "userName": "alex", "accountId": "1" }), Some("user/alex"));
        test(
            &json!({ "type": "IdentityCenterUser", "arn": "", "onBehalfOf": { "userId": "u-1" } }),
            Some("identity-center/u-1"),
        );
        for none in [json!({ "type": "Unknown" }), json!("x"), json!(null)] {
            test(&none, None);
        }
    }
}
