"""The command that launches the stack, in a tree of its own and with a stand-in of the AWS command line."""

import json
import pathlib
import shutil

import pytest

from played import ACCOUNT, NO_STACK, Played, events, stack

FOLDER = pathlib.Path(__file__).parent.parent
NAMES = ["AllowedIPForEsCluster", "EngineVersion", "CodeBucket", "FunctionCodeKey", "GateBundleKey", "GateBundleSha256"]
NAMES += ["CloudTrailName", "LogGroupName", "DomainName", "DomainInVpc", "IndexRetentionDays"]
NAMES += ["FineGrainedAccessControl", "GateRoleIsMaster", "CodeAccount", "KmsKeyArn", "VpcId"]
NAMES += ["CertificateArn", "CertificateSecretArn", "OrganizationId"]


@pytest.fixture
def launch(tmp_path):
    return Launch(tmp_path)


class Launch:
    """A tree with all that is to be built already there."""

    def __init__(self, folder):
        self.root = folder / "tree"
        for name in ("cloudformation", "target/lambda", "target/bundle"):
            (self.root / name).mkdir(parents=True)
        for name in ("launch", "stack.py", "trailgate.yaml"):
            shutil.copy(FOLDER / name, self.root / "cloudformation" / name)
        for name in ("lambda/trailgate-ingest-x86_64.zip", "bundle/trailgate-aarch64.tar.gz"):
            (self.root / "target" / name).write_text(name)
        (folder / "bin").mkdir()
        self.aws = Played(
            folder / "bin",
            sts__get_caller_identity=[{"Account": ACCOUNT}],
            s3api__head_bucket=[{}],
            s3api__put_object=[{}],
            cloudformation__describe_stacks=[NO_STACK],
            cloudformation__get_template_summary=[{"Parameters": [{"ParameterKey": name} for name in NAMES]}],
            cloudformation__create_change_set=[{}],
            cloudformation__describe_change_set=[{"Status": "CREATE_IN_PROGRESS"}, {"Status": "CREATE_COMPLETE"}],
            cloudformation__delete_change_set=[{}],
            cloudformation__describe_stack_events=[events("audit CREATE_COMPLETE")],
            cloudformation__execute_change_set=[{}],
            cloudformation__update_termination_protection=[{}],
        )

    def plays(self, **answers):
        self.aws.script |= {name.replace("__", " ").replace("_", "-"): found for name, found in answers.items()}
        return self

    def exists(self, status="UPDATE_COMPLETE", **parameters):
        return self.plays(cloudformation__describe_stacks=[stack(status, **parameters)])

    def __call__(self, *arguments, **environment):
        return self.aws.run(self.root / "cloudformation/launch", *arguments, **environment)

    def sent(self):
        """The parameters of the change set: their values, or none where the previous value stays."""
        (call,) = self.aws.calls("cloudformation create-change-set")
        listed = json_argument(call, "--parameters")
        return {found["ParameterKey"]: found.get("ParameterValue") for found in listed}


def json_argument(call, name):
    return json.loads(call[call.index(name) + 1])


def new_stack(*statuses):
    """Returns the answers of describe-stacks while a stack is created."""
    return [NO_STACK, NO_STACK, *(stack(status) for status in statuses)]
