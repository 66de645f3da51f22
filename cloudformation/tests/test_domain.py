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


def test_fine_grained_domain_has_a_role_of_no_gate_as_master():
    stack = Stack(FineGrainedAccessControl="true")
    options = stack.properties("CloudTrailESDomain")["AdvancedSecurityOptions"]
    assert options["MasterUserOptions"]["MasterUserARN"].endswith("role/MasterRole")
    settings = stack.settings()
    assert (settings["MAP_ROLES"], settings["SECURITY_API"], settings["MASTER_ROLE"]) == ("MapRolesFunction", "", "")
    assert settings["READ_ROLE"].endswith("role/AuditorRole") and settings["FULL_ROLE"].endswith("role/EditorRole")
    plain = Stack().settings()
    assert plain["READ_ROLE"].endswith("role/AuditorRole")
    assert (plain["FULL_ROLE"], plain["MAP_ROLES"]) == ("", "")


@pytest.mark.parametrize(
    ("engine", "api"),
    [
        ("Elasticsearch_7.10", "/_opendistro/_security/api"),
        ("OpenSearch_2.19", "/_plugins/_security/api"),
        ("OpenSearch_3.3", "/_plugins/_security/api"),
    ],
)
def test_roles_are_mapped_by_the_engine_s_api(engine, api):
    stack = Stack(FineGrainedAccessControl="true", EngineVersion=engine)
    variables = stack.properties("MapRolesFunction")["Environment"]["Variables"]
    assert variables["SECURITY_API"] == api
    assert [role.rsplit("/")[-1] for role in variables["INGEST_ROLES"].split(",")] == ["FunctionRole", "ReloadRole"]
    assert variables["FORMER_MASTER_ROLE"].endswith("role/GateRole")


def test_first_of_two_launches_keeps_the_gates_role_as_master():
    stack = Stack(FineGrainedAccessControl="true", GateRoleIsMaster="true", EngineVersion="Elasticsearch_7.10")
    options = stack.properties("CloudTrailESDomain")["AdvancedSecurityOptions"]
    assert options["MasterUserOptions"]["MasterUserARN"].endswith("role/GateRole")
    assert stack.properties("MapRolesFunction")["Environment"]["Variables"]["FORMER_MASTER_ROLE"] == ""
    settings = stack.settings()
    assert settings["SECURITY_API"] == "/_opendistro/_security/api"
    assert settings["MASTER_ROLE"].endswith("role/MasterRole")


def test_change_of_the_third_party_starts_a_gate():
    def template(**parameters):
        stack = Stack(FineGrainedAccessControl="true", **parameters)
        return stack.properties("GateLaunchTemplate")["LaunchTemplateData"]["UserData"]

    assert template(ThirdPartyAccountId="222222222222") != template(ThirdPartyAccountId="333333333333")


@pytest.mark.parametrize("parameter", [{"GateRoleIsMaster": "true"}, {"ThirdPartyAccountId": "222222222222"}])
def test_roles_of_the_domain_need_fine_grained_access_control(parameter):
    complaint = ["GateRoleIsMaster and ThirdPartyAccountId need FineGrainedAccessControl"]
    assert Stack(**parameter).complaints() == complaint
    assert Stack(**parameter, FineGrainedAccessControl="true").complaints() == []


def test_default_node_holds_the_default_retention():
    # "Operational best practices": 25 shards per GiB of heap, which is half the memory. Templates make one shard a day;
    # the rest is for the service's own indices.
    template = load()
    defaults = {name: spec.get("Default") for name, spec in template["Parameters"].items()}
    assert defaults["DomainInstanceType"] == "t3.small.search"
    assert int(defaults["IndexRetentionDays"]) + 2 + 7 <= 25


def test_domain_waits_for_the_roles_that_its_policy_names():
    assert Stack().resources["CloudTrailESDomain"]["DependsOn"] == "GateInstanceProfile"
