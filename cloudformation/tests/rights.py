"""What the roles of the stack may do, by their policies and that of the domain."""

from policy import allows
from template import ACCOUNT, REGION, Stack

GATE, FUNCTION, RELOAD, CLOUDTRAIL = "GateRole", "FunctionRole", "ReloadRole", "CloudTrailRole"
LOGS = "LogsToStreamRole"
AUDITOR, EDITOR, THIRD_PARTY, MASTER = "AuditorRole", "EditorRole", "ThirdPartyRole", "MasterRole"
FINE_GRAINED = {"FineGrainedAccessControl": "true"}
EVERYTHING = {
    "UseKinesis": "true",
    "DomainInVpc": "true",
    "FineGrainedAccessControl": "true",
    "ThirdPartyAccountId": "222222222222",
    "GateRefreshSchedule": "rate(30 days)",
    "OrganizationId": "o-exampleorgid",
}


def arn(role):
    return f"arn:aws:iam::{ACCOUNT}:role/{role}"


def domain(path):
    return f"arn:aws:es:{REGION}:{ACCOUNT}:domain/trailgate{path}"


def may_reach(principal, method, path, stack=None):
    """Returns whether the domain answers, by its own policy or the role's."""
    stack = stack or Stack()
    at_domain = stack.properties("CloudTrailESDomain")["AccessPolicies"]["Statement"]
    action = f"es:ESHttp{method}"
    return allows(at_domain, action, domain(path), principal=arn(principal)) or (
        principal in stack.resources and allows(statements(stack, principal), action, domain(path))
    )


def statements(stack, role):
    policies = list(stack.properties(role).get("Policies", []))
    managed = map(stack.properties, sorted(stack.names("AWS::IAM::Policy")))
    policies += [policy for policy in managed if role in policy["Roles"]]
    return [statement for policy in policies for statement in policy["PolicyDocument"]["Statement"]]


def trust(stack, role):
    return stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]
