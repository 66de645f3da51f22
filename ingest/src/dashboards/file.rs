//! Saved objects as files, to be imported by hand.

use serde_json::json;

use super::format::{Form, Kind};
use super::saved::Object;

/// What the file of a form is called.
#[must_use]
pub fn name(form: Form) -> &'static str {
    match form {
        Form::Kibana5 => "kibana-5-6.json",
        Form::Kibana7 => "kibana-7-opensearch.ndjson",
    }
}

/// What its management page imports: for Kibana 5 and 6 one array, for later ones an object a line.
///
/// Kibana 5 and 6 import no index pattern; theirs is made on the page for it.
#[must_use]
pub fn text(objects: &[Object], form: Form) -> String {
    match form {
        Form::Kibana5 => {
            let objects = objects.iter().filter(|object| object.kind != Kind::IndexPattern);
            let lines = objects.map(|object| {
                json!({ "_id": object.id, "_type": object.kind.name(), "_source": object.attributes }).to_string()
            });
            format!("[\n{}\n]\n", lines.collect::<Vec<_>>().join(",\n"))
        }
        Form::Kibana7 => {
            let lines = objects.iter().map(|object| object.to_import().to_string());
            lines.flat_map(|line| [line, "\n".to_owned()]).collect()
        }
    }
}
