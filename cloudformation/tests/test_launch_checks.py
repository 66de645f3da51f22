"""The parameters that the launch command rejects, which AWS would reject late or with a loss."""

import pytest


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
