//! The shape in which CloudTrail logs each call that an auditor asks about.

use super::*;

/// Promotes the fields of a call to `service` with these parameters and this answer.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "they are written at each call")]
fn test(service: &str, parameters: Value, response: Value, wanted: Value) {
    let event = json!({
        "eventSource": format!("{service}.amazonaws.com"),
        "requestParameters": parameters,
        "responseElements": response,
    });
    assert_eq!(promoted(&event), wanted);
}

const NONE: Value = Value::Null;

#[test]
fn policy_yields_its_principals() {
    let statement = r#"{"Sid":"x","Effect":"Allow","Principal":"*","Action":"lambda:InvokeFunction","Resource":"arn:aws:lambda:us-east-1:1:function:f"}"#;
    test(
        "lambda",
        json!({ "functionName": "f", "statementId": "x", "action": "lambda:InvokeFunction", "principal": "*" }),
        json!({ "statement": statement }),
        json!({ "function_name": "f", "policy_principal": "*" }),
    );
    let allow = json!({
        "Effect": "Allow",
        "Principal": { "AWS": ["arn:aws:iam::2:root", "333333333333"], "Service": "ec2.amazonaws.com" },
        "Action": "s3:GetObject",
        "Condition": {
            "IpAddress": { "aws:SourceIp": ["203.0.113.0/24", "198.51.100.7/32"] },
            "NotIpAddress": { "aws:SourceIp": "192.0.2.0/24" },
        },
    });
    let deny = json!({ "Effect": "Deny", "Principal": { "AWS": "arn:aws:iam::4:root" }, "Action": "s3:*" });
    let policy = json!({ "Version": "2012-10-17", "Statement": [allow, deny] });
    let admitted = |mut others: Value| {
        others["policy_principal"] = json!(["arn:aws:iam::2:root", "333333333333", "ec2.amazonaws.com"]);
        others["policy_cidr"] = json!(["203.0.113.0/24", "198.51.100.7/32"]);
        others
    };
    test(
        "s3",
        json!({ "bucketPolicy": policy, "bucketName": "b", "Host": "b.s3.amazonaws.com", "policy": "" }),
        NONE,
        admitted(json!({ "bucket": "b" })),
    );
    let text = policy.to_string();
    test("iam", json!({ "roleName": "r", "policyDocument": text }), NONE, admitted(json!({ "role_name": "r" })));
    test(
        "iam",
        json!({ "roleName": "r", "assumeRolePolicyDocument": text }),
        NONE,
        admitted(json!({ "role_name": "r" })),
    );
    test(
        "sqs",
        json!({ "queueUrl": "https://sqs/q", "attributes": { "Policy": text } }),
        NONE,
        admitted(json!({ "queue_url": "https://sqs/q" })),
    );
    test(
        "sns",
        json!({ "topicArn": "t", "attributeName": "Policy", "attributeValue": text }),
        NONE,
        admitted(json!({ "topic_arn": "t" })),
    );
    test(
        "secretsmanager",
        json!({ "secretId": "s", "resourcePolicy": text, "blockPublicPolicy": false }),
        NONE,
        admitted(json!({ "secret_id": "s" })),
    );
    test("kms", json!({ "keyId": "k", "policy": text, "policyName": "default" }), NONE, {
        admitted(json!({ "key_id": "k", "policy_name": "default" }))
    });
    test("ecr", json!({ "repositoryName": "r", "policyText": text }), NONE, admitted(json!({ "repository": "r" })));
    let all_but = json!({ "Statement": { "Effect": "Allow", "NotPrincipal": { "AWS": "1" }, "Action": "*" } });
    test("s3", json!({ "bucketPolicy": all_but }), NONE, json!({ "policy_principal": "*" }));
    for other in [json!("no JSON"), json!("{}"), json!([1]), json!({ "Statement": 1 })] {
        test("s3", json!({ "bucketPolicy": other }), NONE, NONE);
    }
    test(
        "sqs",
        json!({ "queueUrl": "q", "label": "l", "aWSAccountIds": ["2"], "actions": ["SendMessage"] }),
        NONE,
        json!({ "queue_url": "q", "policy_principal": "2" }),
    );
    test(
        "eks",
        json!({ "name": "prod", "principalArn": "arn:aws:iam::2:role/r" }),
        NONE,
        json!({ "cluster": "prod", "policy_principal": "arn:aws:iam::2:role/r" }),
    );
}

