"""The rights in a domain with fine-grained access control, as a gate has the stack's function map them.

OpenSearch has its own security plug-in here, so it decides; the stand-in domain names the role that signed. For
Elasticsearch no registry has one; there it is seen that the same requests go where AWS documents that API ("Fine-grained
access control in Amazon OpenSearch Service").
"""

import contextlib
import http.server
import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import boto3
import pytest

import lambdas
from template import ACCOUNT, REGION, Stack
from test_gate import PROGRAMS, ROOT, Gate

ENGINES = ROOT / "tests/engines"
OPENSEARCH = "OpenSearch_2.19"


def arn(role):
    return f"arn:aws:iam::{ACCOUNT}:role/{role}"


AUDITOR, EDITOR, FUNCTION, RELOAD = map(arn, ("AuditorRole", "EditorRole", "FunctionRole", "ReloadRole"))
GATES, MASTER, THIRD_PARTY, VERIFIER = map(arn, ("GateRole", "MasterRole", "ThirdPartyRole", "VerifierRole"))


# What the domain's master is mapped to.
MASTERS = ("all_access", "security_manager")
# Who is not named is a master, too, so that tests may look and fill.
UNUSED_ROLE = "opendistro_security_anonymous_backendrole"


class Mapping:
    """A gate of a stack with these parameters, before a domain whose engine is at `url`, and the function of the stack."""

    def __init__(self, aws, folder, url, **parameters):
        self.stack = Stack(FineGrainedAccessControl="true", **parameters)
        self._close = contextlib.ExitStack()
        serve = [PROGRAMS / "fake-domain", "serve", "--sts", "--elasticsearch", url]
        serving = subprocess.Popen(serve, env=aws.environment, stdout=subprocess.PIPE, text=True)
        self._close.callback(lambda: (serving.terminate(), serving.wait(10)))
        endpoint, sts = (serving.stdout.readline().split(" on ")[1].strip() for _ in range(2))
        client = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}
        self._sts = boto3.client("sts", endpoint_url=sts, **client)
        self.gate = Gate(aws, folder, FineGrainedAccessControl="true", **parameters)
        settings = (folder / "stack.env").read_text()
        (folder / "stack.env").write_text(re.sub("ENDPOINT=.*", f"ENDPOINT={endpoint}", settings))
        variables = self.stack.properties("MapRolesFunction")["Environment"]["Variables"] | {"ENDPOINT": endpoint}
        running = lambdas.running(PROGRAMS / "bootstrap", variables, self.keys("MasterRole"))
        self.function = self._close.enter_context(running)
        # A gate's own requests are signed by its role.
        own = self.keys("GateRole")
        self._environment = {
            "AWS_ENDPOINT_URL_LAMBDA": self.function.url,
            "AWS_ENDPOINT_URL_STS": sts,
            "AWS_ACCESS_KEY_ID": own["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": own["SecretAccessKey"],
            "AWS_SESSION_TOKEN": own["SessionToken"],
        }

    def keys(self, role):
        return self._sts.assume_role(RoleArn=arn(role), RoleSessionName="test")["Credentials"]

    def run(self, program="map-roles", *arguments, **variables):
        return self.gate.run(program, *arguments, **self._environment | variables)

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self._close.close()


class OpenSearch:
    """A node with the security plug-in, which believes that a request is signed with a role, and without one by its master."""

    def __init__(self, url):
        self.url = url

    def ask(self, method, path, body=None, role=None):
        """The status and the JSON that a request gets."""
        headers = {"content-type": "application/json"}
        if role:
            headers |= {"x-forwarded-for": "127.0.0.1", "x-proxy-user": role, "x-proxy-roles": role}
        request = urllib.request.Request(self.url + path, body and body.encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def change_master(self, role, names=MASTERS):
        """Maps what a master has to another role, as AWS does when the domain's master changes."""
        for name in names:
            mapping = json.dumps({"backend_roles": [role, UNUSED_ROLE]})
            assert self.ask("PUT", f"/_plugins/_security/api/rolesmapping/{name}", mapping)[0] in (200, 201)

    def masters(self):
        """Returns the roles that are mapped to what a master has."""
        found = [self.ask("GET", f"/_plugins/_security/api/rolesmapping/{name}")[1][name] for name in MASTERS]
        return [sorted(role for role in mapping["backend_roles"] if role != UNUSED_ROLE) for mapping in found]

    def statuses(self, *roles):
        """Returns the status that each role gets."""
        return [self.ask("GET", "/", role=role)[0] for role in roles]


@contextlib.contextmanager
def node(folder):
    run = ENGINES / "run.sh"
    subprocess.run([run, "opensearch-security", "--prepare"], check=True, timeout=600)
    config = folder / "config/opensearch-security"
    shutil.copytree(ENGINES / "opensearch-security/config", config)
    settings = (config / "config.yml").read_text()
    (config / "config.yml").write_text(settings.replace("anonymous_auth_enabled: false", "anonymous_auth_enabled: true"))
    mapped = "".join(f"{name}: {{ backend_roles: [{UNUSED_ROLE}] }}\n" for name in MASTERS)
    (config / "roles_mapping.yml").write_text("_meta: { type: rolesmapping, config_version: 2 }\n" + mapped)
    # The plug-in itself has all_access only.
    roles = "_meta: { type: roles, config_version: 2 }\nsecurity_manager: { cluster_permissions: [cluster_monitor] }\n"
    (config / "roles.yml").write_text(roles)
    made = ["-keyout", folder / "config/key.pem", "-out", folder / "config/certificate.pem"]
    certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=local", *made]
    subprocess.run(certificate, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen([run, "opensearch-security", str(port), folder], stdout=log, stderr=log)
    try:
        engine = OpenSearch(f"http://127.0.0.1:{port}")
        end = time.monotonic() + 120
        while not answers(engine):
            assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.5)
        yield engine
    finally:
        process.terminate()
        process.wait(60)


def answers(engine):
    try:
        # 503 until the plug-in has read its configuration.
        return engine.ask("GET", "/")[0] == 200
    except (OSError, ValueError):
        return False


@pytest.fixture(scope="module")
def opensearch(tmp_path_factory):
    with node(tmp_path_factory.mktemp("opensearch")) as engine:
        yield engine


@pytest.fixture(scope="module")
def mapped(aws, opensearch, tmp_path_factory):
    """A domain of which map-roles has had the roles mapped; asks it by a role."""
    opensearch.change_master(MASTER)
    folder = tmp_path_factory.mktemp("gate")
    with Mapping(aws, folder, opensearch.url, EngineVersion=OPENSEARCH, ThirdPartyAccountId="222222222222") as mapping:
        done = mapping.run()
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = ("ingest", "auditor", "editor", "verifier", "third-party")
    roles = [f"trailgate-{kind}" for kind in kinds]
    assert json.loads(done.stdout) == {"mapped": roles}
    assert mapping.function.invoked == ["MapRolesFunction"]
    return lambda role, method, path, body=None: opensearch.ask(method, path, body, role)


def document(index):
    """A bulk request that adds an event to an index."""
    return f'{{"index":{{"_index":"{index}","_id":"1"}}}}\n{{"eventName":"ConsoleLogin"}}\n'


@pytest.mark.parametrize("role", [FUNCTION, RELOAD, EDITOR])
def test_role_that_indexes_prepares_and_writes_its_indices(mapped, role):
    template = {"index_patterns": ["cwl-*"], "template": {"settings": {"number_of_replicas": 0}}}
    assert mapped(role, "GET", "/")[0] == 200
    assert mapped(role, "PUT", "/_index_template/trailgate-cwl", json.dumps(template))[0] == 200
    assert mapped(role, "GET", "/_index_template/trailgate-cwl")[0] == 200
    # The second brings the mapping a field more. The plug-in for retention is not there to be asked.
    for event in ("", ' "errorCode": "AccessDenied",'):
        body = document("cwl-2026.01.01").replace('{"eventName', f'{{{event}"eventName')
        status, answer = mapped(role, "POST", "/_bulk", body)
        assert (status, answer["errors"]) == (200, False), answer


@pytest.mark.parametrize("role", [FUNCTION, EDITOR, AUDITOR])
@pytest.mark.parametrize("index", ["other", ".opendistro_security", "cwl"])
def test_bulk_request_writes_no_other_index(mapped, role, index):
    status, answer = mapped(role, "POST", "/_bulk", document(index))
    assert (status, answer["items"][0]["index"]["status"]) == (200, 403)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/cwl-2026.01.01/_search"),
        ("DELETE", "/cwl-2026.01.01"),
        ("GET", "/_plugins/_security/api/roles"),
        ("DELETE", "/_plugins/_security/api/rolesmapping/trailgate-ingest"),
    ],
)
def test_function_neither_reads_nor_deletes_nor_grants(mapped, method, path):
    assert mapped(FUNCTION, "POST", "/_bulk", document("cwl-2026.01.01"))[0] == 200
    assert mapped(FUNCTION, method, path)[0] == 403


