"""CloudFormation and Auto Scaling by the AWS command line: applies a change and watches it, for hours if needed."""

import json
import re
import subprocess
import sys
import time

# Sessions end in the words of STS, of the command line, or of IAM Identity Center.
EXPIRED = re.compile(
    r"ExpiredToken|token included in the request is expired|[Tt]oken has expired|session .* expired"
    r"|credentials are still expired|Session token not found or invalid|InvalidGrantException"
)
# Errors after which a poll is repeated.
PASSING = re.compile(r"Throttling|Rate exceeded|ServiceUnavailable|InternalFailure|Could not connect|[Tt]imed? ?out")
# The event of a gate that ends its start with an error.
SIGNAL = re.compile(r"FAILURE signal with UniqueId (i-\w+)")
# Stacks in these states accept no update.
DEAD = {"ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED"}
# The next deletion of a stack fails again unless it leaves what could not be deleted.
KEPT = "\nwith --retain-resources and the resources that could not be deleted, such as a bucket that is not empty"
# Refreshes of an Auto Scaling group that are over.
ENDED = {"Successful", "Failed", "Cancelled", "RollbackSuccessful", "RollbackFailed"}


class Failure(Exception):
    """Ends the program with a message and an exit code."""

    def __init__(self, message, code=1):
        super().__init__(message)
        self.code = code


class AwsError(Exception):
    """An error of the AWS command line, with its standard error as message."""


