"""The command that launches the stack, with a stand-in of the AWS command line: time, failure, and other accounts."""

import pytest

from launching import json_argument, new_stack
from played import ACCOUNT, REGION, events, stack

EXPIRED = "An error occurred (ExpiredToken) when calling DescribeStackEvents: The security token included in the request is expired"
THROTTLED = "An error occurred (Throttling) when calling DescribeStackEvents: Rate exceeded"
# The first launch protects the stack, and CloudFormation deletes no protected one, however it ended.
DELETION = """
  aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name audit
  aws cloudformation delete-stack --stack-name audit"""


def test_no_region_is_said_with_the_next_command(launch):
    launch.plays(configure__get=[""])
    done = launch("audit", "203.0.113.7", AWS_REGION="")
    assert done.returncode == 2
    assert "no region is configured: set AWS_REGION, or run `aws configure set region" in done.stderr


def test_slow_domain_is_waited_for_with_its_events(launch):
    creating = ["CREATE_IN_PROGRESS"] * 125
    launch.plays(
        cloudformation__describe_stacks=new_stack(*creating, "CREATE_COMPLETE"),
        cloudformation__describe_stack_events=[
            events("audit CREATE_IN_PROGRESS User Initiated"),
            events("audit CREATE_IN_PROGRESS User Initiated", "CloudTrailESDomain CREATE_IN_PROGRESS"),
        ],
    )
    done = launch("audit", "203.0.113.7")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("CREATE_IN_PROGRESS CloudTrailESDomain") == 1
    assert "KibanaProxyEndpoint\thttps://198.51.100.9/_dashboards/" in done.stdout
    # The deploy command gives up after 120 polls.
    assert len(launch.aws.calls("cloudformation describe-stack-events")) > 120


def test_rollback_is_reported_with_cause_and_next_command(launch):
    launch.plays(
        cloudformation__describe_stacks=new_stack("CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE"),
        cloudformation__describe_stack_events=[
            events(
                "audit CREATE_IN_PROGRESS User Initiated",
                "AuditTrail CREATE_FAILED Access denied. Check the trust relationships for your role.",
                "CloudTrailESDomain CREATE_FAILED Resource creation cancelled",
            )
        ],
    )
    done = launch("audit", "203.0.113.7")
    assert done.returncode == 1
    message = done.stderr.split("launch: ")[1]
    assert "ROLLBACK_COMPLETE" in message and DELETION in message
    assert "AuditTrail: Access denied. Check the trust relationships" in message
    assert "CloudTrailESDomain" not in message


def test_gate_that_does_not_join_is_reported_with_its_console(launch):
    launch.plays(
        cloudformation__describe_stacks=new_stack("CREATE_IN_PROGRESS", "ROLLBACK_COMPLETE"),
        cloudformation__describe_stack_events=[
            events(
                "audit CREATE_IN_PROGRESS User Initiated",
                "GateGroup CREATE_IN_PROGRESS Received FAILURE signal with UniqueId i-0123456789abcdef0",
                "GateGroup CREATE_FAILED Received 1 FAILURE signal(s) out of 1.",
            )
        ],
    )
    done = launch("audit", "203.0.113.7")
    assert done.returncode == 1
    # The signal has no reason, and the instance is terminated.
    command = "aws ec2 get-console-output --instance-id i-0123456789abcdef0 --output text"
    assert f"GateGroup: i-0123456789abcdef0 did not join; see why, within an hour: {command}" in done.stderr


@pytest.mark.parametrize("status", ["ROLLBACK_COMPLETE", "ROLLBACK_FAILED"])
def test_stack_that_rolled_back_is_not_updated(launch, status):
    done = launch.exists(status)("audit", "203.0.113.7")
    assert done.returncode == 1
    assert "accepts no update" in done.stderr and DELETION in done.stderr
    assert not launch.aws.calls("cloudformation create-change-set")


def test_stack_that_could_not_be_deleted_may_leave_what_keeps_it(launch):
    done = launch.exists("DELETE_FAILED")("audit", "203.0.113.7")
    assert done.returncode == 1
    assert f"{DELETION}\nwith --retain-resources and the resources that could not be deleted" in done.stderr


