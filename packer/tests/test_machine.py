"""What a machine is that packer has provisioned: Debian with systemd as process 1."""

import json
import os
import pathlib
import re
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parent.parent.parent
MACHINE = ROOT / "target/machine"
PORT = 2222
PATIENCE = 60


class Machine:
    def run(self, command, stdin=subprocess.DEVNULL):
        """Runs a command as root there."""
        options = ["-i", MACHINE / "key", "-p", str(PORT), "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
        options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
        return subprocess.run(
            ["ssh", *options, "root@127.0.0.1", command],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def output(self, command):
        """What a command that succeeds prints."""
        done = self.run(command)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def wait(self, command):
        """Waits for a command to succeed."""
        end = time.monotonic() + PATIENCE
        while (done := self.run(command)).returncode != 0:
            assert time.monotonic() < end, done.stdout + done.stderr
            time.sleep(0.2)
        return done.stdout.strip()


@pytest.fixture(scope="module")
def machine():
    with open(MACHINE / "console.log", "w") as console:
        guest = subprocess.Popen(
            [ROOT / "packer/tests/boot", MACHINE / "root"], stdin=subprocess.DEVNULL, stdout=console, stderr=console
        )
    made = Machine()
    try:
        made.wait("true")
        build = subprocess.run(
            ["packer", "build", "-only", "null.x86_64", "-var", f"machine={variable()}", "packer/trailgate.pkr.hcl"],
            cwd=ROOT,
            env=os.environ | {"CHECKPOINT_DISABLE": "1", "PACKER_LOG": "0"},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert build.returncode == 0, build.stdout + build.stderr
        yield made
    finally:
        made.run("systemctl poweroff")
        guest.wait(PATIENCE)


def variable():
    return json.dumps({"host": "127.0.0.1", "port": PORT, "key": str(MACHINE / "key")})


def test_the_program_is_there(machine):
    assert re.fullmatch(r"trailgate \d+\.\d+\.\d+", machine.output("trailgate --version"))


def test_the_shipped_configuration_is_valid(machine):
    assert "2 entries" in machine.output("trailgate check")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/usr/bin/trailgate", "755 root:root"),
        ("/usr/libexec/trailgate/join-stack", "755 root:root"),
        ("/usr/lib/systemd/system/trailgate.service", "644 root:root"),
        ("/etc/trailgate", "2750 root:trailgate"),
        ("/etc/trailgate/trailgate.toml", "640 root:trailgate"),
        ("/etc/trailgate/allowlist.toml", "640 root:trailgate"),
    ],
)
def test_files_belong_to_root_and_the_gate_reads_its_own(machine, path, expected):
    assert machine.output(f"stat -c '%a %U:%G' {path}") == expected


def test_nothing_runs_before_it_is_told_to(machine):
    assert machine.run("systemctl is-active trailgate").stdout.strip() == "inactive"
    assert machine.run("systemctl is-enabled trailgate-follow.timer").stdout.strip() == "disabled"


def test_the_units_are_valid(machine):
    units = "trailgate.service trailgate.socket trailgate-follow.service trailgate-follow.timer"
    assert machine.output(f"systemd-analyze verify --man=no {units} 2>&1") == ""


def test_the_log_keeps_within_bounds(machine):
    assert "SystemMaxUse=512M" in machine.output("systemd-analyze cat-config systemd/journald.conf")


@pytest.fixture
def running(machine):
    """The machine with its gate running; the allowlist is as before when the test is over."""
    machine.output("systemctl start trailgate && cp -p /etc/trailgate/allowlist.toml /tmp/allowlist.toml")
    yield machine
    machine.output("mv /tmp/allowlist.toml /etc/trailgate/allowlist.toml")


def test_the_gate_starts_as_its_own_user_and_answers(running):
    assert running.output(f"ps -o user= -p {pid(running)}") == "trailgate"
    assert running.output(ASK) == ADMITTED


def test_an_edit_of_the_allowlist_takes_effect_without_a_restart(running):
    before = pid(running)
    running.output("sed -i s/127.0.0.1/127.0.0.9/ /etc/trailgate/allowlist.toml")
    running.wait(f"[ $({ASK}) = 403 ]")
    assert pid(running) == before


def test_a_bad_edit_keeps_the_list_and_fails_the_reload(running):
    running.output("echo nonsense >>/etc/trailgate/allowlist.toml")
    assert running.run("systemctl reload trailgate").returncode != 0
    assert running.output(ASK) == ADMITTED


def test_a_gate_that_is_killed_comes_back(running):
    before = pid(running)
    running.output(f"kill -9 {before}")
    running.wait(f"[ $({ASK}) = {ADMITTED} ]")
    assert pid(running) != before


def test_a_restart_refuses_no_connection_where_systemd_has_the_port(running):
    running.output("systemctl stop trailgate && systemctl start trailgate.socket trailgate.service")
    before = pid(running)
    # What the gate answers by itself at once: this escape is none.
    ask = ASK.replace("_search", "%zz")
    running.output(f"for n in $(seq 200); do {ask}; echo; done >/tmp/answers & systemctl restart trailgate && wait")
    assert pid(running) != before
    assert running.output("sort /tmp/answers | uniq -c") == "200 400"
    running.output("systemctl stop trailgate.socket trailgate.service")


def test_the_journal_has_the_access_lines(running):
    running.output(ASK)
    running.wait(f"journalctl -u trailgate -o cat | grep -q '\"status\":{ADMITTED}'")


def test_a_stack_that_cannot_be_reached_leaves_the_list_alone(running):
    before = running.output("sha256sum /etc/trailgate/allowlist.toml")
    running.output("printf 'STACK=audit\\nALLOWLIST_PARAMETER=/audit/allowlist\\n' >/etc/trailgate/stack.env")
    running.output("systemctl start trailgate-follow")
    assert "cannot read /audit/allowlist" in running.output("journalctl -u trailgate-follow -o cat")
    assert running.output("sha256sum /etc/trailgate/allowlist.toml") == before
    assert "new." not in running.output("ls -A /etc/trailgate")


def test_provisioning_again_keeps_the_configuration(machine):
    machine.output("echo '# mine' >>/etc/trailgate/trailgate.toml")
    with open(ROOT / "target/bundle/trailgate-x86_64.tar.gz") as bundle:
        done = machine.run("mkdir /tmp/again && tar -xz -C /tmp/again && /tmp/again/provision.sh", stdin=bundle)
    assert done.returncode == 0, done.stderr
    assert machine.output("tail -n 1 /etc/trailgate/trailgate.toml") == "# mine"


def pid(machine):
    return machine.output("systemctl show -P MainPID trailgate")


ASK = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/_search"
# Whoever is let in learns that there are no credentials to sign with.
ADMITTED = "503"
