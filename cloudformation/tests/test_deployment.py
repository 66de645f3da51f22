"""The stack, created, updated and deleted on a server of moto's by the AWS command line.

moto's CloudFormation ignores some types; those are sent to their services' own APIs as the template has them.
It also drops the bucket's versioning, closed access and life cycle, and never releases an address nor the network
interfaces of a group: `test_trail.py` and `test_network.py` look at those.
"""

import ast
import base64
import io
import json
import zipfile

import pytest
from moto.cloudformation.parsing import get_model_map

from cut import IGNORED, MISTAKEN, cut
from template import ACCOUNT, REGION, REQUIRED, STACK, Stack, load

SECRET = f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:tls-AbCdEf"
FLEET = {"GateCount": "2", "CertificateSecretArn": SECRET}
# All that there is an alarm for.
WATCHED = {
    "CertificateArn": f"arn:aws:acm:{REGION}:{ACCOUNT}:certificate/1",
    "KmsKeyArn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1",
    "SecurityAlerts": "true",
    "UseKinesis": "true",
    "IndexAccessLog": "true",
}


class Answered:
    """The answer to a request that is not sent."""

    status_code = 200


class Deployment:
    """A stack on the server."""

    def __init__(self, aws, folder, name):
        self.aws = aws
        self.name = name
        self._body = folder / f"{name}.json"

    def apply(self, command, **parameters):
        self._body.write_text(json.dumps(cut(**parameters)))
        # As JSON, since the command line's own notation splits values at commas.
        given = [{"ParameterKey": name, "ParameterValue": value} for name, value in (REQUIRED | parameters).items()]
        self.aws.run(
            *("cloudformation", command, "--stack-name", self.name, "--template-body", f"file://{self._body}"),
            *("--capabilities", "CAPABILITY_IAM", "--parameters", json.dumps(given)),
        )

    def describe(self):
        (stack,) = self.aws.client("cloudformation").describe_stacks(StackName=self.name)["Stacks"]
        return stack

    def outputs(self):
        return {output["OutputKey"]: output["OutputValue"] for output in self.describe()["Outputs"]}

    def id(self, name):
        """The physical id of the resource with this logical name."""
        found = self.aws.client("cloudformation").describe_stack_resources(StackName=self.name)["StackResources"]
        (resource,) = [resource for resource in found if resource.get("LogicalResourceId") == name]
        return resource["PhysicalResourceId"]

    def queue(self, name):
        """The attributes of a queue."""
        sqs = self.aws.client("sqs")
        url = sqs.get_queue_url(QueueName=self.id(name).rsplit("/", 1)[1])["QueueUrl"]
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    def function(self):
        """The function's configuration."""
        name = self.outputs()["IngestFunctionName"]
        return self.aws.client("lambda").get_function(FunctionName=name)["Configuration"]


@pytest.fixture(scope="module")
def code(aws):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("bootstrap", "")
    s3 = aws.client("s3")
    s3.create_bucket(Bucket="code", CreateBucketConfiguration={"LocationConstraint": REGION})
    s3.put_object(Bucket="code", Key="function.zip", Body=archive.getvalue())


@pytest.fixture(scope="module")
def deployment(aws, code, tmp_path_factory):
    made = Deployment(aws, tmp_path_factory.mktemp("deployment"), STACK)
    made.apply("create-stack")
    return made


def test_moto_ignores_what_is_cut_out_and_nothing_else():
    types = {resource["Type"] for resource in load()["Resources"].values()}
    assert types - get_model_map().keys() == IGNORED
    assert MISTAKEN <= types


def test_the_stack_comes_up_with_all_outputs(deployment):
    assert deployment.describe()["StackStatus"] == "CREATE_COMPLETE"
    assert deployment.outputs().keys() == Stack().outputs.keys()
    assert deployment.outputs()["KibanaProxyEndpoint"] == f"https://{deployment.id('GateAddress')}/_dashboards/"