@pytest.mark.parametrize("role", [AUDITOR, THIRD_PARTY])
def test_role_that_reads_writes_no_event(mapped, role):
    assert mapped(FUNCTION, "POST", "/_bulk?refresh=true", document("cwl-2026.01.02"))[0] == 200
    assert mapped(role, "GET", "/cwl-*/_search")[0] == 200
    for method, path in [("PUT", "/cwl-2026.01.02/_doc/2"), ("DELETE", "/cwl-2026.01.02"), ("PUT", "/cwl-new")]:
        assert mapped(role, method, path, "{}")[0] == 403


def test_third_party_counts_the_events_of_its_account(mapped):
    events = [("1", "111111111111"), ("2", "222222222222"), ("3", "222222222222")]
    lines = [
        f'{{"index":{{"_index":"cwl-2026.01.03","_id":"{name}"}}}}\n{{"recipientAccountId":"{account}"}}\n'
        for name, account in events
    ]
    assert not mapped(FUNCTION, "POST", "/_bulk?refresh=true", "".join(lines))[1]["errors"]
    counts = [mapped(role, "GET", "/cwl-2026.01.03/_count")[1]["count"] for role in (AUDITOR, THIRD_PARTY)]
    assert counts == [3, 2]


def test_verifier_searches_events_and_does_nothing_else(mapped):
    for index in ("cwl-2026.01.04", "gate-2026.01.04"):
        assert mapped(None, "POST", "/_bulk?refresh=true", document(index))[0] == 200
    status, answer = mapped(VERIFIER, "POST", "/cwl-*/_search?ignore_unavailable=true&scroll=2m", '{"size":1}')
    assert status == 200, answer
    scroll = answer["_scroll_id"]
    assert mapped(VERIFIER, "POST", "/_search/scroll", json.dumps({"scroll": "2m", "scroll_id": scroll}))[0] == 200
    assert mapped(VERIFIER, "DELETE", "/_search/scroll", json.dumps({"scroll_id": [scroll]}))[0] == 200
    status, answer = mapped(VERIFIER, "POST", "/cwl-2026.01.04/_count?ignore_unavailable=true", '{"query":{"match_all":{}}}')
    assert (status, answer["count"]) == (200, 1)
    # Like this node, a domain leaves out what a role may not see, or rejects the search.
    _, answer = mapped(VERIFIER, "POST", "/cwl-2026.01.04,gate-2026.01.04/_search", "{}")
    assert {hit["_index"] for hit in answer["hits"]["hits"]} == {"cwl-2026.01.04"}
    for method, path, body in [
        ("POST", "/gate-*/_search", "{}"),
        ("GET", "/", None),
        ("PUT", "/cwl-2026.01.04/_doc/2", "{}"),
        ("POST", "/_bulk", document("cwl-2026.01.04")),
        ("POST", "/cwl-2026.01.04/_update/1", '{"doc":{"eventName":"Other"}}'),
        ("DELETE", "/cwl-2026.01.04", None),
        ("GET", "/_plugins/_security/api/roles", None),
    ]:
        assert mapped(VERIFIER, method, path, body)[0] == 403, path


