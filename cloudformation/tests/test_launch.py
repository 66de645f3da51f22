"""The command that launches the stack, run as its reader runs it, on a server of moto's."""

import json
import pathlib
import shutil
import subprocess
import sys

import pytest
from moto.backends import get_backend

from amazon import BIN
from cut import cut
from template import ACCOUNT, REGION

FOLDER = pathlib.Path(__file__).parent.parent
# moto has no termination protection.
AWS = f"""#!/bin/sh
[ "$2" = update-termination-protection ] || exec {BIN}/aws "$@"
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A tree with all that is to be built already there, and the template that moto understands."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("cloudformation", "target/lambda", "target/bundle"):
        (root / name).mkdir(parents=True)
    for name in ("launch", "stack.py"):
        shutil.copy(FOLDER / name, root / "cloudformation" / name)
    (root / "aws").write_text(AWS)
    (root / "aws").chmod(0o755)
    (root / "cloudformation/trailgate.yaml").write_text(json.dumps(cut()))
    for name in ("lambda/trailgate-ingest-x86_64.zip", "bundle/trailgate-aarch64.tar.gz"):
        (root / "target" / name).write_text(name)
    return root


def launch(aws, tree, *arguments):
    command = [sys.executable, tree / "cloudformation/launch", *arguments, "--poll", "0"]
    environment = aws.environment | {"PATH": f"{tree}:{aws.environment['PATH']}"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def launched(aws, tree):
    done = launch(aws, tree, "audit", "203.0.113.7", "DomainVolumeSize=50")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def changed(aws, tree, launched):
    """The parameters before a second launch, and how that has ended: with another address, retention and function."""
    complete()
    before = values(aws)
    (tree / "target/lambda/trailgate-ingest-x86_64.zip").write_text("newer")
    return before, launch(aws, tree, "audit", "203.0.113.8", "IndexRetentionDays=9", "--reset-allowlist")


def complete():
    """Gives the stack what moto forgets when it makes one from a change set: its outputs, and what is at its default.

    Without the latter it takes every parameter for changed, and every resource with it.
    """
    (stack,) = get_backend("cloudformation")[ACCOUNT][REGION].stacks.values()
    stack._parse_template()
    stack.output_map = stack._create_output_map()
    stack.resource_map.input_parameters = dict(stack.stack_parameters)


def described(aws):
    (stack,) = aws.client("cloudformation").describe_stacks(StackName="audit")["Stacks"]
    return stack


def values(aws):
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in described(aws)["Parameters"]}


def test_one_command_makes_the_stack(aws, launched):
    assert described(aws)["StackStatus"] == "CREATE_COMPLETE"
    assert "CREATE_COMPLETE audit" in launched.stderr
    assert (values(aws)["AllowedIPForEsCluster"], values(aws)["DomainVolumeSize"]) == ("203.0.113.7", "50")


def test_code_is_uploaded_to_a_private_bucket(aws, launched):
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
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"


def test_second_launch_changes_what_it_is_given_only(aws, changed):
    before, done = changed
    assert done.returncode == 0, done.stderr
    assert described(aws)["StackStatus"] == "UPDATE_COMPLETE"
    after = values(aws)
    given = {name: value for name, value in after.items() if value != before[name]}
    assert given.keys() == {"AllowedIPForEsCluster", "IndexRetentionDays", "FunctionCodeKey"}
    assert (given["AllowedIPForEsCluster"], given["IndexRetentionDays"]) == ("203.0.113.8", "9")
    newer = aws.client("s3").get_object(Bucket=after["CodeBucket"], Key=after["FunctionCodeKey"])
    assert newer["Body"].read() == b"newer"


def test_second_launch_changes_resources_and_prints_outputs(aws, changed):
    # moto does not see that a parameter within Fn::Sub has changed, so this one is in a Ref.
    outputs = {output["OutputKey"]: output["OutputValue"] for output in described(aws)["Outputs"]}
    function = aws.client("lambda").get_function(FunctionName=outputs["IngestFunctionName"])["Configuration"]
    assert function["Environment"]["Variables"]["RETENTION_DAYS"] == "9"
    assert f"IngestFunctionName\t{function['FunctionName']}\n" in changed[1].stdout
