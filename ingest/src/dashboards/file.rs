//! Saved objects as files, to be imported by hand.

use serde_json::json;

use super::format::{ExportFormat, ObjectKind};
use super::saved::SavedObject;

/// Returns the name of the file of the access log's dashboard, which not every domain needs.
#[must_use]
pub fn access_log_file_name(format: ExportFormat) -> &'static str {
    match format {
        ExportFormat::Kibana5 => "access-log-kibana-5-6.json",
        ExportFormat::Kibana7 => "access-log-kibana-7-opensearch.ndjson",
    }
}

/// Returns the name of the file of the dashboards of events.
#[must_use]
pub fn file_name(format: ExportFormat) -> &'static str {
    match format {
        ExportFormat::Kibana5 => "kibana-5-6.json",
        ExportFormat::Kibana7 => "kibana-7-opensearch.ndjson",
    }
}

/// Returns the text that the management page imports: for Kibana 5 and 6 one array, for later ones an object a line.
///
/// Kibana 5 and 6 import no index pattern: it is created on its own page.
#[must_use]
pub fn file_text(objects: &[SavedObject], format: ExportFormat) -> String {
    match format {
        ExportFormat::Kibana5 => {
            let objects = objects.iter().filter(|object| object.kind != ObjectKind::IndexPattern);
            let lines = objects.map(|object| {
                json!({ "_id": object.id, "_type": object.kind.name(), "_source": object.attributes }).to_string()
            });
            format!("[\n{}\n]\n", lines.collect::<Vec<_>>().join(",\n"))
        }
        ExportFormat::Kibana7 => {
            let lines = objects.iter().map(|object| object.to_import().to_string());
            lines.flat_map(|line| [line, "\n".to_owned()]).collect()
        }
    }
}
