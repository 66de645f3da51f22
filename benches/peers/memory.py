"""A proxy to measure, and its memory."""
import contextlib
import pathlib
import re
import tempfile
import time

import peers

PROXY_CORE, OTHER_CORE = "0", "1"


@contextlib.contextmanager
def idle(program):
    """Yields the process id, the port and the folder of a proxy that is idle after its start."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        folder = pathlib.Path(folder)
        upstream = stack.enter_context(peers.upstream(folder, False, OTHER_CORE))
        setting = peers.Setting(folder, upstream, program, envoy="", workers=1, is_tls=False, entries=10)
        command, port, environment = peers.trailgate(setting)
        log = stack.enter_context(open(folder / "trailgate.log", "wb"))
        child = stack.enter_context(peers.started(command, port, PROXY_CORE, log, environment))
        time.sleep(1)
        yield child.pid, port, folder


def resident(pid, line="VmRSS"):
    """MiB, now or (`VmHWM`) at the most."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{line}:\s+(\d+)", status)[1]) / 1024
