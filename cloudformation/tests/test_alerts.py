"""The alarms on events: their filter patterns select what the dashboard "Security watch" counts in a real OpenSearch."""

import copy
import gzip
import json
import subprocess
import tomllib
import urllib.parse

import pytest

from filters import parse
from template import REGION, Stack, load
from test_gate import PROGRAMS, ROOT
from test_roles import opensearch  # noqa: F401 (a fixture)

EVENTS = ROOT / "tests/data/cloudtrail/events.jsonl.gz"
# The metric filters, and the searches behind the dashboard's tiles.
TILES = {
    "RootUse": "root",
    "FailedLogin": "login-failed",
    "LoginWithoutMfa": "login-without-mfa",
    "IamChange": "iam",
    "TrailChange": "cloudtrail",
    "UnauthorizedCall": "unauthorised",
    "KmsChange": "kms",
    "BucketPolicyChange": "bucket-policy",
    "SecurityGroupChange": "security-group",
    "NetworkAclChange": "network-acl",
    "GatewayChange": "gateway",
    "RouteTableChange": "route-table",
    "VpcChange": "vpc",
}
LOGIN = {"eventSource": "signin.amazonaws.com", "eventName": "ConsoleLogin", "readOnly": False}
SUCCESS, FAILURE = {"ConsoleLogin": "Success"}, {"ConsoleLogin": "Failure"}
# What the real events lack: each changes one of them. The list is of the alerts that match.
MADE = [
    ({"userIdentity": {"type": "Root"}, "eventType": "AwsApiCall", "eventName": "GetUser"}, ["RootUse"]),
    ({"userIdentity": {"type": "Root"}, "eventType": "AwsServiceEvent", "eventName": "RotateKey"}, []),
    ({"userIdentity": {"type": "Root", "invokedBy": "backup.amazonaws.com"}, "eventType": "AwsApiCall"}, []),
    (LOGIN | {"responseElements": FAILURE, "errorMessage": "Failed authentication"}, ["FailedLogin"]),
    (LOGIN | {"responseElements": FAILURE}, ["FailedLogin"]),
    (LOGIN | {"responseElements": SUCCESS, "additionalEventData": {"MFAUsed": "No"}}, ["LoginWithoutMfa"]),
    (LOGIN | {"responseElements": SUCCESS, "additionalEventData": {"MFAUsed": "Yes"}}, []),
    (LOGIN | {"responseElements": SUCCESS, "additionalEventData": {}}, ["LoginWithoutMfa"]),
    (
        LOGIN
        | {
            "responseElements": SUCCESS,
            "additionalEventData": {"MFAUsed": "No"},
            "userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::123456789012:assumed-role/sso/ann"},
        },
        [],
    ),
    ({"eventSource": "cloudtrail.amazonaws.com", "eventName": "StopLogging", "readOnly": False}, ["TrailChange"]),
    ({"eventSource": "kms.amazonaws.com", "eventName": "ScheduleKeyDeletion", "readOnly": False}, ["KmsChange"]),
    ({"eventSource": "s3.amazonaws.com", "eventName": "PutBucketPolicy", "readOnly": False}, ["BucketPolicyChange"]),
    ({"eventName": "CreateVpcPeeringConnection", "readOnly": False}, ["VpcChange"]),
    ({"eventName": "DeleteNetworkAclEntry", "readOnly": False}, ["NetworkAclChange"]),
    ({"eventName": "DetachInternetGateway", "readOnly": False}, ["GatewayChange"]),
    ({"eventName": "ReplaceRoute", "readOnly": False}, ["RouteTableChange"]),
    ({"eventName": "AuthorizeSecurityGroupIngress", "readOnly": False}, ["SecurityGroupChange"]),
    ({"errorCode": "Client.UnauthorizedOperation", "eventName": "RunInstances"}, ["UnauthorizedCall"]),
    ({"errorCode": "AccessDeniedException", "eventName": "GetSecretValue"}, ["UnauthorizedCall"]),
]