#[test]
fn acl_and_public_access_block_have_their_fields() {
    let grantee =
        |kind: &str, value: &str| json!({ "Grantee": { "xsi:type": "Group", kind: value }, "Permission": "READ" });
    let everybody = "http://acs.amazonaws.com/groups/global/AllUsers";
    test(
        "s3",
        json!({
            "bucketName": "b",
            "AccessControlPolicy": { "AccessControlList": { "Grant": [grantee("ID", "c1"), grantee("URI", everybody)] } },
        }),
        NONE,
        json!({ "bucket": "b", "acl_grantee": ["c1", everybody] }),
    );
    test("s3", json!({ "bucketName": "b", "x-amz-acl": ["public-read"] }), NONE, {
        json!({ "bucket": "b", "acl_grantee": "public-read" })
    });
    let header = json!({ "x-amz-grant-full-control": "id=\"c2\"" });
    test("s3", json!({ "bucketName": "b", "key": "k", "accessControlList": header }), NONE, {
        json!({ "bucket": "b", "object_key": "k", "acl_grantee": "id=\"c2\"" })
    });
    test(
        "s3",
        json!({ "bucketName": "b", "PublicAccessBlockConfiguration": {
            "RestrictPublicBuckets": false, "BlockPublicPolicy": false, "BlockPublicAcls": true, "IgnorePublicAcls": true,
        } }),
        NONE,
        json!({
            "bucket": "b", "block_public_acls": "true", "block_public_policy": "false", "ignore_public_acls": "true",
            "restrict_public_buckets": "false",
        }),
    );
}

