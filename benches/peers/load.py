"""What drives the proxies: wrk, and h2load or openssl where wrk cannot do it. All run for a time, not for a number."""
import collections
import re
import math
import subprocess
import sys
import time

Driven = collections.namedtuple("Driven", "requests rate p50 p99")


def wrk(target, url, cores, seconds, folder, connections, body=0, reconnects=False):
    """As fast as the proxy goes, over HTTP/1.1; `body` is KiB of a request, and with `reconnects` each has a connection.

    wrk resumes the TLS session of the connection before.
    """
    command = ["taskset", "-c", cores, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    command += ["--timeout", "30s"]
    if body:
        script = folder / f"body-{body}.lua"
        headers = 'wrk.headers["content-type"] = "application/x-ndjson"'
        script.write_text(f'wrk.method = "POST"\nwrk.body = string.rep("x", {body} * 1024)\n{headers}\n')
        command += ["-s", str(script)]
    if reconnects:
        command += ["-H", "Connection: close"]
    out = subprocess.run([*command, url + target], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        answer = subprocess.run(["curl", "-ski", url + target], capture_output=True, text=True)
        sys.exit(f"the proxy at {url} failed:\n{out}\n{answer.stdout[:1000]}")
    requests = int(re.search(r"(\d+) requests in", out)[1])
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1])
    p50, p99 = (milliseconds(re.search(rf"{percent}%\s+([\d.]+\w+)", out)[1]) for percent in (50, 99))
    return Driven(requests, rate, p50, p99)


def h2load(target, url, cores, seconds, folder, connections, streams=0, rate=0):
    """Over HTTP/2 with so many streams a connection, or over HTTP/1.1 at so many requests a second."""
    log = folder / "h2load.log"
    log.unlink(missing_ok=True)
    command = ["taskset", "-c", cores, "h2load", "-t1", f"-c{connections}", f"-D{seconds}", f"--log-file={log}"]
    command += ["--h1", f"--rps={rate / connections}"] if rate else [f"-m{streams}"]
    out = subprocess.run([*command, url + target], check=True, capture_output=True, text=True).stdout
    rate = float(re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", out)[1])
    total = int(re.search(r"status codes: (\d+) 2xx, 0 3xx, 0 4xx, 0 5xx", out)[1])
    times = sorted(int(line.split()[2]) for line in log.read_text().splitlines())
    p50, p99 = (times[int(len(times) * share)] / 1000 for share in (0.5, 0.99))
    return Driven(total, rate, p50, p99)


def s_time(target, url, cores, seconds, connections):
    """A full TLS handshake a request, so many at a time. It does not say how long each takes."""
    command = ["taskset", "-c", cores, "openssl", "s_time", "-new", "-time", str(seconds), "-www", target]
    command += ["-connect", url.removeprefix("https://")]
    begin = time.monotonic()
    clients = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(connections)]
    outputs = [client.communicate()[0] for client in clients]
    requests = sum(int(re.search(r"(\d+) connections in .* real seconds", out)[1]) for out in outputs)
    return Driven(requests, requests / (time.monotonic() - begin), math.nan, math.nan)


def milliseconds(text):
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000, "m": 60_000}[unit]
