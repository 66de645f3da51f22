"""Ports, subnets, the load balancer and its certificate."""

import pytest

from given import CERTIFICATE, FLEET, PRIVATE, SECRET, SUBNETS
from template import Stack


def test_ports_443_and_80_are_open_to_ingress_cidr_only():
    stack = Stack(IngressCidr="198.51.100.0/24")
    rules = stack.properties("NgninxProxySecurityGroup")["SecurityGroupIngress"]
    assert {(rule["FromPort"], rule["ToPort"], rule["CidrIp"]) for rule in rules} == {
        (443, 443, "198.51.100.0/24"),
        (80, 80, "198.51.100.0/24"),
    }
    assert not stack.names("AWS::EC2::SecurityGroupIngress")


@pytest.mark.parametrize(("allowed", "cidr"), [("203.0.113.7", "203.0.113.7/32"), ("10.1.0.0/16", "10.1.0.0/16")])
def test_key_pair_opens_port_22_to_the_first_entry(allowed, cidr):
    rule = Stack(KeyName="ops", AllowedIPForEsCluster=allowed).properties("SshIngress")
    assert (rule["FromPort"], rule["ToPort"], rule["CidrIp"]) == (22, 22, cidr)


def test_gate_has_a_public_address_in_any_public_subnet():
    for parameters in ({}, SUBNETS, SUBNETS | FLEET):
        launch = Stack(**parameters).properties("GateLaunchTemplate")["LaunchTemplateData"]
        (interface,) = launch["NetworkInterfaces"]
        assert (interface["DeviceIndex"], interface["AssociatePublicIpAddress"]) == (0, True)
        # EC2 refuses groups in both places.
        assert "SecurityGroupIds" not in launch


def test_balanced_gates_may_be_in_private_subnets():
    stack = Stack(**PRIVATE, **FLEET)
    launch = stack.properties("GateLaunchTemplate")["LaunchTemplateData"]
    assert launch["NetworkInterfaces"][0]["AssociatePublicIpAddress"] is False
    assert stack.properties("GateGroup")["VPCZoneIdentifier"] == ["subnet-3", "subnet-4"]
    mappings = stack.properties("LoadBalancer")["SubnetMappings"]
    assert [mapping["SubnetId"] for mapping in mappings] == ["subnet-1", "subnet-2"]


def test_given_vpc_is_used_and_none_is_made():
    stack = Stack(**SUBNETS, **FLEET)
    assert not stack.names("AWS::EC2::VPC")
    assert stack.properties("GateGroup")["VPCZoneIdentifier"] == ["subnet-1", "subnet-2"]
    assert stack.properties("NgninxProxySecurityGroup")["VpcId"] == "vpc-1"
    mappings = stack.properties("LoadBalancer")["SubnetMappings"]
    assert [mapping["SubnetId"] for mapping in mappings] == ["subnet-1", "subnet-2"]


def test_load_balancer_names_the_client_to_its_gates():
    stack = Stack(**FLEET)
    group = stack.properties("GateGroup")
    assert (group["MinSize"], group["HealthCheckType"]) == ("3", "ELB")
    assert group["TargetGroupARNs"] == ["HttpsTargets", "HttpTargets"]
    for targets in group["TargetGroupARNs"]:
        attributes = {entry["Key"]: entry["Value"] for entry in stack.properties(targets)["TargetGroupAttributes"]}
        assert attributes["proxy_protocol_v2.enabled"] == "true"
        assert attributes["preserve_client_ip.enabled"] == "false"
    assert stack.settings()["BEHIND_LOAD_BALANCER"] == "true"
    assert stack.settings()["ADDRESS_ALLOCATION"] == ""
    sources = {rule["SourceSecurityGroupId"] for rule in stack.properties("GateSecurityGroup")["SecurityGroupIngress"]}
    assert sources == {"NgninxProxySecurityGroup"}
    launch = stack.properties("GateLaunchTemplate")["LaunchTemplateData"]
    assert launch["NetworkInterfaces"][0]["Groups"] == ["GateSecurityGroup"]


def test_load_balancer_has_addresses_of_its_own():
    stack = Stack(**FLEET)
    mappings = stack.properties("LoadBalancer")["SubnetMappings"]
    own = [mapping["AllocationId"] for mapping in mappings]
    assert own == ["FirstBalancerAddress.AllocationId", "SecondBalancerAddress.AllocationId"]
    assert stack.outputs["ProxyPublicIP"] == "FirstBalancerAddress"
    assert "GateAddress" not in stack.resources


def test_acm_certificate_is_on_the_balancer_before_tls_to_gates():
    stack = Stack(CertificateArn=CERTIFICATE)
    listener = stack.properties("HttpsListener")
    assert (listener["Protocol"], listener["Certificates"]) == ("TLS", [{"CertificateArn": CERTIFICATE}])
    assert "TLS13-1-2" in listener["SslPolicy"]
    assert stack.properties("HttpsTargets")["Protocol"] == "TLS"


def test_certificate_of_a_secret_is_on_the_gates():
    stack = Stack(GateCount="2", CertificateSecretArn=SECRET)
    assert stack.properties("HttpsListener")["Protocol"] == "TCP"
    assert stack.settings()["CERTIFICATE_SECRET"] == SECRET
