"""What all steps share: the client, what differs between engines, and the comparison that counts."""

import contextlib
import random
import sys

if sys.argv[1] == "opensearch-2.19":
    import opensearchpy as package
    from opensearchpy import OpenSearch as Client
    from opensearchpy import helpers
else:
    import elasticsearch as package
    from elasticsearch import Elasticsearch as Client
    from elasticsearch import helpers


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
    # Client 5 writes a space in a path as "+", which engines up to 6 read as a space, and RFC 3986 and trailgate as a plus.
    ids = [id for id in IDS if " " not in id]

    def mapping(self, fields):
        return {"event": {"properties": fields}}

    def total(self, answer):
        return answer["hits"]["total"]

    def action(self, operation, **where):
        return {operation: {"_type": "event", **where}}

    def where(self, **where):
        return {"_type": "event", **where}


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


# How events are mapped.
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


class Run:
    def __init__(self, name, endpoint, compress=False):
        self.name = name
        self.e = Elasticsearch5() if name == "elasticsearch-5.6" else Engine()
        self.endpoint = endpoint
        # No retries: a failure is to be seen, not smoothed over.
        self.options = {"max_retries": 0, "timeout": 60}
        if compress:
            self.options["http_compress"] = True
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
