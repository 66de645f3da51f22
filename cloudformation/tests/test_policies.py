"""Permissions, by evaluating the policies; test_client_roles.py has the roles that sign for clients."""

import pytest

from policy import allows
from rights import (
    AUDITOR,
    CLOUDTRAIL,
    EDITOR,
    EVERYTHING,
    FINE_GRAINED,
    FUNCTION,
    GATE,
    LOGS,
    MASTER,
    RELOAD,
    THIRD_PARTY,
    arn,
    domain,
    may_reach,
    statements,
)
from template import ACCOUNT, REGION, STACK, Stack


@pytest.mark.parametrize(
    ("parameters", "clients"),
    [
        ({}, {GATE, AUDITOR}),
        (FINE_GRAINED, {AUDITOR, EDITOR, MASTER}),
        (FINE_GRAINED | {"GateRoleIsMaster": "true"}, {GATE, AUDITOR, EDITOR, MASTER}),
        (EVERYTHING, {AUDITOR, EDITOR, THIRD_PARTY, MASTER}),
    ],
)
def test_domain_names_the_roles_of_the_stack_only(parameters, clients):
    policy = Stack(**parameters).properties("CloudTrailESDomain")["AccessPolicies"]
    principals = [statement["Principal"] for statement in policy["Statement"]]
    assert all(principal.keys() == {"AWS"} for principal in principals)
    named = [principal["AWS"] for principal in principals]
    roles = {role for found in named for role in ([found] if isinstance(found, str) else found)}
    assert roles == set(map(arn, clients | {FUNCTION, RELOAD, "VerifierRole"}))


@pytest.mark.parametrize("method", ["Get", "Head", "Post", "Put", "Patch", "Delete"])
def test_gate_may_do_what_a_full_grant_covers(method):
    assert may_reach(GATE, method, "/cwl-*/_search")
    assert may_reach(GATE, method, "/_dashboards/app/home")


def test_other_role_may_nothing():
    for role in ("Administrator", CLOUDTRAIL):
        for method in ("Get", "Post", "Put", "Delete"):
            assert not may_reach(role, method, "/cwl-2026.01.01/_search")
            assert not may_reach(role, method, "/_bulk")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("Get", "/"),
        ("Post", "/_bulk"),
        ("Post", "/cwl-2026.01.01/_bulk"),
        ("Get", "/_index_template/trailgate-cwl"),
        ("Put", "/_index_template/trailgate-cwl"),
        ("Get", "/_template/trailgate-cwl"),
        ("Put", "/_template/trailgate-cwl"),
        ("Put", "/_plugins/_ism/policies/trailgate-cwl"),
        ("Put", "/_opendistro/_ism/policies/trailgate-cwl"),
        ("Post", "/_plugins/_ism/add/cwl-*"),
        ("Post", "/_opendistro/_ism/change_policy/cwl-*"),
    ],
)
def test_the_function_may_write_its_indices_and_prepare_them(method, path):
    assert may_reach(FUNCTION, method, path)
    assert may_reach(RELOAD, method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("Get", "/cwl-2026.01.01/_search"),
        ("Post", "/cwl-2026.01.01/_search"),
        ("Post", "/cwl-2026.01.01/_delete_by_query"),
        ("Delete", "/cwl-2026.01.01"),
        ("Put", "/cwl-2026.01.01/_settings"),
        ("Post", "/other/_bulk"),
        ("Put", "/other"),
        ("Get", "/_cat/indices"),
        ("Post", "/_plugins/_security/api/rolesmapping/all_access"),
        ("Put", "/_plugins/_security/api/rolesmapping/all_access"),
        ("Put", "/_index_template/other"),
        ("Post", "/_plugins/_ism/add/other"),
    ],
)
def test_the_function_may_nothing_else_with_the_domain(method, path):
    assert not may_reach(FUNCTION, method, path)
    assert not may_reach(RELOAD, method, path)


def test_reload_reads_the_trail_and_the_function_does_not():
    stack = Stack()
    trail = "arn:aws:s3:::S3CloudTrailBucket"
    assert allows(statements(stack, RELOAD), "s3:GetObject", f"{trail}/AWSLogs/x.json.gz")
    assert allows(statements(stack, RELOAD), "s3:ListBucket", trail)
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert not allows(statements(stack, RELOAD), action, f"{trail}/AWSLogs/x.json.gz")
    assert not allows(statements(stack, FUNCTION), "s3:GetObject", f"{trail}/AWSLogs/x.json.gz")


