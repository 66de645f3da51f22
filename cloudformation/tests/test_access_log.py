"""The gates' log group: what fills it, what reads it, and the alarms on it, whose patterns see lines of the real proxy."""

import http.client
import json
import os
import subprocess

import pytest

from filters import parse
from given import KEY
from policy import allows
from rights import FUNCTION, may_reach, statements
from template import ACCOUNT, REGION, STACK, Stack
from test_gate import PROGRAMS

FULL, READ, UNLISTED = "127.0.0.2", "127.0.0.3", "127.0.0.4"
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
# Requests, and the filters that count them.
ASKED = [
    (FULL, "GET", "/cwl-*/_search", []),
    (FULL, "POST", "/cwl-*/_search", []),
    (FULL, "POST", "/_dashboards/internal/search/opensearch", []),
    (FULL, "POST", "/_dashboards/api/saved_objects/_bulk_get", []),
    (FULL, "DELETE", "/_search/scroll/abc", []),
    (FULL, "DELETE", "/cwl-2026.01.31", ["FullWrite"]),
    (FULL, "PUT", "/cwl-2026.01.31/_doc/1", ["FullWrite"]),
    (FULL, "POST", "/_bulk", ["FullWrite"]),
    (FULL, "POST", "/_bulk?x=_search", ["FullWrite"]),
    (FULL, "POST", "/cwl-*/_delete_by_query", ["FullWrite"]),
    (FULL, "POST", "/_aliases", ["FullWrite"]),
    (FULL, "POST", "/cwl-2026.01.31/_close", ["FullWrite"]),
    (FULL, "POST", "/_plugins/_ism/add/cwl-*", ["FullWrite"]),
    (FULL, "POST", "/_dashboards/api/console/proxy?path=cwl-2026.01.31&method=DELETE", ["FullWrite"]),
    (FULL, "POST", "/_new_in_a_later_version", ["FullWrite"]),
    (READ, "GET", "/cwl-*/_search", []),
    (READ, "DELETE", "/cwl-2026.01.31", ["Refusal"]),
    (READ, "POST", "/_bulk", ["Refusal"]),
    (UNLISTED, "GET", "/cwl-*/_search", ["Refusal"]),
    (UNLISTED, "DELETE", "/cwl-2026.01.31", ["Refusal"]),
]
CROSS_SITE = (FULL, "DELETE", "/cwl-2026.01.31", ["Refusal"])


def filters(**parameters):
    """Returns the metric filters of the gates' log group, by what they count."""
    stack = Stack(**parameters)
    found = map(stack.properties, stack.names("AWS::Logs::MetricFilter"))
    return {
        one["MetricTransformations"][0]["MetricName"]: parse(one["FilterPattern"])
        for one in found
        if one["LogGroupName"] == "GateLogGroup"
    }


@pytest.fixture(scope="module")
def lines(tmp_path_factory):
    """The access lines of the real proxy, of the requests ASKED and one from another site, in their order."""
    folder = tmp_path_factory.mktemp("gate")
    serve = [PROGRAMS / "fake-domain", "serve", "--region", REGION]
    domain = subprocess.Popen(serve, env=os.environ | KEYS, stdout=subprocess.PIPE, text=True)
    (folder / "allowlist.toml").write_text(
        "".join(
            f'[[allow]]\ncidr = "{cidr}"\nname = "{access}"\naccess = "{access}"\n'
            for cidr, access in ((FULL, "full"), (READ, "read"))
        )
    )
    endpoint = domain.stdout.readline().removeprefix("listening on ").strip()
    (folder / "trailgate.toml").write_text(
        '[listen]\naddress = "127.0.0.1:0"\n[admin]\naddress = "off"\n'
        f'[upstream]\nendpoint = "{endpoint}"\n[aws]\nregion = "{REGION}"\nservice = "es"\n'
    )
    run = [PROGRAMS / "trailgate", "run", "--config", folder / "trailgate.toml"]
    gate = subprocess.Popen(run, env=os.environ | KEYS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = next(int(event.split('"address":"127.0.0.1:')[1].split('"')[0]) for event in gate.stderr if '"address"' in event)
        for number, (client, method, path, _) in enumerate([*ASKED, CROSS_SITE]):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30, source_address=(client, 0))
            site = {"sec-fetch-site": "cross-site"} if number == len(ASKED) else {}
            connection.request(method, path, headers={"content-type": "application/json"} | site, body="{}")
            connection.getresponse().read()
            connection.close()
        yield [json.loads(gate.stdout.readline()) for _ in range(len(ASKED) + 1)]
    finally:
        for process in (gate, domain):
            process.terminate()
            process.communicate(timeout=30)


@pytest.mark.parametrize("number", range(len(ASKED) + 1))
def test_line_of_the_proxy_matches_its_filters(lines, number):
    client, method, path, expected = [*ASKED, CROSS_SITE][number]
    line = lines[number]
    assert (line["client"], line["method"]) == (client, method)
    assert [name for name, matches in filters().items() if matches(line)] == expected, line


def test_every_access_line_goes_to_the_function_and_no_event(lines):
    matches = parse(Stack(IndexAccessLog="true").properties("AccessLogSubscription")["FilterPattern"])
    assert all(map(matches, lines))
    for event in ({"timestamp": "2026-11-29T12:00:00Z", "level": "INFO", "message": "gate state"}, {"lost_lines": 3}):
        assert not matches(event)