def test_running_operation_is_waited_for_before_the_change(launch):
    running = stack("CREATE_IN_PROGRESS")
    launch.plays(cloudformation__describe_stacks=[running, running, stack("CREATE_COMPLETE")])
    done = launch("audit", "IndexRetentionDays=7")
    assert done.returncode == 0, done.stderr
    assert "audit is in CREATE_IN_PROGRESS; waiting" in done.stderr
    assert launch.sent()["IndexRetentionDays"] == "7"


def test_failure_of_an_earlier_operation_is_not_reported(launch):
    running, over = stack("UPDATE_IN_PROGRESS"), stack("UPDATE_ROLLBACK_COMPLETE")
    launch.plays(
        cloudformation__describe_stacks=[running, running, over],
        cloudformation__describe_stack_events=[
            events(
                "audit UPDATE_IN_PROGRESS User Initiated",
                "GateGroup UPDATE_FAILED of long ago",
                "audit UPDATE_IN_PROGRESS User Initiated",
                "AlarmTopic UPDATE_FAILED of now",
            )
        ],
    )
    done = launch("audit")
    assert done.returncode == 1
    assert "of now" in done.stderr and "of long ago" not in done.stderr


def test_later_launch_needs_no_address_and_keeps_the_list(launch):
    done = launch.exists()("audit", "IndexRetentionDays=7")
    assert done.returncode == 0, done.stderr
    assert launch.sent()["AllowedIPForEsCluster"] is None
    assert launch.sent()["EngineVersion"] is None


def test_other_address_is_refused_without_reset_allowlist(launch):
    done = launch.exists()("audit", "203.0.113.8")
    assert done.returncode == 2
    assert "began with 203.0.113.7, not 203.0.113.8" in done.stderr and "--reset-allowlist" in done.stderr
    assert not launch.aws.calls("cloudformation create-change-set")


def test_other_address_is_sent_with_reset_allowlist(launch):
    done = launch.exists()("audit", "203.0.113.8", "--reset-allowlist")
    assert done.returncode == 0, done.stderr
    assert launch.sent()["AllowedIPForEsCluster"] == "203.0.113.8"


CHANGES_LIST = {"Status": "CREATE_COMPLETE", "Changes": [{"ResourceChange": {"LogicalResourceId": "Allowlist"}}]}


def test_edited_allowlist_is_not_written_by_a_new_template(launch):
    launch.plays(ssm__get_parameter=[{"Parameter": {"Version": 2}}], cloudformation__describe_change_set=[CHANGES_LIST])
    done = launch.exists()("audit")
    assert done.returncode == 2
    assert "would write /trailgate/audit/allowlist again, and it was edited" in done.stderr
    assert not launch.aws.calls("cloudformation execute-change-set")
    assert launch.aws.calls("cloudformation delete-change-set")


def test_unedited_allowlist_is_written_by_a_new_template(launch):
    launch.plays(ssm__get_parameter=[{"Parameter": {"Version": 1}}], cloudformation__describe_change_set=[CHANGES_LIST])
    done = launch.exists()("audit")
    assert done.returncode == 0, done.stderr


# In the words of STS, of the command line, and of IAM Identity Center.
ENDS = [
    EXPIRED,
    "An error occurred (ExpiredTokenException) when calling GetRoleCredentials: Session expired",
    "An error occurred (UnauthorizedException) when calling GetRoleCredentials: Session token not found or invalid",
    "An error occurred (InvalidGrantException) when calling the CreateToken operation:",
    "Error when retrieving token from sso: Token has expired and refresh failed",
    "The SSO session associated with this profile has expired or is otherwise invalid. To refresh it run aws sso login",
    "Credentials were refreshed, but the refreshed credentials are still expired.",
    "Your session has expired. Please reauthenticate using 'aws login'.",
]


