"""The log of a gate on its way to the log group: a real journal and real units, a stand-in for Vector, moto as CloudWatch.

What the stand-in does is written in shipper.py. What is real is the rest: the configuration by ship-log, the user's right
to read the journal, the order of the units, the position's folder, and lines that arrive while all of it is restarted.
"""

import collections
import http.client
import http.server
import json
import os
import pathlib
import threading
import time

import pytest

from guest import ROOT, booted
from template import REGION, STACK

GROUP, STREAM = f"/{STACK}/gate", "i-0123456789abcdef0"
HERE = pathlib.Path(__file__).parent


class Cloudwatch(http.server.BaseHTTPRequestHandler):
    """Passes calls on to moto, or refuses them."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.server.refuses:
            self.server.refused += 1
            status, answer = 503, b'{"__type":"ServiceUnavailableException"}'
        else:
            moto = http.client.HTTPConnection(self.server.moto, timeout=60)
            moto.request("POST", self.path, body, dict(self.headers))
            response = moto.getresponse()
            status, answer = response.status, response.read()
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.1")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def cloudwatch(aws):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Cloudwatch)
    server.moto, server.refuses, server.refused = aws.endpoint.removeprefix("http://"), False, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


class Load(threading.Thread):
    """Sends one request after the other, each with its number, until the proxy is gone for good."""

    def __init__(self):
        super().__init__(daemon=True)
        self.answered = 0
        self.is_over = False

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", 8080, timeout=30)
        while True:
            try:
                # The proxy rejects this invalid escape at once, without the domain.
                connection.request("GET", f"/%zz{self.answered + 1}")
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                connection.close()
                if self.is_over:
                    return
                # A request of a restart may be logged without an answer, and is sent again.
                time.sleep(0.05)
                continue
            self.answered += 1
            # moto shares the processor with it.
            time.sleep(0.001)

    def wait_for(self, more):
        wanted = self.answered + more
        wait(lambda: self.answered >= wanted)


def wait(condition):
    end = time.monotonic() + 120 + LINES / 100 + REFUSED
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def shipped(aws, cloudwatch):
    """The numbers of requests in the order of their lines in the stream, and how many were answered."""
    aws.client("logs").create_log_group(logGroupName=GROUP)
    load = Load()
    with booted() as machine:
        with open(ROOT / "target/bundle/trailgate-x86_64.tar.gz") as bundle:
            machine.output("mkdir /root/bundle && tar -xz -C /root/bundle && /root/bundle/provision.sh", stdin=bundle)
        machine.write("/etc/trailgate/stack.env", f"STACK={STACK}\nAWS_REGION={REGION}\nLOG_GROUP={GROUP}")
        machine.write("/usr/bin/vector", (HERE / "shipper.py").read_text())
        endpoint = f"AWS_ENDPOINT_URL=http://127.0.0.1:{cloudwatch.server_port}"
        machine.output(f"chmod 755 /usr/bin/vector && systemctl set-environment {endpoint} AWS_ACCESS_KEY_ID=a AWS_SECRET_ACCESS_KEY=b")
        machine.output(f"/usr/libexec/trailgate/ship-log /etc/trailgate {STREAM}")
        machine.output("systemctl start trailgate.socket trailgate.service")
        load.start()
        for _ in range(3):
            load.wait_for(LINES // 10)
            machine.output("systemctl restart trailgate")
        load.wait_for(LINES // 10)
        machine.output("systemctl restart trailgate-log")
        load.wait_for(LINES // 10)
        machine.output("systemctl kill --signal KILL trailgate-log")
        load.wait_for(LINES // 10)
        cloudwatch.refuses = True
        load.wait_for(LINES // 5)
        since = time.monotonic()
        wait(lambda: cloudwatch.refused > 10 and time.monotonic() > since + REFUSED)
        cloudwatch.refuses = False
        load.wait_for(LINES // 5)
        # A shutdown sends for 30 seconds, and a long refusal has left more than that.
        wait(lambda: newest(aws) > load.answered - 1000)
        load.is_over = True
    load.join(60)
    assert not load.is_alive()
    return lines(aws), load.answered


def newest(aws):
    """Returns the number of the last request in the log group."""
    page = aws.client("logs").get_log_events(logGroupName=GROUP, logStreamName=STREAM, startFromHead=False, limit=100)
    return max(numbers(event["message"] for event in page["events"]), default=0)


def lines(aws):
    found, token = [], {}
    while True:
        page = aws.client("logs").get_log_events(
            logGroupName=GROUP, logStreamName=STREAM, startFromHead=True, limit=10_000, **token
        )
        if not page["events"]:
            return found
        found += [event["message"] for event in page["events"]]
        token = {"nextToken": page["nextForwardToken"]}


# More of both by hand: 200,000 lines and ten minutes.
LINES = int(os.environ.get("LINES", 20_000))
REFUSED = float(os.environ.get("REFUSED_SECONDS", 0))


def numbers(messages):
    """The numbers of requests, in the order in which each came first."""
    targets = [json.loads(message)["target"] for message in messages if message.startswith('{"time"')]
    return list(dict.fromkeys(int(target.removeprefix("/%zz")) for target in targets))


def test_every_answered_request_is_in_the_log_group(shipped):
    messages, answered = shipped
    assert answered >= LINES
    assert sorted(set(range(1, answered + 1)) - set(numbers(messages))) == []


def test_lines_of_a_stream_are_in_their_order(shipped):
    found = numbers(shipped[0])
    assert found == sorted(found)


def test_line_that_arrives_again_is_the_same(shipped):
    # Its document has a hash of it as its id. A request that a restart cut is another line of the same number.
    ids = collections.defaultdict(set)
    for message in shipped[0]:
        if message.startswith('{"time"'):
            ids[json.loads(message)["id"]].add(message)
    assert max(map(len, ids.values())) == 1


def test_events_and_words_of_systemd_are_shipped_too(shipped):
    events = [message for message in shipped[0] if not message.startswith('{"time"')]
    assert any('"address":"127.0.0.1:8080"' in event for event in events)
    assert any("trailgate.service: Deactivated successfully." in event for event in events)
