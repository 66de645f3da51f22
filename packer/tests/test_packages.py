"""The packages: what they put on a machine, what an upgrade keeps, and what a removal leaves."""

import os
import shutil
import subprocess

import pytest

from guest import ADMITTED, ASK, ROOT, booted, bundled

PACKAGES = ROOT / "target/package/x86_64"


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """The folder of packages of a later version, whose program and configuration are other ones."""
    root = tmp_path_factory.mktemp("newer")
    shutil.copytree(PACKAGES / "root", root, dirs_exist_ok=True)
    for path in ("usr/bin/trailgate", "etc/trailgate/trailgate.toml", "etc/trailgate/allowlist.toml"):
        with open(root / path, "a") as file:
            file.write("\n# newer\n")
    for form in ("deb", "rpm"):
        subprocess.run(
            ["target/nfpm/bin/nfpm", "package", "--config", "packer/package/nfpm.yaml", "-p", form, "-t", root],
            cwd=ROOT,
            env=os.environ | {"ROOT": str(root), "ARCH": "amd64", "VERSION": "1000.0.0", "MAINTAINER": "a <a@b.c>"},
            check=True,
            capture_output=True,
        )
    return root


@pytest.fixture(scope="module")
def booted_machine():
    with booted() as machine:
        yield machine


@pytest.fixture
def machine(booted_machine):
    """A machine that has the Debian package, and has it no more when the test is over."""
    install(booted_machine, only(PACKAGES, "deb"))
    yield booted_machine
    booted_machine.output("dpkg --purge trailgate")


def only(folder, form):
    """The package of that form in a folder that has one of each."""
    (package,) = folder.glob(f"*.{form}")
    return package


def install(machine, package):
    with open(package) as file:
        machine.output("cat >/tmp/trailgate.deb && dpkg -i --force-confold /tmp/trailgate.deb", stdin=file)


