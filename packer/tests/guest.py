"""Debian in systemd-nspawn, with a systemd of its own, as tests reach it: by ssh."""

import contextlib
import pathlib
import subprocess
import sysconfig
import tarfile
import time

ROOT = pathlib.Path(__file__).parent.parent.parent
KEY = ROOT / "target/machine/key"
CONSOLE = ROOT / "target/machine/console.log"
PORT = 2222
PATIENCE = 60

ASK = "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/_search"
# An allowed client learns that there are no credentials to sign with.
ADMITTED = "503"


@contextlib.contextmanager
def booted():
    """A machine as debootstrap made it, which forgets what is done to it when it is over."""
    boot = [ROOT / "packer/tests/boot", ROOT / "target/machine/root", sysconfig.get_path("purelib")]
    boot = ["unshare", "--mount", "--propagation", "private", *boot]
    with open(CONSOLE, "a") as console:
        guest = subprocess.Popen(boot, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
    made = Machine()
    try:
        made.wait("true")
        yield made
    finally:
        made.run("systemctl poweroff")
        guest.wait(PATIENCE)


def bundled():
    """The bundle's files, and how each has to be on a machine, in the form of Machine.files."""
    with tarfile.open(ROOT / "target/bundle/trailgate-x86_64.tar.gz") as bundle:
        files = {f.name.removeprefix("./root"): f.mode for f in bundle if f.isfile() and f.name.startswith("./root/")}
    owner = {True: "root:trailgate", False: "root:root"}
    return {path: f"{mode:o} {owner[path.startswith('/etc/')]}" for path, mode in files.items()}


class Machine:
    def run(self, command, stdin=subprocess.DEVNULL):
        """Runs a command as root there."""
        options = ["-i", KEY, "-p", str(PORT), "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
        options += ["-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]
        return subprocess.run(
            ["ssh", *options, "root@127.0.0.1", command],
            stdin=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    def output(self, command, stdin=subprocess.DEVNULL):
        """Returns the output of a command, which has to succeed."""
        done = self.run(command, stdin)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def write(self, path, text):
        """Writes a file, whose folder it makes."""
        self.output(f"mkdir -p $(dirname {path}) && cat >{path} <<'END OF FILE'\n{text}\nEND OF FILE")

    def program(self, path, body):
        """Writes a program that the shell runs."""
        self.write(path, f"#!/bin/sh\n{body}")
        self.output(f"chmod +x {path}")

    def wait(self, command):
        """Waits for a command to succeed."""
        end = time.monotonic() + PATIENCE
        while (done := self.run(command)).returncode != 0:
            assert time.monotonic() < end, done.stdout + done.stderr
            time.sleep(0.2)
        return done.stdout.strip()

    def reboot(self):
        boot = "cat /proc/sys/kernel/random/boot_id"
        before = self.output(boot)
        self.run("systemctl reboot")
        self.wait(f"[ $({boot}) != {before} ]")

    def files(self, paths):
        """Modes and owners."""
        lines = self.output("stat -c '%n %a %U:%G' " + " ".join(paths)).splitlines()
        return dict(line.split(" ", 1) for line in lines)

    def pid(self):
        """Returns the process id of the proxy."""
        return self.output("systemctl show -P MainPID trailgate")