def test_function_writes_failed_events_in_its_own_account():
    function = statements(Stack(), FUNCTION)
    bucket, ours = "FailedEventsBucket.Arn", {"s3:ResourceAccount": ACCOUNT}
    theirs = {"s3:ResourceAccount": "999999999999"}
    # "Capturing records of Lambda asynchronous invocations" names both.
    for action, resource in (("s3:PutObject", f"{bucket}/aws/lambda/async/x"), ("s3:ListBucket", bucket)):
        assert allows(function, action, resource, context=ours)
        assert not allows(function, action, resource, context=theirs)
    for action in ("s3:GetObject", "s3:DeleteObject"):
        assert not allows(function, action, f"{bucket}/aws/lambda/async/x", context=ours)
    assert allows(function, "sqs:SendMessage", "FailedEventsQueue.Arn")


def test_reload_decrypts_the_trail_s_files_by_s3_only():
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
    reload = statements(Stack(KmsKeyArn=key), RELOAD)
    assert allows(reload, "kms:Decrypt", key, context={"kms:ViaService": f"s3.{REGION}.amazonaws.com"})
    assert not allows(reload, "kms:Decrypt", key)


def test_existing_log_group_without_its_bucket_has_no_reload():
    stack = Stack(CreateTrail="false")
    assert not {"ReloadFunction", "ReloadRole"} & stack.resources.keys()
    (named,) = {tuple(found["Principal"]["AWS"]) for found in statements_of_domain(stack) if "Function" in found["Sid"]}
    assert named == (arn(FUNCTION),)


def statements_of_domain(stack):
    return stack.properties("CloudTrailESDomain")["AccessPolicies"]["Statement"]


def test_gate_reaches_no_domain_of_another_name():
    stack = Stack()
    assert not allows(statements(stack, GATE), "es:ESHttpGet", domain("-too/_search"))
    assert not allows(statements(stack, GATE), "es:DeleteDomain", domain(""))


def test_the_gate_reads_its_own_parameter_and_bundle_alone():
    gate = statements(Stack(), GATE)
    parameter = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/trailgate"
    assert allows(gate, "ssm:GetParameter", f"{parameter}/{STACK}/allowlist")
    assert not allows(gate, "ssm:PutParameter", f"{parameter}/{STACK}/allowlist")
    assert not allows(gate, "ssm:GetParameter", f"{parameter}/other/allowlist")
    ours = {"aws:ResourceAccount": ACCOUNT}
    assert allows(gate, "s3:GetObject", "arn:aws:s3:::code/gate.tar.gz", context=ours)
    assert not allows(gate, "s3:GetObject", "arn:aws:s3:::code/function.zip", context=ours)
    assert not allows(gate, "secretsmanager:GetSecretValue", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:x")


def test_code_bucket_of_another_account_is_not_read():
    theirs = {"aws:ResourceAccount": "999999999999"}
    bundle = "arn:aws:s3:::code/gate.tar.gz"
    assert not allows(statements(Stack(), GATE), "s3:GetObject", bundle, context=theirs)
    named = statements(Stack(CodeAccount="999999999999"), GATE)
    assert allows(named, "s3:GetObject", bundle, context=theirs)
    assert not allows(named, "s3:GetObject", bundle, context={"aws:ResourceAccount": ACCOUNT})


def test_long_allowlist_is_read_and_never_written():
    gate = statements(Stack(), GATE)
    assert allows(gate, "s3:GetObject", "AllowlistBucket.Arn/allowlist.toml")
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion"):
        assert not allows(gate, action, "AllowlistBucket.Arn/allowlist.toml")


# What each service sends as it assumes a role, so far as its documentation says.
CALLERS = {
    "CloudTrailRole": ("cloudtrail.amazonaws.com", {}),
    "FunctionRole": ("lambda.amazonaws.com", {}),
    "ReloadRole": ("lambda.amazonaws.com", {}),
    "VerifierRole": ("lambda.amazonaws.com", {}),
    "PublicKeysRole": ("lambda.amazonaws.com", {}),
    "VerificationRole": ("states.amazonaws.com", {"aws:SourceAccount": ACCOUNT}),
    "VerificationScheduleRole": ("scheduler.amazonaws.com", {"aws:SourceAccount": ACCOUNT}),
    "GateRole": ("ec2.amazonaws.com", {}),
    "MasterRole": ("lambda.amazonaws.com", {}),
    "GateRefreshRole": ("scheduler.amazonaws.com", {"aws:SourceAccount": ACCOUNT}),
    "LogsToStreamRole": ("logs.amazonaws.com", {"aws:SourceArn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:x"}),
}


def test_each_role_is_assumed_by_its_service_and_no_other():
    stack = Stack(**EVERYTHING)
    assert stack.names("AWS::IAM::Role") - {AUDITOR, EDITOR, THIRD_PARTY} == CALLERS.keys()
    for role, (service, context) in CALLERS.items():
        trust = stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]
        assert allows(trust, "sts:AssumeRole", role, principal=service, context=context), role
        assert not allows(trust, "sts:AssumeRole", role, principal="other.amazonaws.com", context=context), role