@pytest.mark.parametrize("role", [GATES, f"{FUNCTION}2"])
def test_role_that_is_not_mapped_has_no_right(mapped, role):
    assert mapped(role, "GET", "/")[0] == 403
    assert mapped(role, "POST", "/_bulk", document("cwl-2026.01.01"))[0] == 403


def test_mapping_roles_again_changes_nothing(aws, opensearch, mapped, tmp_path):
    paths = [f"/_plugins/_security/api/{kind}" for kind in ("roles", "rolesmapping")]
    before = [opensearch.ask("GET", path) for path in paths]
    third_party = {"ThirdPartyAccountId": "222222222222"}
    with Mapping(aws, tmp_path, opensearch.url, EngineVersion=OPENSEARCH, **third_party) as mapping:
        assert mapping.run().returncode == 0
    assert [opensearch.ask("GET", path) for path in paths] == before


def test_payload_of_a_gate_changes_nothing_of_what_is_mapped(aws, opensearch, mapped, tmp_path):
    before = opensearch.ask("GET", "/_plugins/_security/api/rolesmapping")
    with Mapping(aws, tmp_path, opensearch.url, EngineVersion=OPENSEARCH, ThirdPartyAccountId="222222222222") as mapping:
        wanted = {"awslogs": {"data": ""}, "AUDITOR_ROLE": GATES, "reload": {"prefix": "s3://a/", "hour": "2026-01-01T00"}}
        answer, failed = mapping.function.invoke(json.dumps(wanted).encode())
    assert (json.loads(answer)["mapped"][0], failed) == ("trailgate-ingest", False)
    assert opensearch.ask("GET", "/_plugins/_security/api/rolesmapping") == before


