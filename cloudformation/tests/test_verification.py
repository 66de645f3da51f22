"""The daily verification of the domain by the trail's signed files."""

import json

import pytest

from given import KEY
from policy import allows
from rights import arn, may_reach, statements
from template import ACCOUNT, REGION, Stack

VERIFIER = "VerifierRole"
ORGANIZATION = {"OrganizationId": "o-exampleorgid"}
YOURS = {"CreateTrail": "false", "TrailBucket": "their-bucket", "TrailFolder": "logs/AWSLogs/o-exampleorgid/222222222222"}
PARTS = {
    VERIFIER,
    "VerifyFunction",
    "Verification",
    "VerificationRole",
    "VerificationSchedule",
    "VerificationScheduleRole",
    "EvidenceAlarm",
}


@pytest.mark.parametrize(
    ("parameters", "bucket", "folder"),
    [
        ({}, "S3CloudTrailBucket", f"AWSLogs/{ACCOUNT}"),
        (ORGANIZATION, "S3CloudTrailBucket", "AWSLogs/o-exampleorgid"),
        ({"TrailBucket": "their-bucket"}, "their-bucket", f"AWSLogs/{ACCOUNT}"),
        (YOURS, "their-bucket", "logs/AWSLogs/o-exampleorgid/222222222222"),
    ],
)
def test_verification_reads_the_folder_of_the_trail_only(parameters, bucket, folder):
    stack = Stack(**parameters)
    assert PARTS <= stack.resources.keys()
    assert stack.properties("VerifyFunction")["Environment"]["Variables"]["TRAIL"] == f"s3://{bucket}/{folder}"
    verifier = statements(stack, VERIFIER)
    place = f"arn:aws:s3:::{bucket}"
    assert allows(verifier, "s3:GetObject", f"{place}/{folder}/CloudTrail/x.json.gz")
    assert not allows(verifier, "s3:GetObject", f"{place}/{folder}0/CloudTrail/x.json.gz")
    assert not allows(verifier, "s3:GetObject", f"{place}/AWSLogs/999999999999/CloudTrail/x.json.gz")
    # `find_days` lists this folder, and those in it.
    for prefix in (f"{folder}/", f"{folder}/CloudTrail/eu-west-1/2026/01/31/"):
        assert allows(verifier, "s3:ListBucket", place, context={"s3:prefix": prefix})
    assert not allows(verifier, "s3:ListBucket", place, context={"s3:prefix": "AWSLogs/"})
    assert not allows(verifier, "s3:ListBucket", place)


def test_verification_writes_nothing_but_its_states():
    verifier = statements(Stack(), VERIFIER)
    ours, theirs = {"s3:ResourceAccount": ACCOUNT}, {"s3:ResourceAccount": "999999999999"}
    states = "FailedEventsBucket.Arn/verification/x"
    for action in ("s3:GetObject", "s3:PutObject"):
        assert allows(verifier, action, states, context=ours)
        assert not allows(verifier, action, states, context=theirs)
        assert not allows(verifier, action, "FailedEventsBucket.Arn/aws/lambda/x", context=ours)
    for action in ("s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:PutBucketPolicy"):
        assert not allows(verifier, action, f"arn:aws:s3:::S3CloudTrailBucket/AWSLogs/{ACCOUNT}/x", context=ours)
    assert allows(verifier, "cloudtrail:ListPublicKeys", "*")
    for action in ("cloudtrail:StopLogging", "sqs:SendMessage", "lambda:InvokeFunction", "cloudwatch:PutMetricData"):
        assert not allows(verifier, action, "*")


def test_verification_decrypts_the_trail_s_files_by_s3_only():
    verifier = statements(Stack(KmsKeyArn=KEY), VERIFIER)
    assert allows(verifier, "kms:Decrypt", KEY, context={"kms:ViaService": f"s3.{REGION}.amazonaws.com"})
    assert not allows(verifier, "kms:Decrypt", KEY)
    assert not allows(statements(Stack(), VERIFIER), "kms:Decrypt", KEY)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("Post", "/cwl-*/_search"),
        ("Post", "/cwl-2026.01.31/_count"),
        ("Post", "/_search/scroll"),
        ("Delete", "/_search/scroll"),
    ],
)
def test_verification_searches_events(method, path):
    assert may_reach(VERIFIER, method, path)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("Get", "/"),
        ("Get", "/cwl-*/_search"),
        ("Post", "/_search"),
        ("Post", "/gate-2026.01.31/_search"),
        ("Post", "/cwl-2026.01.31,gate-2026.01.31/_search"),
        ("Post", "/cwl-2026.01.31%2Cgate-2026.01.31/_search"),
        ("Post", "/_bulk"),
        ("Post", "/cwl-2026.01.31/_bulk"),
        ("Post", "/cwl-2026.01.31/_doc"),
        ("Post", "/cwl-2026.01.31/_doc/_search"),
        ("Post", "/cwl-2026.01.31/_create/_count"),
        ("Post", "/cwl-2026.01.31/_update/_search"),
        ("Post", "/cwl-*/_delete_by_query"),
        ("Put", "/cwl-2026.01.31/_doc/1"),
        ("Delete", "/cwl-2026.01.31"),
        ("Post", "/_dashboards/api/saved_objects/_import"),
    ],
)
def test_verification_does_nothing_else_with_the_domain(method, path):
    assert not may_reach(VERIFIER, method, path)


