//! The saved objects of Kibana 5 and 6: documents of the index `.kibana`.

use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::super::saved::SavedObject;
use crate::domain::json_client::{JSON, JsonClient, JsonRequestError};

/// The index, and the layout of its documents.
pub(super) struct Index<'a> {
    client: JsonClient<'a>,
    layout: Layout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// A document type for each kind.
    Typed,
    /// One type for all, the kind within the document: since an index of Elasticsearch 6 has but one.
    OneType,
}

impl<'a> Index<'a> {
    /// Finds the index, which Kibana creates when it is first started.
    pub(super) async fn find(client: JsonClient<'a>) -> Result<Option<Self>, JsonRequestError> {
        let mapping: Option<Value> = client.get("/.kibana/_mapping").await?;
        Ok(mapping.map(|mapping| Self { client, layout: Layout::of(&mapping) }))
    }

    /// Fetches the attributes of each of these objects, none where it is missing.
    pub(super) async fn fetch_attributes(
        &self,
        wanted: &[SavedObject],
    ) -> Result<Vec<Option<Map<String, Value>>>, JsonRequestError> {
        let documents: Vec<_> = wanted.iter().map(|object| self.layout.address(object)).collect();
        let body = json!({ "docs": documents }).to_string();
        let response: Value = self.client.send(Method::POST, "/.kibana/_mget", JSON, body).await?.json()?;
        Ok((wanted.iter().enumerate())
            .map(|(nth, object)| self.layout.attributes(&response["docs"][nth]["_source"], object.kind.name()))
            .collect())
    }

    /// Writes the objects, in place of those with the same ids.
    pub(super) async fn put_objects(&self, objects: &[SavedObject]) -> Result<(), JsonRequestError> {
        if objects.is_empty() {
            return Ok(());
        }
        if self.layout == Layout::Typed {
            self.put_mappings().await?;
        }
        let lines = objects.iter().flat_map(|object| {
            let document = match self.layout {
                Layout::Typed => Value::Object(object.attributes.clone()),
                Layout::OneType => json!({ "type": object.kind.name(), object.kind.name(): object.attributes }),
            };
            [json!({ "index": self.layout.address(object) }), document]
        });
        let body: String = lines.flat_map(|line| [line.to_string(), "\n".to_owned()]).collect();
        let response: Value = self.client.send(Method::POST, BULK, "application/x-ndjson", body).await?.json()?;
        match first_failure(&response) {
            None => Ok(()),
            Some((status, excerpt)) => {
                Err(JsonRequestError::Unexpected { request: format!("POST {BULK}"), status, excerpt })
            }
        }
    }

    /// Puts the mapping of each type that Kibana 5 puts before it saves the first object of the type.
    ///
    /// A field has one mapping in all types of an index: with numbers as the engine guesses them, those of the types
    /// that come later, such as Timelion's sheets, would be refused.
    async fn put_mappings(&self) -> Result<(), JsonRequestError> {
        for (kind, mapping) in mappings() {
            let path = format!("/.kibana/_mapping/{kind}");
            let mapping = json!({ kind: { "properties": mapping } }).to_string();
            let response = self.client.send(Method::PUT, &path, JSON, mapping).await?;
            // Objects of an older release exist, and the mapping of their fields cannot change any more.
            if response.status() == StatusCode::BAD_REQUEST {
                tracing::warn!(kind, "cannot map Timelion sheets: .kibana has a mapping of another kind");
            } else {
                response.json::<Value>()?;
            }
        }
        Ok(())
    }

    /// Makes `pattern` the default unless there is one, which Kibana needs to open any page; returns whether it did.
    pub(super) async fn set_default_pattern(&self, pattern: &str) -> Result<bool, JsonRequestError> {
        let search = match self.layout {
            Layout::Typed => "/.kibana/config/_search?size=100",
            Layout::OneType => "/.kibana/doc/_search?size=100&q=type:config",
        };
        let found: Value = self.client.get(search).await?.unwrap_or_default();
        let mut is_changed = false;
        // One for each version of Kibana that used the index.
        for hit in found["hits"]["hits"].as_array().into_iter().flatten() {
            let settings = self.layout.attributes(&hit["_source"], "config").unwrap_or_default();
            let (Some(kind), Some(id)) = (hit["_type"].as_str(), hit["_id"].as_str()) else { continue };
            if settings.get("defaultIndex").is_none_or(Value::is_null) {
                let change = json!({ "defaultIndex": pattern });
                let change = if self.layout == Layout::Typed { change } else { json!({ "config": change }) };
                let path = format!("/.kibana/{kind}/{id}/_update?refresh=true");
                let update = json!({ "doc": change }).to_string();
                self.client.send(Method::POST, &path, JSON, update).await?.json::<Value>()?;
                is_changed = true;
            }
        }
        Ok(is_changed)
    }
}