def test_lintian_finds_no_error():
    # The program keeps its symbols, which name the functions of a panic's backtrace.
    lintian = ["lintian", "--allow-root", "--fail-on", "error", "--suppress-tags", "unstripped-binary-or-object"]
    done = subprocess.run([*lintian, only(PACKAGES, "deb")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_debian_package_has_the_files_of_the_bundle(machine):
    assert machine.files(bundled()) == bundled()
    listed = machine.output("dpkg -L trailgate | while read path; do [ -d $path ] || echo $path; done").split()
    assert set(listed) - set(bundled()) == {"/usr/share/doc/trailgate/changelog.Debian.gz"}
    assert machine.output("stat -c '%a %U:%G' /etc/trailgate") == "2750 root:trailgate"


def test_installed_package_is_valid_and_runs_nothing(machine):
    assert "2 entries" in machine.output("trailgate check")
    assert machine.run("systemctl is-active trailgate.service trailgate.socket").stdout.split() == ["inactive"] * 2
    machine.output("systemctl start trailgate")
    assert machine.output(ASK) == ADMITTED


def test_upgrade_keeps_edited_configuration(machine, newer):
    machine.output("echo '# mine' >>/etc/trailgate/trailgate.toml")
    install(machine, only(newer, "deb"))
    assert machine.output("tail -n 1 /etc/trailgate/trailgate.toml") == "# mine"
    assert machine.output("tail -n 1 /etc/trailgate/allowlist.toml") == "# newer"
    assert machine.files(bundled()) == bundled()


def test_upgrade_with_a_socket_unit_loses_no_connection(machine, newer):
    machine.output("systemctl start trailgate.socket trailgate.service")
    before = machine.pid()
    with open(only(newer, "deb")) as file:
        machine.output("cat >/tmp/newer.deb", stdin=file)
    # The proxy rejects this invalid escape at once, without the domain.
    ask = ASK.replace("_search", "%zz")
    machine.output(
        f"for n in 1 2 3 4; do (until [ -e /tmp/upgraded ]; do echo $({ask}); done) & done >/tmp/answers;"
        " dpkg -i /tmp/newer.deb; echo $? >/tmp/upgraded; wait; grep -qx 0 /tmp/upgraded"
    )
    assert machine.pid() != before
    assert machine.output("tail -n 1 /proc/$(systemctl show -P MainPID trailgate)/exe") == "# newer"
    answers = machine.output("cat /tmp/answers").split()
    # On a busy machine the four ask fewer times while the package is upgraded.
    assert len(answers) > 20
    assert set(answers) == {"400"}


def test_removal_stops_the_proxy_and_purge_deletes_the_rest(machine):
    machine.output("systemctl enable trailgate.socket trailgate.service && systemctl start trailgate.service")
    machine.output("dpkg --remove trailgate")
    assert machine.run(ASK).stdout == "000"
    gone = [path for path in bundled() if not path.startswith("/etc/")]
    assert machine.output(f"ls -d {' '.join(gone)} /etc/systemd/system/*/trailgate* 2>/dev/null || true") == ""
    assert machine.output("ls /etc/trailgate").split() == ["allowlist.toml", "trailgate.toml"]
    machine.output("dpkg --purge trailgate")
    assert machine.run("ls -d /etc/trailgate").returncode != 0


@pytest.fixture
def tree(tmp_path):
    """The files of a machine that does not run, for rpm to work in; Debian's serve as well as others."""
    mount = ["mount", "-t"]
    subprocess.run([*mount, "tmpfs", "tmpfs", tmp_path], check=True)
    for name in ("written", "work", "root"):
        (tmp_path / name).mkdir()
    layers = f"lowerdir={ROOT}/target/machine/root,upperdir={tmp_path}/written,workdir={tmp_path}/work"
    subprocess.run([*mount, "overlay", "-o", layers, "overlay", tmp_path / "root"], check=True)
    yield tmp_path / "root"
    subprocess.run(["umount", tmp_path / "root", tmp_path], check=True)


def rpm(tree, *arguments):
    # rpm does not see Debian's packages, so it misses the dependencies.
    subprocess.run(["rpm", "--force-debian", "--nodeps", "--root", tree, *arguments], check=True)


def files(tree):
    stat = ["chroot", tree, "stat", "-c", "%n %a %U:%G", *bundled()]
    lines = subprocess.run(stat, check=True, capture_output=True, text=True).stdout.splitlines()
    return dict(line.split(" ", 1) for line in lines)


def test_the_rpm_has_the_files_of_the_bundle(tree):
    rpm(tree, "--install", only(PACKAGES, "rpm"))
    assert files(tree) == bundled()
    query = ["rpm", "--root", tree, "--query", "--list", "trailgate"]
    listed = subprocess.run(query, check=True, capture_output=True, text=True).stdout.split()
    assert {path for path in listed if not (tree / path[1:]).is_dir()} == set(bundled())


def test_rpm_upgrade_keeps_edited_configuration(tree, newer):
    rpm(tree, "--install", only(PACKAGES, "rpm"))
    with open(tree / "etc/trailgate/trailgate.toml", "a") as file:
        file.write("# mine\n")
    rpm(tree, "--upgrade", only(newer, "rpm"))
    assert (tree / "etc/trailgate/trailgate.toml").read_text().endswith("# mine\n")
    assert (tree / "etc/trailgate/allowlist.toml").read_text().endswith("# newer\n")
    assert files(tree) == bundled()


def test_a_removal_by_rpm_leaves_edited_configuration_alone(tree):
    rpm(tree, "--install", only(PACKAGES, "rpm"))
    with open(tree / "etc/trailgate/allowlist.toml", "a") as file:
        file.write("# mine\n")
    rpm(tree, "--erase", "trailgate")
    assert not [path for path in bundled() if (tree / path[1:]).exists()]
    assert [path.name for path in (tree / "etc/trailgate").iterdir()] == ["allowlist.toml.rpmsave"]
