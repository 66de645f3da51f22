"""A release as make-release lays it out, and its template as the console would launch it."""

import hashlib
import pathlib
import shutil
import subprocess

import pytest
from cfnlint.decode import decode

from amazon import BIN

FOLDER = pathlib.Path(__file__).parent.parent
BUILT = [f"lambda/trailgate-ingest-{arch}.zip" for arch in ("x86_64", "aarch64")]
BUILT += [f"bundle/trailgate-{arch}.tar.gz" for arch in ("x86_64", "aarch64")]


@pytest.fixture
def make(tmp_path):
    """Lays out a release in a tree where all is built already; gives its folder."""
    for name in ("cloudformation", "target/lambda", "target/bundle"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("make-release", "trailgate.yaml"):
        shutil.copy(FOLDER / name, tmp_path / "cloudformation" / name)
    for name in BUILT:
        (tmp_path / "target" / name).write_text(name)

    def made(*arguments):
        command = [tmp_path / "cloudformation/make-release", tmp_path / "release", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return tmp_path / "release"

    return made


def parameters(release):
    template, problems = decode(str(release / "trailgate.yaml"))
    assert not problems, problems
    return template["Parameters"]


def test_release_has_both_architectures_and_their_sums(make):
    release = make()
    sums = dict(line.split("  ")[::-1] for line in (release / "SHA256SUMS").read_text().splitlines())
    assert sums.keys() == {name.split("/")[1] for name in BUILT} | {"trailgate.yaml"}
    for name, digest in sums.items():
        assert hashlib.sha256((release / name).read_bytes()).hexdigest() == digest
    assert (release / "trailgate.yaml").read_bytes() == (FOLDER / "trailgate.yaml").read_bytes()


def test_published_template_needs_nothing_but_an_address(make):
    release = make("--bucket", "releases", "--account", "123456789012", "--prefix", "trailgate-1.0")
    declared = parameters(release)
    assert {name for name, spec in declared.items() if "Default" not in spec} == {"AllowedIPForEsCluster"}
    defaults = {name: spec.get("Default") for name, spec in declared.items()}
    assert (defaults["CodeBucket"], defaults["CodeAccount"]) == ("releases", "123456789012")
    assert defaults["FunctionCodeKey"] == "trailgate-1.0/trailgate-ingest-x86_64.zip"
    assert defaults["GateBundleKey"] == "trailgate-1.0/trailgate-aarch64.tar.gz"
    bundle = release / "trailgate-aarch64.tar.gz"
    assert defaults["GateBundleSha256"] == hashlib.sha256(bundle.read_bytes()).hexdigest()


def test_published_template_offers_types_that_run_its_bundle(make):
    release = make("--bucket", "releases", "--account", "123456789012", "--prefix", "trailgate-1.0")
    assert parameters(release)["FunctionArchitecture"]["AllowedValues"] == ["x86_64"]
    types = parameters(release)["ProxyInstanceTypeParameter"]["AllowedValues"]
    assert types and all(name.startswith(("t4g.", "c7g.")) for name in types)


def test_published_template_is_clean_for_cfn_lint(make):
    release = make("--bucket", "releases", "--account", "123456789012", "--prefix", "trailgate-1.0")
    done = subprocess.run([BIN / "cfn-lint", release / "trailgate.yaml"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