/// Returns the mappings of Kibana 5.1, in its `_saved_search.js`, `_saved_vis.js`, `_saved_dashboard.js` and
/// `_index_pattern.js`. Its strings are texts since Elasticsearch 5.
fn mappings() -> [(&'static str, Value); 4] {
    let origin = json!({ "properties": { "searchSourceJSON": { "type": "text" } } });
    let text = json!({ "type": "text" });
    let integer = json!({ "type": "integer" });
    [
        (
            "search",
            json!({
                "title": text, "description": text, "hits": integer, "columns": text, "sort": text, "version": integer,
                "kibanaSavedObjectMeta": origin,
            }),
        ),
        (
            "visualization",
            json!({
                "title": text, "visState": text, "uiStateJSON": text, "description": text, "savedSearchId": text,
                "version": integer, "kibanaSavedObjectMeta": origin,
            }),
        ),
        (
            "dashboard",
            json!({
                "title": text, "hits": integer, "description": text, "panelsJSON": text, "optionsJSON": text,
                "uiStateJSON": text, "version": integer, "timeRestore": { "type": "boolean" }, "timeTo": text,
                "timeFrom": text, "kibanaSavedObjectMeta": origin,
                "refreshInterval": { "properties": {
                    "display": text, "pause": { "type": "boolean" }, "section": integer, "value": integer,
                } },
            }),
        ),
        (
            "index-pattern",
            json!({
                "title": text, "timeFieldName": text, "notExpandable": { "type": "boolean" }, "intervalName": text,
                "fields": text, "sourceFilters": text, "fieldFormatMap": text,
            }),
        ),
    ]
}

impl Layout {
    fn of(mapping: &Value) -> Self {
        let mut indices = mapping.as_object().into_iter().flat_map(Map::values);
        if indices.any(|index| index["mappings"].get("doc").is_some()) { Self::OneType } else { Self::Typed }
    }

    fn address(self, object: &SavedObject) -> Value {
        let kind = object.kind.name();
        match self {
            Self::Typed => json!({ "_index": ".kibana", "_type": kind, "_id": object.id }),
            Self::OneType => json!({ "_index": ".kibana", "_type": "doc", "_id": format!("{kind}:{}", object.id) }),
        }
    }

    fn attributes(self, document: &Value, kind: &str) -> Option<Map<String, Value>> {
        let attributes = if self == Self::Typed { document } else { &document[kind] };
        attributes.as_object().cloned()
    }
}

/// Returns the status of the first item that was not written, and the error.
fn first_failure(response: &Value) -> Option<(StatusCode, String)> {
    response["items"].as_array()?.iter().find_map(|item| {
        let error = item["index"].get("error")?;
        let status = item["index"]["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        let status = status.and_then(|status| StatusCode::from_u16(status).ok());
        Some((status.unwrap_or(StatusCode::BAD_GATEWAY), error.to_string()))
    })
}

const BULK: &str = "/.kibana/_bulk?refresh=true";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_layout_is_detected_by_the_mapping() {
        let kibana_5 = json!({ ".kibana": { "mappings": { "config": {}, "dashboard": {} } } });
        assert_eq!(Layout::of(&kibana_5), Layout::Typed);
        assert_eq!(Layout::of(&json!({ ".kibana_1": { "mappings": { "doc": {} } } })), Layout::OneType);
    }

    #[test]
    fn rejected_item_is_a_failure() {
        let answer = json!({ "errors": true, "items": [
            { "index": { "status": 201 } },
            { "index": { "status": 400, "error": { "type": "mapper_parsing_exception" } } },
        ] });
        let (status, reason) = first_failure(&answer).unwrap();
        assert_eq!((status.as_u16(), reason.as_str()), (400, r#"{"type":"mapper_parsing_exception"}"#));
        assert_eq!(first_failure(&json!({ "items": [{ "index": { "status": 201 } }] })), None);
    }
}
