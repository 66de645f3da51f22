"""An instance of a stack with fine-grained access control: its roles are mapped as it joins, and they decide.

The domain is OpenSearch with its security plug-in behind the stand-in, the function is its own program. The instance's
metadata service has the keys of the gates' role.
"""

import json
import subprocess

import boto3
import pytest

import instance as instances
import lambdas
from guest import ROOT
from instance import told_by
from template import REGION, Stack
from test_roles import AUDITOR, EDITOR, GATES, MASTER, THIRD_PARTY, arn, node

PARAMETERS = {
    "FineGrainedAccessControl": "true",
    "EngineVersion": "OpenSearch_2.19",
    "ThirdPartyAccountId": "222222222222",
}
FULL, READ, CONTRACTOR = "127.0.0.2", "127.0.0.3", "127.0.0.4"
ALLOWLIST = f"""
[[allow]]
cidr = "{FULL}"
name = "jane"
access = "full"

[[allow]]
cidr = "{READ}"
name = "john"

[[allow]]
cidr = "{CONTRACTOR}"
name = "contractor"
role = "{THIRD_PARTY}"
"""


class Gate:
    """A machine that has joined, and what is around it."""

    def __init__(self, instance, engine, function):
        self.instance, self.engine, self.function = instance, engine, function

    def ask(self, client, method, path, body=""):
        """Sends a request from this address; returns status and JSON."""
        self.instance.machine.write("/tmp/body", body)
        command = f"curl -sk --interface {client} -X {method} -H 'content-type: application/json' --data-binary @/tmp/body"
        *answer, status = self.instance.machine.output(f"{command} -w '\n%{{http_code}}' 'https://127.0.0.1{path}'").splitlines()
        return int(status), json.loads("".join(answer))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with node(tmp_path_factory.mktemp("opensearch")) as started:
        started.change_master(MASTER)
        yield started


@pytest.fixture(scope="module")
def gate(aws, engine, tmp_path_factory):
    with instances.domain("--elasticsearch", engine.url) as (endpoint, sts):
        keys = [session(sts, role) for role in ("GateRole", "MasterRole")]
        variables = Stack(**PARAMETERS).properties("MapRolesFunction")["Environment"]["Variables"]
        program = ROOT / "target/debug/bootstrap"
        with lambdas.running(program, variables | {"ENDPOINT": endpoint}, keys[1]) as function:
            of_gate = {name: keys[0][name] for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")}
            folder = tmp_path_factory.mktemp("metadata")
            aws.put_allowlist(ALLOWLIST)
            with instances.started(aws, folder, endpoint, of_gate, STS=sts, LAMBDA=function.url) as instance:
                done, told = instance.start(**PARAMETERS)
                assert (done.returncode, told) == (0, told_by(0)), done.stdout + done.stderr
                fill(engine)
                yield Gate(instance, engine, function)


def session(sts, role):
    """Returns the keys of a session of a role."""
    client = boto3.client("sts", endpoint_url=sts, region_name=REGION, aws_access_key_id="a", aws_secret_access_key="b")
    return client.assume_role(RoleArn=arn(role), RoleSessionName="test")["Credentials"]


def fill(engine):
    """Writes three events of one account and two of another, as the domain's master."""
    accounts = ["111111111111"] * 3 + ["222222222222"] * 2
    lines = [f'{{"index":{{"_index":"cwl-2026.01.31"}}}}\n{{"recipientAccountId":"{account}"}}\n' for account in accounts]
    status, answer = engine.ask("POST", "/_bulk?refresh=true", "".join(lines))
    assert (status, answer["errors"]) == (200, False), answer


def test_machine_has_the_roles_mapped_as_it_joins(gate):
    assert gate.function.invoked == ["MapRolesFunction"]
    assert gate.engine.masters() == [[MASTER]] * 2
    assert gate.engine.statuses(GATES, AUDITOR, EDITOR, THIRD_PARTY) == [403, 200, 200, 200]


@pytest.mark.parametrize(("client", "count"), [(FULL, 5), (READ, 5), (CONTRACTOR, 2)])
def test_client_counts_the_events_of_its_role(gate, client, count):
    status, answer = gate.ask(client, "POST", "/cwl-*/_count", '{"query":{"match_all":{}}}')
    assert (status, answer["count"]) == (200, count)


def test_full_entry_writes_events_and_manages_no_users(gate):
    assert gate.ask(FULL, "PUT", "/cwl-2026.02.01/_doc/1", "{}")[0] == 201
    assert gate.ask(FULL, "PUT", "/_plugins/_security/api/internalusers/jane", '{"password":"x"}')[0] == 403
    assert gate.ask(FULL, "DELETE", "/.opendistro_security")[0] == 403
    assert gate.ask(FULL, "DELETE", "/cwl-2026.02.01")[0] == 200


def test_readers_role_rejects_writes_without_the_route_table(aws, gate):
    # An entry with full access, which the route table lets through, that signs with the role of readers.
    aws.put_allowlist(ALLOWLIST.replace('access = "full"', f'access = "full"\nrole = "{AUDITOR}"'))
    gate.instance.follow()
    gate.instance.machine.wait("trailgate status --json | grep -q AuditorRole")
    status, answer = gate.ask(FULL, "PUT", "/cwl-2026.01.31/_doc/1", "{}")
    assert status == 403 and "no permissions for [indices:data/write/index]" in answer["error"]["reason"], answer
    aws.put_allowlist(ALLOWLIST)
    gate.instance.follow()


def test_doctor_finds_the_roles_in_order(gate):
    found = gate.instance.doctor()
    # The domain has no Dashboards.
    failed = [line.split()[1] for line in found.stdout.splitlines() if line.startswith("FAILED")]
    assert failed == ["home"], found.stdout
    for role in (AUDITOR, EDITOR, THIRD_PARTY):
        assert f"{role} can be assumed" in found.stdout
    assert "AuditorRole can search cwl-*" in found.stdout
    assert "warn    role" not in found.stdout
