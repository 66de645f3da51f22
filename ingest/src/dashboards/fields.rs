//! The fields of the index pattern, as Kibana 5 and 6 keep them in it.
//!
//! They would find the fields themselves, but they take one that no document has yet for one that cannot be counted by,
//! and then show nothing of a dashboard that counts by it.

use serde_json::{Map, Value, json};

/// The fields of `mapping`, an object with `properties`, as the text of a list.
pub(super) fn list(mapping: &Value) -> String {
    let mut fields = Vec::new();
    collect("", mapping, &mut fields);
    for (name, kind) in [("_source", "_source"), ("_id", "string"), ("_index", "string"), ("_score", "number")] {
        fields.push(field(name, kind, false, false));
    }
    fields.push(field("_type", "string", true, true));
    Value::Array(fields).to_string()
}

fn collect(path: &str, mapping: &Value, fields: &mut Vec<Value>) {
    let within = ["properties", "fields"].into_iter().filter_map(|key| mapping.get(key)?.as_object());
    for (name, mapping) in within.flat_map(Map::iter) {
        let name = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match mapping["type"].as_str() {
            Some("keyword") => fields.push(field(&name, "string", true, true)),
            Some("text") => fields.push(field(&name, "string", true, false)),
            Some("long") => fields.push(field(&name, "number", true, true)),
            Some("object") | None => {}
            Some(kind) => fields.push(field(&name, kind, true, true)),
        }
        collect(&name, mapping, fields);
    }
}

fn field(name: &str, kind: &str, is_searchable: bool, is_aggregatable: bool) -> Value {
    json!({
        "name": name,
        "type": kind,
        "count": 0,
        "scripted": false,
        "indexed": is_searchable,
        "analyzed": is_searchable && !is_aggregatable,
        "doc_values": is_aggregatable,
        "searchable": is_searchable,
        "aggregatable": is_aggregatable,
        // What Kibana 6 calls doc_values.
        "readFromDocValues": is_aggregatable,
    })
}
