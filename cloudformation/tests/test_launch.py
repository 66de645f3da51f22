"""The command that launches the stack, run as its reader runs it, on a server of moto's.

moto makes a stack from a change set without outputs, and cannot change one by it: a second launch is not seen here.
"""

import json
import pathlib
import shutil
import subprocess

import pytest

from cut import cut
from template import ACCOUNT, REGION

LAUNCH = pathlib.Path(__file__).parent.parent / "launch"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree with all that is to be built already there, and the template that moto understands."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("cloudformation", "target/lambda", "target/bundle"):
        (root / name).mkdir(parents=True)
    shutil.copy(LAUNCH, root / "cloudformation/launch")
    (root / "cloudformation/trailgate.yaml").write_text(json.dumps(cut()))
    for name in ("lambda/trailgate-ingest-x86_64.zip", "bundle/trailgate-aarch64.tar.gz"):
        (root / "target" / name).write_text(name)
    return root


def launch(aws, tree, *arguments):
    command = [tree / "cloudformation/launch", *arguments]
    return subprocess.run(command, env=aws.environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def launched(aws, tree):
    done = launch(aws, tree, "audit", "203.0.113.7", "DomainVolumeSize=50")
    assert done.returncode == 0, done.stderr
    return done


def values(aws):
    (stack,) = aws.client("cloudformation").describe_stacks(StackName="audit")["Stacks"]
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack["Parameters"]}


def test_one_command_makes_the_stack(aws, launched):
    assert "Successfully created/updated stack - audit" in launched.stdout
    assert (values(aws)["AllowedIPForEsCluster"], values(aws)["DomainVolumeSize"]) == ("203.0.113.7", "50")


def test_it_uploads_what_is_to_run_where_nobody_else_reads_it(aws, launched):
    bucket = f"trailgate-code-{ACCOUNT}-{REGION}"
    assert values(aws)["CodeBucket"] == bucket
    s3 = aws.client("s3")
    for parameter, text in (
        ("FunctionCodeKey", b"lambda/trailgate-ingest-x86_64.zip"),
        ("GateBundleKey", b"bundle/trailgate-aarch64.tar.gz"),
    ):
        assert s3.get_object(Bucket=bucket, Key=values(aws)[parameter])["Body"].read() == text
    closed = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True}


def test_without_an_address_it_says_how_it_is_used(aws, tree):
    done = launch(aws, tree, "audit")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: cloudformation/launch STACK ADDRESS")
