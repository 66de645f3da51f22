//! The saved objects of Kibana 7.10 and `OpenSearch` Dashboards, through their own HTTP API.

use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::super::file;
use super::super::format::ExportFormat;
use super::super::saved::SavedObject;
use crate::domain::json_client::{JSON, JsonClient, JsonRequestError};

/// The API, and the path where it was found.
pub(super) struct Api<'a> {
    client: JsonClient<'a>,
    path: &'static str,
}

impl<'a> Api<'a> {
    /// Finds the API where AWS's domains have it.
    pub(super) async fn find(client: JsonClient<'a>) -> Result<Option<Self>, JsonRequestError> {
        for path in ["/_dashboards", "/_plugin/kibana"] {
            match client.get::<Value>(&format!("{path}/api/status")).await {
                Ok(Some(status)) if status["version"]["number"].is_string() => return Ok(Some(Self { client, path })),
                // An engine responds as to an unknown index or plug-in, and a domain redirects.
                Ok(_) | Err(JsonRequestError::Unexpected { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    /// Fetches the attributes of each of these objects, none where it is missing.
    pub(super) async fn fetch_attributes(
        &self,
        wanted: &[SavedObject],
    ) -> Result<Vec<Option<Map<String, Value>>>, JsonRequestError> {
        let ids: Vec<_> = wanted.iter().map(|object| json!({ "type": object.kind.name(), "id": object.id })).collect();
        let path = format!("{}/api/saved_objects/_bulk_get", self.path);
        let response = self.client.send(Method::POST, &path, JSON, Value::Array(ids).to_string()).await?;
        let response: Value = response.json()?;
        let attributes = |nth: usize| {
            let object = &response["saved_objects"][nth];
            if object.get("error").is_some() { None } else { object["attributes"].as_object().cloned() }
        };
        Ok((0..wanted.len()).map(attributes).collect())
    }

    /// Imports the objects, in place of those with the same ids.
    pub(super) async fn put_objects(&self, objects: &[SavedObject]) -> Result<(), JsonRequestError> {
        if objects.is_empty() {
            return Ok(());
        }
        let path = format!("{}/api/saved_objects/_import?overwrite=true", self.path);
        let response = self.client.send(Method::POST, &path, FORM, multipart_form(objects)).await?;
        let response: Value = response.json()?;
        if response["success"] == true {
            return Ok(());
        }
        let excerpt = response["errors"].to_string();
        Err(JsonRequestError::Unexpected { request: format!("POST {path}"), status: StatusCode::OK, excerpt })
    }

    /// Makes `pattern` the default unless there is one; returns whether it did.
    pub(super) async fn set_default_pattern(&self, pattern: &str) -> Result<bool, JsonRequestError> {
        let product = if self.path == "/_dashboards" { "opensearch-dashboards" } else { "kibana" };
        let path = format!("{}/api/{product}/settings", self.path);
        let settings: Value = self.client.get(&path).await?.unwrap_or_default();
        if settings["settings"]["defaultIndex"]["userValue"].is_string() {
            return Ok(false);
        }
        let change = json!({ "changes": { "defaultIndex": pattern } });
        self.client.send(Method::POST, &path, JSON, change.to_string()).await?.json::<Value>()?;
        Ok(true)
    }
}

/// Returns the objects as the one file of a form, the format of an import (RFC 7578).
fn multipart_form(objects: &[SavedObject]) -> String {
    let lines = file::file_text(objects, ExportFormat::Kibana7);
    format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"trailgate.ndjson\"\r\n\
         Content-Type: application/ndjson\r\n\r\n{lines}\r\n--{BOUNDARY}--\r\n"
    )
}

/// Occurs in none of our objects.
const BOUNDARY: &str = "trailgate-4c1f0b7de2a95836";

const FORM: &str = "multipart/form-data; boundary=trailgate-4c1f0b7de2a95836";
