#!/usr/bin/env python3
"""usage: clients.py ENGINE ENDPOINT

Drives the engine behind ENDPOINT (such as http://127.0.0.1:8080) with that engine's official Python
client, and asserts that what it reads back is exactly what it wrote. ENGINE is opensearch-2.19,
elasticsearch-7.10 or elasticsearch-5.6. Run setup.sh first: this script goes on by itself in the
environment that was made there for ENGINE.

One line a step, and the count on the last. At the first mismatch: a message, and exit code 1.
All indices begin with a name drawn for the run and are deleted at the end, so runs do not meet.
"""

import contextlib
import datetime
import json
import logging
import os
import random
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ENGINES = ("opensearch-2.19", "elasticsearch-7.10", "elasticsearch-5.6")


def enter_environment(engine):
    """Starts this script again under the environment's Python, unless it runs there already."""
    environment = os.path.join(HERE, "target", engine)
    if os.path.realpath(sys.prefix) == os.path.realpath(environment):
        return
    python = os.path.join(environment, "bin", "python")
    if not os.path.exists(python):
        sys.exit(f"clients.py: no environment for {engine}: run setup.sh first")
    os.execv(python, [python, os.path.abspath(__file__), *sys.argv[1:]])


if len(sys.argv) != 3 or sys.argv[1] not in ENGINES:
    print(__doc__, file=sys.stderr)
    sys.exit(2)
enter_environment(sys.argv[1])

if sys.argv[1] == "opensearch-2.19":
    import opensearchpy as package
    from opensearchpy import OpenSearch as Client
    from opensearchpy import helpers
else:
    import elasticsearch as package
    from elasticsearch import Elasticsearch as Client
    from elasticsearch import helpers


# --- What is written -------------------------------------------------------------------------------

# Every one of these reaches the engine in a path, as the client encodes it. A single "." or ".." is
# left out: as a path segment it is resolved away, encoded or not.
IDS = [
    "plain",
    "UPPER.lower_0-9~",
    # slashes
    "a/b", "/lead", "trail/", "a//b", "//",
    # percent signs, and text that looks encoded and is not
    "%", "100%", "%2F", "a%2Fb", "%252F", "%2f", "%zz", "%C3%A9", "%2e%2e", "%00",
    # plus and space, which a form decoder confuses
    "+", "a+b", "a b", "a+ b", " lead", "trail ", "a%20b", "a%2Bb",
    # ids as CloudTrail has them
    "arn:aws:iam::123456789012:role/Reader", "AROAEXAMPLE:me@example.org",
    "a:b", "a@b", "*", "a*b", ",", "a,b", "-a", "!a",
    'say "hi"', "it's", "`x`", "(1)", "[1]", "{x}", "<x>", "a\\b", "a|b", "a^b", "$1",
    # what ends or splits a path or a query
    "#", "a#b", "?", "a?b=c", "&", "a&b", "=", "a=b", ";", "a;b",
    # not ASCII; the third is the second, decomposed, and another document
    "é", "caf\u00e9", "cafe\u0301", "漢", "漢字 かな", "😀", "a👩‍💻b", "\u00a0", "Ω≈ç√", "עברית", "\uffee",
    # like dot segments
    "..a", "a..", "...", "../x", "x/..", "a/../b", "./x", "x/.", "/../", "..%2Fx", "..;", "..\\x",
    # like calls of the API
    "x/_search", "x?refresh=true", "<logstash-{now/d}>", "{\"query\":{}}",
    # 510 bytes, near the engine's limit of 512; 1,530 characters on the wire
    "漢" * 170,
]
assert len(set(IDS)) == len(IDS)


# --- What differs from client to client ------------------------------------------------------------


class Engine:
    """OpenSearch 2.19 and Elasticsearch 7.10, whose clients are called alike."""

    # Named in every call that addresses a document.
    typed = {}
    # The client can gzip what it sends.
    gzip = True
    # Two names in aggregations that changed.
    by_key = "_key"
    interval = "fixed_interval"
    ids = IDS

    def mapping(self, fields):
        return {"properties": fields}

    def total(self, answer):
        return answer["hits"]["total"]["value"]

    def action(self, operation, **where):
        """The line of a _bulk body, or the header of one document in an _mget."""
        return {operation: where}

    def where(self, **where):
        return where


