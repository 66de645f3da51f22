"""Has botocore sign many requests, and `fake-domain verify` check them.

Each must verify as signed, and must not once a byte of its path, query, body or a header has changed.
All targets are spelled canonically, as trailgate sends them: there all readings of a URL agree.

Usage: python3 compare.py PATH_TO_fake-domain
"""

import base64
import datetime
import hashlib
import itertools
import json
import subprocess
import sys
from unittest import mock
from urllib.parse import quote

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

NOW = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.timezone.utc)
HOST = "search-trail-abc123.eu-west-1.es.amazonaws.com"
REGION = "eu-west-1"
ACCESS_KEY = "AKIDEXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjEXAMPLE//////////wEaCWV1LXdlc3QtMSJ+=="


def spell(*parts):
    """A path of these decoded segments."""
    return "/" + "/".join(quote(part, safe="-._~") for part in parts)


def pairs(*items):
    """A query of these decoded pairs, in the order given; a key alone comes without `=`."""
    spelled = []
    for item in items:
        if isinstance(item, tuple):
            spelled.append("=".join(quote(part, safe="-._~") for part in item))
        else:
            spelled.append(quote(item, safe="-._~"))
    return "&".join(spelled)


PATHS = [
    "/",
    spell("_search"),
    spell("cwl-2015.08.30", "_doc", "1"),
    spell("cwl-*", "_search"),
    spell("cwl-*,trail-*,-old", "_search"),
    spell("_plugin", "kibana", ""),
    spell("_plugin", "kibana", "api", "saved_objects", "_find"),
    spell("a:b@c", "_doc", "x+y=z"),
    spell("<logs-{now/d}>", "_search"),
    spell("<logs-{now/M{yyyy.MM}}>", "_doc", ""),
    spell("with space", "_doc", "and\ttab"),
    spell("slash/inside", "_doc", "a/b/c"),
    spell("percent%", "_doc", "%2F"),
    spell("umlaute-äöü", "_doc", "ሴ"),
    spell("emoji-🔎", "_count"),
    "/%FF%FE/_doc/%00",
    spell("-._~", "!$&'()*+,;="),
    spell("_nodes", "stats", "jvm,os", "a|b\\c^`\"[]#?"),
]

QUERIES = [
    "",
    pairs("v"),
    pairs(("v", "")),
    pairs(("q", "a b")),
    pairs(("q", "a+b")),
    pairs(("b", "2"), ("a", "1"), ("b", "1"), ("a", "")),
    pairs(("a", "1"), ("A", "1"), ("a-b", "1"), ("a_b", "1"), ("aa", "1"), ("a~", "1")),
    pairs("pretty", ("size", "10"), "human"),
    pairs(("_g", "(refreshInterval:(pause:!t,value:0),time:(from:now-15m,to:now))"), ("_a", "(columns:!(_source))")),
    pairs(("q", "ሴ"), ("ä", "ö")),
    pairs(("q", "100%"), ("r", "%2F"), ("s", "a=b&c;d")),
    "q=%FF&%FE=",
    pairs(("filter_path", "hits.hits._source,hits.total"), ("sort", "@timestamp:desc")),
    pairs(("x", "*"), ("x", "-"), ("x", "~"), ("x", "/")),
]

BODIES = {
    "GET": [b""],
    "HEAD": [b""],
    "DELETE": [b""],
    "POST": [b'{"query":{"match_all":{}}}', bytes(range(256)), b""],
    "PUT": ["{\"name\":\"ሴ\"}\n".encode(), b"x" * 100_000],
}


def requests():
    """The requests to sign: every path with every query, the rest taken in turn."""
    kinds = [(method, body) for method, bodies in BODIES.items() for body in bodies]
    rest = itertools.cycle(itertools.product(kinds, [None, TOKEN], ["es", "aoss"], [False, True]))
    for (path, query), ((method, body), token, service, has_hash) in zip(itertools.product(PATHS, QUERIES), rest):
        target = f"{path}?{query}" if query else path
        headers = {"Host": HOST}
        if method in ("POST", "PUT"):
            headers["Content-Type"] = "application/json"
        # Botocore does not send the hash for es of its own accord; aoss demands it.
        if has_hash or service == "aoss":
            headers["X-Amz-Content-SHA256"] = hash_of(body)
        yield sign(method, target, headers, body, token, service)


def hash_of(body):
    return hashlib.sha256(body).hexdigest()


def sign(method, target, headers, body, token, service):
    request = AWSRequest(method=method, url=f"https://{HOST}{target}", headers=headers, data=body)
    credentials = Credentials(ACCESS_KEY, SECRET_KEY, token)
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW):
        botocore.auth.SigV4Auth(credentials, service, REGION).add_auth(request)
    return {
        "method": method,
        "target": target,
        "headers": [[name, value] for name, value in request.headers.items()],
        "body_base64": base64.b64encode(body).decode(),
        "now": NOW.strftime("%Y%m%dT%H%M%SZ"),
        "region": REGION,
        "service": service,
        "access_key": ACCESS_KEY,
        "secret_key": SECRET_KEY,
        "session_token": token,
    }


def changed(request):
    """The request with one byte changed, in each place there is."""
    path, _, query = request["target"].partition("?")
    yield "path", {**request, "target": path + "x" + (f"?{query}" if query else "")}
    more = f"{query}x" if query else "x"
    yield "query", {**request, "target": f"{path}?{more}"}
    body = base64.b64decode(request["body_base64"])
    body = bytes([body[0] ^ 1]) + body[1:] if body else b"x"
    yield "body", {**request, "body_base64": base64.b64encode(body).decode()}
    headers = [[name, value + "x" if name.lower() == "host" else value] for name, value in request["headers"]]
    yield "header", {**request, "headers": headers}


def verify(program, requests):
    lines = "".join(json.dumps(request) + "\n" for request in requests)
    done = subprocess.run([program, "verify"], input=lines, capture_output=True, text=True, check=True)
    verdicts = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(verdicts) == len(requests), f"{len(verdicts)} verdicts on {len(requests)} requests"
    return verdicts


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__.strip().splitlines()[-1])
    signed = list(requests())
    failures = 0
    for request, verdict in zip(signed, verify(sys.argv[1], signed)):
        if not verdict["ok"]:
            failures += 1
            print(f"refused: {request['method']} {request['target']} {request['service']}: {verdict}")
    controls = [(place, control) for request in signed for place, control in changed(request)]
    for (place, control), verdict in zip(controls, verify(sys.argv[1], [control for _, control in controls])):
        if verdict["ok"]:
            failures += 1
            print(f"accepted with another {place}: {control['method']} {control['target']}")
    targets = len({request["target"] for request in signed})
    print(
        f"botocore {botocore.__version__}: {len(signed)} requests to {targets} targets compared, "
        f"{len(controls)} changed ones as a control, {failures} failures"
    )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
