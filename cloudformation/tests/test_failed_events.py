"""The one command that loads failed events again: from moto's S3, through the stand-in, into a real OpenSearch."""

import base64
import gzip
import json
import subprocess

import pytest

from template import ACCOUNT, REGION
from test_gate import PROGRAMS
from test_roles import opensearch  # noqa: F401 (a fixture)

BUCKET = "failed-events"
DAY = "2026/02/01"
# As Lambda names them: "Capturing records of Lambda asynchronous invocations", "Retain discarded batch records".
INVOCATION = f"aws/lambda/async/audit-IngestFunction-1/{DAY}/2026-02-01T00.05.06-0a1b2c3d-4e5f"
BATCH = f"aws/lambda/0a1b2c3d-4e5f/shardId-000000000001/{DAY}/2026-02-01T06.05.06-0a1b2c3d-4e5f"


def event(number):
    """An event of the last minutes of a day."""
    return {
        "eventVersion": "1.08",
        "eventID": f"00000000-0000-4000-8000-{number:012}",
        "eventTime": "2026-01-31T23:58:00Z",
        "eventSource": "ec2.amazonaws.com",
        "eventName": "RunInstances",
        "awsRegion": REGION,
        "recipientAccountId": ACCOUNT,
    }


def delivery(*numbers):
    """The data of a delivery by CloudWatch Logs, which comes on the next day."""
    events = [{"id": f"39{number}", "timestamp": 1_769_904_180_000, "message": json.dumps(event(number))} for number in numbers]
    batch = {"messageType": "DATA_MESSAGE", "owner": ACCOUNT, "logGroup": "g", "logStream": "s", "logEvents": events}
    return base64.b64encode(gzip.compress(json.dumps(batch).encode())).decode()


@pytest.fixture
def failed(aws):
    """The bucket, with the record of an invocation and that of a batch of the stream."""
    s3 = aws.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
    context = {"requestId": "r", "condition": "RetriesExhausted", "approximateInvokeCount": 3}
    record = {"version": "1.0", "requestContext": context, "responseContext": {"statusCode": 200}}
    invocation = record | {"requestPayload": {"awslogs": {"data": delivery(1, 2)}}}
    records = {"Records": [{"kinesis": {"sequenceNumber": "1", "data": delivery(3, 4)}, "eventSource": "aws:kinesis"}]}
    batch = record | {"KinesisBatchInfo": {"batchSize": 1}, "payload": json.dumps(records)}
    for key, body in ((INVOCATION, invocation), (BATCH, batch)):
        s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(body).encode())
    return f"s3://{BUCKET}/aws/lambda/"


def test_failed_events_are_loaded_once_by_one_command(aws, opensearch, failed, tmp_path):  # noqa: F811
    # What the queue has indexed meanwhile, by the function's settings.
    opensearch.ask("PUT", f"/cwl-2026.01.31/_doc/{event(1)['eventID']}", json.dumps(event(1)))
    serve = [PROGRAMS / "fake-domain", "serve", "--elasticsearch", opensearch.url]
    serving = subprocess.Popen(serve, env=aws.environment, stdout=subprocess.PIPE, text=True)
    try:
        endpoint = serving.stdout.readline().removeprefix("listening on ").strip()
        load = [PROGRAMS / "trailgate-ingest", "load", "--endpoint", endpoint, "--service", "es", "--region", REGION]
        load += ["--done", tmp_path / "done", failed]
        done = subprocess.run(load, env=aws.environment, capture_output=True, text=True, timeout=120)
    finally:
        serving.terminate()
        serving.wait(10)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("4 events in 2 files, 4 indexed")
    opensearch.ask("POST", "/cwl-*/_refresh")
    hits = opensearch.ask("GET", "/cwl-*/_search")[1]["hits"]["hits"]
    expected = [("cwl-2026.01.31", event(number)["eventID"]) for number in (1, 2, 3, 4)]
    assert sorted((hit["_index"], hit["_id"]) for hit in hits) == expected
