"""The instances that run the proxy, and their group."""

import hashlib
import tomllib

import pytest

from given import FLEET
from template import ACCOUNT, PATH, REGION, STACK, Stack

# Of the list that a stack begins with.
ALLOWLIST = "00fd3def438b879a2d084825fffc8001369ff85f4515db31a35e1669f196186c"


def test_instance_requires_imdsv2_and_encrypts_its_disk():
    launch = Stack().properties("GateLaunchTemplate")["LaunchTemplateData"]
    assert launch["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }
    assert launch["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True


@pytest.mark.parametrize(("instance", "image"), [("t4g.micro", "arm64"), ("c7g.large", "arm64"), ("t2.micro", "x86_64")])
def test_image_has_the_architecture_of_the_instance_type(instance, image):
    launch = Stack(ProxyInstanceTypeParameter=instance).properties("GateLaunchTemplate")["LaunchTemplateData"]
    # By EC2 at each start; {{resolve:ssm:}} would stay at the image of the first launch.
    public = "resolve:ssm:/aws/service/ami-amazon-linux-latest"
    assert launch["ImageId"] == f"{public}/al2023-ami-kernel-default-{image}"


def test_bundle_is_verified_before_it_is_unpacked():
    script = Stack(GateBundleSha256="ab" * 32).properties("GateLaunchTemplate")["LaunchTemplateData"]["UserData"]
    lines = [line.strip() for line in script.splitlines()]
    compared = lines.index(f"echo '{'ab' * 32}  /root/trailgate.tar.gz' | sha256sum --check --quiet")
    assert compared < lines.index("tar -xzf /root/trailgate.tar.gz -C /root/trailgate")


def test_user_data_writes_every_setting():
    assert Stack(HostName="audit.example.com").settings() == {
        "AWS_REGION": REGION,
        "STACK": STACK,
        "GROUP": STACK,
        "ENDPOINT": "https://CloudTrailESDomain.DomainEndpoint",
        "HOME_PAGE": "/_dashboards/",
        "HOST_NAME": "audit.example.com",
        "ADDRESS": "GateAddress",
        "ADDRESS_ALLOCATION": "GateAddress.AllocationId",
        "BEHIND_LOAD_BALANCER": "false",
        "CERTIFICATE_SECRET": "",
        "ALLOWLIST_PARAMETER": f"/trailgate/{STACK}/allowlist",
        "READ_ROLE": f"arn:aws:iam::{ACCOUNT}:role/AuditorRole",
        "FULL_ROLE": "",
        "MAP_ROLES": "",
        "SECURITY_API": "",
        "MASTER_ROLE": "",
        "LOG_GROUP": "GateLogGroup",
        "INDEX_ACCESS_LOG": "false",
    }


def test_allowlist_begins_with_the_parameter():
    entries = tomllib.loads(Stack(AllowedIPForEsCluster="198.51.100.0/24").properties("Allowlist")["Value"])["allow"]
    assert (entries[0]["cidr"], entries[0]["access"]) == ("198.51.100.0/24", "full")
    assert [entry["cidr"] for entry in entries[1:]] == ["127.0.0.1"]


def test_allowlist_parameter_is_never_written_again():
    # CloudFormation writes the parameter again, and loses all edits, if a new template changes any of these.
    allowlist = Stack().properties("Allowlist")
    value = allowlist.pop("Value")
    assert allowlist == {
        "Name": f"/trailgate/{STACK}/allowlist",
        "Description": "The allowlist in TOML, or s3://BUCKET/KEY where a longer one is. "
        "Put it with --tier Intelligent-Tiering",
        "Type": "String",
        "Tier": "Intelligent-Tiering",
    }
    assert hashlib.sha256(value.encode()).hexdigest() == ALLOWLIST


def test_new_gate_counts_once_it_has_joined():
    (hook,) = Stack().properties("GateGroup")["LifecycleHookSpecificationList"]
    assert hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_LAUNCHING"
    assert hook["DefaultResult"] == "ABANDON"
    join = (PATH.parent.parent / "packer/files/join-stack").read_text()
    assert f"--lifecycle-hook-name {hook['LifecycleHookName']} " in join


def test_one_gate_has_one_address_and_no_load_balancer():
    stack = Stack()
    group = stack.properties("GateGroup")
    assert (group["MinSize"], group["DesiredCapacity"], group["HealthCheckType"]) == ("1", "1", "EC2")
    assert not stack.names("AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert stack.settings()["ADDRESS_ALLOCATION"] == "GateAddress.AllocationId"
    assert stack.settings()["BEHIND_LOAD_BALANCER"] == "false"


def test_update_waits_for_the_new_gate():
    for parameters in ({}, FLEET):
        group = Stack(**parameters).resources["GateGroup"]
        rolling = group["UpdatePolicy"]["AutoScalingRollingUpdate"]
        assert rolling["MinInstancesInService"] == group["Properties"]["MinSize"]
        assert rolling["WaitOnResourceSignals"] is True
        assert int(group["Properties"]["MaxSize"]) > int(group["Properties"]["MinSize"])
