"""Steps that write events in CloudTrail's shape, search them, and read them back."""

import datetime
import json
import random
import threading

from frame import FIELDS, Client, Run, helpers, same

# Values searched for as q=..., in a keyword field: each must find its own document and no other.
TERMS = [
    "a+b", "100%", "a;b", "a%2Bb", "%25", "a%b", "a&b=c", "a=b", "a#b", "a,b", "a@b", "a'b", "x;q=y",
    "é", "漢字", "😀", "cafe\u0301",
]


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


EVENTS = 500


class Searches(Run):
    # Each method that says what it does is a step, in this order.

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
        zipped = Client([self.endpoint], **{**self.options, "http_compress": True})
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
        client = Client([self.endpoint], **{**self.options, **options})
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

    def large_document(self):
        """a document of 2 MB, there and back"""
        random.seed(2)
        letters = "abcdefghijklmnopqrstuvwxyz0123456789/+%\"\\ \n\u0001é漢😀"
        text = ""
        while len(text.encode()) < 2_000_000:
            text += "".join(random.choices(letters, k=50_000))
        clients = [self.client]
        if self.e.gzip:
            clients.append(Client([self.endpoint], **{**self.options, "http_compress": True}))
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

    def search_steps(self):
        yield from (self.info, self.mapping, self.index_and_get, self.bulk)
        if self.e.gzip:
            yield self.bulk_gzip
        yield from (
            self.bulk_parallel, self.bulk_failures, self.count, self.search, self.aggregation,
            self.get_with_body, self.scroll, self.msearch, self.mget, self.query_string, self.filter_path,
            self.large_document, self.threads,
        )
