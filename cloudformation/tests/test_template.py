"""What the template says, for the parameters that change what there is."""

import hashlib
import re
import tomllib

import pytest

from template import ACCOUNT, PATH, REGION, STACK, Stack, load

CERTIFICATE = f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1"
SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:tls-AbCdEf"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
FLEET = {"GateCount": "3", "CertificateArn": CERTIFICATE}
# Of the list that a stack begins with.
ALLOWLIST = "00fd3def438b879a2d084825fffc8001369ff85f4515db31a35e1669f196186c"


def settings(stack):
    """What the user data tells the gate."""
    script = stack.properties("GateLaunchTemplate")["LaunchTemplateData"]["UserData"]
    return dict(re.findall(r"^([A-Z_]+)=(.*)$", script, re.MULTILINE))


def test_template_fits_into_what_the_service_reads_from_a_bucket():
    # "CloudFormation quotas": 1 MB for a template in S3, where `launch` puts it.
    assert PATH.stat().st_size < 1_000_000


def test_it_names_no_region_partition_or_account():
    text = PATH.read_text()
    assert not re.search(r"\b(us|eu|ap|sa|ca|me|af|cn)(-gov)?-[a-z]+-\d\b", text)
    assert not re.search(r"arn:aws\b", text)
    assert not re.search(r"\b\d{12}\b", text)
    assert not re.search(r"\bami-[0-9a-f]{8}", text)


def test_the_parameters_of_the_nginx_stack_are_there_and_used():
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
def test_an_address_or_a_block_is_allowed(text):
    assert re.fullmatch(load()["Parameters"]["AllowedIPForEsCluster"]["AllowedPattern"], text)


@pytest.mark.parametrize(
    "text", ["", "0.0.0.0/0", "203.0.113", "203.0.113.7.1", "256.0.0.1", "203.0.113.7/33", "203.0.113.7/", "2001:db8::1", ' 1.2.3.4"']
)
def test_what_is_neither_is_not_allowed(text):
    assert not re.fullmatch(load()["Parameters"]["AllowedIPForEsCluster"]["AllowedPattern"], text)


def test_the_outputs_of_the_nginx_stack_keep_their_names():
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
def test_the_endpoint_is_the_page_to_open(parameters, page):
    assert Stack(**parameters).outputs["KibanaProxyEndpoint"] == page


def test_the_trail_covers_all_regions_and_signs_its_files():
    trail = Stack().properties("AuditTrail")
    for what in ("IsLogging", "IsMultiRegionTrail", "IncludeGlobalServiceEvents", "EnableLogFileValidation"):
        assert trail[what] is True


def test_the_bucket_outlives_the_stack_and_nobody_outside_sees_it():
    bucket = Stack().resources["S3CloudTrailBucket"]
    # A creation that fails leaves nothing behind.
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["Properties"]["PublicAccessBlockConfiguration"]) == 4
    assert "BucketName" not in bucket["Properties"]


def test_every_event_is_subscribed_to():
    subscription = Stack().properties("LogsSubscription")
    assert subscription["FilterPattern"] == ""
    assert subscription["DestinationArn"] == "IngestFunction.Arn"
    assert "RoleArn" not in subscription


