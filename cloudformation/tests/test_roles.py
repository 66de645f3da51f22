"""The function's rights in a domain with fine-grained access control, as the gate gives them by signed requests.

OpenSearch has its own security plug-in here, so it decides. For Elasticsearch no registry has one; there it is seen that
the same requests go where AWS documents that API ("Fine-grained access control in Amazon OpenSearch Service").
"""

import base64
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

import pytest

from template import ACCOUNT
from test_gate import GATE, ROOT, Gate

FUNCTION = f"arn:aws:iam::{ACCOUNT}:role/FunctionRole"
ENGINES = ROOT / "tests/engines"

# Whoever the stand-in lets pass is nobody to the engine behind it, and its master; others have passwords.
CONFIG = """
_meta: { type: config, config_version: 2 }
config:
  dynamic:
    http: { anonymous_auth_enabled: true }
    authc:
      basic:
        http_enabled: true
        order: 0
        http_authenticator: { type: basic, challenge: false }
        authentication_backend: { type: internal }
"""
MASTER = """
_meta: { type: rolesmapping, config_version: 2 }
all_access: { backend_roles: [opendistro_security_anonymous_backendrole] }
"""


@contextlib.contextmanager
def mapped(aws, folder, engine, url, program="map-roles", *arguments):
    """Runs map-roles, or `program`, with a proxy before the stand-in, which forwards signed requests to `url`."""
    serve = [GATE / "fake-domain", "serve", "--elasticsearch", url]
    serving = subprocess.Popen(serve, env=aws.environment, stdout=subprocess.PIPE, text=True)
    try:
        endpoint = serving.stdout.readline().removeprefix("listening on ").strip()
        gate = Gate(aws, folder, EngineVersion=engine, FineGrainedAccessControl="true")
        settings = (folder / "stack.env").read_text()
        (folder / "stack.env").write_text(re.sub("ENDPOINT=.*", f"ENDPOINT={endpoint}", settings))
        yield gate.run(program, *arguments)
    finally:
        serving.terminate()
        serving.wait(10)