def test_the_bucket_is_encrypted(aws, deployment):
    encryption = aws.client("s3").get_bucket_encryption(Bucket=deployment.outputs()["S3CloudTrailBucketName"])
    (rule,) = encryption["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"


def test_log_groups_have_their_retention(aws, deployment):
    groups = aws.client("logs").describe_log_groups()["logGroups"]
    days = {group["logGroupName"]: group["retentionInDays"] for group in groups}
    assert days == {"CloudTrail/trailgate": 365, deployment.id("GateLogGroup"): 365, deployment.id("FunctionLogGroup"): 30}


def test_each_role_is_for_one_service_or_the_gates(aws, deployment):
    trusted = {}
    gates = deployment.outputs()["GateRoleArn"]
    for role in Stack().names("AWS::IAM::Role"):
        found = aws.client("iam").get_role(RoleName=deployment.id(role))["Role"]
        (statement,) = found["AssumeRolePolicyDocument"]["Statement"]
        (trusted[role],) = statement["Principal"].values()
    assert trusted == {
        "AuditorRole": gates,
        "CloudTrailRole": "cloudtrail.amazonaws.com",
        "FunctionRole": "lambda.amazonaws.com",
        "ReloadRole": "lambda.amazonaws.com",
        "GateRole": "ec2.amazonaws.com",
        "VerifierRole": "lambda.amazonaws.com",
        "VerificationRole": "states.amazonaws.com",
        "VerificationScheduleRole": "scheduler.amazonaws.com",
    }


def test_machine_that_verifies_is_accepted(aws, deployment):
    machine = aws.client("stepfunctions").describe_state_machine(stateMachineArn=deployment.outputs()["VerificationArn"])
    states = json.loads(machine["definition"])["States"]
    assert states.keys() == {"Verify", "IsDone", "Done", "Report", "Failed"}


def test_the_gate_s_role_is_about_resources_that_exist(aws, deployment):
    policy = aws.client("iam").get_role_policy(RoleName=deployment.id("GateRole"), PolicyName="gate")
    # moto keeps it as Python prints it.
    document = ast.literal_eval(policy["PolicyDocument"])
    resources = {statement["Sid"]: statement["Resource"] for statement in document["Statement"]}
    addresses = aws.client("ec2").describe_addresses()["Addresses"]
    assert resources["Address"].split(":elastic-ip/")[1] in {address["AllocationId"] for address in addresses}
    assert resources["Allowlist"].endswith(f":parameter{deployment.id('Allowlist')}")
    assert resources["Bundle"] == "arn:aws:s3:::code/gate.tar.gz"


def test_the_function_runs_what_was_uploaded(deployment):
    function = deployment.function()
    assert function["Runtime"] == "provided.al2023"
    assert (function["MemorySize"], function["Timeout"]) == (256, 120)
    assert function["Environment"]["Variables"]["ENDPOINT"] == "https://stub-cloudtrailesdomain"
    assert function["Role"].endswith(deployment.id("FunctionRole"))


def test_the_log_group_may_call_the_function(aws, deployment):
    answer = aws.client("lambda").get_policy(FunctionName=deployment.outputs()["IngestFunctionName"])
    (statement,) = json.loads(answer["Policy"])["Statement"]
    assert statement["Principal"] == {"Service": "logs.amazonaws.com"}
    assert statement["Action"] == "lambda:InvokeFunction"


def test_failed_events_return_to_the_function_then_are_parked(aws, deployment):
    failed, parked = deployment.queue("FailedEventsQueue"), deployment.queue("ParkedEventsQueue")
    assert json.loads(failed["RedrivePolicy"])["deadLetterTargetArn"] == parked["QueueArn"]
    assert failed["SqsManagedSseEnabled"] == parked["SqsManagedSseEnabled"] == "true"
    (mapping,) = aws.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    assert (mapping["EventSourceArn"], mapping["State"]) == (failed["QueueArn"], "Enabled")


def test_the_parameter_holds_the_allowlist(aws, deployment):
    parameter = aws.client("ssm").get_parameter(Name=deployment.outputs()["AllowlistParameter"])["Parameter"]
    assert parameter["Value"] == Stack().properties("Allowlist")["Value"]


def test_the_security_group_opens_two_ports(aws, deployment):
    group = deployment.outputs()["NgninxProxySecurityGroupId"]
    (found,) = aws.client("ec2").describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert {rule["FromPort"] for rule in found["IpPermissions"]} == {80, 443}


def test_the_gate_starts_from_the_launch_template(aws, deployment):
    (group,) = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group["AutoScalingGroupName"] == deployment.outputs()["NginxProxyInstanceId"]
    assert (group["MinSize"], group["DesiredCapacity"], len(group["Instances"])) == (1, 1, 1)
    assert group["LaunchTemplate"]["LaunchTemplateId"] == deployment.id("GateLaunchTemplate")
    assert set(group["VPCZoneIdentifier"].split(",")) == set(map(deployment.id, ("FirstSubnet", "SecondSubnet")))


def test_the_launch_template_has_imdsv2_and_the_user_data(aws, deployment):
    data = launch_data(aws, deployment)
    assert data["MetadataOptions"]["HttpTokens"] == "required"
    assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
    script = base64.b64decode(data["UserData"]).decode()
    assert script.startswith("#!/bin/bash\n")
    assert "ENDPOINT=https://stub-cloudtrailesdomain\n" in script
    assert "${" not in script


def test_the_image_is_one_that_amazon_publishes(aws, deployment):
    # moto has a copy of the public parameters.
    name = launch_data(aws, deployment)["ImageId"].removeprefix("resolve:ssm:")
    assert aws.client("ssm").get_parameter(Name=name)["Parameter"]["Value"].startswith("ami-")


def test_network_has_a_default_route(aws, deployment):
    (table,) = aws.client("ec2").describe_route_tables(RouteTableIds=[deployment.id("Routes")])["RouteTables"]
    routes = {route.get("DestinationCidrBlock"): route.get("GatewayId") for route in table["Routes"]}
    assert routes["0.0.0.0/0"] == deployment.id("Gateway")


# ---- What moto's CloudFormation ignores. boto3 refuses a member that the service does not know.


def test_domain_is_accepted_by_its_api(aws, deployment):
    domain = numbers(Stack(DomainInstanceCount="2", FineGrainedAccessControl="true").properties("CloudTrailESDomain"))
    policy = domain.pop("AccessPolicies")
    made = aws.client("opensearch").create_domain(**domain, AccessPolicies=json.dumps(policy))["DomainStatus"]
    assert made["ARN"] == f"arn:aws:es:{REGION}:{ACCOUNT}:domain/trailgate"
    assert made["DomainEndpointOptions"]["EnforceHTTPS"] is True
    assert json.loads(made["AccessPolicies"]) == policy


def test_trail_is_accepted_by_its_api(aws, deployment):
    trail = Stack(DataEvents="s3 and lambda", Insights="true").properties("AuditTrail")
    assert trail.pop("IsLogging") is True
    trail["TagsList"] = trail.pop("Tags")
    selectors, insights = trail.pop("AdvancedEventSelectors"), trail.pop("InsightSelectors")
    trail["Name"] = trail.pop("TrailName")
    trail["S3BucketName"] = deployment.outputs()["S3CloudTrailBucketName"]
    trail["CloudWatchLogsLogGroupArn"] = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:CloudTrail/trailgate:*"
    made = aws.client("cloudtrail").create_trail(**trail)
    assert (made["IsMultiRegionTrail"], made["LogFileValidationEnabled"]) == (True, True)
    # moto has no advanced selectors, but botocore, which looks at the names, does.
    client = aws.client("cloudtrail")
    client.meta.events.register("before-call.cloudtrail.PutEventSelectors", lambda **_: (Answered(), {}))
    client.put_event_selectors(TrailName=trail["Name"], AdvancedEventSelectors=selectors)
    client.put_insight_selectors(TrailName=trail["Name"], InsightSelectors=insights)
    # It is what the bucket's policy names.
    assert made["TrailARN"] in json.dumps(Stack().properties("S3CloudTrailBucketPolicy"))


def test_bucket_policy_is_accepted_by_its_api(aws, deployment):
    bucket = deployment.outputs()["S3CloudTrailBucketName"]
    policy = json.dumps(Stack().properties("S3CloudTrailBucketPolicy")["PolicyDocument"])
    policy = policy.replace("S3CloudTrailBucket.Arn", f"arn:aws:s3:::{bucket}")
    aws.client("s3").put_bucket_policy(Bucket=bucket, Policy=policy)
    assert json.loads(aws.client("s3").get_bucket_policy(Bucket=bucket)["Policy"]) == json.loads(policy)


def test_subscription_is_accepted_by_its_api(aws, deployment):
    wanted = {name[0].lower() + name[1:]: value for name, value in Stack().properties("LogsSubscription").items()}
    wanted |= {"logGroupName": "CloudTrail/trailgate", "destinationArn": deployment.function()["FunctionArn"]}
    aws.client("logs").put_subscription_filter(**wanted)
    found = aws.client("logs").describe_subscription_filters(logGroupName="CloudTrail/trailgate")
    assert [made["filterName"] for made in found["subscriptionFilters"]] == [STACK]


@pytest.mark.parametrize("name", sorted(Stack(SecurityAlerts="true").names("AWS::Logs::MetricFilter")))
def test_metric_filter_is_accepted_by_its_api(aws, deployment, name):
    wanted = Stack(SecurityAlerts="true").properties(name)
    (transformation,) = wanted["MetricTransformations"]
    transformation = {key[0].lower() + key[1:]: value for key, value in transformation.items()}
    aws.client("logs").put_metric_filter(
        logGroupName="CloudTrail/trailgate",
        filterName=name,
        filterPattern=wanted["FilterPattern"],
        metricTransformations=[transformation],
    )


def test_schedule_is_accepted_by_its_api(aws, deployment):
    schedule = Stack(GateRefreshSchedule="cron(0 4 1 * ? *)").properties("GateRefresh")
    aws.client("scheduler").create_schedule(Name="refresh", **schedule)
    assert json.loads(schedule["Target"]["Input"])["Preferences"] == {
        "MinHealthyPercentage": 100,
        "MaxHealthyPercentage": 200,
    }


def test_failure_destination_is_accepted_by_its_api(aws, deployment):
    config = Stack().properties("FunctionInvokeConfig")
    config["FunctionName"] = deployment.outputs()["IngestFunctionName"]
    config["DestinationConfig"]["OnFailure"]["Destination"] = f"arn:aws:s3:::{deployment.id('FailedEventsBucket')}"
    made = aws.client("lambda").put_function_event_invoke_config(**config)
    assert (made["MaximumRetryAttempts"], made["MaximumEventAgeInSeconds"]) == (2, 21600)


@pytest.mark.parametrize("name", sorted(Stack(**WATCHED).names("AWS::CloudWatch::Alarm")))
def test_alarm_is_accepted_by_its_api(aws, deployment, name):
    topic = deployment.outputs()["AlarmTopicArn"]
    wanted = numbers(Stack(**WATCHED).properties(name)) | {"AlarmName": name, "AlarmActions": [topic]}
    aws.client("cloudwatch").put_metric_alarm(**wanted)
    (alarm,) = aws.client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
    assert alarm["AlarmActions"] == [topic]


def test_alarm_email_is_accepted_by_its_api(aws, deployment):
    wanted = Stack(AlarmEmail="ops@example.com").properties("AlarmSubscription")
    wanted["TopicArn"] = deployment.outputs()["AlarmTopicArn"]
    aws.client("sns").subscribe(**wanted)
    (made,) = aws.client("sns").list_subscriptions_by_topic(TopicArn=wanted["TopicArn"])["Subscriptions"]
    assert (made["Protocol"], made["Endpoint"]) == ("email", "ops@example.com")


def test_load_balancer_is_accepted_by_its_api(aws, deployment):
    stack, elb = Stack(**FLEET), aws.client("elbv2")
    balancer = stack.properties("LoadBalancer")
    for mapping, subnet in zip(balancer["SubnetMappings"], ("FirstSubnet", "SecondSubnet"), strict=True):
        mapping["SubnetId"] = deployment.id(subnet)
    balancer["SecurityGroups"] = [deployment.outputs()["NgninxProxySecurityGroupId"]]
    attributes = balancer.pop("LoadBalancerAttributes")
    (made,) = elb.create_load_balancer(**balancer, Name="gates")["LoadBalancers"]
    arn = made["LoadBalancerArn"]
    elb.modify_load_balancer_attributes(LoadBalancerArn=arn, Attributes=attributes)
    for name in ("Https", "Http"):
        targets = stack.properties(f"{name}Targets")
        attributes = targets.pop("TargetGroupAttributes")
        targets["VpcId"] = deployment.id("Network")
        (group,) = elb.create_target_group(**targets, Name=name)["TargetGroups"]
        elb.modify_target_group_attributes(TargetGroupArn=group["TargetGroupArn"], Attributes=attributes)
        listener = stack.properties(f"{name}Listener")
        listener["DefaultActions"][0]["TargetGroupArn"] = group["TargetGroupArn"]
        elb.create_listener(**listener | {"LoadBalancerArn": arn})
    listeners = elb.describe_listeners(LoadBalancerArn=arn)["Listeners"]
    assert {(listener["Port"], listener["Protocol"]) for listener in listeners} == {(443, "TCP"), (80, "TCP")}


# ---- And what becomes of the stack.


def test_update_changes_what_it_names_and_keeps_the_rest(aws, deployment):
    before = deployment.outputs()
    deployment.apply("update-stack", IndexRetentionDays="90", GateCount="2", CertificateSecretArn=SECRET)
    assert deployment.describe()["StackStatus"] == "UPDATE_COMPLETE"
    assert deployment.function()["Environment"]["Variables"]["RETENTION_DAYS"] == "90"
    (group,) = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert (group["MinSize"], group["DesiredCapacity"]) == (2, 2)
    after = deployment.outputs()
    kept = ("S3CloudTrailBucketName", "CloudTrailLogGroupName", "AllowlistParameter", "GateRoleArn")
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_deletion_keeps_the_evidence_and_nothing_that_runs(aws, code, tmp_path):
    # In a network that is there, since moto cannot delete one in which a group has been.
    subnets = aws.client("ec2").describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"]
    vpc, pair = subnets[0]["VpcId"], ",".join(subnet["SubnetId"] for subnet in subnets[:2])
    other = Deployment(aws, tmp_path, "other")
    other.apply("create-stack", LogGroupName="other", VpcId=vpc, SubnetIds=pair)
    bucket, function, group = (other.id(name) for name in ("S3CloudTrailBucket", "IngestFunction", "GateGroup"))
    aws.run("cloudformation", "delete-stack", "--stack-name", "other")
    assert bucket in {found["Name"] for found in aws.client("s3").list_buckets()["Buckets"]}
    assert function not in {found["FunctionName"] for found in aws.client("lambda").list_functions()["Functions"]}
    groups = aws.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
    assert group not in {found["AutoScalingGroupName"] for found in groups}
    assert not aws.client("logs").describe_log_groups(logGroupNamePrefix="other")["logGroups"]


def launch_data(aws, deployment):
    """Returns the newest version of the gates' launch template."""
    versions = aws.client("ec2").describe_launch_template_versions(LaunchTemplateId=deployment.id("GateLaunchTemplate"))
    return versions["LaunchTemplateVersions"][-1]["LaunchTemplateData"]


def numbers(node):
    """Numbers that stand in parameters' text as numbers, as CloudFormation passes them on."""
    if isinstance(node, dict):
        return {key: numbers(value) for key, value in node.items()}
    return int(node) if isinstance(node, str) and node.isdigit() else node
