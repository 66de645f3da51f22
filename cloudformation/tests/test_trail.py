"""The trail, its bucket and its log group."""

import pytest

from given import KEY
from template import PATH, Stack


def test_trail_covers_all_regions_and_signs_its_files():
    trail = Stack().properties("AuditTrail")
    for what in ("IsLogging", "IsMultiRegionTrail", "IncludeGlobalServiceEvents", "EnableLogFileValidation"):
        assert trail[what] is True


def test_trail_bucket_outlives_the_stack_and_is_private():
    bucket = Stack().resources["S3CloudTrailBucket"]
    # A creation that fails leaves nothing behind.
    assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert bucket["Properties"]["VersioningConfiguration"] == {"Status": "Enabled"}
    assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["Properties"]["PublicAccessBlockConfiguration"]) == 4
    assert "BucketName" not in bucket["Properties"]


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


def test_organization_id_makes_an_organization_trail():
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
def test_data_events_are_added_to_management_events(events, types):
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


def test_key_of_the_account_encrypts_what_is_stored():
    stack = Stack(KmsKeyArn=KEY)
    (rule,) = stack.properties("S3CloudTrailBucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    assert stack.properties("AuditTrail")["KMSKeyId"] == KEY
    assert stack.properties("CloudTrailLogGroup")["KmsKeyId"] == KEY
    assert stack.properties("FunctionLogGroup")["KmsKeyId"] == KEY
    assert stack.properties("CloudTrailESDomain")["EncryptionAtRestOptions"]["KmsKeyId"] == KEY
    assert stack.properties("AlarmTopic")["KmsMasterKeyId"] == KEY


def test_key_policy_of_the_readme_suits_a_bucket_key():
    (rule,) = Stack(KmsKeyArn=KEY).properties("S3CloudTrailBucket")["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert rule["BucketKeyEnabled"] is True
    lines = (PATH.parent / "README.md").read_text().splitlines()
    (row,) = [line for line in lines if line.startswith("| `cloudtrail.amazonaws.com` |")]
    # "Configure AWS KMS key policies for CloudTrail": with an S3 Bucket Key, CreateTrail fails without Decrypt.
    assert {"`kms:GenerateDataKey*`", "`kms:DescribeKey`", "`kms:Decrypt`"} <= set(row.replace(",", "").split())