def test_two_launches_hand_the_master_over_without_rejections(aws, tmp_path):
    """The old gates sign with the gates' role until the second launch, the new ones with the roles of clients."""
    folders = [tmp_path / name for name in ("node", "first", "second")]
    for folder in folders:
        folder.mkdir()
    with node(folders[0]) as engine:
        engine.change_master(GATES)
        with Mapping(aws, folders[1], engine.url, EngineVersion=OPENSEARCH, GateRoleIsMaster="true") as first:
            for _ in range(2):
                done = first.run()
                assert done.returncode == 0, done.stdout + done.stderr
        assert engine.masters() == [[GATES, MASTER]] * 2
        assert engine.statuses(GATES, AUDITOR, EDITOR, FUNCTION) == [200] * 4
        # AWS names all_access only.
        engine.change_master(MASTER, ["all_access"])
        assert engine.statuses(AUDITOR, EDITOR, FUNCTION) == [200] * 3
        with Mapping(aws, folders[2], engine.url, EngineVersion=OPENSEARCH) as second:
            assert second.run().returncode == 0
        assert engine.masters() == [[MASTER]] * 2
        assert engine.statuses(GATES, AUDITOR, EDITOR, FUNCTION) == [403, 200, 200, 200]


def test_gate_does_not_join_while_roles_are_not_mapped(aws, opensearch, tmp_path):
    (tmp_path / "sleep").write_text("#!/bin/sh\n")
    (tmp_path / "sleep").chmod(0o755)
    opensearch.change_master("arn:aws:iam::123456789012:role/Other")
    try:
        with Mapping(aws, tmp_path, opensearch.url, EngineVersion=OPENSEARCH) as mapping:
            done = mapping.run(PATH=f"{tmp_path}:{PROGRAMS}:{aws.environment['PATH']}")
        assert done.returncode == 1
        assert "cannot map roles: see the log of the function MapRolesFunction" in done.stderr
        assert len(mapping.function.invoked) == 10
    finally:
        opensearch.change_master(MASTER)


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers like the security API, and keeps what it was asked."""

    def do_GET(self):
        self._answer(404, b'{"status":"NOT_FOUND"}')

    def do_PUT(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        self._answer(201, b'{"status":"CREATED"}')

    def _answer(self, status, answer):
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def security_api():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    server.requests = []
    threading.Thread(target=server.serve_forever).start()
    yield server
    server.shutdown()
    server.server_close()


def test_elasticsearch_roles_go_to_open_distro_s_api(aws, tmp_path, security_api):
    url = f"http://127.0.0.1:{security_api.server_port}"
    with Mapping(aws, tmp_path, url, EngineVersion="Elasticsearch_7.10") as mapping:
        done = mapping.run()
    assert done.returncode == 0, done.stderr
    requests = dict(security_api.requests)
    api = "/_opendistro/_security/api"
    names = ("trailgate-ingest", "trailgate-auditor", "trailgate-editor", "trailgate-verifier")
    assert list(requests) == [f"{api}/{kind}/{name}" for name in names for kind in ("roles", "rolesmapping")]
    mapped = [requests[f"{api}/rolesmapping/{name}"]["backend_roles"] for name in names]
    assert mapped == [[FUNCTION, RELOAD], [AUDITOR], [EDITOR], [VERIFIER]]
    permissions = requests[f"{api}/roles/trailgate-ingest"]["index_permissions"]
    assert [permission["index_patterns"] for permission in permissions] == [["cwl-*"]]


def test_indexed_access_log_is_written_by_the_function_and_read_by_editors(aws, tmp_path, security_api):
    url = f"http://127.0.0.1:{security_api.server_port}"
    with Mapping(aws, tmp_path, url, IndexAccessLog="true") as mapping:
        done = mapping.run()
    assert done.returncode == 0, done.stderr
    may = {
        path.rsplit("/", 1)[1]: permission["allowed_actions"]
        for path, role in security_api.requests
        if "/roles/" in path
        for permission in role["index_permissions"]
        if "gate-*" in permission["index_patterns"]
    }
    assert list(may) == ["trailgate-ingest", "trailgate-editor"]
    assert may["trailgate-ingest"] == ["create_index", "write", "indices:admin/mapping/put"]
    assert not {"write", "indices_all", "delete"} & set(may["trailgate-editor"])
