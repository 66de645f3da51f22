"""Evaluates filter patterns of CloudWatch Logs for JSON ("Filter pattern syntax"), as far as the template uses them."""

import re

TOKEN = re.compile(r'\s*(\(|\)|&&|\|\||!=|=|NOT EXISTS|IS TRUE|IS FALSE|\$\.[\w.]+|"[^"]*"|\d+)')
MISSING = object()


def parse(pattern):
    """Returns the function that tells whether an event matches."""
    body = re.fullmatch(r"\s*\{(.*)\}\s*", pattern, re.DOTALL).group(1).rstrip()
    tokens = []
    while body:
        found = TOKEN.match(body)
        assert found, f"cannot read {body!r}"
        tokens.append(found.group(1))
        body = body[found.end() :]
    matches = _either(tokens)
    assert not tokens, tokens
    return matches


def _either(tokens):
    terms = [_both(tokens)]
    while tokens and tokens[0] == "||":
        tokens.pop(0)
        terms.append(_both(tokens))
    return lambda event: any(term(event) for term in terms)


def _both(tokens):
    terms = [_term(tokens)]
    while tokens and tokens[0] == "&&":
        tokens.pop(0)
        terms.append(_term(tokens))
    return lambda event: all(term(event) for term in terms)


def _term(tokens):
    first = tokens.pop(0)
    if first == "(":
        inner = _either(tokens)
        assert tokens.pop(0) == ")"
        return inner
    path, operator = first.removeprefix("$.").split("."), tokens.pop(0)
    if operator == "NOT EXISTS":
        return lambda event: _field(event, path) is MISSING
    if operator in ("IS TRUE", "IS FALSE"):
        return lambda event: _field(event, path) is (operator == "IS TRUE")
    text = tokens.pop(0)
    if text.isdigit():
        assert operator == "="
        return lambda event: _field(event, path) == int(text)
    text = text.strip('"')
    # Only a star has a meaning, at either end.
    expression = re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)

    def compares(event):
        value = _field(event, path)
        # What the service does with != on a field that is not there, its documentation does not say.
        assert operator == "=" or value is not MISSING, f"{path} may be missing: ask NOT EXISTS first"
        is_equal = isinstance(value, str) and expression.fullmatch(value) is not None
        return is_equal == (operator == "=")

    return compares


def _field(event, path):
    for name in path:
        if not isinstance(event, dict) or name not in event:
            return MISSING
        event = event[name]
    return event
