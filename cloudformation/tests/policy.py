"""Evaluation of policies, by the rules of IAM ("Policy evaluation logic") as far as the template uses them."""

import re


def allows(statements, action, resource, *, principal=None, context=None):
    """Returns whether one of `statements` allows it and none denies it.

    `principal` is who asks a policy that stands at a resource; `context` has the keys that conditions ask for. A trust
    policy is one that stands at a role, and names no resource.
    """
    matching = [
        statement
        for statement in statements
        if _is_any(statement["Action"], action)
        and _is_any(statement.get("Resource", "*"), resource)
        and (principal is None or _names(statement["Principal"], principal))
        and _meets(statement.get("Condition", {}), context or {})
    ]
    effects = {statement["Effect"] for statement in matching}
    return "Allow" in effects and "Deny" not in effects


def _is_any(patterns, text):
    return any(_is_like(pattern, text) for pattern in ([patterns] if isinstance(patterns, str) else patterns))


def _is_like(pattern, text):
    expression = "".join({"*": ".*", "?": "."}.get(character, re.escape(character)) for character in pattern)
    return re.fullmatch(expression, text, re.DOTALL) is not None


def _names(principals, principal):
    if principals == "*":
        return True
    (values,) = principals.values()
    return principal in ([values] if isinstance(values, str) else values)


def _meets(condition, context):
    compare = {
        "StringEquals": lambda wanted, found: wanted == found,
        "StringLike": lambda wanted, found: found is not None and _is_like(wanted, found),
        "Bool": lambda wanted, found: wanted == found,
    }
    return all(
        compare[operator](wanted, context.get(key))
        for operator, keys in condition.items()
        for key, wanted in keys.items()
    )
