//! The subset of Kibana 7.10's saved objects API that an import needs.

use std::{collections::BTreeMap, sync::Mutex};

use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::{
    kibana,
    seen::Seen,
    server::{Body, json_response},
    wire::lock,
};

/// Saved objects by type and id, and the settings.
#[derive(Debug, Default)]
pub(crate) struct SavedObjects(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    objects: BTreeMap<(String, String), Value>,
    settings: Map<String, Value>,
}

impl SavedObjects {
    /// Returns the response to a call of Kibana's API.
    pub(crate) fn answer(&self, seen: &Seen) -> Option<Response<Body>> {
        let path = kibana::inner_target(seen.path()).filter(|_| seen.path().starts_with("/_plugin/kibana/api/"))?;
        if seen.method != "GET" && seen.header("kbn-xsrf").is_none() {
            let message = "Request must contain a kbn-xsrf header.";
            return Some(json_response(StatusCode::BAD_REQUEST, &json!({ "statusCode": 400, "message": message })));
        }
        let mut kept = lock(&self.0);
        let answer = match (seen.method.as_str(), path) {
            ("GET", "/api/status") => json!({ "name": "kibana", "version": { "number": "7.10.2" } }),
            ("GET", "/api/kibana/settings") => json!({ "settings": kept.settings }),
            ("POST", "/api/kibana/settings") => kept.set(&read(&seen.body)?),
            ("POST", "/api/saved_objects/_bulk_get") => kept.get(&read(&seen.body)?),
            ("POST", "/api/saved_objects/_import") => kept.import(&file(seen)?)?,
            ("PUT", _) => {
                kept.change(path.strip_prefix("/api/saved_objects/")?.split_once('/')?, &read(&seen.body)?)?
            }
            _ => return None,
        };
        Some(json_response(StatusCode::OK, &answer))
    }
}

impl Kept {
    fn set(&mut self, body: &Value) -> Value {
        for (key, value) in body["changes"].as_object().into_iter().flatten() {
            self.settings.insert(key.clone(), json!({ "userValue": value }));
        }
        json!({ "settings": self.settings })
    }

    fn get(&self, wanted: &Value) -> Value {
        let objects = wanted.as_array().into_iter().flatten().map(|wanted| {
            let missing = || json!({ "type": wanted["type"], "id": wanted["id"], "error": { "statusCode": 404 } });
            key(wanted).and_then(|key| self.objects.get(&key).cloned()).unwrap_or_else(missing)
        });
        json!({ "saved_objects": objects.collect::<Vec<_>>() })
    }

    /// Imports one object per line. All fail if one refers to an object that does not exist.
    fn import(&mut self, lines: &str) -> Option<Value> {
        let objects: Vec<Value> = lines.lines().map(serde_json::from_str).collect::<Result<_, _>>().ok()?;
        let new: BTreeMap<_, _> = objects.into_iter().filter_map(|object| Some((key(&object)?, object))).collect();
        let references = new.values().flat_map(|object| object["references"].as_array().into_iter().flatten());
        let is_there = |key: (String, String)| new.contains_key(&key) || self.objects.contains_key(&key);
        let missing: Vec<&Value> = references.filter(|reference| !key(reference).is_some_and(is_there)).collect();
        if !missing.is_empty() {
            let error = json!({ "type": "missing_references", "references": missing });
            return Some(json!({ "success": false, "successCount": 0, "errors": [{ "error": error }] }));
        }
        let count = new.len();
        self.objects.extend(new);
        Some(json!({ "success": true, "successCount": count }))
    }

    fn change(&mut self, (kind, id): (&str, &str), body: &Value) -> Option<Value> {
        let object = self.objects.get_mut(&(kind.to_owned(), id.to_owned()))?;
        let attributes = object["attributes"].as_object_mut()?;
        attributes.extend(body["attributes"].as_object()?.clone());
        Some(object.clone())
    }
}

fn key(object: &Value) -> Option<(String, String)> {
    Some((object["type"].as_str()?.to_owned(), object["id"].as_str()?.to_owned()))
}

fn read(body: &[u8]) -> Option<Value> {
    serde_json::from_slice(body).ok()
}

/// Returns the only file of a form, whose name must have the extension of an export.
fn file(seen: &Seen) -> Option<String> {
    let boundary = seen.header("content-type")?.strip_prefix("multipart/form-data; boundary=")?;
    let body = std::str::from_utf8(&seen.body).ok()?;
    let part = body.strip_prefix(&format!("--{boundary}\r\n"))?.strip_suffix(&format!("\r\n--{boundary}--\r\n"))?;
    let (head, file) = part.split_once("\r\n\r\n")?;
    (head.contains("name=\"file\"") && head.contains(".ndjson\"")).then(|| file.to_owned())
}
