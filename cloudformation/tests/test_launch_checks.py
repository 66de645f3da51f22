"""The parameters that the launch command rejects, which AWS would reject late or with a loss."""

import pytest

from launching import new_stack


def test_first_launch_without_an_address_is_refused(launch):
    done = launch("audit")
    assert (done.returncode, done.stdout) == (2, "")
    assert "first launch needs ADDRESS" in done.stderr and "usage: cloudformation/launch STACK" in done.stderr


@pytest.mark.parametrize("address", ["203.0.113.7/24", "0.0.0.0/0", "2001:db8::1", "here"])
def test_address_that_no_gate_would_accept_is_refused(launch, address):
    done = launch("audit", address)
    assert done.returncode == 2
    assert f"ADDRESS '{address}'" in done.stderr
    assert not launch.aws.calls("cloudformation describe-stacks")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Elasticsearch_7.10", "OpenSearch_2.19"),
        ("Elasticsearch_7.10", "OpenSearch_3.3"),
        ("OpenSearch_1.3", "OpenSearch_3.3"),
        ("OpenSearch_2.17", "OpenSearch_3.3"),
        ("OpenSearch_2.19", "OpenSearch_2.17"),
        ("OpenSearch_1.3", "Elasticsearch_7.10"),
    ],
)
def test_upgrade_that_aws_refuses_is_refused_before_it_is_asked(launch, before, after):
    done = launch.exists(EngineVersion=before)("audit", f"EngineVersion={after}")
    assert done.returncode == 2
    assert before in done.stderr and after in done.stderr
    assert not launch.aws.calls("cloudformation create-change-set")


def test_new_domain_may_have_any_engine(launch):
    launch.exists(EngineVersion="OpenSearch_2.19", DomainName="audit")
    replaced = {"ResourceChange": {"LogicalResourceId": "CloudTrailESDomain", "Replacement": "True"}}
    launch.plays(cloudformation__describe_change_set=[{"Status": "CREATE_COMPLETE", "Changes": [replaced]}])
    done = launch("audit", "EngineVersion=OpenSearch_2.17", "DomainName=audit2")
    assert done.returncode == 0, done.stderr
    (call,) = launch.aws.calls("cloudformation execute-change-set")
    assert "--disable-rollback" not in call


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Elasticsearch_7.10", "OpenSearch_1.3"),
        ("OpenSearch_1.3", "OpenSearch_2.19"),
        ("OpenSearch_2.17", "OpenSearch_2.19"),
        ("OpenSearch_2.19", "OpenSearch_3.3"),
        ("OpenSearch_3.1", "OpenSearch_3.3"),
    ],
)
def test_upgrade_by_the_chain_is_asked_for(launch, before, after):
    done = launch.exists(EngineVersion=before)("audit", f"EngineVersion={after}")
    assert done.returncode == 0, done.stderr
    assert launch.sent()["EngineVersion"] == after


@pytest.mark.parametrize(
    ("before", "given"),
    [
        # A stack from before the parameter, and one that gets fine-grained access control.
        ({"FineGrainedAccessControl": "true"}, []),
        ({"FineGrainedAccessControl": "true"}, ["GateRoleIsMaster=false"]),
        ({"FineGrainedAccessControl": "false", "GateRoleIsMaster": "false"}, ["FineGrainedAccessControl=true"]),
    ],
)
def test_change_of_the_master_in_one_launch_is_refused(launch, before, given):
    done = launch.exists(**before)("audit", *given)
    assert done.returncode == 2
    assert "launch with FineGrainedAccessControl=true GateRoleIsMaster=true first" in done.stderr
    assert not launch.aws.calls("cloudformation create-change-set")


@pytest.mark.parametrize(
    ("before", "given"),
    [
        ({"FineGrainedAccessControl": "true"}, ["GateRoleIsMaster=true"]),
        ({"FineGrainedAccessControl": "true", "GateRoleIsMaster": "true"}, ["GateRoleIsMaster=false"]),
        ({"FineGrainedAccessControl": "true", "GateRoleIsMaster": "false"}, []),
        ({"FineGrainedAccessControl": "false"}, []),
    ],
)
def test_change_of_the_master_in_two_launches_is_asked_for(launch, before, given):
    done = launch.exists(**before)("audit", *given)
    assert done.returncode == 0, done.stderr


KEY, OTHER_KEY = (f"arn:aws:kms:eu-west-1:123456789012:key/{number}" for number in (1, 2))


@pytest.mark.parametrize(
    ("before", "given"),
    [
        ({"KmsKeyArn": ""}, f"KmsKeyArn={KEY}"),
        ({"KmsKeyArn": KEY}, f"KmsKeyArn={OTHER_KEY}"),
        ({"KmsKeyArn": KEY}, "KmsKeyArn="),
        ({"DomainInVpc": "false"}, "DomainInVpc=true"),
        ({"DomainInVpc": "true"}, "DomainInVpc=false"),
        ({"DomainInVpc": "true", "VpcId": "vpc-1"}, "VpcId=vpc-2"),
        ({"FineGrainedAccessControl": "true", "GateRoleIsMaster": "false"}, "FineGrainedAccessControl=false"),
    ],
)
def test_change_that_would_replace_the_domain_is_refused(launch, before, given):
    done = launch.exists(DomainName="audit", **before)("audit", given)
    assert done.returncode == 2
    assert f"{given.split('=')[0]} of the domain audit cannot change" in done.stderr
    assert "launch with another DomainName" in done.stderr
    assert not launch.aws.calls("cloudformation create-change-set")


def test_new_domain_may_have_another_key(launch):
    done = launch.exists(DomainName="audit", KmsKeyArn="")("audit", f"KmsKeyArn={KEY}", "DomainName=audit2")
    assert done.returncode == 0, done.stderr
    assert launch.sent()["KmsKeyArn"] == KEY


@pytest.mark.parametrize("given", [f"KmsKeyArn={KEY}", "DomainInVpc=false", "VpcId=vpc-2"])
def test_parameter_that_stays_as_it_is_is_asked_for(launch, given):
    done = launch.exists(DomainName="audit", KmsKeyArn=KEY, DomainInVpc="false", VpcId="vpc-1")("audit", given)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "given",
    [
        "CertificateArn=arn:aws:acm:us-east-1:123456789012:certificate/1",
        "CertificateSecretArn=arn:aws:secretsmanager:us-east-1:123456789012:secret:tls-AbCdEf",
        "KmsKeyArn=arn:aws:kms:us-east-1:123456789012:key/1",
    ],
)
def test_arn_of_another_region_is_refused(launch, given):
    done = launch("audit", "203.0.113.7", given)
    assert done.returncode == 2
    assert f"{given.split('=')[0]} is in us-east-1, and the stack in eu-west-1" in done.stderr
    assert not launch.aws.calls("cloudformation create-change-set")


@pytest.mark.parametrize(
    ("stack", "trail"), [("audit", "audit"), ("audit--2", "audit-2"), ("audit-", "audit"), ("ab", None), ("a--b", "a-b")]
)
def test_trail_is_named_as_cloudtrail_accepts(launch, stack, trail):
    launch.plays(cloudformation__describe_stacks=new_stack("CREATE_COMPLETE"))
    done = launch(stack, "203.0.113.7")
    assert done.returncode == 0, done.stderr
    assert launch.sent().get("CloudTrailName") == trail
