"""The domain."""

import re

import pytest

from given import FLEET
from template import Stack, load


def test_domain_is_encrypted_at_rest_and_in_transit():
    domain = Stack().properties("CloudTrailESDomain")
    assert domain["EncryptionAtRestOptions"] == {"Enabled": True}
    assert domain["NodeToNodeEncryptionOptions"] == {"Enabled": True}
    assert domain["DomainEndpointOptions"] == {
        "EnforceHTTPS": True,
        "TLSSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-10",
    }
    assert domain["EBSOptions"]["VolumeType"] == "gp3"


def test_new_engine_version_upgrades_the_domain_in_place():
    assert Stack().resources["CloudTrailESDomain"]["UpdatePolicy"] == {"EnableVersionUpgrade": True}


@pytest.mark.parametrize("version", ["OpenSearch_1.3", "OpenSearch_2.19", "OpenSearch_3.3", "Elasticsearch_7.10"])
def test_engine_of_the_upgrade_chain_is_accepted(version):
    assert re.fullmatch(load()["Parameters"]["EngineVersion"]["AllowedPattern"], version)
    assert Stack(EngineVersion=version).properties("CloudTrailESDomain")["EngineVersion"] == version


def test_domain_in_the_vpc_admits_gate_and_function_only():
    stack = Stack(DomainInVpc="true")
    domain = stack.properties("CloudTrailESDomain")["VPCOptions"]
    assert domain == {"SecurityGroupIds": ["DomainSecurityGroup"], "SubnetIds": ["FirstSubnet"]}
    assert stack.properties("IngestFunction")["VpcConfig"]["SecurityGroupIds"] == ["FunctionSecurityGroup"]
    sources = {
        rule["SourceSecurityGroupId"] for rule in stack.properties("DomainSecurityGroup")["SecurityGroupIngress"]
    }
    assert sources == {"NgninxProxySecurityGroup", "FunctionSecurityGroup"}
    # Gates of before a load balancer keep their way until they are replaced.
    balanced = Stack(DomainInVpc="true", **FLEET)
    assert balanced.properties("DomainSecurityGroup") == stack.properties("DomainSecurityGroup")
    added = balanced.properties("DomainIngressOfBalancedGates")
    assert (added["GroupId"], added["SourceSecurityGroupId"]) == ("DomainSecurityGroup", "GateSecurityGroup")
    both = Stack(DomainInVpc="true", DomainInstanceCount="2").properties("CloudTrailESDomain")
    assert both["VPCOptions"]["SubnetIds"] == ["FirstSubnet", "SecondSubnet"]
    assert both["ClusterConfig"]["ZoneAwarenessEnabled"] is True
    assert "VPCOptions" not in Stack().properties("CloudTrailESDomain")


def test_fine_grained_access_control_has_the_gate_as_master():
    stack = Stack(FineGrainedAccessControl="true")
    options = stack.properties("CloudTrailESDomain")["AdvancedSecurityOptions"]
    assert options["MasterUserOptions"]["MasterUserARN"].endswith("role/GateRole")
    assert stack.settings()["SECURITY_API"] == "/_plugins/_security/api"
    assert stack.settings()["FUNCTION_ROLE"].endswith("role/FunctionRole")
    old = Stack(FineGrainedAccessControl="true", EngineVersion="Elasticsearch_7.10")
    assert old.settings()["SECURITY_API"] == "/_opendistro/_security/api"
    assert Stack().settings()["SECURITY_API"] == ""


def test_default_node_holds_the_default_retention():
    # "Operational best practices": 25 shards per GiB of heap, which is half the memory. Templates make one shard a day;
    # the rest is for the service's own indices.
    template = load()
    defaults = {name: spec.get("Default") for name, spec in template["Parameters"].items()}
    assert defaults["DomainInstanceType"] == "t3.small.search"
    assert int(defaults["IndexRetentionDays"]) + 2 + 7 <= 25


def test_domain_waits_for_the_roles_that_its_policy_names():
    assert Stack().resources["CloudTrailESDomain"]["DependsOn"] == "GateInstanceProfile"
