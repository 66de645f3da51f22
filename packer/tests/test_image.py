"""The image: packer's amazon-ebs source, with moto as EC2 and Debian in systemd-nspawn as the instance.

moto starts no instance, so packer is told where one is, and what region to take unseen. What it does to a machine, and
what it asks of EC2, are the same; that Amazon Linux is what it meets there, nothing here shows. Its package manager, which
Debian lacks, writes down its arguments.
"""

import os
import re
import subprocess

import pytest

from guest import KEY, PORT, ROOT, booted
from template import REGION

SOURCE = 'source "amazon-ebs" "gate" {\n'


@pytest.fixture(scope="module")
def instance():
    """A machine that has Amazon Linux's user and a stand-in of its package manager."""
    with booted() as machine:
        # It fails once, as while the SSM agent is updated.
        machine.write("/usr/bin/dnf", '#!/bin/sh\necho "$@" >>/root/dnf\n[ "$(wc -l </root/dnf)" -gt 1 ]')
        machine.output("chmod +x /usr/bin/dnf && mkdir /etc/yum.repos.d")
        machine.output("useradd --create-home ec2-user && echo 'ec2-user ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/user")
        machine.output("cp -r .ssh ~ec2-user && chown -R ec2-user: ~ec2-user")
        yield machine


@pytest.fixture(scope="module")
def image(aws, instance, tmp_path_factory):
    """Returns the image that Packer has built, as EC2 describes it."""
    aws.client("ec2").import_key_pair(KeyName="test", PublicKeyMaterial=KEY.with_suffix(".pub").read_bytes())
    here = f"""
  custom_endpoint_ec2         = "{aws.endpoint}"
  skip_region_validation      = true
  skip_metadata_api_check     = true
  ssh_host                    = "127.0.0.1"
  ssh_port                    = {PORT}
  ssh_keypair_name            = "test"
  ssh_private_key_file        = "{KEY}"
"""
    description = (ROOT / "packer/trailgate.pkr.hcl").read_text()
    assert description.count(SOURCE) == 1
    changed = tmp_path_factory.mktemp("packer") / "trailgate.pkr.hcl"
    changed.write_text(description.replace(SOURCE, SOURCE + here))
    build = subprocess.run(
        ["packer", "build", "-only", "amazon-ebs.x86_64", "-var", f"region={REGION}", changed],
        cwd=ROOT,
        env=os.environ | aws.environment | {"CHECKPOINT_DISABLE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert build.returncode == 0, build.stdout + build.stderr
    (made,) = aws.client("ec2").describe_images(Owners=["self"])["Images"]
    return made


def test_there_is_an_image_that_says_what_it_is(image):
    assert re.fullmatch(r"trailgate-x86_64-\d{8}-\d{6}", image["Name"])
    assert (image["State"], image["Architecture"]) == ("available", "x86_64")
    tags = {tag["Key"]: tag["Value"] for tag in image["Tags"]}
    assert tags == {"Name": "trailgate", "Architecture": "x86_64"}


def test_it_comes_from_amazon_linux_2023_and_leaves_no_instance(aws, image):
    ec2 = aws.client("ec2")
    (reservation,) = ec2.describe_instances()["Reservations"]
    (builder,) = reservation["Instances"]
    (base,) = ec2.describe_images(ImageIds=[builder["ImageId"]])["Images"]
    assert base["Name"].startswith("al2023-ami-2023.")
    assert builder["State"]["Name"] == "terminated"


def test_image_has_the_log_shipper_from_a_signed_repository(instance, image):
    failed, succeeded = instance.output("cat /root/dnf").splitlines()
    assert failed == succeeded and re.fullmatch(r"-y -q install vector-\d+\.\d+\.\d+", succeeded)
    repository = instance.output("cat /etc/yum.repos.d/vector.repo").splitlines()
    assert {"gpgcheck=1", "repo_gpgcheck=1"} <= set(repository)
    assert not [line for line in repository if "http://" in line]


def test_the_instance_was_provisioned_and_cleared_of_the_bundle(instance, image):
    assert "2 entries" in instance.output("trailgate check")
    assert instance.output("ls /root/trailgate /tmp/trailgate.tar.gz 2>/dev/null || true") == ""
