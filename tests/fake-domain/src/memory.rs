//! Documents in memory, with the subset of Elasticsearch's API that `CloudTrail` events in an index need.

mod bulk;
mod cat;
mod index;
mod query;
mod search;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, collections::BTreeMap, io::Read, sync::Mutex};

use flate2::read::MultiGzDecoder;
use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde_json::{Value, json};

use self::index::{Index, Operation};
use crate::{
    fault::{ItemRefusal, ItemRule},
    seen::Seen,
    server::{Body, full, json_response},
    verify::decode,
    wire::lock,
};

/// All indices.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Indices>);

/// The indices by name, and the state that is not part of one.
#[derive(Debug, Default)]
struct Indices {
    by_name: BTreeMap<String, Index>,
    /// Index templates, which are stored without effect.
    templates: BTreeMap<String, Value>,
    judge: Judge,
}

/// A rule for bulk items, and the number of items received.
#[derive(Debug, Default)]
struct Judge {
    rule: Option<ItemRule>,
    items: usize,
}

/// A request to Elasticsearch's API.
struct Call {
    method: String,
    path: String,
    parameters: Vec<(String, String)>,
    body: String,
}

/// A response of Elasticsearch's API.
enum Reply {
    Json(StatusCode, Value),
    Text(String),
}

/// An error response of Elasticsearch's API.
#[derive(Debug)]
struct Error {
    status: StatusCode,
    kind: &'static str,
    reason: String,
}

type Answer = Result<Reply, Error>;

impl Memory {
    pub(crate) fn load(&self, index: &str, documents: impl IntoIterator<Item = Value>) {
        let mut indices = lock(&self.0);
        let index = indices.by_name.entry(index.to_owned()).or_default();
        for document in documents {
            index.add(document);
        }
    }

    pub(crate) fn judge(&self, rule: Option<ItemRule>) {
        lock(&self.0).judge = Judge { rule, items: 0 };
    }

    pub(crate) fn answer(&self, seen: &Seen) -> Response<Body> {
        match Call::read(seen).and_then(|call| lock(&self.0).answer(&call)) {
            Ok(Reply::Json(status, body)) => json_response(status, &body),
            Ok(Reply::Text(text)) => {
                let mut response = Response::new(full(text));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
                response
            }
            Err(error) => json_response(error.status, &error.body()),
        }
    }
}

impl Indices {
    fn answer(&mut self, call: &Call) -> Answer {
        let path: Vec<String> = call.path.split('/').filter(|part| !part.is_empty()).map(decode_text).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match (call.method.as_str(), path.as_slice()) {
            ("GET" | "HEAD", []) => Ok(Reply::ok(banner())),
            ("GET", ["_cluster", "health"]) => Ok(Reply::ok(self.health())),
            ("GET", ["_cat", "indices"]) => self.cat("*", call),
            ("GET", ["_cat", "indices", names]) => self.cat(names, call),
            ("PUT" | "POST", ["_template" | "_index_template", name]) => {
                self.templates.insert((*name).to_owned(), call.json()?);
                Ok(Reply::ok(json!({ "acknowledged": true })))
            }
            ("GET", ["_template", name]) => Ok(match self.templates.get(*name) {
                Some(template) => Reply::ok(json!({ *name: template })),
                None => Reply::Json(StatusCode::NOT_FOUND, json!({})),
            }),
            ("PUT" | "POST", ["_bulk"]) => self.bulk(None, call),
            ("PUT" | "POST", [index, "_bulk"]) => self.bulk(Some(index), call),
            ("GET" | "POST", ["_search"]) => self.search("*", call),
            ("GET" | "POST", [names, "_search"]) => self.search(names, call),
            ("GET" | "POST", ["_count"]) => self.count("*", call),
            ("GET" | "POST", [names, "_count"]) => self.count(names, call),
            ("PUT" | "POST", [index, "_doc", id]) => self.put(Operation::Index, index, Some(id), call),
            ("PUT" | "POST", [index, "_create", id]) => self.put(Operation::Create, index, Some(id), call),
            ("POST", [index, "_doc"]) => self.put(Operation::Index, index, None, call),
            ("GET" | "HEAD", [index, "_doc", id]) => Ok(self.existing(index)?.get(index, id)),
            ("DELETE", [index, "_doc", id]) => {
                let (status, item) = self.write(Operation::Delete, index, Some(id), Value::Null)?;
                Ok(Reply::Json(status, item))
            }
            ("PUT", [index]) if !index.starts_with('_') => self.create(index),
            ("HEAD", [names]) if !names.starts_with('_') => self.find(names).map(|_| Reply::Text(String::new())),
            (method, _) => {
                Err(Error::illegal(format!("no handler found for uri [{}] and method [{method}]", call.path)))
            }
        }
    }

    fn health(&self) -> Value {
        json!({
            "cluster_name": "fake-domain", "status": "green", "timed_out": false, "number_of_nodes": 1,
            "number_of_data_nodes": 1, "active_primary_shards": self.by_name.len(), "active_shards": self.by_name.len(),
            "relocating_shards": 0, "initializing_shards": 0, "unassigned_shards": 0,
        })
    }

    fn create(&mut self, index: &str) -> Answer {
        check_name(index)?;
        if self.by_name.contains_key(index) {
            let reason = format!("index [{index}] already exists");
            return Err(Error { kind: "resource_already_exists_exception", ..Error::illegal(reason) });
        }
        self.by_name.insert(index.to_owned(), Index::default());
        Ok(Reply::ok(json!({ "acknowledged": true, "shards_acknowledged": true, "index": index })))
    }