def test_confused_deputy_of_another_account_assumes_no_role():
    stack = Stack(**EVERYTHING)
    theirs = {
        "GateRefreshRole": {"aws:SourceAccount": "999999999999"},
        "VerificationRole": {"aws:SourceAccount": "999999999999"},
        "VerificationScheduleRole": {"aws:SourceAccount": "999999999999"},
        "LogsToStreamRole": {"aws:SourceArn": f"arn:aws:logs:{REGION}:999999999999:log-group:x"},
    }
    for role, context in theirs.items():
        trust = stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]
        assert not allows(trust, "sts:AssumeRole", role, principal=CALLERS[role][0], context=context), role


def test_schedule_refreshes_its_own_group_only():
    refresh = statements(Stack(**EVERYTHING), "GateRefreshRole")
    group = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:1:autoScalingGroupName"
    assert allows(refresh, "autoscaling:StartInstanceRefresh", f"{group}/{STACK}")
    assert not allows(refresh, "autoscaling:StartInstanceRefresh", f"{group}/{STACK}-too")
    assert not allows(refresh, "autoscaling:DeleteAutoScalingGroup", f"{group}/{STACK}")


def test_schedule_reads_the_image_of_the_launch_template():
    stack = Stack(**EVERYTHING)
    image = stack.properties("GateLaunchTemplate")["LaunchTemplateData"]["ImageId"].removeprefix("resolve:ssm:")
    refresh = statements(stack, "GateRefreshRole")
    assert allows(refresh, "ssm:GetParameters", f"arn:aws:ssm:{REGION}::parameter{image}")


def test_gate_reports_that_it_joined_to_its_own_group_only():
    gate = statements(Stack(), GATE)
    group = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:1:autoScalingGroupName"
    assert allows(gate, "autoscaling:CompleteLifecycleAction", f"{group}/{STACK}")
    assert not allows(gate, "autoscaling:CompleteLifecycleAction", f"{group}/other")


def test_secret_under_a_customer_key_is_decrypted():
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:tls-AbCdEf"
    gate = statements(Stack(CertificateSecretArn=secret), GATE)
    key = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
    via = {"kms:ViaService": f"secretsmanager.{REGION}.amazonaws.com", "kms:EncryptionContext:SecretARN": secret}
    assert allows(gate, "kms:Decrypt", key, context=via)
    assert not allows(gate, "kms:Decrypt", key, context=via | {"kms:ViaService": f"s3.{REGION}.amazonaws.com"})
    assert not allows(gate, "kms:Decrypt", key, context=via | {"kms:EncryptionContext:SecretARN": f"{secret}-too"})
    assert not allows(statements(Stack(), GATE), "kms:Decrypt", key, context=via)


def test_the_gate_reads_the_secret_that_it_is_given():
    secret = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:tls-AbCdEf"
    gate = statements(Stack(CertificateSecretArn=secret), GATE)
    assert allows(gate, "secretsmanager:GetSecretValue", secret)
    assert not allows(gate, "secretsmanager:GetSecretValue", secret.replace("tls", "other"))


