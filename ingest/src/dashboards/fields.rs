//! The fields of the index pattern, as Kibana and `OpenSearch` Dashboards keep them in it.
//!
//! They would detect the fields themselves. But Kibana 5 and 6 cannot aggregate by a field that no document has yet,
//! and then show nothing of a dashboard that does. And in Dashboards each panel of the first page would write the
//! fields that it found, concurrently and in conflict with the others.

use serde_json::{Map, Value, json};

use super::format::ExportFormat;

/// Returns the fields of `mapping`, an object with `properties`, as the text of a list.
pub(super) fn field_list(mapping: &Value, format: ExportFormat) -> String {
    let mut fields = Vec::new();
    collect("", None, mapping, &mut fields);
    for name in ["_source", "_id", "_index", "_score"] {
        let kind = match name {
            "_source" => "_source",
            "_score" => "number",
            _ => "string",
        };
        // Dashboards searches and aggregates by the names of documents and indices, Kibana 5 does not.
        let is_known = format == ExportFormat::Kibana7 && kind == "string";
        fields.push(Field {
            name: name.to_owned(),
            parent: None,
            kind,
            mapped: name,
            is_searchable: is_known,
            is_aggregatable: is_known,
        });
    }
    fields.push(Field {
        name: "_type".to_owned(),
        parent: None,
        kind: "string",
        mapped: "_type",
        is_searchable: true,
        is_aggregatable: true,
    });
    Value::Array(fields.iter().map(|field| field.to_json(format)).collect()).to_string()
}

/// Returns the formats of the fields that count bytes, as the text of an object; none if there are no such fields.
pub(super) fn format_map(mapping: &Value) -> Option<String> {
    let properties = mapping.get("properties")?.as_object()?;
    let formats = properties.keys().filter(|name| name.starts_with("bytes_"));
    let formats: Map<String, Value> = formats.map(|name| (name.clone(), json!({ "id": "bytes" }))).collect();
    (!formats.is_empty()).then(|| Value::Object(formats).to_string())
}

/// A field of the index pattern.
struct Field<'a> {
    name: String,
    /// The field of which this is a multi-field.
    parent: Option<String>,
    kind: &'a str,
    /// The type in the mapping.
    mapped: &'a str,
    is_searchable: bool,
    is_aggregatable: bool,
}

fn collect<'a>(path: &str, parent: Option<&str>, mapping: &'a Value, fields: &mut Vec<Field<'a>>) {
    for (key, mappings) in
        ["properties", "fields"].into_iter().filter_map(|key| Some((key, mapping.get(key)?.as_object()?)))
    {
        for (name, mapping) in mappings {
            let name = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let parent = if key == "fields" { parent } else { None };
            if let Some(mapped) = mapping["type"].as_str().filter(|mapped| *mapped != "object") {
                fields.push(Field {
                    name: name.clone(),
                    parent: parent.map(str::to_owned),
                    kind: match mapped {
                        "keyword" | "text" => "string",
                        "long" | "double" => "number",
                        other => other,
                    },
                    mapped,
                    is_searchable: true,
                    is_aggregatable: mapped != "text",
                });
            }
            collect(&name, Some(&name), mapping, fields);
        }
    }
}

impl Field<'_> {
    fn to_json(&self, format: ExportFormat) -> Value {
        let Self { name, parent, kind, mapped, is_searchable, is_aggregatable } = self;
        let (is_searchable, is_aggregatable) = (*is_searchable, *is_aggregatable);
        let mut field = json!({ "name": name, "type": kind, "count": 0, "scripted": false });
        if format == ExportFormat::Kibana7 {
            field["esTypes"] = json!([mapped]);
        } else {
            field["indexed"] = is_searchable.into();
            field["analyzed"] = (is_searchable && !is_aggregatable).into();
            field["doc_values"] = is_aggregatable.into();
        }
        field["searchable"] = is_searchable.into();
        field["aggregatable"] = is_aggregatable.into();
        // Kibana 5 calls it doc_values. Documents' names have none.
        field["readFromDocValues"] =
            (is_aggregatable && !(format == ExportFormat::Kibana7 && name.starts_with('_'))).into();
        if let Some(parent) = parent.as_ref().filter(|_| format == ExportFormat::Kibana7) {
            field["subType"] = json!({ "multi": { "parent": parent } });
        }
        field
    }
}
