//! The cat API: the list of indices, as text and as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Answer, Call, Indices, Reply};

impl Indices {
    pub(super) fn cat(&self, names: &str, call: &Call) -> Answer {
        let rows: Vec<[String; 10]> = self
            .find(names)?
            .into_iter()
            .map(|(name, index)| {
                let count = index.documents.len().to_string();
                let bytes: usize = index.documents.values().map(|document| document.source.to_string().len()).sum();
                let size = format!("{bytes}b");
                ["green", "open", name, &format!("uuid-{name}"), "1", "0", &count, "0", &size, &size].map(str::to_owned)
            })
            .collect();
        if call.parameter("format") == Some("json") {
            let row = |row: &[String; 10]| {
                Value::Object(COLUMNS.iter().map(|&c| c.to_owned()).zip(row.iter().map(|cell| json!(cell))).collect())
            };
            return Ok(Reply::ok(rows.iter().map(row).collect()));
        }
        let has_heading = call.parameter("v").is_some_and(|v| v != "false");
        let heading = has_heading.then(|| COLUMNS.map(str::to_owned));
        let lines: Vec<[String; 10]> = heading.into_iter().chain(rows).collect();
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
        let mut text = String::new();
        for line in &lines {
            let mut padded = String::new();
            for (column, cell) in line.iter().enumerate() {
                let _ = write!(padded, "{cell:0$} ", width(column));
            }
            text.push_str(padded.trim_end());
            text.push('\n');
        }
        Ok(Reply::Text(text))
    }
}

const COLUMNS: [&str; 10] =
    ["health", "status", "index", "uuid", "pri", "rep", "docs.count", "docs.deleted", "store.size", "pri.store.size"];
