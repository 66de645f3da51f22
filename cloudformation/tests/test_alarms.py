"""The alarms on the stack itself; test_alerts.py has those on events."""

import re

from given import FLEET, KEY
from template import Stack


def test_every_alarm_notifies_the_topic():
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


def test_storage_alarm_counts_in_percent_of_the_volume():
    alarm = Stack(DomainVolumeSize="40").properties("StorageAlarm")
    assert alarm["Metrics"][0]["Expression"] == "100 * free / (1024 * 40)"
    assert alarm["Threshold"] == 25


def test_alarm_email_is_subscribed():
    assert Stack(AlarmEmail="ops@example.com").properties("AlarmSubscription")["Endpoint"] == "ops@example.com"
    assert not Stack().names("AWS::SNS::Subscription")
