"""A machine that Packer has provisioned: Debian with systemd as process 1."""

import json
import os
import re
import subprocess

import pytest

from guest import ADMITTED, ASK, KEY, PORT, ROOT, booted, bundled


@pytest.fixture(scope="module")
def machine():
    with booted() as made:
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


def variable():
    return json.dumps({"host": "127.0.0.1", "port": PORT, "key": str(KEY)})


def test_the_program_is_there(machine):
    assert re.fullmatch(r"trailgate \d+\.\d+\.\d+", machine.output("trailgate --version"))


def test_the_shipped_configuration_is_valid(machine):
    assert "2 entries" in machine.output("trailgate check")


def test_files_belong_to_root_and_the_proxy_reads_its_own(machine):
    assert machine.files(bundled()) == bundled()
    assert machine.output("stat -c '%a %U:%G' /etc/trailgate") == "2750 root:trailgate"


def test_nothing_runs_before_it_is_told_to(machine):
    assert machine.run("systemctl is-active trailgate").stdout.strip() == "inactive"
    assert machine.run("systemctl is-enabled trailgate-follow.timer").stdout.strip() == "disabled"


def test_the_units_are_valid(machine):
    units = "trailgate.service trailgate.socket trailgate-follow.service trailgate-follow.timer trailgate-log.service"
    # Only the log shipper's program is missing on a machine outside a stack.
    missing = "trailgate-log.service: Command /usr/bin/vector is not executable: No such file or directory"
    assert machine.run(f"systemd-analyze verify --man=no {units} 2>&1").stdout.strip() == missing


def test_the_log_keeps_within_bounds(machine):
    assert "SystemMaxUse=512M" in machine.output("systemd-analyze cat-config systemd/journald.conf")


@pytest.fixture
def running(machine):
    """Yields the machine with the proxy running; afterwards the allowlist is as before."""
    machine.output("systemctl start trailgate && cp -p /etc/trailgate/allowlist.toml /tmp/allowlist.toml")
    yield machine
    machine.output("mv /tmp/allowlist.toml /etc/trailgate/allowlist.toml")


def test_proxy_starts_as_its_own_user_and_answers(running):
    assert running.output(f"ps -o user= -p {running.pid()}") == "trailgate"
    assert running.output(ASK) == ADMITTED


def test_allowlist_edit_takes_effect_without_a_restart(running):
    before = running.pid()
    running.output("sed -i s/127.0.0.1/127.0.0.9/ /etc/trailgate/allowlist.toml")
    running.wait(f"[ $({ASK}) = 403 ]")
    assert running.pid() == before


def test_a_bad_edit_keeps_the_list_and_fails_the_reload(running):
    running.output("echo nonsense >>/etc/trailgate/allowlist.toml")
    assert running.run("systemctl reload trailgate").returncode != 0
    assert running.output(ASK) == ADMITTED


def test_killed_proxy_is_restarted(running):
    before = running.pid()
    running.output(f"kill -9 {before}")
    running.wait(f"[ $({ASK}) = {ADMITTED} ]")
    assert running.pid() != before


def test_restart_with_a_socket_unit_rejects_no_connection(running):
    running.output("systemctl stop trailgate && systemctl start trailgate.socket trailgate.service")
    before = running.pid()
    # The proxy rejects this invalid escape at once, without the domain.
    ask = ASK.replace("_search", "%zz")
    running.output(f"for n in $(seq 200); do {ask}; echo; done >/tmp/answers & systemctl restart trailgate && wait")
    assert running.pid() != before
    assert running.output("sort /tmp/answers | uniq -c") == "200 400"
    running.output("systemctl stop trailgate.socket trailgate.service")


def test_the_journal_has_the_access_lines(running):
    running.output(ASK)
    running.wait(f"journalctl -u trailgate -o cat | grep -q '\"status\":{ADMITTED}'")


def test_line_of_64_kib_stays_whole(running):
    running.output("curl -s -o /dev/null http://127.0.0.1:8080/$(head -c 60000 /dev/zero | tr '\\0' x)")
    running.wait("[ $(journalctl -u trailgate -o cat -n 20 | grep -c '^{.*/xxx.*}$') = 1 ]")
    longest = "journalctl -u trailgate -o cat -n 20 | wc -L"
    assert int(running.output(longest)) > 60000


def test_burst_of_lines_loses_none(running):
    # The proxy rejects this invalid escape at once, without the domain.
    running.output("curl -s -o /dev/null 'http://127.0.0.1:8080/%zz[1-70000]'")
    running.wait("[ $(journalctl -u trailgate -o cat --since -5min | grep -c '/%zz[0-9]') = 70000 ]")


def test_journal_has_its_bound_without_a_reboot(machine):
    assert "max 512.0M" in machine.output("journalctl -u systemd-journald -o cat | grep ' max ' | tail -n 1")


def test_a_stack_that_cannot_be_reached_leaves_the_list_alone(running):
    before = running.output("sha256sum /etc/trailgate/allowlist.toml")
    running.output("printf 'AWS_REGION=eu-west-1\\nSTACK=audit\\nALLOWLIST_PARAMETER=/audit/allowlist\\n' >/etc/trailgate/stack.env")
    running.output("systemctl start trailgate-follow")
    assert "cannot read /audit/allowlist" in running.output("journalctl -u trailgate-follow -o cat")
    assert running.output("sha256sum /etc/trailgate/allowlist.toml") == before
    assert "new." not in running.output("ls -A /etc/trailgate")


def test_a_reboot_comes_back(machine):
    machine.output("systemctl enable trailgate.socket trailgate.service")
    machine.reboot()
    machine.wait(f"[ $({ASK}) = {ADMITTED} ]")
    assert machine.output("systemctl is-active trailgate") == "active"
    # With the log of before.
    assert "Started" in machine.output("journalctl --boot=-1 -u trailgate -o cat")


def test_provisioning_again_keeps_the_configuration(machine):
    machine.output("echo '# mine' >>/etc/trailgate/trailgate.toml")
    with open(ROOT / "target/bundle/trailgate-x86_64.tar.gz") as bundle:
        done = machine.run("mkdir /tmp/again && tar -xz -C /tmp/again && /tmp/again/provision.sh", stdin=bundle)
    assert done.returncode == 0, done.stderr
    assert machine.output("tail -n 1 /etc/trailgate/trailgate.toml") == "# mine"
