"""What a process holds."""
import pathlib
import re


def resident(pid, line="VmRSS"):
    """MiB, now or (`VmHWM`) at the most."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(rf"{line}:\s+(\d+)", status)[1]) / 1024
