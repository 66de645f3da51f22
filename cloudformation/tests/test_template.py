"""The template as a whole: its parameters, rules and outputs."""

import re

import pytest

from given import CERTIFICATE, FLEET, PRIVATE, SUBNETS
from template import PATH, Stack, load


def test_template_fits_the_size_limit_of_s3():
    # "CloudFormation quotas": 1 MB for a template in S3, where `launch` puts it.
    assert PATH.stat().st_size < 1_000_000


def test_template_names_no_region_partition_or_account():
    text = PATH.read_text()
    assert not re.search(r"\b(us|eu|ap|sa|ca|me|af|cn)(-gov)?-[a-z]+-\d\b", text)
    assert not re.search(r"arn:aws\b", text)
    assert not re.search(r"\b\d{12}\b", text)
    assert not re.search(r"\bami-[0-9a-f]{8}", text)


def test_template_has_no_custom_resource():
    types = {resource["Type"] for resource in load()["Resources"].values()}
    assert not {name for name in types if name.startswith("Custom::") or name.endswith("::CustomResource")}


def test_readme_has_every_parameter_output_and_alarm():
    readme = (PATH.parent / "README.md").read_text()
    template = load()
    alarms = {name for name, resource in template["Resources"].items() if resource["Type"] == "AWS::CloudWatch::Alarm"}
    for name in template["Parameters"].keys() | template["Outputs"].keys() | alarms:
        assert f"`{name}`" in readme, name


def test_parameters_of_the_nginx_stack_are_used():
    template = load()
    names = {"AllowedIPForEsCluster", "CloudTrailName", "KeyName", "LogGroupName", "ProxyInstanceTypeParameter"}
    assert names <= template["Parameters"].keys()
    stack = Stack(CloudTrailName="audited", LogGroupName="Audit/all", KeyName="ops", ProxyInstanceTypeParameter="t2.micro")
    assert stack.properties("AuditTrail")["TrailName"] == "audited"
    assert stack.properties("CloudTrailLogGroup")["LogGroupName"] == "Audit/all"
    launch = stack.properties("GateLaunchTemplate")["LaunchTemplateData"]
    assert (launch["KeyName"], launch["InstanceType"]) == ("ops", "t2.micro")


def test_every_parameter_but_three_has_a_default():
    without = {name for name, spec in load()["Parameters"].items() if "Default" not in spec}
    assert without == {"AllowedIPForEsCluster", "CodeBucket", "FunctionCodeKey"}


