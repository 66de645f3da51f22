//! Kibana 7.10 and `OpenSearch` Dashboards, which take objects through their own interface.

use serde_json::{Map, Value, json};

use super::super::file;
use super::super::format::Form;
use super::super::saved::Object;
use super::link::{InstallError, Link};

/// The interface.
pub(super) struct Api<'a> {
    link: Link<'a>,
    path: &'static str,
}

impl<'a> Api<'a> {
    /// Looks where AWS's domains have it.
    pub(super) async fn find(link: Link<'a>) -> Result<Self, InstallError> {
        for path in ["/_dashboards", "/_plugin/kibana"] {
            match link.get(&format!("{path}/api/status")).await {
                Ok(Some(status)) if status["version"]["number"].is_string() => return Ok(Self { link, path }),
                // An engine takes such a path for an index or a plug-in that it does not know, and a domain leads away.
                Ok(_) | Err(InstallError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Err(InstallError::NoKibana("none answers below /_dashboards or /_plugin/kibana"))
    }

    pub(super) fn path(&self) -> &'static str {
        self.path
    }

    /// The attributes of these objects, where they are there.
    pub(super) async fn found(&self, wanted: &[Object]) -> Result<Vec<Option<Map<String, Value>>>, InstallError> {
        let asked: Vec<_> =
            wanted.iter().map(|object| json!({ "type": object.kind.name(), "id": object.id })).collect();
        let path = format!("{}/api/saved_objects/_bulk_get", self.path);
        let answer = self.link.post(&path, JSON, Value::Array(asked).to_string()).await?;
        let found = |nth: usize| {
            let object = &answer["saved_objects"][nth];
            if object.get("error").is_some() { None } else { object["attributes"].as_object().cloned() }
        };
        Ok((0..wanted.len()).map(found).collect())
    }

    pub(super) async fn put(&self, objects: &[Object]) -> Result<(), InstallError> {
        if objects.is_empty() {
            return Ok(());
        }
        let path = format!("{}/api/saved_objects/_import?overwrite=true", self.path);
        let answer = self.link.post(&path, FORM, form(objects)).await?;
        if answer["success"] == true {
            return Ok(());
        }
        let answer = answer["errors"].to_string();
        Err(InstallError::Refused { request: format!("POST {path}"), status: hyper::StatusCode::OK, answer })
    }

    /// Makes `pattern` the default where none is. Says whether it did.
    pub(super) async fn set_default(&self, pattern: &str) -> Result<bool, InstallError> {
        let product = if self.path == "/_dashboards" { "opensearch-dashboards" } else { "kibana" };
        let path = format!("{}/api/{product}/settings", self.path);
        let settings = self.link.get(&path).await?.unwrap_or_default();
        if settings["settings"]["defaultIndex"]["userValue"].is_string() {
            return Ok(false);
        }
        let change = json!({ "changes": { "defaultIndex": pattern } });
        self.link.post(&path, JSON, change.to_string()).await?;
        Ok(true)
    }
}

/// The objects as the one file of a form, which is how they are imported (RFC 7578).
fn form(objects: &[Object]) -> String {
    let lines = file::text(objects, Form::Kibana7);
    format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"trailgate.ndjson\"\r\n\
         Content-Type: application/ndjson\r\n\r\n{lines}\r\n--{BOUNDARY}--\r\n"
    )
}

/// In no object of ours.
const BOUNDARY: &str = "trailgate-4c1f0b7de2a95836";

const FORM: &str = "multipart/form-data; boundary=trailgate-4c1f0b7de2a95836";

const JSON: &str = "application/json";