def test_verification_runs_once_a_day():
    stack = Stack()
    schedule = stack.properties("VerificationSchedule")
    assert schedule["ScheduleExpression"] == "cron(0 5 * * ? *)"
    assert (schedule["Target"]["Arn"], json.loads(schedule["Target"]["Input"])) == ("Verification", {"verify": {}})
    scheduler = statements(stack, "VerificationScheduleRole")
    assert allows(scheduler, "states:StartExecution", "Verification")
    assert not allows(scheduler, "lambda:InvokeFunction", "VerifyFunction.Arn")
    machine = statements(stack, "VerificationRole")
    assert allows(machine, "lambda:InvokeFunction", "VerifyFunction.Arn")
    assert not allows(machine, "lambda:InvokeFunction", "IngestFunction.Arn")


class Machine:
    """Runs the states of the template's machine, as far as it uses the language of Amazon States."""

    def __init__(self, function, **parameters):
        self.definition = json.loads(Stack(**parameters).properties("Verification")["DefinitionString"])
        self.function = function

    def run(self, payload):
        """Returns the last state and the payloads of all invocations. A function that raises has failed for good."""
        name, data, payloads = self.definition["StartAt"], payload, []
        while True:
            state = self.definition["States"][name]
            if state["Type"] in ("Succeed", "Fail"):
                return name, payloads
            if state["Type"] == "Choice":
                (choice,) = state["Choices"]
                assert (choice["Variable"], choice["IsPresent"]) == ("$.verify", True)
                name = choice["Next"] if "verify" in data else state["Default"]
                continue
            assert (state["Type"], state["Parameters"]["Payload.$"]) == ("Task", "$")
            payloads.append(data)
            try:
                answer = self.function(data, state["Parameters"]["FunctionName"])
            except RuntimeError as error:
                (caught,) = state["Catch"]
                assert caught["ResultPath"] == "$.verify.failed"
                failed = {"Error": "Verify", "Cause": str(error)}
                name, data = caught["Next"], {"verify": data["verify"] | {"failed": failed}}
                continue
            name, data = state["Next"], answer if "OutputPath" in state else None


def test_machine_passes_each_response_on_until_the_day_is_verified():
    responses = iter([{"verify": {"day": "2026-01-31", "resume": 1}}, {"verified": {"verdict": "differences"}}])
    end, payloads = Machine(lambda _payload, _name: next(responses)).run({"verify": {}})
    assert (end, payloads) == ("Done", [{"verify": {}}, {"verify": {"day": "2026-01-31", "resume": 1}}])


def test_machine_reports_a_day_that_it_gave_up():
    def function(payload, _name):
        if "failed" in payload["verify"]:
            return {"verified": {"verdict": "undecided"}}
        raise RuntimeError("out of time")

    end, payloads = Machine(function).run({"verify": {"day": "2026-01-31"}})
    failed = {"Error": "Verify", "Cause": "out of time"}
    assert (end, payloads[1]) == ("Failed", {"verify": {"day": "2026-01-31", "failed": failed}})


def test_machine_of_a_domain_in_the_vpc_lists_public_keys_outside():
    called = []

    def function(payload, name):
        called.append(name)
        return payload if name == "PublicKeysFunction.Arn" else {"verified": {"verdict": "proven"}}

    assert Machine(function, DomainInVpc="true").run({"verify": {}})[0] == "Done"
    assert called == ["PublicKeysFunction.Arn", "VerifyFunction.Arn"]
    stack = Stack(DomainInVpc="true")
    assert stack.properties("VerifyFunction")["VpcConfig"] == stack.properties("IngestFunction")["VpcConfig"]
    assert "VpcConfig" not in stack.properties("PublicKeysFunction")
    keys, verifier = statements(stack, "PublicKeysRole"), statements(stack, VERIFIER)
    assert allows(keys, "cloudtrail:ListPublicKeys", "*")
    assert not allows(verifier, "cloudtrail:ListPublicKeys", "*")
    place, folder = "arn:aws:s3:::S3CloudTrailBucket", f"AWSLogs/{ACCOUNT}"
    assert allows(keys, "s3:ListBucket", place, context={"s3:prefix": f"{folder}/"})
    assert not allows(keys, "s3:GetObject", f"{place}/{folder}/CloudTrail/x.json.gz")
    assert not may_reach("PublicKeysRole", "Post", "/cwl-*/_search", stack)
    assert not {"PublicKeysFunction", "PublicKeysRole"} & Stack().resources.keys()


