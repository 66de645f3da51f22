"""The template, and what becomes of it for certain parameters."""

import pathlib
import re

from cfnlint.decode import decode

PATH = pathlib.Path(__file__).parent.parent / "trailgate.yaml"
ACCOUNT, REGION, STACK = "123456789012", "eu-west-1", "audit"

# What has to be given.
REQUIRED = {
    "AllowedIPForEsCluster": "203.0.113.7",
    "CodeBucket": "code",
    "FunctionCodeKey": "function.zip",
    "GateBundleKey": "gate.tar.gz",
    "GateBundleSha256": "0" * 64,
}

_PSEUDO = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::StackName": STACK,
    "AWS::StackId": f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{STACK}/1",
    "AWS::URLSuffix": "amazonaws.com",
}
_NOTHING = object()


def load():
    """The template as it is written, with intrinsic functions in their long form."""
    template, problems = decode(str(PATH))
    assert not problems, problems
    return template


class Stack:
    """The resources and outputs that exist for `parameters`, in plain values.

    A resource stands for itself by its logical name, its attribute by `Name.Attribute`, a role by its ARN.
    """

    def __init__(self, **parameters):
        template = load()
        declared = template["Parameters"]
        unknown = parameters.keys() - declared.keys()
        assert not unknown, f"no such parameters: {unknown}"
        given = REQUIRED | parameters
        self.parameters = {name: str(given.get(name, spec.get("Default"))) for name, spec in declared.items()}
        self._conditions = template["Conditions"]
        self._rules = template["Rules"]
        everything = template["Resources"]
        existing = {
            name: resource for name, resource in everything.items() if self.holds(resource.get("Condition"))
        }
        self._types = {name: resource["Type"] for name, resource in existing.items()}
        self.resources = {name: self._value(resource) for name, resource in existing.items()}
        outputs = {name: output for name, output in template["Outputs"].items() if self.holds(output.get("Condition"))}
        self.outputs = {name: self._value(output["Value"]) for name, output in outputs.items()}

    def properties(self, name):
        return self.resources[name].get("Properties", {})

    def names(self, resource_type):
        return {name for name, found in self._types.items() if found == resource_type}

    def settings(self):
        """Returns the settings that the user data writes."""
        script = self.properties("GateLaunchTemplate")["LaunchTemplateData"]["UserData"]
        return dict(re.findall(r"^([A-Z_]+)=(.*)$", script, re.MULTILINE))

    def complaints(self):
        """The descriptions of the rules' assertions that these parameters break: CloudFormation refuses them."""
        applicable = [rule for rule in self._rules.values() if self._value(rule.get("RuleCondition", True))]
        assertions = [assertion for rule in applicable for assertion in rule["Assertions"]]
        return [found["AssertDescription"] for found in assertions if not self._value(found["Assert"])]

    def holds(self, condition):
        """Returns whether the condition of this name holds; no condition always holds."""
        return condition is None or self._value(self._conditions[condition])

    def _value(self, node):
        if isinstance(node, list):
            return [value for value in map(self._value, node) if value is not _NOTHING]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, argument), = node.items()
            if function == "Ref":
                return self._reference(argument)
            if function == "Condition" and isinstance(argument, str):
                return self.holds(argument)
            if function.startswith("Fn::"):
                return getattr(self, "_" + function.removeprefix("Fn::").lower())(argument)
        values = {key: self._value(value) for key, value in node.items() if key != "Metadata"}
        return {key: value for key, value in values.items() if value is not _NOTHING}

    def _reference(self, name):
        if name == "AWS::NoValue":
            return _NOTHING
        if name in _PSEUDO:
            return _PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        assert name in self._types, f"{name} does not exist for these parameters"
        return name

    def _getatt(self, argument):
        name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        assert name in self._types, f"{name} does not exist for these parameters"
        if (self._types[name], attribute) == ("AWS::IAM::Role", "Arn"):
            return f"arn:aws:iam::{ACCOUNT}:role/{name}"
        return f"{name}.{attribute}"

    def _sub(self, argument):
        text, variables = argument if isinstance(argument, list) else (argument, {})

        def replacement(match):
            name = match.group(1)
            if name in variables:
                return self._value(variables[name])
            return self._getatt(name) if "." in name else self._reference(name)

        return re.sub(r"\$\{([^!}]+)\}", replacement, text)

    def _if(self, argument):
        condition, then, otherwise = argument
        return self._value(then if self.holds(condition) else otherwise)

    def _equals(self, argument):
        left, right = map(self._value, argument)
        return str(left) == str(right)

    def _not(self, argument):
        return not self._value(argument[0])

    def _and(self, argument):
        return all(map(self._value, argument))

    def _contains(self, argument):
        values, value = map(self._value, argument)
        return value in values

    def _or(self, argument):
        return any(map(self._value, argument))

    def _select(self, argument):
        index, values = argument
        return self._value(values)[int(index)]

    def _join(self, argument):
        separator, values = argument
        return separator.join(self._value(values))

    def _split(self, argument):
        separator, text = argument
        return self._value(text).split(separator)

    def _base64(self, argument):
        return self._value(argument)

    def _getazs(self, _argument):
        return [f"{REGION}a", f"{REGION}b"]