def test_every_parameter_is_in_a_group_of_the_console():
    template = load()
    groups = template["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    grouped = [name for group in groups for name in group["Parameters"]]
    assert sorted(grouped) == sorted(template["Parameters"])


@pytest.mark.parametrize("text", ["203.0.113.7", "0.0.0.0", "198.51.100.0/24", "255.255.255.255/32", "10.0.0.0/8"])
def test_address_or_block_is_accepted(text):
    assert re.fullmatch(load()["Parameters"]["AllowedIPForEsCluster"]["AllowedPattern"], text)


@pytest.mark.parametrize(
    "text", ["", "0.0.0.0/0", "203.0.113", "203.0.113.7.1", "256.0.0.1", "203.0.113.7/33", "203.0.113.7/", "2001:db8::1", ' 1.2.3.4"']
)
def test_text_that_is_no_block_is_rejected(text):
    assert not re.fullmatch(load()["Parameters"]["AllowedIPForEsCluster"]["AllowedPattern"], text)


def test_commands_that_write_the_allowlist_name_the_tier():
    pages = [PATH.parent / "README.md", PATH.parent.parent / "docs/first-launch.md"]
    commands = [line for page in pages for line in page.read_text().splitlines() if "ssm put-parameter" in line]
    assert len(commands) == 3
    for command in commands:
        # Without it AWS rejects a longer list, and any list once there was a longer one.
        assert "--tier Intelligent-Tiering" in command


def accepts(parameter, text):
    """Returns whether CloudFormation accepts this value of a parameter."""
    declared = load()["Parameters"][parameter]
    lengths = range(int(declared.get("MinLength", 0)), int(declared.get("MaxLength", 4096)) + 1)
    return len(text) in lengths and re.fullmatch(declared["AllowedPattern"], text) is not None


@pytest.mark.parametrize("text", ["abc", "audit", "my-trail.eu_west-1", "A1" * 64])
def test_name_that_cloudtrail_accepts_is_accepted(text):
    assert accepts("CloudTrailName", text)


@pytest.mark.parametrize("text", ["ab", "my--trail", "my-_trail", "audit-", ".audit", "A1" * 64 + "a", "a b c"])
def test_name_that_cloudtrail_rejects_is_rejected(text):
    assert not accepts("CloudTrailName", text)


def test_secret_is_named_by_its_whole_arn():
    secret = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:proxy/tls"
    assert accepts("CertificateSecretArn", f"{secret}-AbCdEf") and accepts("CertificateSecretArn", "")
    assert not accepts("CertificateSecretArn", secret)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        FLEET,
        SUBNETS,
        PRIVATE | FLEET,
        PRIVATE | {"CertificateArn": CERTIFICATE},
        {"GateImageId": "ami-1", "GateBundleKey": "", "GateBundleSha256": ""},
        {"DomainInstanceType": "r6g.large.search", "IndexRetentionDays": ""},
        {"CreateTrail": "false"},
        {"IndexAccessLog": "true", "IndexRetentionDays": "9"},
    ],
)
def test_parameters_that_agree_are_accepted(parameters):
    assert Stack(**parameters).complaints() == []


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"GateCount": "2"}, "More than one gate needs CertificateArn or CertificateSecretArn"),
        ({"GateBundleKey": ""}, "GateImageId or GateBundleKey is needed, each of which holds the proxy"),
        ({"GateBundleSha256": ""}, "GateBundleKey needs GateBundleSha256"),
        ({"VpcId": "vpc-1"}, "VpcId and SubnetIds are given together, and GateSubnetIds only with them"),
        ({"SubnetIds": "subnet-1,subnet-2"}, "VpcId and SubnetIds are given together, and GateSubnetIds only with them"),
        (PRIVATE, "GateSubnetIds needs a load balancer, by CertificateArn or by GateCount"),
        (
            {"IndexRetentionDays": ""},
            "A node of t3.small.search holds the indices of 18 days; for more choose a larger DomainInstanceType",
        ),
        (
            {"IndexAccessLog": "true"},
            "With IndexAccessLog a node of t3.small.search holds 9 days; for more choose a larger DomainInstanceType",
        ),
        (
            {"CreateTrail": "false", "OrganizationId": "o-exampleorgid"},
            "OrganizationId, DataEvents and Insights are settings of a trail that the stack makes",
        ),
    ],
)
def test_parameters_that_contradict_are_rejected(parameters, complaint):
    assert Stack(**parameters).complaints() == [complaint]


def test_outputs_of_the_nginx_stack_keep_their_names():
    outputs = Stack().outputs
    theirs = {
        "Documentation": "cloudformation/README.md and docs/operating.md in the sources of trailgate",
        "CloudTrailName": "AuditTrail",
        "S3CloudTrailBucketName": "S3CloudTrailBucket",
        "CloudTrailLogGroupName": "CloudTrail/trailgate",
        "ElasticSearchDomain": "CloudTrailESDomain",
        "NginxProxyInstanceId": "GateGroup",
        "ProxyPublicIP": "GateAddress",
        "NgninxProxySecurityGroupId": "NgninxProxySecurityGroup.GroupId",
        "ElasticSearchProxyEndpoint": "https://GateAddress/",
        "KibanaProxyEndpoint": "https://GateAddress/_dashboards/",
        "ProxyWhitelistedIp": "203.0.113.7",
    }
    assert {name: outputs[name] for name in theirs} == theirs


@pytest.mark.parametrize(
    ("parameters", "page"),
    [
        ({"EngineVersion": "Elasticsearch_7.10"}, "https://GateAddress/_plugin/kibana/"),
        ({"EngineVersion": "OpenSearch_3.3"}, "https://GateAddress/_dashboards/"),
        ({"HostName": "audit.example.com"}, "https://audit.example.com/_dashboards/"),
        (FLEET, "https://LoadBalancer.DNSName/_dashboards/"),
    ],
)
def test_endpoint_output_is_the_page_to_open(parameters, page):
    assert Stack(**parameters).outputs["KibanaProxyEndpoint"] == page