@pytest.mark.parametrize("end", ENDS)
def test_session_that_expires_leaves_the_stack_running(launch, end):
    launch.plays(
        cloudformation__describe_stacks=new_stack("CREATE_IN_PROGRESS"),
        cloudformation__describe_stack_events=[events("audit CREATE_IN_PROGRESS User Initiated"), end],
    )
    done = launch("audit", "203.0.113.7")
    assert done.returncode == 75
    assert "the session expired; the stack goes on by itself" in done.stderr
    assert "`cloudformation/launch audit`" in done.stderr


def test_throttled_poll_is_repeated(launch):
    launch.plays(
        cloudformation__describe_stacks=new_stack("CREATE_IN_PROGRESS", "CREATE_COMPLETE"),
        cloudformation__describe_stack_events=[THROTTLED, events("audit CREATE_COMPLETE")],
    )
    done = launch("audit", "203.0.113.7")
    assert done.returncode == 0, done.stderr
    assert "asking again" in done.stderr


def test_nothing_to_change_ends_well_with_the_outputs(launch):
    unchanged = {"Status": "FAILED", "StatusReason": "The submitted information didn't contain changes."}
    done = launch.exists().plays(cloudformation__describe_change_set=[unchanged])("audit")
    assert done.returncode == 0, done.stderr
    assert "nothing changes" in done.stderr and "KibanaProxyEndpoint\t" in done.stdout
    assert not launch.aws.calls("cloudformation execute-change-set")


ARN = "arn:aws:cloudformation:eu-west-1:123456789012:changeSet/launch-1/1"
REJECTED = {
    "ChangeSetId": ARN,
    "Status": "FAILED",
    "StatusReason": "The following hook(s)/validation failed: [AWS::EarlyValidation::ResourceExistenceCheck].",
}


def test_early_validation_is_reported_with_its_findings(launch):
    found = {
        "EventType": "VALIDATION_ERROR",
        "LogicalResourceId": "GateLogGroup",
        "ValidationPath": "/Resources/GateLogGroup/Properties/LogGroupName",
        "ValidationStatusReason": "Resource of type 'AWS::Logs::LogGroup' with identifier '/audit/gate' already exists.",
    }
    launch.plays(
        cloudformation__describe_change_set=[REJECTED], cloudformation__describe_events=[{"OperationEvents": [found]}]
    )
    done = launch("audit", "203.0.113.7")
    assert done.returncode == 1
    assert "GateLogGroup: Resource of type 'AWS::Logs::LogGroup' with identifier '/audit/gate' already exists" in done.stderr
    (call,) = launch.aws.calls("cloudformation describe-events")
    # A change set's name is not enough.
    assert call[call.index("--change-set-name") + 1] == ARN
    assert launch.aws.calls("cloudformation delete-change-set")


def test_early_validation_without_findings_keeps_the_change_set(launch):
    unknown = "aws: error: argument operation: Invalid choice: describe-events"
    launch.plays(cloudformation__describe_change_set=[REJECTED], cloudformation__describe_events=[unknown])
    done = launch("audit", "203.0.113.7")
    assert done.returncode == 1
    assert "AWS::EarlyValidation::ResourceExistenceCheck" in done.stderr
    assert f"aws cloudformation describe-events --change-set-name {ARN}" in done.stderr
    assert not launch.aws.calls("cloudformation delete-change-set")


def test_stack_of_a_release_link_is_changed_from_a_bucket_of_the_account(launch):
    launch.exists(CodeBucket="published", CodeAccount="999999999999")
    done = launch("audit", "IndexRetentionDays=7")
    assert done.returncode == 0, done.stderr
    sent = launch.sent()
    # The gates' role reads the bundle from a bucket of CodeAccount only.
    assert (sent["CodeBucket"], sent["CodeAccount"]) == (f"trailgate-code-{ACCOUNT}-{REGION}", "")


