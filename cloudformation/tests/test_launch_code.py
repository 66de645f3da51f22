"""What the launch command uploads, and where: the account's bucket, a release, and what it builds."""

import hashlib
import shutil

import pytest

from launching import new_stack
from played import ACCOUNT, REGION

FORBIDDEN = "An error occurred (403) when calling the HeadBucket operation: Forbidden"
NOT_FOUND = "An error occurred (404) when calling the HeadBucket operation: Not Found"


def test_bucket_of_another_account_is_never_written_to(launch):
    done = launch.plays(s3api__head_bucket=[FORBIDDEN])("audit", "203.0.113.7")
    assert done.returncode == 1
    assert f"trailgate-code-{ACCOUNT}-{REGION} cannot be used by the account {ACCOUNT}" in done.stderr
    assert not launch.aws.calls("s3api put-object") and not launch.aws.calls("s3api create-bucket")


def test_bucket_in_another_region_is_refused(launch):
    launch.plays(s3api__head_bucket=[{"BucketRegion": "us-east-1"}])
    done = launch("audit", "203.0.113.7", "CodeBucket=ours")
    assert done.returncode == 2
    assert f"the bucket ours is in us-east-1: name one in {REGION} by CodeBucket=" in done.stderr
    assert not launch.aws.calls("s3api put-object")


def test_bucket_in_the_region_is_used(launch):
    launch.plays(s3api__head_bucket=[{"BucketRegion": REGION}])
    launch.plays(cloudformation__describe_stacks=new_stack("CREATE_COMPLETE"))
    done = launch("audit", "203.0.113.7", "CodeBucket=ours")
    assert done.returncode == 0, done.stderr


def test_every_use_of_the_bucket_expects_its_owner(launch):
    creation = dict.fromkeys(
        ("s3api__create_bucket", "s3api__put_public_access_block", "s3api__put_bucket_versioning"), [{}]
    )
    launch.plays(s3api__head_bucket=[NOT_FOUND], s3api__put_bucket_lifecycle_configuration=[{}], **creation)
    launch.plays(cloudformation__describe_stacks=new_stack("CREATE_COMPLETE"))
    done = launch("audit", "203.0.113.7")
    assert done.returncode == 0, done.stderr
    for command in ("head-bucket", "put-object", "put-public-access-block", "put-bucket-versioning"):
        for call in launch.aws.calls(f"s3api {command}"):
            assert call[call.index("--expected-bucket-owner") + 1] == ACCOUNT, command


def test_bundle_is_pinned_by_its_sum(launch):
    launch.plays(cloudformation__describe_stacks=new_stack("CREATE_COMPLETE"))
    assert launch("audit", "203.0.113.7").returncode == 0
    digest = hashlib.sha256(b"bundle/trailgate-aarch64.tar.gz").hexdigest()
    assert launch.sent()["GateBundleSha256"] == digest


@pytest.fixture
def release(tmp_path):
    folder = tmp_path / "release"
    folder.mkdir()
    sums = ""
    for name in ("trailgate-ingest-x86_64.zip", "trailgate-aarch64.tar.gz"):
        (folder / name).write_text(f"released {name}")
        sums += f"{hashlib.sha256(f'released {name}'.encode()).hexdigest()}  {name}\n"
    (folder / "SHA256SUMS").write_text(sums)
    return folder


def test_release_is_run_without_building(launch, release):
    shutil.rmtree(launch.root / "target")
    launch.plays(cloudformation__describe_stacks=new_stack("CREATE_COMPLETE"))
    done = launch("audit", "203.0.113.7", "--release", str(release))
    assert done.returncode == 0, done.stderr
    digest = hashlib.sha256(b"released trailgate-aarch64.tar.gz").hexdigest()
    assert launch.sent()["GateBundleSha256"] == digest


def test_files_that_are_not_of_the_release_are_left_alone(launch, release):
    (release / "deps").mkdir()
    (release / "libother.rlib").write_text("of another program")
    launch.plays(cloudformation__describe_stacks=new_stack("CREATE_COMPLETE"))
    done = launch("audit", "203.0.113.7", "--release", str(release))
    assert done.returncode == 0, done.stderr


def test_release_that_differs_from_its_sums_is_refused(launch, release):
    (release / "trailgate-aarch64.tar.gz").write_text("something else")
    done = launch("audit", "203.0.113.7", "--release", str(release))
    assert done.returncode == 1
    assert "trailgate-aarch64.tar.gz is missing, or not what SHA256SUMS says" in done.stderr
    assert not launch.aws.calls("s3api put-object")


def test_release_with_sums_in_another_form_is_refused(launch, release):
    (release / "SHA256SUMS").write_text("SHA256 (trailgate-aarch64.tar.gz) = 00\n")
    done = launch("audit", "203.0.113.7", "--release", str(release))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "SHA256SUMS has a line that make-release did not write" in done.stderr


def test_release_that_is_no_folder_is_refused(launch, tmp_path):
    done = launch("audit", "203.0.113.7", "--release", str(tmp_path / "relaese"))
    assert done.returncode == 2
    assert "relaese' is no folder; write s3://BUCKET/PREFIX or a folder" in done.stderr


def test_build_that_fails_ends_the_launch_with_its_name(launch):
    (launch.root / "target/bundle/trailgate-aarch64.tar.gz").unlink()
    (launch.root / "packer").mkdir()
    (launch.root / "packer/bundle").write_text("#!/bin/sh\necho cannot compile >&2; exit 3\n")
    (launch.root / "packer/bundle").chmod(0o755)
    done = launch("audit", "203.0.113.7")
    assert done.returncode == 1
    assert done.stderr.startswith("cannot compile\nlaunch: packer/bundle aarch64 exits with 3")