#[test]
fn copy_and_share_of_data_have_their_fields() {
    test(
        "rds",
        json!({ "sourceDBSnapshotIdentifier": "arn:aws:rds:eu-west-1:1:snapshot:s", "targetDBSnapshotIdentifier": "t" }),
        NONE,
        json!({ "snapshot_id": ["arn:aws:rds:eu-west-1:1:snapshot:s", "t"] }),
    );
    test(
        "rds",
        json!({
            "exportTaskIdentifier": "e", "sourceArn": "arn:aws:rds:eu-west-1:1:snapshot:s", "s3BucketName": "b",
            "iamRoleArn": "arn:aws:iam::1:role/r", "kmsKeyId": "k",
        }),
        NONE,
        json!({
            "export_task": "e", "resource_arn": "arn:aws:rds:eu-west-1:1:snapshot:s", "bucket": "b",
            "role_arn": "arn:aws:iam::1:role/r", "key_id": "k",
        }),
    );
    test("rds", json!({ "dBSecurityGroupName": "g", "cIDRIP": "0.0.0.0/0" }), NONE, {
        json!({ "security_group": "g", "cidr": "0.0.0.0/0" })
    });
    let groups = json!([{ "vpcSecurityGroupId": "sg-1", "status": "active" }]);
    test("rds", json!({ "dBInstanceIdentifier": "d" }), json!({ "vpcSecurityGroups": groups }), {
        json!({ "db_instance": "d", "security_group": "sg-1" })
    });
    let add = json!({ "add": { "items": [{ "userId": "2" }, { "group": "all" }, { "organizationArn": "o" }] } });
    test("ec2", json!({ "imageId": "ami-1", "launchPermission": add }), NONE, {
        json!({ "image_id": "ami-1", "snapshot_shared_with": ["2", "all", "o"] })
    });
    test(
        "s3",
        json!({
            "bucketName": "b", "key": "k", "x-amz-copy-source": "other/k",
            "x-amz-server-side-encryption-customer-algorithm": "AES256",
        }),
        NONE,
        json!({ "bucket": "b", "object_key": "k", "copy_source": "other/k", "encryption": "AES256" }),
    );
    test(
        "s3",
        json!({ "bucketName": "b", "x-amz-server-side-encryption-aws-kms-key-id": "arn:aws:kms:eu-west-1:2:key/k" }),
        NONE,
        json!({ "bucket": "b", "key_id": "arn:aws:kms:eu-west-1:2:key/k" }),
    );
    let rule = json!({ "ApplyServerSideEncryptionByDefault": { "SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "k" } });
    test("s3", json!({ "ServerSideEncryptionConfiguration": { "Rule": rule } }), NONE, {
        json!({ "encryption": "aws:kms", "key_id": "k" })
    });
    let logging = json!({ "LoggingEnabled": { "TargetBucket": "t", "TargetPrefix": "p" } });
    test("s3", json!({ "bucketName": "b", "BucketLoggingStatus": logging }), NONE, {
        json!({ "bucket": "b", "target_bucket": "t" })
    });
}

#[test]
fn session_and_credentials_have_their_fields() {
    test("ssm", json!({ "target": "i-1" }), json!({ "sessionId": "alex-0abc", "streamUrl": "wss://x" }), {
        json!({ "instance_id": "i-1", "session_id": "alex-0abc" })
    });
    test("ssm", json!({ "commandId": "c", "instanceId": "i-1" }), NONE, {
        json!({ "command_id": "c", "instance_id": "i-1" })
    });
    test("ssm", NONE, json!({ "command": { "commandId": "c", "instanceIds": ["i-1"] } }), json!({ "command_id": "c" }));
    test(
        "sts",
        json!({ "name": "bob", "policy": "{}" }),
        json!({
            "credentials": { "accessKeyId": "ASIA1", "sessionToken": "x" },
            "federatedUser": { "federatedUserId": "1:bob", "arn": "arn:aws:sts::1:federated-user/bob" },
        }),
        json!({ "access_key_id": "ASIA1", "federated_user": ["bob", "arn:aws:sts::1:federated-user/bob"] }),
    );
    // Root's own: no user is named in the request.
    test(
        "iam",
        NONE,
        json!({ "accessKey": { "accessKeyId": "AKIA1", "status": "Active", "userName": "root-alias" } }),
        json!({ "access_key_id": "AKIA1", "user_name": "root-alias" }),
    );
    test(
        "iam",
        json!({ "name": "idp", "sAMLMetadataDocument": "x" }),
        json!({ "sAMLProviderArn": "arn:aws:iam::1:saml-provider/idp" }),
        json!({ "identity_provider": "arn:aws:iam::1:saml-provider/idp" }),
    );
    let profile = "arn:aws:rolesanywhere:us-east-1:1:profile/p";
    test(
        "rolesanywhere",
        json!({ "name": "n", "roleArns": ["arn:aws:iam::1:role/r"] }),
        json!({ "profile": { "profileArn": profile, "profileId": "p" } }),
        json!({ "role_arn": "arn:aws:iam::1:role/r", "anywhere_profile": profile }),
    );
    test("rolesanywhere", json!({ "trustAnchorId": "t" }), NONE, json!({ "trust_anchor": "t" }));
}

#[test]
fn network_and_instance_have_their_fields() {
    test(
        "ec2",
        json!({ "CreateFlowLogsRequest": {
            "ResourceId": { "tag": 1, "content": "vpc-1" }, "LogDestination": "arn:aws:logs:us-east-1:1:log-group:g",
            "DeliverLogsPermissionArn": "arn:aws:iam::1:role/r",
        } }),
        json!({ "CreateFlowLogsResponse": { "flowLogIdSet": { "item": "fl-1" } } }),
        json!({
            "flow_log": ["vpc-1", "fl-1"], "log_group": "arn:aws:logs:us-east-1:1:log-group:g",
            "role_arn": "arn:aws:iam::1:role/r",
        }),
    );
    test("ec2", json!({ "DeleteFlowLogsRequest": { "FlowLogId": { "tag": 1, "content": "fl-1" } } }), NONE, {
        json!({ "flow_log": "fl-1" })
    });
    test(
        "ec2",
        json!({ "CreateTrafficMirrorSessionRequest": { "NetworkInterfaceId": "eni-1", "TrafficMirrorTargetId": "tmt-1" } }),
        json!({ "CreateTrafficMirrorSessionResponse": { "trafficMirrorSession": { "trafficMirrorSessionId": "tms-1" } } }),
        json!({ "network_interface_id": "eni-1", "traffic_mirror": ["tmt-1", "tms-1"] }),
    );
    test(
        "ec2",
        json!({ "launchTemplate": { "launchTemplateId": "lt-1", "version": "1" } }),
        json!({ "instancesSet": { "items": [{
            "instanceId": "i-1",
            "iamInstanceProfile": { "arn": "arn:aws:iam::1:instance-profile/p", "id": "AIPA" },
            "networkInterfaceSet": { "items": [{ "networkInterfaceId": "eni-1" }] },
        }] } }),
        json!({
            "launch_template": "lt-1", "instance_id": "i-1", "instance_profile": "arn:aws:iam::1:instance-profile/p",
            "network_interface_id": "eni-1",
        }),
    );
    test("ec2", json!({ "CreateLaunchTemplateRequest": { "LaunchTemplateName": "n" } }), NONE, {
        json!({ "launch_template": "n" })
    });
    test("elasticfilesystem", json!({ "fileSystemId": "fs-1" }), NONE, json!({ "file_system_id": "fs-1" }));
    let arn = "arn:aws:elasticloadbalancing:eu-west-1:1:loadbalancer/app/n/1";
    test("elasticloadbalancing", json!({ "name": "n" }), json!({ "loadBalancers": [{ "loadBalancerArn": arn }] }), {
        json!({ "load_balancer": arn })
    });
    test("apigateway", json!({ "restApiId": "a" }), NONE, json!({ "api_id": "a" }));
    test("cloudfront", json!({ "id": "E1" }), NONE, json!({ "distribution_id": "E1" }));
    test("eks", json!({ "name": "prod" }), NONE, json!({ "cluster": "prod" }));
}

#[test]
fn program_and_detector_have_their_fields() {
    test("bedrock", json!({ "modelId": "anthropic.x" }), NONE, json!({ "model_id": "anthropic.x" }));
    test("codebuild", json!({ "projectName": "p" }), NONE, json!({ "build_project": "p" }));
    test(
        "lambda",
        json!({ "layerName": "l" }),
        json!({ "layerVersionArn": "arn:aws:lambda:us-east-1:1:layer:l:1" }),
        json!({ "layer": ["l", "arn:aws:lambda:us-east-1:1:layer:l:1"] }),
    );
    test("guardduty", json!({ "detectorId": "d", "ipSetId": "s", "filterName": "f" }), NONE, {
        json!({ "detector_id": "d", "guardduty_set": ["s", "f"] })
    });
    test("guardduty", json!({ "detectorId": "d", "findingIds": ["1", "2"] }), NONE, {
        json!({ "detector_id": "d", "finding_id": ["1", "2"] })
    });
    test("logs", json!({ "logGroupName": "g", "logStreamName": "s" }), NONE, {
        json!({ "log_group": "g", "log_stream": "s" })
    });
}
