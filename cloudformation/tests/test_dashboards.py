"""The dashboards that the first gate of a stack imports, with a stand-in for Dashboards behind the real gate."""

import http.server
import json
import threading

import pytest

from test_gate import ROOT
from test_roles import EDITOR, Mapping

DASHBOARDS = ROOT / "dashboards/kibana-7-opensearch.ndjson"
ACCESS_LOG = ROOT / "dashboards/access-log-kibana-7-opensearch.ndjson"
PAGES = [("OpenSearch_2.19", "/_dashboards", "opensearch-dashboards"), ("Elasticsearch_7.10", "/_plugin/kibana", "kibana")]


class Dashboards(http.server.BaseHTTPRequestHandler):
    """Answers like the saved objects API, and keeps what it is sent."""

    def do_GET(self):
        if "/saved_objects/dashboard/" in self.path:
            self.answer(self.server.statuses.get(self.path.rsplit("/", 1)[1], self.server.status), {})
        else:
            self.answer(200, {"settings": self.server.settings})

    def do_POST(self):
        self.server.posted[self.path] = self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers)
        self.answer(200, {"success": True})

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def dashboards():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Dashboards)
    server.status, server.statuses, server.settings, server.posted = 404, {}, {}, {}
    threading.Thread(target=server.serve_forever).start()
    yield server
    server.shutdown()
    server.server_close()


def install(aws, folder, dashboards, *more, engine="OpenSearch_2.19"):
    url = f"http://127.0.0.1:{dashboards.server_port}"
    with Mapping(aws, folder, url, EngineVersion=engine) as mapping:
        return mapping.run("install-dashboards", DASHBOARDS, "trailgate-security", *more)


@pytest.mark.parametrize(("engine", "page", "product"), PAGES)
def test_first_gate_imports_the_dashboards(aws, tmp_path, dashboards, engine, page, product):
    done = install(aws, tmp_path, dashboards, engine=engine)
    assert done.returncode == 0, done.stderr
    assert dashboards.posted.keys() == {f"{page}/api/saved_objects/_import", f"{page}/api/{product}/settings"}
    body, headers = dashboards.posted[f"{page}/api/saved_objects/_import"]
    assert DASHBOARDS.read_bytes() in body
    assert headers["osd-xsrf"] == headers["kbn-xsrf"] == "true"
    assert headers["x-proxy-roles"] == EDITOR
    settings, _ = dashboards.posted[f"{page}/api/{product}/settings"]
    assert json.loads(settings) == {"changes": {"defaultIndex": "cwl-*"}}


def test_later_gate_leaves_what_is_there(aws, tmp_path, dashboards):
    dashboards.status = 200
    assert install(aws, tmp_path, dashboards).returncode == 0
    assert dashboards.posted == {}


def test_access_log_s_dashboard_is_added_to_the_others(aws, tmp_path, dashboards):
    dashboards.statuses = {"trailgate-security": 200}
    done = install(aws, tmp_path, dashboards, ACCESS_LOG, "trailgate-who-looked")
    assert done.returncode == 0, done.stderr
    body, _ = dashboards.posted["/_dashboards/api/saved_objects/_import"]
    assert ACCESS_LOG.read_bytes() in body


def test_default_index_pattern_of_the_users_stays(aws, tmp_path, dashboards):
    dashboards.settings = {"defaultIndex": {"userValue": "theirs"}}
    assert install(aws, tmp_path, dashboards).returncode == 0
    assert [path.rsplit("/", 1)[1] for path in dashboards.posted] == ["_import"]


def test_dashboards_that_answer_an_error_are_reported(aws, tmp_path, dashboards):
    dashboards.status = 400
    done = install(aws, tmp_path, dashboards)
    assert done.returncode == 1
    assert "/_dashboards/api answers 400" in done.stderr
    assert dashboards.posted == {}
