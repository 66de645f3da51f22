"""Steps in which the path matters: ids and names of every kind, and what is done to a document by its id."""

import datetime

from frame import Mismatch, Run, package, refused, same

ROUTINGS = ["a+b", "a b/c", "100%&x=y;z", "é漢😀"]


class Names(Run):
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

    def name_steps(self):
        yield from (
            self.document_ids, self.document_ids_in_bodies, self.raw_paths, self.document_ids_changed,
            self.routing, self.update_and_delete, self.not_found, self.date_math, self.index_names,
        )
