//! One index: its documents, and changes to them.

use std::collections::BTreeMap;

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{Error, Reply};

/// The documents by id.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) documents: BTreeMap<String, Document>,
    changes: u64,
}

#[derive(Debug)]
pub(super) struct Document {
    version: u64,
    pub(super) source: Value,
}

/// A change of one document.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Index,
    Create,
    Delete,
}

impl Index {
    /// Adds a document with a generated id.
    pub(super) fn add(&mut self, source: Value) -> String {
        let id = format!("auto-{:08}", self.changes);
        self.changes += 1;
        self.documents.insert(id.clone(), Document { version: 1, source });
        id
    }

    pub(super) fn get(&self, name: &str, id: &str) -> Reply {
        let found = self.documents.get(id);
        let mut body = json!({ "_index": name, "_type": "_doc", "_id": id, "found": found.is_some() });
        let Some(document) = found else { return Reply::Json(StatusCode::NOT_FOUND, body) };
        body["_version"] = document.version.into();
        body["_source"] = document.source.clone();
        Reply::ok(body)
    }

    pub(super) fn write(
        &mut self,
        operation: Operation,
        name: &str,
        id: Option<&str>,
        source: Value,
    ) -> Result<(StatusCode, Value), Error> {
        let change = self.changes;
        let Some(id) = id else {
            let id = self.add(source);
            return Ok((StatusCode::CREATED, item(name, &id, 1, "created", change)));
        };
        let version = self.documents.get(id).map(|document| document.version);
        let (status, result) = match (operation, version) {
            (Operation::Create, Some(version)) => {
                let reason = format!("[{id}]: version conflict, document already exists (current version [{version}])");
                let kind = "version_conflict_engine_exception";
                return Err(Error { status: StatusCode::CONFLICT, kind, reason });
            }
            (Operation::Index | Operation::Create, None) => (StatusCode::CREATED, "created"),
            (Operation::Index, Some(_)) => (StatusCode::OK, "updated"),
            (Operation::Delete, Some(_)) => (StatusCode::OK, "deleted"),
            (Operation::Delete, None) => (StatusCode::NOT_FOUND, "not_found"),
        };
        self.changes += 1;
        let version = version.unwrap_or(0) + 1;
        match operation {
            Operation::Delete => drop(self.documents.remove(id)),
            _ => drop(self.documents.insert(id.to_owned(), Document { version, source })),
        }
        Ok((status, item(name, id, version, result, change)))
    }
}

fn item(index: &str, id: &str, version: u64, result: &str, change: u64) -> Value {
    json!({
        "_index": index, "_type": "_doc", "_id": id, "_version": version, "result": result,
        "_shards": { "total": 1, "successful": 1, "failed": 0 }, "_seq_no": change, "_primary_term": 1,
    })
}