@pytest.mark.parametrize(("ready", "counted"), [(1, True), (0, False)])
def test_state_of_a_ready_gate_is_counted(ready, counted):
    line = {"level": "INFO", "message": "gate state", "ready": ready}
    assert filters()["GateState"](line) == counted


def test_silent_log_is_noticed_by_what_the_gates_send():
    alarm = Stack().properties("AccessLogSilentAlarm")
    missing, answered, arrived = alarm["Metrics"]
    assert missing == {"Id": "missing", "Expression": "answered - FILL(arrived, 0)", "ReturnData": True}
    # As follow sends it: 1 with each run of a gate that answers.
    assert answered["MetricStat"]["Metric"] == {
        "Namespace": "trailgate",
        "MetricName": "ready",
        "Dimensions": [{"Name": "Stack", "Value": STACK}],
    }
    assert arrived["MetricStat"]["Metric"] == {"Namespace": f"trailgate/{STACK}", "MetricName": "GateState"}
    # Four runs a period at least, and the lines of two may be under way.
    assert 2 < alarm["Threshold"] < 4
    assert alarm["TreatMissingData"] == "notBreaching"


@pytest.mark.parametrize(("alarm", "metric"), [("RefusalsAlarm", "Refusal"), ("FullWriteAlarm", "FullWrite")])
def test_alarm_counts_what_its_filter_counts(alarm, metric):
    properties = Stack().properties(alarm)
    assert (properties["Namespace"], properties["MetricName"]) == (f"trailgate/{STACK}", metric)
    assert metric in filters()


def test_log_group_is_the_stack_s_and_outlives_it():
    stack = Stack(GateLogRetentionDays="90", KmsKeyArn=KEY)
    group = stack.resources["GateLogGroup"]
    assert (group["DeletionPolicy"], group["UpdateReplacePolicy"]) == ("RetainExceptOnCreate", "Retain")
    assert group["Properties"] == {"LogGroupName": f"/{STACK}/gate", "RetentionInDays": "90", "KmsKeyId": KEY}
    assert "KmsKeyId" not in Stack().properties("GateLogGroup")
    assert stack.outputs["GateLogGroupName"] == "GateLogGroup"


def test_gate_can_append_to_its_log_only():
    gate = statements(Stack(), "GateRole")
    group = "GateLogGroup.Arn"
    for action in ("CreateLogStream", "DescribeLogStreams", "PutLogEvents"):
        assert allows(gate, f"logs:{action}", group)
    for action in ("CreateLogGroup", "DeleteLogGroup", "DeleteLogStream", "PutRetentionPolicy", "GetLogEvents", "FilterLogEvents"):
        assert not allows(gate, f"logs:{action}", group)
    assert not allows(gate, "logs:PutLogEvents", f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:CloudTrail/trailgate:*")


def test_access_log_is_not_indexed_unless_asked_for():
    stack = Stack()
    assert not {"AccessLogSubscription", "AccessLogInvokePermission"} & stack.resources.keys()
    assert stack.properties("IngestFunction")["Environment"]["Variables"]["ACCESS_LOG"] == "skip"
    assert not may_reach(FUNCTION, "Put", "/_index_template/trailgate-gate")
    assert not may_reach(FUNCTION, "Post", "/gate-2026.01.01/_bulk")


@pytest.mark.parametrize("kinesis", ["false", "true"])
def test_indexed_access_log_takes_the_trail_s_way(kinesis):
    stack = Stack(IndexAccessLog="true", UseKinesis=kinesis)
    subscription, trail = stack.properties("AccessLogSubscription"), stack.properties("LogsSubscription")
    for what in ("DestinationArn", "RoleArn", "Distribution"):
        assert subscription.get(what) == trail.get(what)
    assert subscription["LogGroupName"] == "GateLogGroup"
    permission = stack.properties("AccessLogInvokePermission")
    assert permission == stack.properties("FunctionInvokePermission") | {"SourceArn": "GateLogGroup.Arn"}
    assert stack.properties("IngestFunction")["Environment"]["Variables"]["ACCESS_LOG"] == "index"


@pytest.mark.parametrize(
    ("alarm", "of_trail"), [("AccessLogDeliveryAlarm", "DeliveryAlarm"), ("AccessLogThrottledAlarm", "DeliveryThrottledAlarm")]
)
def test_delivery_of_the_access_log_is_watched_as_that_of_the_trail(alarm, of_trail):
    stack = Stack(IndexAccessLog="true")
    (query,), (of_trail,) = (stack.properties(name)["Metrics"] for name in (alarm, of_trail))
    group = stack.properties("GateLogGroup")["LogGroupName"]
    assert query == of_trail | {"Expression": of_trail["Expression"].replace("CloudTrail/trailgate", group)}
    assert alarm not in Stack().resources


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("Post", "/gate-2026.01.01/_bulk"),
        ("Put", "/_index_template/trailgate-gate"),
        ("Put", "/_template/trailgate-gate"),
        ("Put", "/_plugins/_ism/policies/trailgate-gate"),
        ("Post", "/_plugins/_ism/add/gate-*"),
        ("Post", "/_opendistro/_ism/change_policy/gate-*"),
    ],
)
def test_function_prepares_the_indices_of_the_access_log(method, path):
    assert may_reach(FUNCTION, method, path, Stack(IndexAccessLog="true"))


def test_function_cannot_search_the_access_log():
    stack = Stack(IndexAccessLog="true")
    assert not may_reach(FUNCTION, "Get", "/gate-2026.01.01/_search", stack)
    assert not may_reach(FUNCTION, "Delete", "/gate-2026.01.01", stack)