def test_gate_associates_its_own_address_with_its_own_instances():
    gate = statements(Stack(), GATE)
    ec2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
    ours, theirs = {"aws:ResourceTag/trailgate": STACK}, {"aws:ResourceTag/trailgate": "other"}
    assert allows(gate, "ec2:AssociateAddress", f"{ec2}:elastic-ip/GateAddress.AllocationId")
    assert not allows(gate, "ec2:AssociateAddress", f"{ec2}:elastic-ip/eipalloc-1")
    assert allows(gate, "ec2:AssociateAddress", f"{ec2}:instance/i-1", context=ours)
    assert not allows(gate, "ec2:AssociateAddress", f"{ec2}:instance/i-1", context=theirs)
    balanced = statements(Stack(CertificateArn=f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1"), GATE)
    assert not allows(balanced, "ec2:AssociateAddress", f"{ec2}:elastic-ip/GateAddress.AllocationId")


def test_the_gate_writes_metrics_of_its_own_namespace_alone():
    gate = statements(Stack(), GATE)
    assert allows(gate, "cloudwatch:PutMetricData", "*", context={"cloudwatch:namespace": "trailgate"})
    assert not allows(gate, "cloudwatch:PutMetricData", "*", context={"cloudwatch:namespace": "AWS/ES"})


def test_session_manager_reaches_the_gate_by_inline_policy():
    stack = Stack()
    assert allows(statements(stack, GATE), "ssmmessages:OpenDataChannel", "*")
    assert allows(statements(stack, GATE), "ssm:UpdateInstanceInformation", "*")
    assert "ManagedPolicyArns" not in stack.properties(GATE)


def test_only_the_trail_writes_its_own_folder():
    bucket = Stack().properties("S3CloudTrailBucketPolicy")["PolicyDocument"]["Statement"]
    trail = f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/trailgate"
    object_of = f"S3CloudTrailBucket.Arn/AWSLogs/{ACCOUNT}/CloudTrail/x.json.gz"

    def may_write(key=object_of, source=trail, tls="true", principal="cloudtrail.amazonaws.com"):
        context = {
            "aws:SourceArn": source,
            "s3:x-amz-acl": "bucket-owner-full-control",
            "aws:SecureTransport": tls,
        }
        return allows(bucket, "s3:PutObject", key, principal=principal, context=context)

    assert may_write()
    assert not may_write(source=trail.replace(ACCOUNT, "999999999999"))
    assert not may_write(source=trail + "-too")
    assert not may_write(key="S3CloudTrailBucket.Arn/AWSLogs/999999999999/x.json.gz")
    assert not may_write(tls="false")
    assert not may_write(principal="delivery.logs.amazonaws.com")


def test_organization_trail_writes_the_organization_s_folder():
    bucket = Stack(OrganizationId="o-exampleorgid").properties("S3CloudTrailBucketPolicy")["PolicyDocument"]["Statement"]
    context = {
        "aws:SourceArn": f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:trail/trailgate",
        "s3:x-amz-acl": "bucket-owner-full-control",
        "aws:SecureTransport": "true",
    }
    cloudtrail = {"principal": "cloudtrail.amazonaws.com", "context": context}
    folder = "S3CloudTrailBucket.Arn/AWSLogs"
    assert allows(bucket, "s3:PutObject", f"{folder}/o-exampleorgid/999999999999/CloudTrail/x.json.gz", **cloudtrail)
    assert not allows(bucket, "s3:PutObject", f"{folder}/o-otherorg/999999999999/CloudTrail/x.json.gz", **cloudtrail)
    role = statements(Stack(OrganizationId="o-exampleorgid"), CLOUDTRAIL)
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:CloudTrail/trailgate:log-stream"
    assert allows(role, "logs:PutLogEvents", f"{group}:o-exampleorgid_999999999999_CloudTrail_{REGION}")
    assert not allows(statements(Stack(), CLOUDTRAIL), "logs:PutLogEvents", f"{group}:o-exampleorgid_1_CloudTrail")


def test_bucket_policy_allows_no_deletion():
    bucket = Stack().properties("S3CloudTrailBucketPolicy")["PolicyDocument"]["Statement"]
    allowed = [statement["Action"] for statement in bucket if statement["Effect"] == "Allow"]
    assert sorted(allowed) == ["s3:GetBucketAcl", "s3:PutObject"]


def test_cloudtrail_writes_its_own_streams():
    role = statements(Stack(), CLOUDTRAIL)
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:CloudTrail/trailgate:log-stream"
    assert allows(role, "logs:PutLogEvents", f"{group}:{ACCOUNT}_CloudTrail_{REGION}_2")
    assert not allows(role, "logs:PutLogEvents", f"{group}:other")
    assert not allows(role, "logs:DeleteLogStream", f"{group}:{ACCOUNT}_CloudTrail_{REGION}")


def test_only_the_trail_s_log_group_calls_the_function():
    permission = Stack(LogGroupName="trail").properties("FunctionInvokePermission")
    assert permission["Action"] == "lambda:InvokeFunction"
    assert permission["Principal"] == "logs.amazonaws.com"
    assert permission["SourceArn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:trail:*"
    assert permission["SourceAccount"] == ACCOUNT


def test_star_is_used_only_where_no_resource_can_be_named():
    for parameters in ({}, EVERYTHING):
        stack = Stack(**parameters)
        for role in stack.names("AWS::IAM::Role"):
            for statement in statements(stack, role):
                if statement["Resource"] == "*":
                    assert statement["Sid"] in {"Metrics", "SessionManager", "PublicKeys"}
                assert "*" not in str(statement["Action"]).replace("es:ESHttp*", ""), statement


def test_stream_is_written_by_logs_and_read_by_the_function():
    stack = Stack(UseKinesis="true")
    assert allows(statements(stack, LOGS), "kinesis:PutRecord", "EventStream.Arn")
    assert not allows(statements(stack, LOGS), "kinesis:GetRecords", "EventStream.Arn")
    assert allows(statements(stack, FUNCTION), "kinesis:GetRecords", "EventStream.Arn")
    assert not allows(statements(stack, FUNCTION), "kinesis:PutRecord", "EventStream.Arn")
    assert not allows(statements(Stack(), FUNCTION), "kinesis:GetRecords", "EventStream.Arn")
