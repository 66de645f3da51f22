"""The roles that sign for clients, and the domain's master, by evaluating the policies."""

import pathlib
import re

import pytest

from policy import allows
from rights import (
    AUDITOR,
    EDITOR,
    EVERYTHING,
    FINE_GRAINED,
    FUNCTION,
    GATE,
    MASTER,
    RELOAD,
    THIRD_PARTY,
    arn,
    domain,
    may_reach,
    statements,
    trust,
)
from template import Stack

ROOT = pathlib.Path(__file__).parent.parent.parent


@pytest.mark.parametrize("parameters", [{}, FINE_GRAINED, EVERYTHING])
def test_gate_assumes_the_roles_of_clients_and_no_other(parameters):
    stack = Stack(**parameters)
    of_clients = {AUDITOR, EDITOR, THIRD_PARTY} & stack.resources.keys()
    assert AUDITOR in of_clients
    for role in stack.names("AWS::IAM::Role"):
        for action in ("sts:AssumeRole", "sts:TagSession"):
            permitted = allows(statements(stack, GATE), action, arn(role))
            trusted = allows(trust(stack, role), action, role, principal=arn(GATE))
            assert (permitted, trusted) == ((role in of_clients),) * 2, (role, action)
    for role in of_clients:
        for other in (FUNCTION, RELOAD, "Administrator"):
            assert not allows(trust(stack, role), "sts:AssumeRole", role, principal=arn(other))
        # Nothing but the domain: no policy of its own.
        assert statements(stack, role) == []


def test_gate_of_a_fine_grained_domain_has_no_right_in_it():
    stack = Stack(**FINE_GRAINED)
    for method in ("Get", "Head", "Post", "Put", "Patch", "Delete"):
        for path in ("/", "/cwl-2026.01.01/_search", "/_plugins/_security/api/roles/trailgate-auditor"):
            assert not may_reach(GATE, method, path, stack)
    kept = Stack(**FINE_GRAINED, GateRoleIsMaster="true")
    assert may_reach(GATE, "Patch", "/_plugins/_security/api/rolesmapping/all_access", kept)


def test_only_lambda_assumes_the_master_of_the_domain():
    stack = Stack(**FINE_GRAINED)
    assert stack.properties("CloudTrailESDomain")["AdvancedSecurityOptions"]["MasterUserOptions"] == {
        "MasterUserARN": arn(MASTER)
    }
    assert allows(trust(stack, MASTER), "sts:AssumeRole", MASTER, principal="lambda.amazonaws.com")
    for principal in (arn(GATE), arn(EDITOR), arn(FUNCTION), "ec2.amazonaws.com"):
        assert not allows(trust(stack, MASTER), "sts:AssumeRole", MASTER, principal=principal)
    functions = {name for name in stack.names("AWS::Lambda::Function") if stack.properties(name)["Role"] == arn(MASTER)}
    assert functions == {"MapRolesFunction"}
    gate = statements(stack, GATE)
    assert allows(gate, "lambda:InvokeFunction", "MapRolesFunction.Arn")
    for action in ("lambda:InvokeFunction", "lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration"):
        assert not allows(gate, action, "IngestFunction.Arn")
        assert action == "lambda:InvokeFunction" or not allows(gate, action, "MapRolesFunction.Arn")
    for action in ("iam:PassRole", "iam:UpdateAssumeRolePolicy", "es:UpdateDomainConfig"):
        assert not allows(gate, action, arn(MASTER)) and not allows(gate, action, domain(""))


@pytest.mark.parametrize("api", ["/_plugins/_security/api", "/_opendistro/_security/api"])
def test_master_maps_roles_and_nothing_else(api):
    stack = Stack(**FINE_GRAINED)
    for path in ("roles/trailgate-auditor", "rolesmapping/trailgate-editor", "rolesmapping/all_access"):
        assert may_reach(MASTER, "Put", f"{api}/{path}", stack)
    for method, path in [
        ("Put", f"{api}/internalusers/somebody"),
        ("Delete", f"{api}/roles/trailgate-auditor"),
        ("Put", f"{api}/rolesmapping/kibana_user"),
        ("Get", "/cwl-2026.01.01/_search"),
        ("Put", "/cwl-2026.01.01/_doc/1"),
        ("Delete", "/cwl-2026.01.01"),
    ]:
        assert not may_reach(MASTER, method, path, stack), path


@pytest.mark.parametrize("parameters", [{}, EVERYTHING])
def test_auditor_may_send_every_read_of_the_recorded_routes(parameters):
    stack = Stack(**parameters)
    reads = [route for route in routes() if route[2] in {"read", "saved-object", "tunnel"}]
    assert len(reads) > 300
    rejected = [(method, path) for method, path, *_ in reads if not may_reach(AUDITOR, method.title(), path, stack)]
    assert rejected == []


@pytest.mark.parametrize("role", [AUDITOR, THIRD_PARTY])
def test_auditor_may_send_no_write_that_method_and_path_show(role):
    stack = Stack(**EVERYTHING)
    writes = [route for route in routes() if route[2] in {"write", "refused"}]
    permitted = {(method, path) for method, path, *_ in writes if may_reach(role, method.title(), path, stack)}
    # By GET, and in Dashboards' own requests, IAM sees no write.
    seen = {(method, path) for method, path in permitted if method not in {"GET", "HEAD"}}
    assert {path for _, path in seen if not path.startswith(PAGES)} == set()
    assert len(writes) - len(permitted) > 300


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("Post", "/cwl-2026.01.01/_doc/_search"),
        ("Post", "/cwl-2026.01.01/_update/_search"),
        ("Put", "/cwl-2026.01.01/_create/_count"),
        ("Post", "/cwl-2026.01.01/_delete_by_query"),
        ("Post", "/_bulk"),
        ("Put", "/cwl-2026.01.01/_search"),
        ("Delete", "/cwl-2026.01.01"),
        ("Delete", "/_search"),
        ("Post", "/_plugins/_security/api/rolesmapping/all_access"),
    ],
)
def test_auditor_writes_no_document_with_the_name_of_a_search(method, path):
    assert not may_reach(AUDITOR, method, path)


PAGES = ("/_dashboards/", "/_plugin/kibana/")
# Not on AWS: parts of Elastic's licensed features, which its domains lack.
LICENSED = ("_ml", "_eql", "_graph", "_rollup_search", "_async_search", "_pit", "_data_frame", "_transform")


def routes():
    """The recorded routes that AWS's domains have: method, path, class. Pages have the prefix that a domain gives them."""
    table = (ROOT / "tests/data/kibana-traffic/routes.tsv").read_text().splitlines()[1:]
    for line in table:
        method, path, kind, servers, *_ = line.split("\t")
        servers = set(servers.split())
        named = re.sub(r"\{[^}]+\}", "a", path)
        if servers & {"osd", "kibana5"} and not servers & {"es7", "os2", "os3"}:
            named = ("/_dashboards" if "osd" in servers else "/_plugin/kibana") + named
        is_licensed = servers == {"es7"} and any(part in named for part in LICENSED)
        if not is_licensed and not (servers == {"es7"} and named.startswith("/_sql")):
            yield method, named, kind
