#!/usr/bin/python3
"""A stand-in for Vector, which no package registry of the tests has: it does what ship-log configures, by the same means.

It reads by journalctl, sends by PutLogEvents, and stores its position once the lines are accepted. That Vector does so,
nothing here shows.
"""

import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import time
import tomllib

sys.path.append("/opt/aws/packages")
import boto3  # noqa: E402
import botocore.config  # noqa: E402
import botocore.exceptions  # noqa: E402

if sys.argv[1] == "validate":
    tomllib.loads(pathlib.Path(sys.argv[-1]).read_text())
    sys.exit()

config = tomllib.loads(pathlib.Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
source, sink = config["sources"]["journal"], config["sinks"]["group"]
assert not source["current_boot_only"] and not sink["create_missing_group"] and sink["acknowledgements"]["enabled"]
# Named as in Vector's sources.
position = pathlib.Path(config["data_dir"]) / "journal/checkpoint.txt"
position.parent.mkdir(exist_ok=True)
stops = []
signal.signal(signal.SIGTERM, lambda *_: stops.append(True))

logs = boto3.client("logs", region_name=sink["region"], config=botocore.config.Config(retries={"total_max_attempts": 1}))
stream = {"logGroupName": sink["group_name"], "logStreamName": sink["stream_name"]}


def until_accepted(call, **arguments):
    while True:
        try:
            return call(**stream, **arguments)
        except logs.exceptions.ResourceAlreadyExistsException:
            return None
        except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
            print(error, file=sys.stderr)
            time.sleep(0.2)


def is_included(entry):
    return any(entry.get(field) in values for field, values in source["include_matches"].items())


until_accepted(logs.create_log_stream)
start = f"--after-cursor={position.read_text()}" if position.exists() else "--since=2000-01-01"
journal = subprocess.Popen(["journalctl", "--follow", "--all", "--output=json", start], stdout=subprocess.PIPE)
rest = b""
while not stops:
    if select.select([journal.stdout], [], [], 0.2)[0]:
        rest += os.read(journal.stdout.fileno(), 1 << 20)
    *whole, rest = rest.split(b"\n")
    entries = list(map(json.loads, whole))
    events = [
        {"timestamp": int(entry["__REALTIME_TIMESTAMP"]) // 1000, "message": entry["MESSAGE"]}
        for entry in entries
        if is_included(entry)
    ]
    if events:
        until_accepted(logs.put_log_events, logEvents=sorted(events, key=lambda event: event["timestamp"]))
    if entries:
        new = position.with_suffix(".new")
        new.write_text(entries[-1]["__CURSOR"])
        new.replace(position)
journal.kill()
