#!/usr/bin/env python3
"""usage: clients.py ENGINE ENDPOINT [--gzip]

Drives the engine behind ENDPOINT (such as http://127.0.0.1:8080) with that engine's official Python
client, and asserts that what it reads back is exactly what it wrote. ENGINE is opensearch-2.19,
elasticsearch-7.10 or elasticsearch-5.6. Run setup.sh first: this script goes on by itself in the
environment that was made there for ENGINE. With --gzip all requests and responses are compressed.

One line a step, and the count on the last. At the first mismatch: a message, and exit code 1.
All indices begin with a name drawn for the run and are deleted at the end, so runs do not meet.
"""

import contextlib
import logging
import os
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ENGINES = ("opensearch-2.19", "elasticsearch-7.10", "elasticsearch-5.6")


def enter_environment(engine):
    """Starts this script again under the environment's Python, unless it runs there already."""
    environment = os.path.join(HERE, "target", engine)
    if os.path.realpath(sys.prefix) == os.path.realpath(environment):
        return
    python = os.path.join(environment, "bin", "python")
    if not os.path.exists(python):
        sys.exit(f"clients.py: no environment for {engine}: run setup.sh first")
    os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


if len(sys.argv) < 3 or sys.argv[3:] not in ([], ["--gzip"]) or sys.argv[1] not in ENGINES:
    print(__doc__, file=sys.stderr)
    sys.exit(2)
enter_environment(sys.argv[1])

import frame  # noqa: E402 - it needs the environment
from names import Names  # noqa: E402
from searches import Searches  # noqa: E402


class Steps(Searches, Names):
    def delete_index(self):
        """deletes the run's indices by wildcard"""
        frame.same("acknowledged", self.client.indices.delete(index=f"{self.run}-*")["acknowledged"], True)
        for index in (self.events, self.ids):
            frame.same(f"HEAD {index}", self.client.indices.exists(index=index), False)

    def steps(self):
        yield from self.search_steps()
        yield from self.name_steps()
        yield self.delete_index


def main():
    name, endpoint, *options = sys.argv[1:]
    # The clients log every 404 and 409, and most of those are wanted here.
    logging.getLogger(frame.package.__name__).setLevel(logging.CRITICAL)
    run = Steps(name, endpoint, compress=bool(options))
    version = ".".join(str(part) for part in frame.package.__version__[:3])
    print(f"{name}: {frame.package.__name__} {version} against {endpoint}", flush=True)
    done = 0
    for step in run.steps():
        begin = time.monotonic()
        before = frame.CHECKS
        try:
            step()
        except Exception as e:  # noqa: BLE001 - whatever it is, the step failed
            print(f"FAILED {step.__name__}: {step.__doc__}", flush=True)
            kind = "" if isinstance(e, frame.Mismatch) else f"{type(e).__name__}: "
            print(f"  {kind}{frame.shorten(str(e)) if not isinstance(e, frame.Mismatch) else e}", flush=True)
            with contextlib.suppress(Exception):
                run.client.indices.delete(index=f"{run.run}-*")
            return 1
        done += 1
        print(f"ok {step.__name__}: {step.__doc__} ({frame.CHECKS - before} checks, {time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{name}: {done} steps, {frame.CHECKS} checks passed", flush=True)
    return 0


sys.exit(main())
