"""The alarms on the stack itself; test_alerts.py has those on events."""

import re

import pytest

from given import FLEET, KEY
from template import PATH, Stack


def test_every_alarm_notifies_the_topic():
    stack = Stack(**FLEET, UseKinesis="true", KmsKeyArn=KEY, IndexAccessLog="true")
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
        ("AWS/Lambda", "DeadLetterErrors"),
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
        ("trailgate", "image_age_days"),
        ("trailgate", "evidence_problems"),
        ("trailgate/audit", "GateState"),
        ("trailgate/audit", "Refusal"),
        ("trailgate/audit", "FullWrite"),
        ("AWS/AutoScaling", "GroupInServiceInstances"),
        ("AWS/EC2", "CPUSurplusCreditBalance"),
    }


def test_storage_alarm_counts_in_percent_of_the_volume():
    alarm = Stack(DomainVolumeSize="40").properties("StorageAlarm")
    assert alarm["Metrics"][0]["Expression"] == "100 * free / (1024 * 40)"
    assert alarm["Threshold"] == 25


@pytest.mark.parametrize(
    ("engine", "metric"),
    [
        ("Elasticsearch_7.10", "ElasticsearchRequests"),
        ("OpenSearch_1.3", "OpenSearchRequests"),
        ("OpenSearch_3.1", "OpenSearchRequests"),
    ],
)
def test_errors_are_compared_with_the_requests_that_the_engine_counts(engine, metric):
    queries = Stack(EngineVersion=engine).properties("DomainErrorsAlarm")["Metrics"]
    assert {query["MetricStat"]["Metric"]["MetricName"] for query in queries if "MetricStat" in query} == {"5xx", metric}


def test_launch_failures_are_reported_with_their_reason():
    group = Stack().properties("GateGroup")
    (notified,) = group["NotificationConfigurations"]
    assert notified == {"TopicARN": ["AlarmTopic"], "NotificationTypes": ["autoscaling:EC2_INSTANCE_LAUNCH_ERROR"]}
    # Its role may not use the account's key.
    assert "NotificationConfigurations" not in Stack(KmsKeyArn=KEY).properties("GateGroup")


def test_missing_gate_raises_its_alarm():
    stack = Stack(**FLEET)
    collected = stack.properties("GateGroup")["MetricsCollection"]
    assert collected == [{"Granularity": "1Minute", "Metrics": ["GroupInServiceInstances"]}]
    alarm = stack.properties("GatesMissingAlarm")
    assert alarm["MetricName"] == "GroupInServiceInstances"
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", "3")
    # Not by the time before the group, of which there are no data.
    assert alarm["TreatMissingData"] == "notBreaching"


@pytest.mark.parametrize(("instance", "credits"), [("t4g.micro", "unlimited"), ("t3.small", "unlimited"), ("t2.micro", "unlimited"), ("c7g.large", None)])
def test_burstable_gate_is_not_throttled_and_has_an_alarm(instance, credits):
    stack = Stack(ProxyInstanceTypeParameter=instance)
    launch = stack.properties("GateLaunchTemplate")["LaunchTemplateData"]
    assert launch.get("CreditSpecification", {}).get("CpuCredits") == credits
    assert ("GateCreditAlarm" in stack.resources) == (credits is not None)


def test_cost_page_counts_the_metric_filters():
    filters = [len(Stack(SecurityAlerts=alerts).names("AWS::Logs::MetricFilter")) for alerts in ("false", "true")]
    assert filters == [3, 16]
    page = " ".join((PATH.parent.parent / "docs/operating.md").read_text().split())
    assert "three that CloudWatch counts in its log" in page
    assert "thirteen more with `SecurityAlerts`" in page


def test_alarm_email_is_subscribed():
    assert Stack(AlarmEmail="ops@example.com").properties("AlarmSubscription")["Endpoint"] == "ops@example.com"
    assert not Stack().names("AWS::SNS::Subscription")
