"""Permissions, by evaluating the policies."""

import pathlib
import re

import pytest

from policy import allows
from template import ACCOUNT, REGION, STACK, Stack

ROOT = pathlib.Path(__file__).parent.parent.parent
GATE, FUNCTION, RELOAD, CLOUDTRAIL = "GateRole", "FunctionRole", "ReloadRole", "CloudTrailRole"
LOGS = "LogsToStreamRole"
AUDITOR, EDITOR, THIRD_PARTY, MASTER = "AuditorRole", "EditorRole", "ThirdPartyRole", "MasterRole"
FINE_GRAINED = {"FineGrainedAccessControl": "true"}
EVERYTHING = {
    "UseKinesis": "true",
    "DomainInVpc": "true",
    "FineGrainedAccessControl": "true",
    "ThirdPartyAccountId": "222222222222",
    "GateRefreshSchedule": "rate(30 days)",
    "OrganizationId": "o-exampleorgid",
}


def arn(role):
    return f"arn:aws:iam::{ACCOUNT}:role/{role}"


def domain(path):
    return f"arn:aws:es:{REGION}:{ACCOUNT}:domain/trailgate{path}"


def may_reach(principal, method, path, stack=None):
    """Returns whether the domain answers, by its own policy or the role's."""
    stack = stack or Stack()
    at_domain = stack.properties("CloudTrailESDomain")["AccessPolicies"]["Statement"]
    action = f"es:ESHttp{method}"
    return allows(at_domain, action, domain(path), principal=arn(principal)) or (
        principal in stack.resources and allows(statements(stack, principal), action, domain(path))
    )


def statements(stack, role):
    policies = list(stack.properties(role).get("Policies", []))
    managed = map(stack.properties, sorted(stack.names("AWS::IAM::Policy")))
    policies += [policy for policy in managed if role in policy["Roles"]]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def trust(stack, role):
    return stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]


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


# ---- The roles that sign for clients


@pytest.mark.parametrize("parameters", [{}, FINE_GRAINED, EVERYTHING])
def test_gate_assumes_the_roles_of_clients_and_no_other(parameters):
    stack = Stack(**parameters)
    of_clients = {AUDITOR, EDITOR, THIRD_PARTY} & stack.resources.keys()
    assert AUDITOR in of_clients
    for role in stack.names("AWS::IAM::Role"):
        for action in ("sts:AssumeRole", "sts:TagSession"):
            permitted = allows(statements(stack, GATE), action, arn(role))
            trusted = allows(trust(stack, role), action, role, principal=arn(GATE))
            assert (permitted, trusted) == ((role in of_clients),) * 2, (role, action)
    for role in of_clients:
        for other in (FUNCTION, RELOAD, "Administrator"):
            assert not allows(trust(stack, role), "sts:AssumeRole", role, principal=arn(other))
        # Nothing but the domain: no policy of its own.
        assert statements(stack, role) == []


def test_gate_of_a_fine_grained_domain_has_no_right_in_it():
    stack = Stack(**FINE_GRAINED)
    for method in ("Get", "Head", "Post", "Put", "Patch", "Delete"):
        for path in ("/", "/cwl-2026.01.01/_search", "/_plugins/_security/api/roles/trailgate-auditor"):
            assert not may_reach(GATE, method, path, stack)
    kept = Stack(**FINE_GRAINED, GateRoleIsMaster="true")
    assert may_reach(GATE, "Patch", "/_plugins/_security/api/rolesmapping/all_access", kept)


def test_only_lambda_assumes_the_master_of_the_domain():
    stack = Stack(**FINE_GRAINED)
    assert stack.properties("CloudTrailESDomain")["AdvancedSecurityOptions"]["MasterUserOptions"] == {
        "MasterUserARN": arn(MASTER)
    }
    assert allows(trust(stack, MASTER), "sts:AssumeRole", MASTER, principal="lambda.amazonaws.com")
    for principal in (arn(GATE), arn(EDITOR), arn(FUNCTION), "ec2.amazonaws.com"):
        assert not allows(trust(stack, MASTER), "sts:AssumeRole", MASTER, principal=principal)
    functions = {name for name in stack.names("AWS::Lambda::Function") if stack.properties(name)["Role"] == arn(MASTER)}
    assert functions == {"MapRolesFunction"}
    gate = statements(stack, GATE)
    assert allows(gate, "lambda:InvokeFunction", "MapRolesFunction.Arn")
    for action in ("lambda:InvokeFunction", "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration"):
        assert not allows(gate, action, "IngestFunction.Arn")
        assert action == "lambda:InvokeFunction" or not allows(gate, action, "MapRolesFunction.Arn")
    for action in ("iam:PassRole", "iam:UpdateAssumeRolePolicy", "es:UpdateDomainConfig"):
        assert not allows(gate, action, arn(MASTER)) and not allows(gate, action, domain(""))


