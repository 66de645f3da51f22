"""A server of moto's on loopback, in the place of AWS."""

import datetime
import os
import pathlib
import subprocess
import sys
import urllib.request

import boto3
import pytest
from moto.server import ThreadedMotoServer

from template import REGION, STACK

BIN = pathlib.Path(sys.executable).parent


class Aws:
    """AWS at `endpoint`: by the real command line, and by boto3 for what is only looked at."""

    def __init__(self, endpoint, home):
        self.endpoint = endpoint
        # Nothing of the surroundings: a profile of the developer's must not be found.
        self.environment = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(home),
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
        }

    def run(self, *arguments):
        """Runs the command line and expects it to succeed."""
        done = subprocess.run(
            [str(BIN / "aws"), *arguments], env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr

    def client(self, service):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def put_allowlist(self, text):
        """Writes the stack's allowlist, as its reader edits it."""
        self.client("ssm").put_parameter(Name=f"/trailgate/{STACK}/allowlist", Type="String", Value=text, Overwrite=True)

    def sent(self, metric, stack=STACK):
        """Returns the values of the stack's metric by the minute, the last first."""
        now = datetime.datetime.now(datetime.UTC)
        dimensions = [{"Name": "Stack", "Value": stack}]
        wanted = {"Namespace": "trailgate", "MetricName": metric, "Dimensions": dimensions}
        found = self.client("cloudwatch").get_metric_data(
            MetricDataQueries=[{"Id": "last", "MetricStat": {"Metric": wanted, "Period": 60, "Stat": "Maximum"}}],
            StartTime=now - datetime.timedelta(minutes=10),
            EndTime=now + datetime.timedelta(minutes=1),
        )
        return found["MetricDataResults"][0]["Values"]


@pytest.fixture(scope="module")
def aws(tmp_path_factory):
    server = ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    # Its state is the process's, so it begins with what the module before has left.
    urllib.request.urlopen(f"{endpoint}/moto-api/reset", data=b"").close()
    yield Aws(endpoint, tmp_path_factory.mktemp("home"))
    server.stop()