def made():
    """The events of MADE, of an IAM user's call otherwise."""
    base = {
        "eventVersion": "1.08",
        "userIdentity": {"type": "IAMUser", "userName": "ann", "arn": "arn:aws:iam::123456789012:user/ann"},
        "eventTime": "2023-07-10T12:00:00Z",
        "eventSource": "ec2.amazonaws.com",
        "eventName": "DescribeInstances",
        "awsRegion": "eu-west-1",
        "eventType": "AwsApiCall",
        "readOnly": True,
    }
    for number, (change, _) in enumerate(MADE):
        yield copy.deepcopy(base) | copy.deepcopy(change) | {"eventID": f"00000000-0000-4000-8000-{number:012}"}


def patterns():
    stack = Stack(SecurityAlerts="true")
    filters = {name.removesuffix("Filter"): stack.properties(name) for name in trail_filters(stack)}
    return {name: found["FilterPattern"] for name, found in filters.items()}


def trail_filters(stack):
    """Returns the metric filters of the trail's log group; test_access_log.py has those of the gates'."""
    names = stack.names("AWS::Logs::MetricFilter")
    return {name for name in names if stack.properties(name)["LogGroupName"] != "GateLogGroup"}


def test_every_tile_has_an_alert():
    assert patterns().keys() == TILES.keys()
    dashboards = tomllib.loads((ROOT / "dashboards/dashboards.toml").read_text())
    (watch,) = [found for found in dashboards["dashboard"] if found["title"] == "Security watch"]
    assert {panel["search"] for panel in watch["panel"] if panel["kind"] == "count"} == set(TILES.values())


def test_alerts_are_off_unless_they_are_asked_for():
    assert not trail_filters(Stack())


def test_every_alert_counts_what_its_filter_counts():
    stack = Stack(SecurityAlerts="true")
    for name in TILES:
        (counted,) = stack.properties(f"{name}Filter")["MetricTransformations"]
        alarm = stack.properties(f"{name}Alarm")
        assert (alarm["Namespace"], alarm["MetricName"]) == (counted["MetricNamespace"], counted["MetricName"])


def test_patterns_are_as_long_as_the_service_accepts():
    assert max(map(len, patterns().values())) <= 1024


def test_readme_has_the_thresholds():
    readme = (ROOT / "cloudformation/README.md").read_text()
    for name in TILES:
        threshold = load()["Resources"][f"{name}Alarm"]["Properties"]["Threshold"]
        assert f"| `{name}Alarm` | {threshold} |" in readme, name


@pytest.mark.parametrize(("event", "expected"), [(event, found[1]) for event, found in zip(made(), MADE, strict=True)])
def test_made_event_matches_its_alerts(event, expected):
    assert [name for name, pattern in patterns().items() if parse(pattern)(event)] == expected


@pytest.fixture(scope="module")
def indexed(aws, opensearch, tmp_path_factory):  # noqa: F811
    """An OpenSearch with all events, and the events."""
    folder = tmp_path_factory.mktemp("events")
    lines = gzip.decompress(EVENTS.read_bytes()).decode().splitlines()
    events = [*map(json.loads, lines), *made()]
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    # The stand-in takes signed requests, and passes them on without their signature, which the engine would not know.
    serve = [PROGRAMS / "fake-domain", "serve", "--elasticsearch", opensearch.url]
    serving = subprocess.Popen(serve, env=aws.environment, stdout=subprocess.PIPE, text=True)
    try:
        endpoint = serving.stdout.readline().removeprefix("listening on ").strip()
        load = [PROGRAMS / "trailgate-ingest", "load", "--endpoint", endpoint, "--service", "es", "--region", REGION]
        load += ["--done", folder / "done", folder / "events.jsonl"]
        done = subprocess.run(load, env=aws.environment, capture_output=True, text=True, timeout=120)
    finally:
        serving.terminate()
        serving.wait(10)
    assert done.returncode == 0, done.stdout + done.stderr
    opensearch.ask("POST", "/cwl-*/_refresh")
    assert opensearch.ask("GET", "/cwl-*/_count")[1]["count"] == len(events)
    return opensearch, events


@pytest.mark.parametrize("alert", TILES)
def test_alert_and_tile_count_the_same_events(indexed, alert):
    engine, events = indexed
    searches = tomllib.loads((ROOT / "dashboards/dashboards.toml").read_text())["search"]
    (query,) = [search["query"] for search in searches if search["id"] == TILES[alert]]
    found = engine.ask("GET", f"/cwl-*/_count?q={urllib.parse.quote(query)}")[1]["count"]
    matches = parse(patterns()[alert])
    assert found == sum(map(matches, events)) > 0