def test_failed_invocation_is_repeated_before_it_is_reported():
    state = json.loads(Stack().properties("Verification")["DefinitionString"])["States"]["Verify"]
    (retry,) = state["Retry"]
    assert (retry["ErrorEquals"], retry["MaxAttempts"]) == (["States.ALL"], 2)


def test_function_pauses_before_its_timeout():
    function = Stack().properties("VerifyFunction")
    variables = function["Environment"]["Variables"]
    assert int(variables["PAUSE_AFTER"]) <= function["Timeout"] * 2 / 3
    assert variables["CHECKPOINTS"] == "s3://FailedEventsBucket/verification/"
    # Of what the functions write, it compares each document.
    written = Stack().properties("IngestFunction")["Environment"]["Variables"]
    assert all(variables[name] == written[name] for name in ("ENDPOINT", "REGION", "DOCUMENT_ID", "INDEX_DAY"))


def test_states_expire_and_set_off_no_alarm():
    bucket = Stack(UseKinesis="true").properties("FailedEventsBucket")
    (rule,) = [rule for rule in bucket["LifecycleConfiguration"]["Rules"] if rule.get("Prefix") == "verification/"]
    assert (rule["Status"], rule["ExpirationInDays"]) == ("Enabled", 7)
    # StreamRecordsFailedAlarm counts these.
    assert bucket["MetricsConfigurations"] == [{"Id": "all", "Prefix": "aws/lambda/"}]


def test_days_without_proof_or_verification_raise_the_alarm():
    alarm = Stack().properties("EvidenceAlarm")
    assert (alarm["MetricName"], alarm["Dimensions"]) == (
        "evidence_problems",
        [{"Name": "FunctionName", "Value": "VerifyFunction"}],
    )
    assert (alarm["Threshold"], alarm["DatapointsToAlarm"], alarm["Statistic"]) == (1, 1, "Maximum")
    # No data of two days.
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 2 * 24 * 3600
    assert (alarm["TreatMissingData"], alarm["InsufficientDataActions"]) == ("missing", ["AlarmTopic"])


@pytest.mark.parametrize(
    "parameters",
    [{"DailyVerification": "false"}, {"CreateTrail": "false"}, {"CreateTrail": "false", "TrailBucket": "their-bucket"}],
)
def test_verification_that_is_off_leaves_nothing(parameters):
    stack = Stack(**parameters)
    assert not PARTS & stack.resources.keys()
    policy = stack.properties("CloudTrailESDomain")["AccessPolicies"]["Statement"]
    assert not [found for found in policy if found["Sid"].startswith("Verifier")]
    assert not {"VerificationArn", "VerifierRoleArn"} & stack.outputs.keys()


def test_roles_of_the_domain_have_the_verifier():
    variables = Stack(FineGrainedAccessControl="true").properties("MapRolesFunction")["Environment"]["Variables"]
    assert variables["VERIFIER_ROLE"] == arn(VERIFIER)
    off = Stack(FineGrainedAccessControl="true", DailyVerification="false")
    assert off.properties("MapRolesFunction")["Environment"]["Variables"]["VERIFIER_ROLE"] == ""
    # A change starts a gate, which has the roles mapped.
    scripts = [
        stack.properties("GateLaunchTemplate")["LaunchTemplateData"]["UserData"]
        for stack in (off, Stack(FineGrainedAccessControl="true"))
    ]
    assert scripts[0] != scripts[1]


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        (
            {"IndexRetentionDays": "2"},
            "DailyVerification reads an index two days after its day, so IndexRetentionDays is 3 at least",
        ),
        (
            {"TrailFolder": "AWSLogs/222222222222"},
            "TrailFolder is a folder of TrailBucket, of a trail that the stack does not make",
        ),
    ],
)
def test_verification_that_cannot_work_is_rejected(parameters, complaint):
    assert Stack(**parameters).complaints() == [complaint]
    assert Stack(IndexRetentionDays="2", DailyVerification="false").complaints() == []
    assert Stack(IndexRetentionDays="2", CreateTrail="false").complaints() == []
    assert Stack(**YOURS).complaints() == []