    fn put(&mut self, operation: Operation, index: &str, id: Option<&str>, call: &Call) -> Answer {
        let (status, item) = self.write(operation, index, id, call.json()?)?;
        Ok(Reply::Json(status, item))
    }

    /// Changes one document, and creates its index if it does not exist.
    fn write(
        &mut self,
        operation: Operation,
        index: &str,
        id: Option<&str>,
        source: Value,
    ) -> Result<(StatusCode, Value), Error> {
        check_name(index)?;
        self.by_name.entry(index.to_owned()).or_default().write(operation, index, id, source)
    }

    /// Rejects an item of a `_bulk` request if the rule does.
    fn judge(&mut self, source: &Value) -> Result<(), Error> {
        let number = self.judge.items;
        self.judge.items += 1;
        match self.judge.rule.and_then(|rule| rule(number, source)) {
            None => Ok(()),
            Some(ItemRefusal { status, kind }) => Err(Error {
                status: StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                kind,
                reason: format!("a rule refuses [{source}]"),
            }),
        }
    }

    fn existing(&self, index: &str) -> Result<&Index, Error> {
        self.by_name.get(index).ok_or_else(|| Error {
            status: StatusCode::NOT_FOUND,
            kind: "index_not_found_exception",
            reason: format!("no such index [{index}]"),
        })
    }

    /// Returns the indices that match a list of names and patterns: `cwl-2015.08.30,trail-*`.
    fn find(&self, names: &str) -> Result<Vec<(&str, &Index)>, Error> {
        let names: Vec<&str> = names.split(',').map(|name| if name == "_all" { "*" } else { name }).collect();
        for name in names.iter().filter(|name| !name.contains('*')) {
            self.existing(name)?;
        }
        let is_meant = |index: &str| names.iter().any(|name| matches(name, index));
        Ok(self.by_name.iter().filter(|(name, _)| is_meant(name)).map(|(name, index)| (name.as_str(), index)).collect())
    }
}

impl Call {
    fn read(seen: &Seen) -> Result<Self, Error> {
        let (path, query) = seen.target.split_once('?').unwrap_or((&seen.target, ""));
        let parameters = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_text(&key.replace('+', " ")), decode_text(&value.replace('+', " ")))
        });
        let body = match seen.header("content-encoding") {
            None => Cow::Borrowed(&seen.body[..]),
            Some("gzip") => {
                let mut plain = Vec::new();
                let read = MultiGzDecoder::new(&seen.body[..]).read_to_end(&mut plain);
                read.map_err(|error| Error::illegal(format!("the body is not gzip: {error}")))?;
                Cow::Owned(plain)
            }
            Some(other) => return Err(Error::illegal(format!("unknown content encoding [{other}]"))),
        };
        let content_type = seen.header("content-type").unwrap_or_default();
        if !body.is_empty() && !content_type.contains("json") {
            return Err(Error {
                status: StatusCode::NOT_ACCEPTABLE,
                kind: "media_type_header_exception",
                reason: format!("Content-Type header [{content_type}] is not supported"),
            });
        }
        Ok(Self {
            method: seen.method.clone(),
            path: path.to_owned(),
            parameters: parameters.collect(),
            body: String::from_utf8(body.into_owned()).map_err(|_| Error::illegal("the body is not UTF-8"))?,
        })
    }

    fn json(&self) -> Result<Value, Error> {
        parse(&self.body)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

impl Reply {
    fn ok(body: Value) -> Self {
        Self::Json(StatusCode::OK, body)
    }
}

impl Error {
    fn illegal(reason: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "illegal_argument_exception", reason: reason.into() }
    }

    fn parsing(reason: impl Into<String>) -> Self {
        Self { kind: "parsing_exception", ..Self::illegal(reason) }
    }

    fn cause(&self) -> Value {
        json!({ "type": self.kind, "reason": self.reason })
    }

    fn body(&self) -> Value {
        json!({
            "error": { "root_cause": [self.cause()], "type": self.kind, "reason": self.reason },
            "status": self.status.as_u16(),
        })
    }
}

fn banner() -> Value {
    json!({
        "name": "fake-domain",
        "cluster_name": "fake-domain",
        "cluster_uuid": "fake-domain-uuid",
        "version": {
            "number": "7.10.2", "build_flavor": "oss", "build_type": "tar", "build_hash": "unknown",
            "build_date": "2021-01-13T00:42:12.435326Z", "build_snapshot": false, "lucene_version": "8.7.0",
            "minimum_wire_compatibility_version": "6.8.0", "minimum_index_compatibility_version": "6.0.0-beta1",
        },
        "tagline": "You Know, for Search",
    })
}

fn check_name(index: &str) -> Result<(), Error> {
    let is_bad = index.starts_with(['_', '-', '+'])
        || index.chars().any(|c| c.is_uppercase() || r#" "*,/<>?\|#:"#.contains(c))
        || index.is_empty();
    if is_bad {
        let reason = format!("Invalid index name [{index}]");
        return Err(Error { kind: "invalid_index_name_exception", ..Error::illegal(reason) });
    }
    Ok(())
}

/// Returns whether a name matches a pattern in which `*` matches any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, rest)) => name
            .strip_prefix(start)
            .is_some_and(|tail| tail.char_indices().any(|(at, _)| matches(rest, &tail[at..])) || matches(rest, "")),
    }
}

fn parse(json: &str) -> Result<Value, Error> {
    serde_json::from_str(json).map_err(|error| Error::parsing(format!("the body is not JSON: {error}")))
}

fn decode_text(text: &str) -> String {
    String::from_utf8_lossy(&decode(text.as_bytes())).into_owned()
}