def test_upgrade_that_fails_later_is_not_rolled_back(launch):
    before, failed = stack("UPDATE_COMPLETE", EngineVersion="OpenSearch_1.3"), stack("UPDATE_FAILED")
    launch.plays(
        cloudformation__describe_stacks=[before, before, failed],
        cloudformation__describe_stack_events=[
            events("audit UPDATE_COMPLETE"),
            {"StackEvents": [{"EventId": "9", "LogicalResourceId": "GateGroup", "ResourceStatus": "UPDATE_FAILED"}]},
        ],
    )
    done = launch("audit", "EngineVersion=OpenSearch_2.19")
    assert done.returncode == 1
    (call,) = launch.aws.calls("cloudformation execute-change-set")
    # A domain does not go back, so that the rollback would fail, too, and block the stack.
    assert "--disable-rollback" in call
    assert "what was changed stays" in done.stderr and "run the same command again" in done.stderr


def test_other_change_that_fails_is_rolled_back(launch):
    done = launch.exists(EngineVersion="OpenSearch_2.19")("audit", "IndexRetentionDays=7", "EngineVersion=OpenSearch_2.19")
    assert done.returncode == 0, done.stderr
    (call,) = launch.aws.calls("cloudformation execute-change-set")
    assert "--disable-rollback" not in call


def test_stack_in_update_failed_is_changed_without_rollback(launch):
    failed = stack("UPDATE_FAILED")
    launch.plays(cloudformation__describe_stacks=[failed, failed, stack("UPDATE_COMPLETE")])
    done = launch("audit", "IndexRetentionDays=7")
    assert done.returncode == 0, done.stderr
    (call,) = launch.aws.calls("cloudformation execute-change-set")
    # CloudFormation accepts no other update in this state.
    assert "--disable-rollback" in call


def test_upgrade_along_with_a_replacement_is_refused(launch):
    replaced = {"ResourceChange": {"LogicalResourceId": "CloudTrailLogGroup", "Replacement": "True"}}
    kept = {"ResourceChange": {"LogicalResourceId": "CloudTrailESDomain", "Replacement": "False"}}
    launch.exists(EngineVersion="OpenSearch_1.3").plays(
        cloudformation__describe_change_set=[{"Status": "CREATE_COMPLETE", "Changes": [replaced, kept]}]
    )
    done = launch("audit", "EngineVersion=OpenSearch_2.19", "LogGroupName=other")
    assert done.returncode == 2
    assert "would replace CloudTrailLogGroup" in done.stderr and "without EngineVersion" in done.stderr
    assert not launch.aws.calls("cloudformation execute-change-set")
    assert launch.aws.calls("cloudformation delete-change-set")


def test_rollback_that_fails_is_reported_with_its_next_command(launch):
    running = stack("UPDATE_ROLLBACK_IN_PROGRESS")
    launch.plays(
        cloudformation__describe_stacks=[running, running, stack("UPDATE_ROLLBACK_FAILED")],
        cloudformation__describe_stack_events=[
            events("audit UPDATE_IN_PROGRESS User Initiated", "GateGroup UPDATE_FAILED no signal")
        ],
    )
    done = launch("audit")
    assert done.returncode == 1
    assert "continue-update-rollback --stack-name audit" in done.stderr and "--resources-to-skip" in done.stderr


def test_parameter_that_the_template_lacks_is_named(launch):
    done = launch.exists()("audit", "IndexRetention=7")
    assert done.returncode == 2
    assert "trailgate.yaml has no parameter IndexRetention" in done.stderr


def test_new_stack_is_protected_and_named_after_itself(launch):
    launch.plays(cloudformation__describe_stacks=new_stack("CREATE_COMPLETE"))
    assert launch("audit", "203.0.113.7").returncode == 0
    (call,) = launch.aws.calls("cloudformation update-termination-protection")
    assert "--enable-termination-protection" in call
    sent = launch.sent()
    assert (sent["CloudTrailName"], sent["LogGroupName"], sent["DomainName"]) == ("audit", "CloudTrail/audit", "audit")