class Elasticsearch5(Engine):
    """Elasticsearch 5.6: documents have a type, and hits.total is a number."""

    typed = {"doc_type": "event"}
    # http_compress came with client 6.
    gzip = False
    by_key = "_term"
    interval = "interval"
    # Client 5 writes a space in a path as "+", which engines up to 6 read as a space, and RFC 3986 and the gate as a plus.
    ids = [id for id in IDS if " " not in id]

    def mapping(self, fields):
        return {"event": {"properties": fields}}

    def total(self, answer):
        return answer["hits"]["total"]

    def action(self, operation, **where):
        return {operation: {"_type": "event", **where}}

    def where(self, **where):
        return {"_type": "event", **where}


# --- The test's own small frame --------------------------------------------------------------------


class Mismatch(Exception):
    pass


def shorten(value):
    text = repr(value)
    return text if len(text) <= 600 else f"{text[:300]} … {text[-100:]} ({len(text)} characters)"


CHECKS = 0


def same(what, got, wanted):
    global CHECKS
    CHECKS += 1
    # The types too: 1 and True are equal in Python.
    if got != wanted or type(got) is not type(wanted):
        raise Mismatch(f"{what}\n    wanted {shorten(wanted)}\n    got    {shorten(got)}")


@contextlib.contextmanager
def refused(what, error, status):
    """The call inside must raise `error`, the client's own class for `status`."""
    try:
        yield
    except error as e:
        same(f"{what}: status", e.status_code, status)
    else:
        raise Mismatch(f"{what}\n    wanted {error.__name__}\n    got    an answer without an error")


# Values searched for as q=..., in a keyword field: each must find its own document and no other.
TERMS = [
    "a+b", "100%", "a;b", "a%2Bb", "%25", "a%b", "a&b=c", "a=b", "a#b", "a,b", "a@b", "a'b", "x;q=y",
    "é", "漢字", "😀", "cafe\u0301",
]

ROUTINGS = ["a+b", "a b/c", "100%&x=y;z", "é漢😀"]


