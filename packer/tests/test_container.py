"""The container image, built by buildah without a registry, on a base that is the least that it asks for."""

import json
import os
import shutil
import subprocess

import pytest

from guest import ROOT

# Of the machine's Debian: what the program loads, and the root certificates.
BASE = (
    "lib64/ld-linux-x86-64.so.2",
    "lib/x86_64-linux-gnu/libc.so.6",
    "lib/x86_64-linux-gnu/libgcc_s.so.1",
    "lib/x86_64-linux-gnu/libm.so.6",
    "etc/ssl/certs/ca-certificates.crt",
)


class Buildah:
    """buildah with images of its own, which runs what is in them without a daemon or a runtime."""

    def __init__(self, folder):
        self._command = ["buildah", "--root", folder / "images", "--runroot", folder / "run", "--storage-driver", "vfs"]

    def __call__(self, *arguments):
        done = subprocess.run([*self._command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory):
    folder = tmp_path_factory.mktemp("buildah")
    made = Buildah(folder)
    for path in BASE:
        (folder / "base" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "target/machine/root" / path, folder / "base" / path)
    (folder / "Containerfile").write_text("FROM scratch\nCOPY . /\n")
    made("build", "--tag", "base", "--file", folder / "Containerfile", folder / "base")
    # The folder that the description's comment names.
    built = ("--build-arg", "BASE=localhost/base", "--file", "packer/Containerfile", "target/package/x86_64/root")
    made("build", "--tag", "trailgate", *built)
    return made


def test_container_runs_the_proxy_as_an_unprivileged_user(buildah):
    config = json.loads(buildah("inspect", "--type", "image", "localhost/trailgate"))["OCIv1"]["config"]
    assert config["User"] == "65532:65532"
    assert [*config["Entrypoint"], *config["Cmd"]] == ["/usr/bin/trailgate", "run"]


def test_container_reads_the_mounted_configuration(buildah, tmp_path):
    for name in ("trailgate", "allowlist"):
        shutil.copy(ROOT / f"config/{name}.toml", tmp_path)
        os.chown(tmp_path / f"{name}.toml", 0, 65532)
        os.chmod(tmp_path / f"{name}.toml", 0o640)
    os.chmod(tmp_path, 0o755)
    container = buildah("from", "localhost/trailgate")
    mount = ("--isolation", "chroot", "--volume", f"{tmp_path}:/etc/trailgate:ro")
    assert "2 entries" in buildah("run", *mount, container, "--", "/usr/bin/trailgate", "check")