class Stack:
    """A CloudFormation stack, by its name."""

    def __init__(self, name, poll):
        self.name = name
        self.poll = poll

    def describe(self):
        """Returns CloudFormation's description of the stack, or None if there is no stack yet."""
        try:
            (found,) = aws("cloudformation", "describe-stacks", "--stack-name", self.name)["Stacks"]
        except AwsError as error:
            if "does not exist" in str(error):
                return None
            raise
        return None if found["StackStatus"] == "REVIEW_IN_PROGRESS" else found

    def follow_running_operation(self):
        current = self.describe()
        if current and current["StackStatus"].endswith("_IN_PROGRESS"):
            say(f"{self.name} is in {current['StackStatus']}; waiting until that is over")
            events = self.events()
            starts = [at for at, event in enumerate(events) if event.get("ResourceStatusReason") == "User Initiated"]
            earlier = events[: starts[-1]] if starts else []
            self.follow(current["StackId"], {event["EventId"] for event in earlier})

    def apply(self, url, parameters, before, may_reset, keeps):
        """Creates a change set of the template at `url` with the parameters, and executes it.

        With `keeps`, what was changed before a failure stays, and nothing is rolled back.
        """
        summary = aws("cloudformation", "get-template-summary", "--template-url", url)
        declared = {found["ParameterKey"] for found in summary["Parameters"]}
        unknown = parameters.keys() - declared
        if unknown:
            raise Failure(f"trailgate.yaml has no parameter {', '.join(sorted(unknown))}", 2)
        wanted = [{"ParameterKey": name, "ParameterValue": value} for name, value in parameters.items()]
        kept = before.keys() & declared - parameters.keys()
        wanted += [{"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept)]
        change_set = f"launch-{int(time.time())}"
        described = ["--stack-name", self.name, "--change-set-name", change_set]
        aws(
            *("cloudformation", "create-change-set", *described, "--template-url", url),
            *("--change-set-type", "UPDATE" if before else "CREATE"),
            *("--capabilities", "CAPABILITY_IAM", "--parameters", json.dumps(wanted)),
        )
        if not self.await_change_set(described):
            say("nothing changes")
            return
        if before and not may_reset:
            self.protect_allowlist(described)
        if keeps:
            self.refuse_replacement(described)
        seen = {event["EventId"] for event in self.events()} if before else set()
        aws("cloudformation", "execute-change-set", *described, *(["--disable-rollback"] if keeps else []))
        (found,) = ask(self.poll, "cloudformation", "describe-stacks", "--stack-name", self.name)["Stacks"]
        if not before:
            aws("cloudformation", "update-termination-protection", "--enable-termination-protection", "--stack-name", self.name)
        self.follow(found["StackId"], seen)

    def await_change_set(self, described):
        """Waits for the change set; returns whether it has changes to execute."""
        while True:
            found = ask(self.poll, "cloudformation", "describe-change-set", *described)
            if found["Status"] == "CREATE_COMPLETE":
                return True
            if found["Status"] == "FAILED":
                reason = found.get("StatusReason", "")
                if "EarlyValidation" in reason:
                    reason = findings(found["ChangeSetId"], reason)
                aws("cloudformation", "delete-change-set", *described)
                if "didn't contain changes" in reason or "No updates are to be performed" in reason:
                    return False
                raise Failure(f"CloudFormation rejects the change: {reason}")
            time.sleep(self.poll)

    def protect_allowlist(self, described):
        """Rejects a change set that would overwrite an allowlist parameter that was edited."""
        if "Allowlist" not in {change["LogicalResourceId"] for change in self.changes(described)}:
            return
        name = f"/trailgate/{self.name}/allowlist"
        try:
            version = aws("ssm", "get-parameter", "--name", name)["Parameter"]["Version"]
        except AwsError as error:
            if "ParameterNotFound" in str(error):
                return
            raise
        if version > 1:
            aws("cloudformation", "delete-change-set", *described)
            raise Failure(
                f"the change would write {name} again, and it was edited (version {version}): save it with "
                f"`aws ssm get-parameter --name {name}`, then give --reset-allowlist",
                2,
            )

    def refuse_replacement(self, described):
        """Rejects a change set that replaces a resource, which CloudFormation does only if it may roll back."""
        replaced = [change["LogicalResourceId"] for change in self.changes(described) if change.get("Replacement") == "True"]
        if replaced:
            aws("cloudformation", "delete-change-set", *described)
            raise Failure(
                f"the change would replace {', '.join(replaced)}, which CloudFormation does only where it may roll back: "
                "launch that without EngineVersion first; a stack in UPDATE_FAILED needs the command again that failed, or "
                f"`aws cloudformation rollback-stack --stack-name {self.name}`",
                2,
            )

    def changes(self, described):
        """Returns the changes of resources in a change set."""
        found = ask(self.poll, "cloudformation", "describe-change-set", *described)
        return [change["ResourceChange"] for change in found.get("Changes", []) if "ResourceChange" in change]

    def events(self):
        """Returns the events of the stack, the oldest first."""
        newest = ["--stack-name", self.name, "--max-items", "200"]
        found = ask(self.poll, "cloudformation", "describe-stack-events", *newest)
        return found["StackEvents"][::-1]

    def follow(self, stack_id, seen):
        """Prints events as they come, and a line of progress each minute, until the operation is over."""
        began = time.monotonic()
        shown = began
        status = {}
        failures = []
        while True:
            try:
                fresh = [event for event in self.events() if event["EventId"] not in seen]
                (found,) = ask(self.poll, "cloudformation", "describe-stacks", "--stack-name", stack_id)["Stacks"]
            except AwsError as error:
                raise expired(error, "stack", self.name) from None
            for event in fresh:
                seen.add(event["EventId"])
                resource = event.get("LogicalResourceId", "")
                status[resource] = event["ResourceStatus"]
                reason = event.get("ResourceStatusReason", "")
                say(f"{event['ResourceStatus']} {resource} {reason}".rstrip())
                if refused := SIGNAL.search(reason):
                    # CloudFormation passes no reason on, and terminates the instance.
                    command = f"aws ec2 get-console-output --instance-id {refused[1]} --output text"
                    failures.append(f"{resource}: {refused[1]} did not join; see why, within an hour: {command}")
                if event["ResourceStatus"].endswith("_FAILED") and "cancelled" not in reason:
                    failures.append(f"{resource}: {reason}")
            if not found["StackStatus"].endswith("_IN_PROGRESS"):
                break
            if time.monotonic() - shown >= 60:
                shown = time.monotonic()
                waiting = [name for name, state in status.items() if state.endswith("_IN_PROGRESS") and name != self.name]
                done = sum(state.endswith("_COMPLETE") for state in status.values())
                say(f"{int(shown - began) // 60} min: {done} resources done, waiting for {', '.join(waiting[:5])}")
            time.sleep(self.poll)
        if found["StackStatus"] not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            reasons = "\n".join(f"  {failure}" for failure in failures) or f"  {found.get('StackStatusReason', '')}"
            raise Failure(
                f"the stack {self.name} is in {found['StackStatus']}:\n{reasons}{next_step(self.name, found['StackStatus'])}"
            )


def next_step(name, status):
    """Returns what to do with a stack in this status, if it needs more than another launch."""
    if status in DEAD:
        # It is protected from its first launch on, however that ended.
        return (
            "\ndelete it, and launch again:\n"
            f"  aws cloudformation update-termination-protection --no-enable-termination-protection --stack-name {name}\n"
            f"  aws cloudformation delete-stack --stack-name {name}"
            + (KEPT if status == "DELETE_FAILED" else "")
        )
    if status == "UPDATE_ROLLBACK_FAILED":
        return (
            f"\nremove the cause, and continue:\n  aws cloudformation continue-update-rollback --stack-name {name}\n"
            "with --resources-to-skip CloudTrailESDomain if it is the domain, which does not go back to an earlier engine"
        )
    if status == "UPDATE_FAILED":
        return "\nwhat was changed stays: remove the cause, and run the same command again"
    return ""


def findings(change_set, reason):
    """Returns why CloudFormation rejects a change set before it executes it, of which `reason` names the check alone."""
    command = ["cloudformation", "describe-events", "--change-set-name", change_set]
    try:
        found = aws(*command, "--filters", "FailedEvents=true")["OperationEvents"]
    except AwsError as error:
        # An older command line lacks it, and a role may lack the right. The change set has the findings.
        raise Failure(f"CloudFormation rejects the change: {reason}\nSee why by: aws {' '.join(command)}\n{error}") from None
    errors = [event for event in found if event.get("EventType") == "VALIDATION_ERROR"]
    lines = [f"\n  {event.get('LogicalResourceId', '')}: {event.get('ValidationStatusReason', '')}" for event in errors]
    return reason + "".join(lines)


def refresh(name, group, poll):
    """Replaces the gates one after the other from the newest image, or watches the refresh that is doing so."""
    # Starts each new gate before an old one ends.
    preferences = json.dumps({"MinHealthyPercentage": 100, "MaxHealthyPercentage": 200})
    of_group = ["--auto-scaling-group-name", group]
    try:
        started = aws("autoscaling", "start-instance-refresh", *of_group, "--preferences", preferences)
    except AwsError as error:
        if "InstanceRefreshInProgress" not in str(error):
            raise
        say(f"a refresh of {group} is running already; waiting until it is over")
        refreshes = ask(poll, "autoscaling", "describe-instance-refreshes", *of_group)["InstanceRefreshes"]
        (started, *_) = [found for found in refreshes if found["Status"] not in ENDED] or refreshes
    described = [*of_group, "--instance-refresh-ids", started["InstanceRefreshId"]]
    shown = None
    while True:
        try:
            (found,) = ask(poll, "autoscaling", "describe-instance-refreshes", *described)["InstanceRefreshes"]
        except AwsError as error:
            raise expired(error, "refresh", f"{name} --refresh") from None
        line = f"refresh: {found['Status']}, {found.get('PercentageComplete', 0)} %"
        if line != shown:
            say(line)
            shown = line
        if found["Status"] == "Successful":
            return
        if found["Status"] in ENDED:
            raise Failure(f"the refresh of {group} is {found['Status']}: {found.get('StatusReason', '')}")
        time.sleep(poll)


def expired(error, what, arguments):
    """Returns the failure of a session that expired, or `error` if it is another."""
    if not EXPIRED.search(str(error)):
        return error
    again = f"Log in, then watch it by `cloudformation/launch {arguments}`"
    return Failure(f"the session expired; the {what} goes on by itself. {again}", 75)


def ask(poll, *arguments):
    """Runs a command that only reads, again and again after errors that pass."""
    while True:
        try:
            return aws(*arguments)
        except AwsError as error:
            if EXPIRED.search(str(error)) or not PASSING.search(str(error)):
                raise
            say(f"asking again: {error}")
            time.sleep(poll)


def aws(*arguments, output="json"):
    """Runs the AWS command line; returns its output, parsed if it is JSON."""
    done = subprocess.run(["aws", *arguments, "--output", output], capture_output=True, text=True)
    if done.returncode != 0:
        raise AwsError(done.stderr.strip() or f"aws {arguments[0]} exits with {done.returncode}")
    return json.loads(done.stdout) if output == "json" and done.stdout.strip() else {}


def say(line):
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