def test_refresh_replaces_the_gates_and_waits(launch):
    launch.exists().plays(
        autoscaling__start_instance_refresh=[{"InstanceRefreshId": "1"}],
        autoscaling__describe_instance_refreshes=[
            {"InstanceRefreshes": [{"Status": "InProgress", "PercentageComplete": 50}]},
            {"InstanceRefreshes": [{"Status": "Successful", "PercentageComplete": 100}]},
        ],
    )
    done = launch("audit", "--refresh")
    assert done.returncode == 0, done.stderr
    (call,) = launch.aws.calls("autoscaling start-instance-refresh")
    assert json_argument(call, "--preferences") == {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200}
    assert "refresh: InProgress, 50 %" in done.stderr


RUNNING = "An error occurred (InstanceRefreshInProgress) when calling the StartInstanceRefresh operation: in progress"


def test_refresh_that_is_running_is_watched(launch):
    earlier = {"InstanceRefreshId": "1", "Status": "Failed"}
    running = {"InstanceRefreshId": "2", "Status": "InProgress"}
    launch.exists().plays(
        autoscaling__start_instance_refresh=[RUNNING],
        autoscaling__describe_instance_refreshes=[
            {"InstanceRefreshes": [earlier, running]},
            {"InstanceRefreshes": [running | {"Status": "Successful"}]},
        ],
    )
    done = launch("audit", "--refresh")
    assert done.returncode == 0, done.stderr
    assert "a refresh of audit is running already" in done.stderr
    _, watched = launch.aws.calls("autoscaling describe-instance-refreshes")
    assert watched[watched.index("--instance-refresh-ids") + 1] == "2"


def test_session_that_expires_leaves_the_refresh_running(launch):
    launch.exists().plays(
        autoscaling__start_instance_refresh=[{"InstanceRefreshId": "1"}],
        autoscaling__describe_instance_refreshes=[THROTTLED, EXPIRED],
    )
    done = launch("audit", "--refresh")
    assert done.returncode == 75
    assert "the refresh goes on by itself" in done.stderr and "`cloudformation/launch audit --refresh`" in done.stderr


def test_throttled_wait_for_the_change_set_is_repeated(launch):
    launch.exists().plays(cloudformation__describe_change_set=[THROTTLED, {"Status": "CREATE_COMPLETE"}])
    done = launch("audit")
    assert done.returncode == 0, done.stderr
    assert launch.aws.calls("cloudformation execute-change-set")


def test_refresh_that_fails_is_a_failure(launch):
    failed = {"Status": "Failed", "StatusReason": "an instance did not join"}
    launch.exists().plays(
        autoscaling__start_instance_refresh=[{"InstanceRefreshId": "1"}],
        autoscaling__describe_instance_refreshes=[{"InstanceRefreshes": [failed]}],
    )
    done = launch("audit", "--refresh")
    assert done.returncode == 1
    assert "an instance did not join" in done.stderr


def test_rejected_service_linked_role_ends_the_launch(launch):
    denied = "An error occurred (AccessDenied) when calling CreateServiceLinkedRole: not authorized"
    done = launch.plays(iam__create_service_linked_role=[denied])("audit", "203.0.113.7", "DomainInVpc=true")
    assert done.returncode == 1
    assert "not authorized" in done.stderr
    assert not launch.aws.calls("cloudformation create-change-set")


def test_service_linked_role_that_is_there_is_fine(launch):
    taken = "An error occurred (InvalidInput): Service role name AWSServiceRoleForX has been taken in this account"
    launch.plays(
        iam__create_service_linked_role=[taken], cloudformation__describe_stacks=new_stack("CREATE_COMPLETE")
    )
    done = launch("audit", "203.0.113.7", "DomainInVpc=true")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("given", "service"), [("DomainInVpc=true", "opensearchservice"), ("OrganizationId=o-abcdefghij", "cloudtrail")]
)
def test_service_linked_role_is_created_where_none_is(launch, given, service):
    launch.plays(
        iam__create_service_linked_role=[{}], cloudformation__describe_stacks=new_stack("CREATE_COMPLETE")
    )
    done = launch("audit", "203.0.113.7", given)
    assert done.returncode == 0, done.stderr
    assert launch.aws.calls("iam create-service-linked-role") == [
        ["--aws-service-name", f"{service}.amazonaws.com", "--output", "json"]
    ]
