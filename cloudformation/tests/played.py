"""A stand-in of the AWS command line that answers by a script, for what no server plays: time, failure, other accounts."""

import json
import os
import stat
import subprocess
import sys

PROGRAM = """#!{python} -IS
import json, pathlib, sys
folder = pathlib.Path(__file__).parent
arguments = sys.argv[1:]
with open(folder / "calls.jsonl", "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
script = json.loads((folder / "script.json").read_text())
command = " ".join(arguments[:2])
answers = script.get(command)
if answers is None:
    sys.exit(f"the script has no answer to {{command}}")
answer = answers[0]
if len(answers) > 1:
    script[command] = answers[1:]
    (folder / "script.json").write_text(json.dumps(script))
if isinstance(answer, str):
    print(answer, file=sys.stderr)
    sys.exit(254)
print(json.dumps(answer))
"""

ACCOUNT, REGION = "123456789012", "eu-west-1"
ARN = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/audit/1"
NO_STACK = "An error occurred (ValidationError) when calling DescribeStacks: Stack with id audit does not exist"


class Played:
    """A folder whose program `aws` answers each command by what `script` has for it, the last answer for ever.

    An answer that is text goes to standard error, as an error does.
    """

    def __init__(self, folder, **script):
        self.folder = folder
        program = folder / "aws"
        program.write_text(PROGRAM.format(python=sys.executable))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.script = {command.replace("__", " ").replace("_", "-"): answers for command, answers in script.items()}

    def run(self, program, *arguments, **environment):
        """Runs `program` with the stand-in in the place of the command line."""
        (self.folder / "script.json").write_text(json.dumps(self.script))
        surroundings = {"PATH": f"{self.folder}:{os.environ['PATH']}", "HOME": str(self.folder), "AWS_REGION": REGION}
        # By this interpreter: one that a shim starts may find another command line first.
        command = [sys.executable, program, *arguments, "--poll", "0"]
        return subprocess.run(command, env=surroundings | environment, capture_output=True, text=True, timeout=60)

    def calls(self, command):
        """Returns the arguments of each call of this command."""
        path = self.folder / "calls.jsonl"
        calls = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [call[2:] for call in calls if " ".join(call[:2]) == command]


def stack(status, **parameters):
    """Returns the answer of DescribeStacks for a stack in this status."""
    listed = {"AllowedIPForEsCluster": "203.0.113.7", "EngineVersion": "OpenSearch_2.19"} | parameters
    found = {
        "StackName": "audit",
        "StackId": ARN,
        "StackStatus": status,
        "Parameters": [{"ParameterKey": name, "ParameterValue": value} for name, value in listed.items()],
        "Outputs": [
            {"OutputKey": "KibanaProxyEndpoint", "OutputValue": "https://198.51.100.9/_dashboards/"},
            {"OutputKey": "NginxProxyInstanceId", "OutputValue": "audit"},
        ],
    }
    return {"Stacks": [found]}


def events(*lines):
    """Returns the answer of DescribeStackEvents; a line is `RESOURCE STATUS REASON`, the oldest first."""
    listed = []
    for number, line in enumerate(lines):
        resource, status, *reason = line.split(" ", 2)
        event = {"EventId": str(number), "LogicalResourceId": resource, "ResourceStatus": status}
        listed.append(event | ({"ResourceStatusReason": reason[0]} if reason else {}))
    return {"StackEvents": listed[::-1]}