class OpenSearch:
    """A node with the security plug-in, asked as a user whose password is known."""

    PASSWORD = "correct horse battery staple 1A"

    def __init__(self, url):
        self.url = url

    def ask(self, method, path, body=None, user=None):
        """The status and the JSON that a request gets; nobody in particular asks where there is no user."""
        headers = {"content-type": "application/json"}
        if user:
            headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{self.PASSWORD}".encode()).decode()
        request = urllib.request.Request(self.url + path, body and body.encode(), headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture(scope="module")
def opensearch(tmp_path_factory):
    run = ENGINES / "run.sh"
    subprocess.run([run, "opensearch-security", "--prepare"], check=True, timeout=600)
    folder = tmp_path_factory.mktemp("opensearch")
    config = folder / "config/opensearch-security"
    shutil.copytree(ENGINES / "opensearch-security/target/server/lib/config", config)
    (config / "config.yml").write_text(CONFIG)
    (config / "roles_mapping.yml").write_text(MASTER)
    (config / "internal_users.yml").write_text("_meta: { type: internalusers, config_version: 2 }\n")
    made = ["-keyout", folder / "config/key.pem", "-out", folder / "config/certificate.pem"]
    certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=local", *made]
    subprocess.run(certificate, check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with open(folder / "log", "w") as log:
        node = subprocess.Popen([run, "opensearch-security", str(port), folder], stdout=log, stderr=log)
    try:
        engine = OpenSearch(f"http://127.0.0.1:{port}")
        end = time.monotonic() + 120
        while not answers(engine):
            assert node.poll() is None and time.monotonic() < end, (folder / "log").read_text()
            time.sleep(0.5)
        yield engine
    finally:
        node.terminate()
        node.wait(60)


def answers(engine):
    try:
        # 503 until the plug-in has read its configuration.
        return engine.ask("GET", "/")[0] == 200
    except (OSError, ValueError):
        return False


@pytest.fixture(scope="module")
def function(aws, opensearch, tmp_path_factory):
    """Asks the node as somebody who has the function's role."""
    with mapped(aws, tmp_path_factory.mktemp("gate"), "OpenSearch_2.19", opensearch.url) as done:
        assert done.returncode == 0, done.stdout + done.stderr
    user = json.dumps({"password": OpenSearch.PASSWORD, "backend_roles": [FUNCTION]})
    assert opensearch.ask("PUT", "/_plugins/_security/api/internalusers/function", user)[0] == 201
    return lambda method, path, body=None: opensearch.ask(method, path, body, "function")


def document(index):
    """A bulk request that adds an event to an index."""
    return f'{{"index":{{"_index":"{index}","_id":"1"}}}}\n{{"eventName":"ConsoleLogin"}}\n'


def test_the_function_prepares_and_writes_its_indices(function):
    template = {"index_patterns": ["cwl-*"], "template": {"settings": {"number_of_replicas": 0}}}
    assert function("GET", "/")[0] == 200
    assert function("PUT", "/_index_template/trailgate-cwl", json.dumps(template))[0] == 200
    assert function("GET", "/_index_template/trailgate-cwl")[0] == 200
    # The second brings the mapping a field more. The plug-in for retention is not there to be asked.
    for event in ("", ' "errorCode": "AccessDenied",'):
        body = document("cwl-2026.01.01").replace('{"eventName', f'{{{event}"eventName')
        status, answer = function("POST", "/_bulk", body)
        assert (status, answer["errors"]) == (200, False), answer


@pytest.mark.parametrize("index", ["other", ".opendistro_security", "cwl"])
def test_bulk_request_of_the_function_writes_no_other_index(function, index):
    status, answer = function("POST", "/_bulk", document(index))
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
def test_function_neither_reads_nor_deletes_nor_grants(function, method, path):
    assert function("POST", "/_bulk", document("cwl-2026.01.01"))[0] == 200
    assert function(method, path)[0] == 403


def test_user_without_the_function_s_role_lacks_its_rights(function, opensearch):
    user = json.dumps({"password": OpenSearch.PASSWORD, "backend_roles": [f"{FUNCTION}2"]})
    assert opensearch.ask("PUT", "/_plugins/_security/api/internalusers/other", user)[0] == 201
    assert opensearch.ask("POST", "/_bulk", document("cwl-2026.01.01"), "other")[0] == 403


def test_mapping_roles_again_changes_nothing(aws, opensearch, function, tmp_path):
    paths = [f"/_plugins/_security/api/{kind}/trailgate-ingest" for kind in ("roles", "rolesmapping")]
    before = [opensearch.ask("GET", path) for path in paths]
    with mapped(aws, tmp_path, "OpenSearch_2.19", opensearch.url) as done:
        assert done.returncode == 0, done.stdout + done.stderr
    assert [opensearch.ask("GET", path) for path in paths] == before


class Recorder(http.server.BaseHTTPRequestHandler):
    """Answers like the security API, and keeps what it was asked."""

    def do_PUT(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, body))
        answer = b'{"status":"CREATED"}'
        self.send_response(201)
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
    with mapped(aws, tmp_path, "Elasticsearch_7.10", f"http://127.0.0.1:{security_api.server_port}") as done:
        assert done.returncode == 0, done.stderr
    (role_path, role), (mapping_path, mapping) = security_api.requests
    path = "/_opendistro/_security/api"
    assert (role_path, mapping_path) == (f"{path}/roles/trailgate-ingest", f"{path}/rolesmapping/trailgate-ingest")
    assert [permission["index_patterns"] for permission in role["index_permissions"]] == [["cwl-*"]]
    assert mapping == {"backend_roles": [FUNCTION, FUNCTION.replace("FunctionRole", "ReloadRole")]}
