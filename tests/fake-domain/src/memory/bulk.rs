//! The bulk API: many changes in one request.

use serde_json::{Value, json};

use super::{Answer, Call, Error, Indices, Operation, Reply, parse, query::single};

impl Indices {
    pub(super) fn bulk(&mut self, default_index: Option<&str>, call: &Call) -> Answer {
        if !call.body.ends_with('\n') {
            return Err(Error::illegal("The bulk request must be terminated by a newline [\\n]"));
        }
        let mut items = Vec::new();
        let mut errors = false;
        let mut lines = call.body.lines().filter(|line| !line.trim().is_empty());
        while let Some(line) = lines.next() {
            let action = parse(line)?;
            let (name, meta) = single(&action).ok_or_else(|| Error::illegal("Malformed action/metadata line"))?;
            let operation = match name {
                "index" => Operation::Index,
                "create" => Operation::Create,
                "delete" => Operation::Delete,
                other => return Err(Error::illegal(format!("Unknown action [{other}]"))),
            };
            let index = meta.get("_index").and_then(Value::as_str).or(default_index);
            let index = index.ok_or_else(|| Error::illegal("Validation Failed: 1: index is missing;"))?;
            let id = meta.get("_id").and_then(Value::as_str);
            let source = match operation {
                Operation::Delete => Value::Null,
                _ => parse(lines.next().ok_or_else(|| Error::illegal("An action has no document"))?)?,
            };
            if id.is_none() && matches!(operation, Operation::Delete) {
                return Err(Error::illegal("Validation Failed: 1: id is missing;"));
            }
            let item = match self.judge(&source).and_then(|()| self.write(operation, index, id, source)) {
                Ok((status, mut item)) => {
                    item["status"] = status.as_u16().into();
                    item
                }
                Err(error) => {
                    errors = true;
                    json!({ "_index": index, "_id": id, "status": error.status.as_u16(), "error": error.cause() })
                }
            };
            items.push(json!({ name: item }));
        }
        Ok(Reply::ok(json!({ "took": 1, "errors": errors, "items": items })))
    }
}