def event(n):
    """The n-th of the events that are searched: made up, always the same, in CloudTrail's shape."""
    start = datetime.datetime(2023, 7, 10, 12, 0, 0)
    return {
        "eventID": f"{n:08d}",
        "eventTime": (start + datetime.timedelta(seconds=7 * n)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "eventSource": ("s3", "ec2", "iam", "sts")[n % 4] + ".amazonaws.com",
        "eventName": ("GetObject", "DescribeInstances", "ListRoles", "AssumeRole", "PutObject")[n % 5],
        "sourceIPAddress": f"192.0.2.{n % 200}",
        "readOnly": n % 5 != 4,
        "bytes": 1000 * n,
        "ratio": n / 8,
        "big": 2**53 + n,
        "requestParameters": {"key": f"logs/{n} é漢😀.gz", "none": None, "list": [n, "a/b", []]},
    }


FIELDS = {
    "eventID": {"type": "keyword"},
    "eventTime": {"type": "date"},
    "eventSource": {"type": "keyword"},
    "eventName": {"type": "keyword"},
    "sourceIPAddress": {"type": "ip"},
    "readOnly": {"type": "boolean"},
    "bytes": {"type": "long"},
    "ratio": {"type": "double"},
    "big": {"type": "long"},
    "term": {"type": "keyword"},
    # Kept in _source as it came, and not indexed.
    "requestParameters": {"type": "object", "enabled": False},
}
EVENTS = 500


# --- The steps -------------------------------------------------------------------------------------


class Run:
    def __init__(self, name, endpoint):
        self.name = name
        self.e = Elasticsearch5() if name == "elasticsearch-5.6" else Engine()
        self.endpoint = endpoint
        # No retries: a failure is to be seen, not smoothed over.
        self.options = {"max_retries": 0, "timeout": 60}
        self.client = Client([endpoint], **self.options)
        self.run = f"clients-{random.SystemRandom().getrandbits(32):08x}"
        self.events = f"{self.run}-events"
        self.ids = f"{self.run}-ids"
        self.settings = {"number_of_shards": 3, "number_of_replicas": 0}

    def raw(self, method, target, **rest):
        """A request whose target goes out as written here."""
        return self.client.transport.perform_request(method, target, **rest)

    def refresh(self, index):
        same("failed shards", self.client.indices.refresh(index=index)["_shards"]["failed"], 0)

    def create_index(self, index):
        body = {"settings": self.settings, "mappings": self.e.mapping(FIELDS)}
        same("acknowledged", self.client.indices.create(index=index, body=body)["acknowledged"], True)

    def check_document(self, what, answer, index, id, document):
        same(f"{what}: _index", answer["_index"], index)
        same(f"{what}: _id", answer["_id"], id)
        same(f"{what}: _source", answer["_source"], document)

    def round_trip(self, index, id, document, **rest):
        """Writes one document, reads it back. Returns the index that the engine says it is in."""
        written = self.client.index(index=index, id=id, body=document, **self.e.typed, **rest)
        same(f"index {id!r}: _id", written["_id"], id)
        same(f"index {id!r}: result", written["result"], "created")
        read = self.client.get(index=index, id=id, **self.e.typed)
        self.check_document(f"get {id!r}", read, written["_index"], id, document)
        return written["_index"]

    def hits(self, index, body=None, **rest):
        return self.client.search(index=index, body=body, **rest)

    # Each method below is a step, in this order.

    def info(self):
        """GET / and HEAD /: the engine is the one named"""
        version = self.client.info()["version"]
        same("distribution", version.get("distribution", "elasticsearch"), self.name.rsplit("-", 1)[0])
        same("version", ".".join(version["number"].split(".")[:2]), self.name.rsplit("-", 1)[1])
        same("HEAD /", self.client.ping(), True)

    def mapping(self):
        """creates an index with a mapping, and reads the mapping back"""
        same("HEAD of no index", self.client.indices.exists(index=self.events), False)
        self.create_index(self.events)
        same("HEAD of the index", self.client.indices.exists(index=self.events), True)
        got = self.client.indices.get_mapping(index=self.events)
        same("mapping", got, {self.events: {"mappings": self.e.mapping(FIELDS)}})

    def index_and_get(self):
        """indexes documents one by one, reads them back"""
        for n in range(20):
            self.round_trip(self.events, event(n)["eventID"], event(n))
        document = {**event(20), "note": "no id given"}
        written = self.client.index(index=self.events, body=document, **self.e.typed)
        read = self.client.get(index=self.events, id=written["_id"], **self.e.typed)
        self.check_document("id made by the engine", read, self.events, written["_id"], document)
        self.client.delete(index=self.events, id=written["_id"], **self.e.typed)

    def bulk_lines(self, first, last):
        lines = []
        for n in range(first, last):
            lines.append(self.e.action("index", _index=self.events, _id=event(n)["eventID"]))
            lines.append(event(n))
        return lines

    def bulk_of(self, client, first, last):
        answer = client.bulk(body=self.bulk_lines(first, last))
        same("errors", answer["errors"], False)
        got = [(item["index"]["_id"], item["index"]["status"]) for item in answer["items"]]
        same("items", got, [(event(n)["eventID"], 201) for n in range(first, last)])

    def bulk(self):
        """_bulk, plain"""
        self.bulk_of(self.client, 20, 200)

    def bulk_gzip(self):
        """_bulk with gzip, requests and answers"""
        zipped = Client([self.endpoint], http_compress=True, **self.options)
        self.bulk_of(zipped, 200, 350)
        for n in (200, 349):
            read = zipped.get(index=self.events, id=event(n)["eventID"])
            self.check_document("get", read, self.events, event(n)["eventID"], event(n))

    def bulk_parallel(self):
        """_bulk from four threads"""
        begin = 350 if self.e.gzip else 200
        actions = [
            {"_index": self.events, "_id": event(n)["eventID"], "_source": event(n), **self.e.where()}
            for n in range(begin, EVENTS)
        ]
        options = {"http_compress": True} if self.e.gzip else {}
        client = Client([self.endpoint], **self.options, **options)
        done = list(helpers.parallel_bulk(client, actions, thread_count=4, chunk_size=10))
        same("documents", len(done), EVENTS - begin)
        same("all well", all(ok for ok, _ in done), True)
        self.refresh(self.events)

    def bulk_failures(self):
        """_bulk in which one item fails tells which"""
        lines = [
            self.e.action("create", _index=self.events, _id=event(0)["eventID"]), event(0),
            self.e.action("index", _index=self.events, _id="late"), {"bytes": "not a number"},
            self.e.action("delete", _index=self.events, _id="none"),
        ]
        answer = self.client.bulk(body=lines)
        same("errors", answer["errors"], True)
        got = [next(iter(item.values()))["status"] for item in answer["items"]]
        same("status of each", got, [409, 400, 404])

    def count(self):
        """_count"""
        same("all", self.client.count(index=self.events)["count"], EVENTS)
        query = {"query": {"term": {"eventName": "AssumeRole"}}}
        same("some", self.client.count(index=self.events, body=query)["count"], EVENTS // 5)

    def search(self):
        """_search: match_all, term, range, bool"""
        answer = self.hits(self.events, {"query": {"match_all": {}}, "size": EVENTS, "sort": ["eventID"]})
        same("total", self.e.total(answer), EVENTS)
        got = [(hit["_id"], hit["_source"]) for hit in answer["hits"]["hits"]]
        same("every document", got, [(event(n)["eventID"], event(n)) for n in range(EVENTS)])

        def found(query, wanted):
            answer = self.hits(self.events, {"query": query, "size": EVENTS, "sort": ["eventID"]})
            same(str(query), [h["_source"] for h in answer["hits"]["hits"]], [event(n) for n in range(EVENTS) if wanted(event(n))])

        found({"term": {"eventSource": "iam.amazonaws.com"}}, lambda e: e["eventSource"] == "iam.amazonaws.com")
        found({"term": {"sourceIPAddress": "192.0.2.0/29"}}, lambda e: int(e["sourceIPAddress"].split(".")[3]) < 8)
        found({"range": {"bytes": {"gte": 100_000, "lt": 200_000}}}, lambda e: 100_000 <= e["bytes"] < 200_000)
        found(
            {"range": {"eventTime": {"gt": "2023-07-10T12:10:00Z", "lte": "2023-07-10T12:20:00Z"}}},
            lambda e: "2023-07-10T12:10:00Z" < e["eventTime"] <= "2023-07-10T12:20:00Z",
        )
        found(
            {"bool": {"must": [{"term": {"readOnly": False}}], "must_not": [{"prefix": {"eventSource": "s"}}]}},
            lambda e: not e["readOnly"] and not e["eventSource"].startswith("s"),
        )

    def aggregation(self):
        """_search with aggregations"""
        body = {
            "size": 0,
            "aggs": {
                "names": {
                    "terms": {"field": "eventName", "order": {self.e.by_key: "asc"}},
                    "aggs": {"sum": {"sum": {"field": "bytes"}}},
                },
                "times": {"date_histogram": {"field": "eventTime", self.e.interval: "10m"}},
            },
        }
        answer = self.hits(self.events, body)["aggregations"]
        names = {}
        times = {}
        for n in range(EVENTS):
            count, total = names.get(event(n)["eventName"], (0, 0.0))
            names[event(n)["eventName"]] = (count + 1, total + event(n)["bytes"])
            ten = event(n)["eventTime"][:15] + "0:00.000Z"
            times[ten] = times.get(ten, 0) + 1
        got = [(b["key"], (b["doc_count"], b["sum"]["value"])) for b in answer["names"]["buckets"]]
        same("terms and sum", got, sorted(names.items()))
        got = [(b["key_as_string"], b["doc_count"]) for b in answer["times"]["buckets"]]
        same("date_histogram", got, sorted(times.items()))

    def get_with_body(self):
        """GET with a body, and the same as POST"""
        body = {"query": {"term": {"eventID": event(7)["eventID"]}}}
        for method in ("GET", "POST"):
            answer = self.raw(method, f"/{self.events}/_search", body=body)
            same(f"{method}: total", self.e.total(answer), 1)
            same(f"{method}: document", answer["hits"]["hits"][0]["_source"], event(7))
        # A search by `source`: the body travels in the query string instead.
        source = {"source": json.dumps(body, ensure_ascii=False), "source_content_type": "application/json"}
        answer = self.raw("GET", f"/{self.events}/_search", params=source)
        same("source=: document", [h["_source"] for h in answer["hits"]["hits"]], [event(7)])

    def scroll(self):
        """scrolls through all in small pages"""
        wanted = [event(n)["eventID"] for n in range(EVENTS)]
        # The scroll id goes in the body as the client does it, or in the query string with its "=" and "+".
        for form in ("body", "query"):
            page = self.hits(self.events, {"sort": ["eventID"]}, size=23, scroll="1m")
            got = []
            while page["hits"]["hits"]:
                got += [hit["_id"] for hit in page["hits"]["hits"]]
                if form == "body":
                    page = self.client.scroll(scroll_id=page["_scroll_id"], scroll="1m")
                else:
                    page = self.raw("GET", "/_search/scroll", params={"scroll_id": page["_scroll_id"], "scroll": "1m"})
            same(f"scroll id in the {form}", got, wanted)
            same("clear_scroll", self.client.clear_scroll(body={"scroll_id": [page["_scroll_id"]]})["succeeded"], True)
        got = {hit["_id"]: hit["_source"] for hit in helpers.scan(self.client, index=self.events, size=60)}
        same("scan", got, {event(n)["eventID"]: event(n) for n in range(EVENTS)})

    def msearch(self):
        """_msearch"""
        body = []
        for n in (1, 2, 3):
            body += [{"index": self.events}, {"query": {"term": {"eventID": event(n)["eventID"]}}}]
        body += [{"index": f"{self.run}-none"}, {"query": {"match_all": {}}}]
        answers = self.client.msearch(body=body)["responses"]
        got = [[hit["_source"] for hit in answer["hits"]["hits"]] for answer in answers[:3]]
        same("documents", got, [[event(1)], [event(2)], [event(3)]])
        same("index that is not there", answers[3]["status"], 404)

    def mget(self):
        """_mget"""
        docs = [self.e.where(_index=self.events, _id=event(n)["eventID"]) for n in (3, 1, 2)]
        got = self.client.mget(body={"docs": docs + [self.e.where(_index=self.events, _id="none")]})["docs"]
        same("documents", [doc["_source"] for doc in got[:3]], [event(3), event(1), event(2)])
        same("document that is not there", got[3]["found"], False)
        body = {"ids": [event(n)["eventID"] for n in range(50)]}
        got = self.client.mget(index=self.events, body=body, **self.e.typed)["docs"]
        same("ids", [doc["_source"] for doc in got], [event(n) for n in range(50)])

    def query_string(self):
        """q=a+b, q=100%, q=a;b and others each find their own"""
        index = f"{self.run}-terms"
        self.create_index(index)
        for n, term in enumerate(TERMS):
            self.round_trip(index, f"t{n}", {"term": term})
        # What a wrong decoding of the ones above would find.
        for n, decoy in enumerate(("a b", "a", "100", "+", "%", "x", "\ufffd", "caf\u00e9", "")):
            self.round_trip(index, f"d{n}", {"term": decoy})
        self.refresh(index)

        def found(what, answer, terms):
            same(what, sorted(hit["_source"]["term"] for hit in answer["hits"]["hits"]), sorted(terms))

        for term in TERMS:
            # Characters that the query language would read are quoted; the rest goes bare as well.
            forms = [f'term:"{term}"']
            if term.isalnum() or term in ("a+b", "100%", "a;b", "é", "漢字"):
                forms.append(term)
            for q in forms:
                found(f"q={q}", self.hits(index, q=q, df="term"), [term])
        # As a person types them in an address: "+" means a space in a query, "%2B" a plus.
        for target, terms in (
            ("q=term:a%2Bb", ["a+b"]),
            ("q=term:%22a+b%22", ["a b"]),
            ("q=term:%22a%20b%22", ["a b"]),
            ("q=term:100%25", ["100%"]),
            ("q=term:a%3Bb", ["a;b"]),
            ("q=%C3%A9&df=term", ["é"]),
            ("q=%c3%a9&df=term", ["é"]),
            ("df=term&q=%E6%BC%A2%E5%AD%97", ["漢字"]),
            ("q=*&size=0", []),
            ("q=term:a%2Bb&pretty", ["a+b"]),
            ("pretty=&q=term:a%2Bb", ["a+b"]),
            ("&&q=term:a%2Bb&&", ["a+b"]),
        ):
            found(target, self.raw("GET", f"/{index}/_search?{target}"), terms)
        # Left out: a bare ";", at which these engines cut the query as at "&", and a bare "%", which
        # is no valid request. No client sends either.

    def filter_path(self):
        """query parameters with commas, stars, brackets and signs"""
        answer = self.hits(self.events, {"query": {"match_all": {}}}, size=1, sort="eventID:desc", filter_path="hits.hits._id,hits.hits._sour*")
        same("filter_path and sort", answer, {"hits": {"hits": [{"_id": event(EVENTS - 1)["eventID"], "_source": event(EVENTS - 1)}]}})
        answer = self.raw("GET", f"/{self.events}/_search", params={"size": 1, "sort": "eventID:asc", "_source": "event*,-none"})
        wanted = {key: value for key, value in event(0).items() if key.startswith("event")}
        same("_source", answer["hits"]["hits"][0]["_source"], wanted)
        text = self.raw("GET", f"/_cat/indices/{self.run}-*", params={"h": "index,docs.count", "s": "index"})
        same("_cat names the events", f"{self.events} {EVENTS}" in [" ".join(line.split()) for line in text.splitlines()], True)

    def document_ids(self):
        """document ids of every kind, written and read by path"""
        self.create_index(self.ids)
        for n, id in enumerate(self.e.ids):
            self.round_trip(self.ids, id, {"n": n, "id": id})
        self.refresh(self.ids)
        same("no two became one", self.client.count(index=self.ids)["count"], len(self.e.ids))
        for n, id in enumerate(self.e.ids):
            where = {"index": self.ids, "id": id, **self.e.typed}
            same(f"HEAD {id!r}", self.client.exists(**where), True)
            same(f"_source of {id!r}", self.client.get_source(**where), {"n": n, "id": id})
            same(f"HEAD of another than {id!r}", self.client.exists(**{**where, "id": id + "x"}), False)

    def document_ids_in_bodies(self):
        """the same ids by _mget, by an ids query and from _search"""
        wanted = {id: {"n": n, "id": id} for n, id in enumerate(self.e.ids)}
        got = self.client.mget(index=self.ids, body={"ids": self.e.ids}, **self.e.typed)["docs"]
        same("_mget", {doc["_id"]: doc.get("_source") for doc in got}, wanted)
        got = self.hits(self.ids, {"query": {"ids": {"values": self.e.ids}}, "size": 1000})["hits"]["hits"]
        same("ids query", {hit["_id"]: hit["_source"] for hit in got}, wanted)

    def raw_paths(self):
        """paths as a person types them, with less or more encoded than the client would"""
        for path, id in (
            ("a:b", "a:b"), ("a@b", "a@b"), ("a,b", "a,b"), ("a*b", "a*b"), ("a=b", "a=b"), ("a&b", "a&b"),
            ("a;b", "a;b"), ("..;", "..;"), ("!a", "!a"), ("$1", "$1"), ("(1)", "(1)"), ("it's", "it's"),
            ("%c3%a9", "é"), ("a%2fb", "a/b"), ("p%6Cain", "plain"), ("%2a", "*"), ("%2D%61", "-a"),
        ):
            read = self.raw("GET", f"/{self.ids}/{self.e.typed.get('doc_type', '_doc')}/{path}")
            self.check_document(path, read, self.ids, id, {"n": self.e.ids.index(id), "id": id})

    def document_ids_changed(self):
        """the same ids updated, conflicting and deleted by path"""
        for n, id in enumerate(self.e.ids):
            where = {"index": self.ids, "id": id, **self.e.typed}
            same(f"update {id!r}", self.client.update(body={"doc": {"again": id}}, **where)["result"], "updated")
            same(f"get {id!r}", self.client.get(**where)["_source"], {"n": n, "id": id, "again": id})
            with refused(f"create {id!r} again", package.ConflictError, 409):
                self.client.create(body={"n": n}, **where)
        for id in self.e.ids:
            where = {"index": self.ids, "id": id, **self.e.typed}
            same(f"delete {id!r}", self.client.delete(**where)["result"], "deleted")
            with refused(f"get {id!r} once deleted", package.NotFoundError, 404):
                self.client.get(**where)
        self.refresh(self.ids)
        same("none left", self.client.count(index=self.ids)["count"], 0)

    def routing(self):
        """routing values with special characters"""
        for routing in ROUTINGS:
            document = {"routing": routing}
            self.client.index(index=self.ids, id="routed", body=document, routing=routing, **self.e.typed)
            read = self.client.get(index=self.ids, id="routed", routing=routing, **self.e.typed)
            same("_routing", read["_routing"], routing)
            same("_source", read["_source"], document)
            self.client.delete(index=self.ids, id="routed", routing=routing, **self.e.typed)

    def update_and_delete(self):
        """update, upsert, versions, delete"""
        where = {"index": self.ids, "id": "one", **self.e.typed}
        self.round_trip(self.ids, "one", {"a": 1, "b": "é"})
        same("update", self.client.update(body={"doc": {"a": 2}}, **where)["_version"], 2)
        same("after the update", self.client.get(**where)["_source"], {"a": 2, "b": "é"})
        same("no change", self.client.update(body={"doc": {"a": 2}}, **where)["result"], "noop")
        body = {"script": {"lang": "painless", "source": "ctx._source.a += params.n", "params": {"n": 40}}}
        same("script", self.client.update(body=body, **where)["result"], "updated")
        same("after the script", self.client.get(**where)["_source"], {"a": 42, "b": "é"})
        same("upsert", self.client.update(body={"doc": {"x": "+%/"}, "doc_as_upsert": True}, **{**where, "id": "two"})["result"], "created")
        same("after the upsert", self.client.get(**{**where, "id": "two"})["_source"], {"x": "+%/"})
        same("delete", self.client.delete(**where)["result"], "deleted")
        same("HEAD", self.client.exists(**where), False)

    def not_found(self):
        """404, 409 and 400 come as the client's own errors, with the engine's words"""
        with refused("get", package.NotFoundError, 404):
            self.client.get(index=self.ids, id="none", **self.e.typed)
        with refused("delete", package.NotFoundError, 404):
            self.client.delete(index=self.ids, id="none", **self.e.typed)
        same("HEAD", self.client.exists(index=self.ids, id="none", **self.e.typed), False)
        try:
            self.hits(f"{self.run}-none", {"query": {"match_all": {}}})
        except package.NotFoundError as e:
            same("error", e.error, "index_not_found_exception")
            same("index in the error", e.info["error"]["index"], f"{self.run}-none")
        else:
            raise Mismatch("search of an index that is not there gave an answer without an error")
        with refused("a query that is none", package.RequestError, 400):
            self.hits(self.events, {"query": {"no_such_query": {}}})
        with refused("an index twice", package.RequestError, 400):
            self.client.indices.create(index=self.events)

    def date_math(self):
        """date-math index names"""
        # The day may change meanwhile.
        days = {self.today()}
        index = self.round_trip(f"<{self.run}-logstash-{{now/d}}>", "a/b", {"day": "today"})
        days.add(self.today())
        same(f"{index} is of today", index.replace(f"{self.run}-logstash-", "") in days, True)
        # With a fixed date, a format and a time zone: "|", "+" and ":" in the name.
        for name, wanted in (
            (f"<{self.run}-fixed-{{2023.07.10||/M{{yyyy.MM.dd}}}}>", f"{self.run}-fixed-2023.07.01"),
            (f"<{self.run}-fixed-{{2023.07.10||-1d}}>", f"{self.run}-fixed-2023.07.09"),
            (f"<{self.run}-fixed-{{2023.07.10||+1d{{yyyy.MM.dd|+12:00}}}}>", f"{self.run}-fixed-2023.07.11"),
        ):
            same(name, self.round_trip(name, "a", {"name": name}), wanted)
        self.refresh(f"{self.run}-*")
        # Two such names at once, one of them with nothing behind it.
        names = [f"<{self.run}-fixed-{{2023.07.10||-1d}}>", f"<{self.run}-fixed-{{2023.07.10||-8d}}>"]
        got = self.hits(names, ignore_unavailable=True)["hits"]["hits"]
        same("two names", [hit["_index"] for hit in got], [f"{self.run}-fixed-2023.07.09"])

    def today(self):
        return datetime.datetime.now(datetime.timezone.utc).strftime("%Y.%m.%d")

    def index_names(self):
        """several indices, wildcards, exclusions, aliases, names with special characters"""
        names = [f"{self.run}-set-{end}" for end in ("a", "b", "c+d", "e=f;g", "h@i", "é漢", "50%25")]
        for n, name in enumerate(names):
            same(name, self.round_trip(name, "x", {"n": n}), name)
            self.refresh(name)

        def found(expression, wanted, **rest):
            got = self.hits(expression, size=100, **rest)["hits"]["hits"]
            same(str(expression), sorted(hit["_index"] for hit in got), sorted(wanted))

        for name in names:
            found(name, [name])
        found(f"{names[0]},{names[1]}", names[:2])
        found(names, names)
        found(f"{self.run}-set-*", names)
        found(f"{self.run}-s*t-*,-{self.run}-set-a,-{self.run}-set-c+*", names[1:2] + names[3:])
        found([f"{self.run}-set-a", f"{self.run}-none-*"], names[:1])
        found(f"{names[0]},{self.run}-none", names[:1], ignore_unavailable=True)
        alias = f"{self.run}-alias-é+1%"
        self.client.indices.put_alias(index=names[:3], name=alias, body={"filter": {"term": {"n": 1}}})
        found(alias, names[1:2])

    def large_document(self):
        """a document of 2 MB, there and back"""
        random.seed(2)
        letters = "abcdefghijklmnopqrstuvwxyz0123456789/+%\"\\ \n\u0001é漢😀"
        text = ""
        while len(text.encode()) < 2_000_000:
            text += "".join(random.choices(letters, k=50_000))
        clients = [self.client]
        if self.e.gzip:
            clients.append(Client([self.endpoint], http_compress=True, **self.options))
        for n, client in enumerate(clients):
            document = {"requestParameters": {"text": text, "n": n}}
            client.index(index=self.events, id="large", body=document, **self.e.typed)
            same("_source", client.get(index=self.events, id="large", **self.e.typed)["_source"], document)
            same("get_source", client.get_source(index=self.events, id="large", **self.e.typed), document)
        self.client.delete(index=self.events, id="large", refresh=True, **self.e.typed)

    def threads(self):
        """eight threads at once, each gets its own answers"""
        errors = []

        def work(thread):
            try:
                for n in range(thread, EVENTS, 8):
                    read = self.client.get(index=self.events, id=event(n)["eventID"], **self.e.typed)
                    self.check_document(f"get {n}", read, self.events, event(n)["eventID"], event(n))
            except Exception as e:  # noqa: BLE001 - told below, by the main thread
                errors.append(e)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if errors:
            raise errors[0]

    def delete_index(self):
        """deletes the run's indices by wildcard"""
        same("acknowledged", self.client.indices.delete(index=f"{self.run}-*")["acknowledged"], True)
        for index in (self.events, self.ids):
            same(f"HEAD {index}", self.client.indices.exists(index=index), False)

    def steps(self):
        yield from (self.info, self.mapping, self.index_and_get, self.bulk)
        if self.e.gzip:
            yield self.bulk_gzip
        yield from (
            self.bulk_parallel, self.bulk_failures, self.count, self.search, self.aggregation,
            self.get_with_body, self.scroll, self.msearch, self.mget, self.query_string, self.filter_path,
            self.document_ids, self.document_ids_in_bodies, self.raw_paths, self.document_ids_changed,
            self.routing, self.update_and_delete, self.not_found, self.date_math, self.index_names,
            self.large_document, self.threads, self.delete_index,
        )


def main():
    name, endpoint = sys.argv[1:]
    # The clients log every 404 and 409, and most of those are wanted here.
    logging.getLogger(package.__name__).setLevel(logging.CRITICAL)
    run = Run(name, endpoint)
    version = ".".join(str(part) for part in package.__version__[:3])
    print(f"{name}: {package.__name__} {version} against {endpoint}", flush=True)
    done = 0
    for step in run.steps():
        begin = time.monotonic()
        before = CHECKS
        try:
            step()
        except Exception as e:  # noqa: BLE001 - whatever it is, the step failed
            print(f"FAILED {step.__name__}: {step.__doc__}", flush=True)
            kind = "" if isinstance(e, Mismatch) else f"{type(e).__name__}: "
            print(f"  {kind}{shorten(str(e)) if not isinstance(e, Mismatch) else e}", flush=True)
            with contextlib.suppress(Exception):
                run.client.indices.delete(index=f"{run.run}-*")
            return 1
        done += 1
        print(f"ok {step.__name__}: {step.__doc__} ({CHECKS - before} checks, {time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{name}: {done} steps, {CHECKS} checks passed", flush=True)
    return 0


sys.exit(main())
