"""The way of events from the log group into the domain, and what becomes of those that fail."""

import pytest

from template import REGION, Stack


def test_subscription_has_no_filter():
    subscription = Stack().properties("LogsSubscription")
    assert subscription["FilterPattern"] == ""
    assert subscription["DestinationArn"] == "IngestFunction.Arn"
    assert "RoleArn" not in subscription


def test_function_has_its_runtime_and_the_domain_s_address():
    function = Stack(FunctionArchitecture="arm64", IndexRetentionDays="90").properties("IngestFunction")
    assert (function["Runtime"], function["Handler"]) == ("provided.al2023", "bootstrap")
    assert function["Architectures"] == ["arm64"]
    assert function["Environment"]["Variables"] == {
        "ENDPOINT": "https://CloudTrailESDomain.DomainEndpoint",
        "REGION": REGION,
        "SERVICE": "es",
        "DOCUMENT_ID": "event_id",
        "INDEX_DAY": "event_time",
        "RETENTION_DAYS": "90",
        "ACCESS_LOG": "skip",
    }


@pytest.mark.parametrize("name", ["IngestFunction", "ReloadFunction"])
def test_function_makes_one_document_of_an_event(name):
    # A file and a delivery of CloudWatch Logs agree on the event's id and time only.
    variables = Stack().properties(name)["Environment"]["Variables"]
    assert (variables["DOCUMENT_ID"], variables["INDEX_DAY"]) == ("event_id", "event_time")


def test_failed_events_are_kept_for_two_weeks_and_retried():
    stack = Stack()
    assert stack.properties("IngestFunction")["DeadLetterConfig"] == {"TargetArn": "FailedEventsQueue.Arn"}
    queue = stack.properties("FailedEventsQueue")
    assert queue["MessageRetentionPeriod"] == 14 * 24 * 3600
    assert queue["RedrivePolicy"]["deadLetterTargetArn"] == "ParkedEventsQueue.Arn"
    # "Using Lambda with Amazon SQS": six times the function's timeout at least.
    assert queue["VisibilityTimeout"] >= 6 * stack.properties("IngestFunction")["Timeout"]
    again = stack.properties("FailedEventsToFunction")
    assert again["EventSourceArn"] == "FailedEventsQueue.Arn"
    assert again["FunctionResponseTypes"] == ["ReportBatchItemFailures"]


@pytest.mark.parametrize("kinesis", ["true", "false"])
def test_failed_invocation_is_kept_whole_in_the_bucket(kinesis):
    stack = Stack(UseKinesis=kinesis)
    destination = stack.properties("FunctionInvokeConfig")["DestinationConfig"]["OnFailure"]["Destination"]
    assert destination == "FailedEventsBucket.Arn"
    bucket = stack.resources["FailedEventsBucket"]
    assert bucket["DeletionPolicy"] == "RetainExceptOnCreate"
    # Longer than the queues keep a message: five and nine days.
    assert bucket["Properties"]["LifecycleConfiguration"]["Rules"][0]["ExpirationInDays"] == 90
    assert ("MetricsConfigurations" in bucket["Properties"]) == (kinesis == "true")


@pytest.mark.parametrize("name", ["FailedEventsQueue", "ParkedEventsQueue"])
def test_queue_accepts_the_largest_payload_of_lambda(name):
    # 1 MB in an asynchronous call ("Invoke"), and 256 KiB is the default of SQS.
    assert Stack().properties(name)["MaximumMessageSize"] == 1024 * 1024


def test_message_is_parked_days_before_it_expires():
    queue = Stack().properties("FailedEventsQueue")
    parked_after = queue["RedrivePolicy"]["maxReceiveCount"] * queue["VisibilityTimeout"]
    assert parked_after == 5 * 24 * 3600 < queue["MessageRetentionPeriod"]


def test_reload_in_the_vpc_reaches_the_bucket():
    stack = Stack(DomainInVpc="true")
    assert stack.properties("ReloadFunction")["VpcConfig"] == stack.properties("IngestFunction")["VpcConfig"]
    assert stack.properties("BucketEndpoint")["RouteTableIds"] == ["Routes"]


def test_kinesis_stream_feeds_the_function():
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


def test_failing_record_blocks_its_shard_for_hours_at_most():
    stack = Stack(UseKinesis="true")
    mapping = stack.properties("StreamToFunction")
    assert mapping["MaximumRecordAgeInSeconds"] <= 6 * 3600
    # A bucket gets the payload, a queue the sequence number only.
    assert mapping["DestinationConfig"]["OnFailure"]["Destination"] == "FailedEventsBucket.Arn"
    assert stack.resources["EventStream"]["DeletionPolicy"] == "RetainExceptOnCreate"