@pytest.mark.parametrize("api", ["/_plugins/_security/api", "/_opendistro/_security/api"])
def test_master_maps_roles_and_nothing_else(api):
    stack = Stack(**FINE_GRAINED)
    for path in ("roles/trailgate-auditor", "rolesmapping/trailgate-editor", "rolesmapping/all_access"):
        assert may_reach(MASTER, "Put", f"{api}/{path}", stack)
    for method, path in [
        ("Put", f"{api}/internalusers/somebody"),
        ("Delete", f"{api}/roles/trailgate-auditor"),
        ("Put", f"{api}/rolesmapping/kibana_user"),
        ("Get", "/cwl-2026.01.01/_search"),
        ("Put", "/cwl-2026.01.01/_doc/1"),
        ("Delete", "/cwl-2026.01.01"),
    ]:
        assert not may_reach(MASTER, method, path, stack), path


@pytest.mark.parametrize("parameters", [{}, EVERYTHING])
def test_auditor_may_send_every_read_of_the_recorded_routes(parameters):
    stack = Stack(**parameters)
    reads = [route for route in routes() if route[2] in {"read", "saved-object", "tunnel"}]
    assert len(reads) > 300
    rejected = [(method, path) for method, path, *_ in reads if not may_reach(AUDITOR, method.title(), path, stack)]
    assert rejected == []


@pytest.mark.parametrize("role", [AUDITOR, THIRD_PARTY])
def test_auditor_may_send_no_write_that_method_and_path_show(role):
    stack = Stack(**EVERYTHING)
    writes = [route for route in routes() if route[2] in {"write", "refused"}]
    permitted = {(method, path) for method, path, *_ in writes if may_reach(role, method.title(), path, stack)}
    # By GET, and in Dashboards' own requests, IAM sees no write.
    seen = {(method, path) for method, path in permitted if method not in {"GET", "HEAD"}}
    assert {path for _, path in seen if not path.startswith(PAGES)} == set()
    assert len(writes) - len(permitted) > 300


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("Post", "/cwl-2026.01.01/_doc/_search"),
        ("Post", "/cwl-2026.01.01/_update/_search"),
        ("Put", "/cwl-2026.01.01/_create/_count"),
        ("Post", "/cwl-2026.01.01/_delete_by_query"),
        ("Post", "/_bulk"),
        ("Put", "/cwl-2026.01.01/_search"),
        ("Delete", "/cwl-2026.01.01"),
        ("Delete", "/_search"),
        ("Post", "/_plugins/_security/api/rolesmapping/all_access"),
    ],
)
def test_auditor_writes_no_document_with_the_name_of_a_search(method, path):
    assert not may_reach(AUDITOR, method, path)


PAGES = ("/_dashboards/", "/_plugin/kibana/")
# Not on AWS: parts of Elastic's licensed features, which its domains lack.
LICENSED = ("_ml", "_eql", "_graph", "_rollup_search", "_async_search", "_pit", "_data_frame", "_transform")


def routes():
    """The recorded routes that AWS's domains have: method, path, class. Pages have the prefix that a domain gives them."""
    table = (ROOT / "tests/data/kibana-traffic/routes.tsv").read_text().splitlines()[1:]
    for line in table:
        method, path, kind, servers, *_ = line.split("\t")
        servers = set(servers.split())
        named = re.sub(r"\{[^}]+\}", "a", path)
        if servers & {"osd", "kibana5"} and not servers & {"es7", "os2", "os3"}:
            named = ("/_dashboards" if "osd" in servers else "/_plugin/kibana") + named
        is_licensed = servers == {"es7"} and any(part in named for part in LICENSED)
        if not is_licensed and not (servers == {"es7"} and named.startswith("/_sql")):
            yield method, named, kind


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