def test_what_the_function_fails_at_is_kept_for_two_weeks_and_tried_again():
    stack = Stack()
    invoke = stack.properties("FunctionInvokeConfig")
    assert invoke["DestinationConfig"]["OnFailure"]["Destination"] == "FailedEventsQueue.Arn"
    queue = stack.properties("FailedEventsQueue")
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == "ParkedEventsQueue.Arn"
    # "Using Lambda with Amazon SQS": six times the function's timeout at least.
    assert queue["VisibilityTimeout"] >= 6 * stack.properties("IngestFunction")["Timeout"]
    again = stack.properties("FailedEventsToFunction")
    assert again["EventSourceArn"] == "FailedEventsQueue.Arn"
    assert again["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


def test_a_message_is_parked_with_days_of_its_life_left():
    queue = Stack().properties("FailedEventsQueue")
    parked_after = queue["RedrivePolicy"]["maxReceiveCount"] * queue["VisibilityTimeout"]
    assert parked_after == 5 * 24 * 3600 < queue["MessageRetentionPeriod"]


def test_the_function_runs_on_the_runtime_it_is_packaged_for_and_finds_the_domain():
    function = Stack(FunctionArchitecture="arm64", IndexRetentionDays="90").properties("IngestFunction")
    assert (function["Runtime"], function["Handler"]) == ("provided.al2023", "bootstrap")
    assert function["Architectures"] == ["arm64"]
    assert function["Environment"]["Variables"] == {
        "ENDPOINT": "https://CloudTrailESDomain.DomainEndpoint",
        "REGION": REGION,
        "SERVICE": "es",
        "DOCUMENT_ID": "event_id",
        "RETENTION_DAYS": "90",
    }


def test_both_functions_name_documents_by_their_event():
    stack = Stack()
    ids = {stack.properties(name)["Environment"]["Variables"]["DOCUMENT_ID"] for name in stack.names("AWS::Lambda::Function")}
    assert (len(stack.names("AWS::Lambda::Function")), ids) == (2, {"event_id"})


def test_reload_in_the_vpc_reaches_the_bucket():
    stack = Stack(DomainInVpc="true")
    assert stack.properties("ReloadFunction")["VpcConfig"] == stack.properties("IngestFunction")["VpcConfig"]
    assert stack.properties("BucketEndpoint")["RouteTableIds"] == ["Routes"]


def test_a_stream_stands_between_for_large_accounts():
    stack = Stack(UseKinesis="true")
    subscription = stack.properties("LogsSubscription")
    assert (subscription["DestinationArn"], subscription["RoleArn"].endswith("LogsToStreamRole")) == (
        "EventStream.Arn",
        True,
    )
    mapping = stack.properties("StreamToFunction")
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    kept = stack.properties("EventStream")["RetentionPeriodHours"] * 3600
    assert mapping["MaximumRecordAgeInSeconds"] < kept
    assert "EventStream" not in Stack().resources


def test_stream_uses_all_of_its_shards_in_parallel():
    stack = Stack(UseKinesis="true")
    assert stack.properties("LogsSubscription")["Distribution"] == "Random"
    assert stack.properties("StreamToFunction")["ParallelizationFactor"] == 10
    assert "Distribution" not in Stack().properties("LogsSubscription")


def test_failing_record_blocks_its_shard_for_hours_and_is_kept():
    stack = Stack(UseKinesis="true")
    mapping = stack.properties("StreamToFunction")
    assert mapping["MaximumRecordAgeInSeconds"] <= 6 * 3600
    # A bucket gets the payload, a queue the sequence number only.
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"] == "FailedEventsBucket.Arn"
    assert stack.resources["EventStream"]["DeletionPolicy"] == "RetainExceptOnCreate"


def test_existing_log_group_is_subscribed_to_without_a_trail():
    stack = Stack(CreateTrail="false", LogGroupName="their/trail", SecurityAlerts="true")
    gone = {"AuditTrail", "CloudTrailLogGroup", "CloudTrailRole", "S3CloudTrailBucket", "S3CloudTrailBucketPolicy"}
    assert not gone & stack.resources.keys()
    assert stack.properties("LogsSubscription")["LogGroupName"] == "their/trail"
    assert stack.properties("RootUseFilter")["LogGroupName"] == "their/trail"
    assert not {"CloudTrailName", "S3CloudTrailBucketName"} & stack.outputs.keys()
    assert stack.outputs["CloudTrailLogGroupName"] == "their/trail"


def test_existing_bucket_gets_the_trail():
    stack = Stack(TrailBucket="their-bucket")
    assert stack.properties("AuditTrail")["S3BucketName"] == "their-bucket"
    assert not {"S3CloudTrailBucket", "S3CloudTrailBucketPolicy"} & stack.resources.keys()
    assert stack.outputs["S3CloudTrailBucketName"] == "their-bucket"


def test_organization_trail_is_asked_for_by_the_organization_s_id():
    assert Stack(OrganizationId="o-exampleorgid").properties("AuditTrail")["IsOrganizationTrail"] is True
    assert Stack().properties("AuditTrail")["IsOrganizationTrail"] is False


@pytest.mark.parametrize(
    ("events", "types"),
    [
        ("none", []),
        ("s3", ["AWS::S3::Object"]),
        ("lambda", ["AWS::Lambda::Function"]),
        ("s3 and lambda", ["AWS::S3::Object", "AWS::Lambda::Function"]),
    ],
)
def test_data_events_are_selected_beside_management_events(events, types):
    management, *data = Stack(DataEvents=events).properties("AuditTrail")["AdvancedEventSelectors"]
    assert management["FieldSelectors"] == [{"Field": "eventCategory", "Equals": ["Management"]}]
    fields = [{found["Field"]: found for found in selector["FieldSelectors"]} for selector in data]
    assert [found["resources.type"]["Equals"] for found in fields] == [[name] for name in types]
    for found in fields:
        if found["resources.type"]["Equals"] == ["AWS::S3::Object"]:
            assert found["resources.ARN"]["NotStartsWith"] == ["arn:aws:s3:::S3CloudTrailBucket/"]


def test_insights_are_optional():
    assert "InsightSelectors" not in Stack().properties("AuditTrail")
    selectors = Stack(Insights="true").properties("AuditTrail")["InsightSelectors"]
    assert {selector["InsightType"] for selector in selectors} == {"ApiCallRateInsight", "ApiErrorRateInsight"}


def test_the_domain_is_encrypted_everywhere():
    domain = Stack().properties("CloudTrailESDomain")
    assert domain["EncryptionAtRestOptions"] == {"Enabled": True}
    assert domain["NodeToNodeEncryptionOptions"] == {"Enabled": True}
    assert domain["DomainEndpointOptions"] == {
        "EnforceHTTPS": True,
        "TLSSecurityPolicy": "Policy-Min-TLS-1-2-PFS-2023-10",
    }
    assert domain["EBSOptions"]["VolumeType"] == "gp3"


def test_a_new_engine_version_upgrades_the_domain_in_place():
    assert Stack().resources["CloudTrailESDomain"]["UpdatePolicy"] == {"EnableVersionUpgrade": True}


@pytest.mark.parametrize("version", ["OpenSearch_1.3", "OpenSearch_2.19", "OpenSearch_3.3", "Elasticsearch_7.10"])
def test_these_engines_can_be_had(version):
    assert re.fullmatch(load()["Parameters"]["EngineVersion"]["AllowedPattern"], version)
    assert Stack(EngineVersion=version).properties("CloudTrailESDomain")["EngineVersion"] == version


def test_the_domain_hides_in_the_vpc_where_it_is_wanted():
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


def test_fine_grained_access_control_has_the_gate_as_master_and_maps_the_function():
    stack = Stack(FineGrainedAccessControl="true")
    options = stack.properties("CloudTrailESDomain")["AdvancedSecurityOptions"]
    assert options["MasterUserOptions"]["MasterUserARN"].endswith("role/GateRole")
    assert settings(stack)["SECURITY_API"] == "/_plugins/_security/api"
    assert settings(stack)["FUNCTION_ROLE"].endswith("role/FunctionRole")
    old = Stack(FineGrainedAccessControl="true", EngineVersion="Elasticsearch_7.10")
    assert settings(old)["SECURITY_API"] == "/_opendistro/_security/api"
    assert settings(Stack())["SECURITY_API"] == ""


def test_a_key_of_the_account_s_encrypts_all_that_is_kept():
    stack = Stack(KmsKeyArn=KEY)
    (rule,) = stack.properties("S3CloudTrailBucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    assert stack.properties("AuditTrail")["KMSKeyId"] == KEY
    assert stack.properties("CloudTrailLogGroup")["KmsKeyId"] == KEY
    assert stack.properties("FunctionLogGroup")["KmsKeyId"] == KEY
    assert stack.properties("CloudTrailESDomain")["EncryptionAtRestOptions"]["KmsKeyId"] == KEY
    assert stack.properties("AlarmTopic")["KmsMasterKeyId"] == KEY


def test_the_instance_gives_its_role_to_nobody_who_tricks_it():
    launch = Stack().properties("GateLaunchTemplate")["LaunchTemplateData"]
    assert launch["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }
    assert launch["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True


@pytest.mark.parametrize(("instance", "image"), [("t4g.micro", "arm64"), ("c7g.large", "arm64"), ("t2.micro", "x86_64")])
def test_the_image_fits_the_instance(instance, image):
    launch = Stack(ProxyInstanceTypeParameter=instance).properties("GateLaunchTemplate")["LaunchTemplateData"]
    # By EC2 at each start; {{resolve:ssm:}} would stay at the image of the first launch.
    public = "resolve:ssm:/aws/service/ami-amazon-linux-latest"
    assert launch["ImageId"] == f"{public}/al2023-ami-kernel-default-{image}"


def test_443_and_80_are_open_to_ingress_cidr_and_nothing_else_is():
    stack = Stack(IngressCidr="198.51.100.0/24")
    rules = stack.properties("NgninxProxySecurityGroup")["SecurityGroupIngress"]
    assert {(rule["FromPort"], rule["ToPort"], rule["CidrIp"]) for rule in rules} == {
        (443, 443, "198.51.100.0/24"),
        (80, 80, "198.51.100.0/24"),
    }
    assert not stack.names("AWS::EC2::SecurityGroupIngress")


@pytest.mark.parametrize(("allowed", "cidr"), [("203.0.113.7", "203.0.113.7/32"), ("10.1.0.0/16", "10.1.0.0/16")])
def test_a_key_opens_22_to_the_first_entry(allowed, cidr):
    rule = Stack(KeyName="ops", AllowedIPForEsCluster=allowed).properties("SshIngress")
    assert (rule["FromPort"], rule["ToPort"], rule["CidrIp"]) == (22, 22, cidr)


def test_the_allowlist_begins_with_the_parameter():
    entries = tomllib.loads(Stack(AllowedIPForEsCluster="198.51.100.0/24").properties("Allowlist")["Value"])["allow"]
    assert (entries[0]["cidr"], entries[0]["access"]) == ("198.51.100.0/24", "full")
    assert [entry["cidr"] for entry in entries[1:]] == ["127.0.0.1"]


def test_one_gate_has_one_address_and_replaces_itself():
    stack = Stack()
    group = stack.properties("GateGroup")
    assert (group["MinSize"], group["DesiredCapacity"], group["HealthCheckType"]) == ("1", "1", "EC2")
    assert not stack.names("AWS::ElasticLoadBalancingV2::LoadBalancer")
    assert settings(stack)["ADDRESS_ALLOCATION"] == "GateAddress.AllocationId"
    assert settings(stack)["BEHIND_LOAD_BALANCER"] == "false"


def test_several_gates_stand_behind_a_load_balancer_that_tells_the_client():
    stack = Stack(**FLEET)
    group = stack.properties("GateGroup")
    assert (group["MinSize"], group["HealthCheckType"]) == ("3", "ELB")
    assert group["TargetGroupARNs"] == ["HttpsTargets", "HttpTargets"]
    for targets in group["TargetGroupARNs"]:
        attributes = {entry["Key"]: entry["Value"] for entry in stack.properties(targets)["TargetGroupAttributes"]}
        assert attributes["proxy_protocol_v2.enabled"] == "true"
        assert attributes["preserve_client_ip.enabled"] == "false"
    assert settings(stack)["BEHIND_LOAD_BALANCER"] == "true"
    assert settings(stack)["ADDRESS_ALLOCATION"] == ""
    sources = {rule["SourceSecurityGroupId"] for rule in stack.properties("GateSecurityGroup")["SecurityGroupIngress"]}
    assert sources == {"NgninxProxySecurityGroup"}
    launch = stack.properties("GateLaunchTemplate")["LaunchTemplateData"]
    assert launch["NetworkInterfaces"][0]["Groups"] == ["GateSecurityGroup"]


def test_a_certificate_of_acm_is_on_the_load_balancer_and_the_way_to_the_gate_stays_encrypted():
    stack = Stack(CertificateArn=CERTIFICATE)
    listener = stack.properties("HttpsListener")
    assert (listener["Protocol"], listener["Certificates"]) == ("TLS", [{"CertificateArn": CERTIFICATE}])
    assert "TLS13-1-2" in listener["SslPolicy"]
    assert stack.properties("HttpsTargets")["Protocol"] == "TLS"


def test_a_certificate_of_a_secret_is_on_the_gates():
    stack = Stack(GateCount="2", CertificateSecretArn=SECRET)
    assert stack.properties("HttpsListener")["Protocol"] == "TCP"
    assert settings(stack)["CERTIFICATE_SECRET"] == SECRET


SUBNETS = {"VpcId": "vpc-1", "SubnetIds": "subnet-1,subnet-2"}
PRIVATE = SUBNETS | {"GateSubnetIds": "subnet-3,subnet-4"}


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
    ],
)
def test_parameters_that_fit_together_are_accepted(parameters):
    assert Stack(**parameters).complaints() == []


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ({"GateCount": "2"}, "More than one gate needs CertificateArn or CertificateSecretArn"),
        ({"GateBundleKey": ""}, "The gate comes from GateImageId or from GateBundleKey"),
        ({"GateBundleSha256": ""}, "GateBundleKey needs GateBundleSha256"),
        ({"VpcId": "vpc-1"}, "VpcId and SubnetIds are given together, and GateSubnetIds only with them"),
        ({"SubnetIds": "subnet-1,subnet-2"}, "VpcId and SubnetIds are given together, and GateSubnetIds only with them"),
        (PRIVATE, "GateSubnetIds needs a load balancer, by CertificateArn or by GateCount"),
        (
            {"IndexRetentionDays": ""},
            "A node of t3.small.search holds the indices of 18 days; for more choose a larger DomainInstanceType",
        ),
        (
            {"CreateTrail": "false", "OrganizationId": "o-exampleorgid"},
            "OrganizationId, DataEvents and Insights are settings of a trail that the stack makes",
        ),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(parameters, complaint):
    assert Stack(**parameters).complaints() == [complaint]


def test_gate_has_a_public_address_in_any_public_subnet():
    for parameters in ({}, SUBNETS, SUBNETS | FLEET):
        launch = Stack(**parameters).properties("GateLaunchTemplate")["LaunchTemplateData"]
        (interface,) = launch["NetworkInterfaces"]
        assert (interface["DeviceIndex"], interface["AssociatePublicIpAddress"]) == (0, True)
        # EC2 refuses groups in both places.
        assert "SecurityGroupIds" not in launch


def test_gates_behind_a_load_balancer_may_be_in_private_subnets():
    stack = Stack(**PRIVATE, **FLEET)
    launch = stack.properties("GateLaunchTemplate")["LaunchTemplateData"]
    assert launch["NetworkInterfaces"][0]["AssociatePublicIpAddress"] is False
    assert stack.properties("GateGroup")["VPCZoneIdentifier"] == ["subnet-3", "subnet-4"]
    mappings = stack.properties("LoadBalancer")["SubnetMappings"]
    assert [mapping["SubnetId"] for mapping in mappings] == ["subnet-1", "subnet-2"]


def test_default_node_holds_what_is_kept_by_default():
    # "Operational best practices": 25 shards per GiB of heap, which is half the memory. Templates make one shard a day;
    # the rest is for the service's own indices.
    template = load()
    defaults = {name: spec.get("Default") for name, spec in template["Parameters"].items()}
    assert defaults["DomainInstanceType"] == "t3.small.search"
    assert int(defaults["IndexRetentionDays"]) + 2 + 7 <= 25


def test_bundle_is_compared_with_its_sum_before_it_is_unpacked():
    script = Stack(GateBundleSha256="ab" * 32).properties("GateLaunchTemplate")["LaunchTemplateData"]["UserData"]
    lines = [line.strip() for line in script.splitlines()]
    compared = lines.index(f"echo '{'ab' * 32}  /root/trailgate.tar.gz' | sha256sum --check --quiet")
    assert compared < lines.index("tar -xzf /root/trailgate.tar.gz -C /root/trailgate")


def test_new_gate_counts_once_it_has_joined():
    (hook,) = Stack().properties("GateGroup")["LifecycleHookSpecificationList"]
    assert hook["LifecycleTransition"] == "autoscaling:EC2_INSTANCE_LAUNCHING"
    assert hook["DefaultResult"] == "ABANDON"
    join = (PATH.parent.parent / "packer/files/join-stack").read_text()
    assert f"--lifecycle-hook-name {hook['LifecycleHookName']} " in join


def test_allowlist_parameter_stays_as_it_is():
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


def test_domain_waits_for_the_roles_that_its_policy_names():
    assert Stack().resources["CloudTrailESDomain"]["DependsOn"] == "GateInstanceProfile"


def test_a_vpc_that_is_given_is_used_and_none_is_made():
    stack = Stack(**SUBNETS, **FLEET)
    assert not stack.names("AWS::EC2::VPC")
    assert stack.properties("GateGroup")["VPCZoneIdentifier"] == ["subnet-1", "subnet-2"]
    assert stack.properties("NgninxProxySecurityGroup")["VpcId"] == "vpc-1"
    mappings = stack.properties("LoadBalancer")["SubnetMappings"]
    assert [mapping["SubnetId"] for mapping in mappings] == ["subnet-1", "subnet-2"]


def test_a_load_balancer_takes_no_address_that_a_gate_may_hold():
    stack = Stack(**FLEET)
    mappings = stack.properties("LoadBalancer")["SubnetMappings"]
    own = [mapping["AllocationId"] for mapping in mappings]
    assert own == ["FirstBalancerAddress.AllocationId", "SecondBalancerAddress.AllocationId"]
    assert stack.outputs["ProxyPublicIP"] == "FirstBalancerAddress"
    assert "GateAddress" not in stack.resources


def test_an_update_waits_for_the_new_gate_before_an_old_one_goes():
    for parameters in ({}, FLEET):
        group = Stack(**parameters).resources["GateGroup"]
        rolling = group["UpdatePolicy"]["AutoScalingRollingUpdate"]
        assert rolling["MinInstancesInService"] == group["Properties"]["MinSize"]
        assert rolling["WaitOnResourceSignals"] is True
        assert int(group["Properties"]["MaxSize"]) > int(group["Properties"]["MinSize"])


def test_every_alarm_tells_the_topic():
    stack = Stack(**FLEET, UseKinesis="true", KmsKeyArn=KEY)
    alarms = stack.names("AWS::CloudWatch::Alarm")
    for alarm in alarms:
        assert stack.properties(alarm)["AlarmActions"] == ["AlarmTopic"], alarm
        assert stack.properties(alarm)["AlarmDescription"], alarm
    watched = set()
    for alarm in alarms:
        properties = stack.properties(alarm)
        queries = [query["MetricStat"]["Metric"] for query in properties.get("Metrics", []) if "MetricStat" in query]
        watched |= {(metric["Namespace"], metric["MetricName"]) for metric in queries or [properties] if metric.get("MetricName")}
        # SELECT STATISTIC(METRIC) FROM "NAMESPACE" WHERE ...
        texts = [query["Expression"] for query in properties.get("Metrics", []) if "Expression" in query]
        selects = [re.match(r'SELECT SUM\((\w+)\) FROM "([^"]+)" WHERE LogGroupName = ', text) for text in texts]
        watched |= {(select.group(2), select.group(1)) for select in selects if select}
    assert watched == {
        ("AWS/Lambda", "DestinationDeliveryFailures"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"),
        ("AWS/SQS", "ApproximateNumberOfMessagesNotVisible"),
        ("AWS/Logs", "DeliveryErrors"),
        ("AWS/Logs", "DeliveryThrottling"),
        ("AWS/Logs", "IncomingLogEvents"),
        ("AWS/ES", "ClusterStatus.red"),
        ("AWS/ES", "ClusterIndexWritesBlocked"),
        ("AWS/ES", "FreeStorageSpace"),
        ("AWS/NetworkELB", "UnHealthyHostCount"),
        ("AWS/ES", "JVMMemoryPressure"),
        ("AWS/ES", "CPUUtilization"),
        ("AWS/ES", "CPUCreditBalance"),
        ("AWS/ES", "AutomatedSnapshotFailure"),
        ("AWS/ES", "Nodes"),
        ("AWS/ES", "KMSKeyError"),
        ("AWS/ES", "KMSKeyInaccessible"),
        ("AWS/ES", "5xx"),
        ("AWS/ES", "OpenSearchRequests"),
        ("AWS/Lambda", "Errors"),
        ("AWS/Lambda", "IteratorAge"),
        ("AWS/S3", "PutRequests"),
        ("AWS/CertificateManager", "DaysToExpiry"),
        ("trailgate", "certificate_days_left"),
        ("trailgate", "ready"),
        ("trailgate", "allowlist_refused"),
    }


def test_the_storage_alarm_counts_in_percent_of_the_volume():
    alarm = Stack(DomainVolumeSize="40").properties("StorageAlarm")
    assert alarm["Metrics"][0]["Expression"] == "100 * free / (1024 * 40)"
    assert alarm["Threshold"] == 25


def test_an_address_for_alarms_is_subscribed():
    assert Stack(AlarmEmail="ops@example.com").properties("AlarmSubscription")["Endpoint"] == "ops@example.com"
    assert not Stack().names("AWS::SNS::Subscription")


def test_nothing_is_made_by_custom_resources():
    types = {resource["Type"] for resource in load()["Resources"].values()}
    assert not {name for name in types if name.startswith("Custom::") or name.endswith("::CustomResource")}


def test_the_gate_is_told_where_everything_is():
    assert settings(Stack(HostName="audit.example.com")) == {
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
        "SECURITY_API": "",
        "FUNCTION_ROLE": f"arn:aws:iam::{ACCOUNT}:role/FunctionRole",
        "RELOAD_ROLE": f"arn:aws:iam::{ACCOUNT}:role/ReloadRole",
    }


def test_the_readme_has_every_parameter_output_and_alarm():
    readme = (PATH.parent / "README.md").read_text()
    template = load()
    alarms = {name for name, resource in template["Resources"].items() if resource["Type"] == "AWS::CloudWatch::Alarm"}
    for name in template["Parameters"].keys() | template["Outputs"].keys() | alarms:
        assert f"`{name}`" in readme, name
