//! The index template in the form of each engine, made of the one in `config/`.

use serde_json::{Map, Value, json};

use crate::engine::{Engine, EngineKind, TemplateForm};

/// Builds the template for one engine and one index pattern.
///
/// It fails only if the file has another shape, which a test excludes.
pub(crate) fn for_engine(kind: TemplateKind, engine: Engine, pattern: &str) -> Result<Value, serde_json::Error> {
    let source: Source = serde_json::from_str(kind.source())?;
    let Source { priority, mut template } = source;
    if engine.kind == EngineKind::Serverless {
        // A collection decides itself how to store its indices.
        for setting in ["number_of_shards", "auto_expand_replicas", "codec"] {
            template.settings["index"].as_object_mut().and_then(|settings| settings.shift_remove(setting));
        }
    }
    let Template { settings, mut mappings } = template;
    Ok(match engine.template_form() {
        TemplateForm::Composable => json!({
            "index_patterns": [pattern],
            "priority": priority,
            "template": { "settings": settings, "mappings": mappings },
        }),
        TemplateForm::Typeless => json!({
            "index_patterns": [pattern],
            "order": ORDER,
            "settings": settings,
            "mappings": mappings,
        }),
        TemplateForm::Typed => {
            let major = engine.version.0;
            if major < 5 {
                use_strings(&mut mappings);
            }
            if major < 6 {
                // A copy of every field, for searches that name none: they go to `@message`.
                mappings["_all"] = json!({ "enabled": false });
            }
            let (key, patterns) =
                if major < 6 { ("template", json!(pattern)) } else { ("index_patterns", json!([pattern])) };
            let types = json!({ engine.document_type().unwrap_or_default(): mappings });
            json!({ key: patterns, "order": ORDER, "settings": settings, "mappings": types })
        }
    })
}

/// Returns the mapping for engines without document types.
pub(crate) fn mapping(kind: TemplateKind) -> Result<Value, serde_json::Error> {
    let source: Source = serde_json::from_str(kind.source())?;
    Ok(source.template.mappings)
}

/// Returns the path of the template.
pub(crate) fn path(engine: Engine, name: &str) -> String {
    let api = if engine.template_form() == TemplateForm::Composable { "_index_template" } else { "_template" };
    format!("/{api}/{name}")
}

/// Returns the version of the template in this program.
pub(crate) fn version(kind: TemplateKind) -> Result<u64, serde_json::Error> {
    let source: Source = serde_json::from_str(kind.source())?;
    Ok(version_in(&source.template.mappings).unwrap_or_default())
}

/// Returns the version of the template in the engine's response; 0 if it is not one of this program's.
///
/// The version is in the mapping's `_meta`, which all engines keep, so that each index names the template it was made
/// by.
pub(crate) fn installed_version(engine: Engine, name: &str, answer: &Value) -> u64 {
    let mappings = match engine.template_form() {
        TemplateForm::Composable => &answer["index_templates"][0]["index_template"]["template"]["mappings"],
        TemplateForm::Typeless => &answer[name]["mappings"],
        TemplateForm::Typed => &answer[name]["mappings"][engine.document_type().unwrap_or_default()],
    };
    version_in(mappings).unwrap_or_default()
}

/// Returns the number of copies of each shard that the domain requires, if that is why it rejected a template.
///
/// A domain of several zones with a standby requires a copy in each zone.
pub(crate) fn required_copies(refusal: &[u8]) -> Option<u32> {
    let refusal = String::from_utf8_lossy(refusal);
    let (_, zones) = refusal.split_once("multiple of total awareness attributes [")?;
    zones.split_once(']')?.0.parse().ok().filter(|copies| *copies > 1)
}

/// Asks for up to `copies` copies of each shard, as many as there are nodes.
pub(crate) fn set_copies(template: &mut Value, copies: u32) {
    let is_composable = template.get("template").is_some_and(Value::is_object);
    let template = if is_composable { &mut template["template"] } else { template };
    template["settings"]["index"]["auto_expand_replicas"] = json!(format!("0-{}", copies.saturating_sub(1)));
}

/// Returns whether a template was rejected because another one matches the same names with the same priority.
pub(crate) fn is_of_equal_priority(refusal: &[u8]) -> bool {
    String::from_utf8_lossy(refusal).contains("that have the same priority [")
}

/// Raises the template above those of its priority.
pub(crate) fn raise_priority(template: &mut Value) {
    if let Some(priority) = template["priority"].as_u64() {
        template["priority"] = json!(priority + 1);
    }
}

fn version_in(mappings: &Value) -> Option<u64> {
    mappings["_meta"]["trailgate"]["version"].as_u64()
}

/// Replaces `keyword` and `text` by the one type that Elasticsearch 2 has for both.
fn use_strings(mapping: &mut Value) {
    match mapping {
        Value::Object(object) => {
            let is_exact = match object.get("type").and_then(Value::as_str) {
                Some("keyword") => true,
                Some("text") => false,
                _ => return object.values_mut().for_each(use_strings),
            };
            let rest = std::mem::replace(object, Map::from_iter([("type".to_owned(), json!("string"))]));
            if is_exact {
                object.insert("index".to_owned(), json!("not_analyzed"));
            }
            object.extend(rest.into_iter().filter(|(key, _)| key != "type"));
            object.values_mut().for_each(use_strings);
        }
        Value::Array(array) => array.iter_mut().for_each(use_strings),
        _ => {}
    }
}

/// The documents that a template is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TemplateKind {
    /// CloudTrail's events.
    Trail,
    /// The access lines of trailgate.
    AccessLog,
}

impl TemplateKind {
    fn source(self) -> &'static str {
        match self {
            Self::Trail => SOURCE,
            Self::AccessLog => include_str!("../../../config/gate-template.json"),
        }
    }
}

/// The file, in the form of `_index_template` of a recent engine.
#[derive(serde::Deserialize)]
struct Source {
    priority: u32,
    template: Template,
}

#[derive(serde::Deserialize)]
struct Template {
    settings: Value,
    mappings: Value,
}

const SOURCE: &str = include_str!("../../../config/cwl-template.json");

/// The order of the template. Matching templates are merged, the highest order last: above those for all indices, and
/// below one that an administrator adds.
const ORDER: u32 = 10;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::document::extract;

    fn elasticsearch(major: u32) -> Engine {
        Engine { kind: EngineKind::Elasticsearch, version: (major, 10) }
    }

    const OPENSEARCH: Engine = Engine { kind: EngineKind::OpenSearch, version: (2, 19) };

    #[test]
    fn recent_engine_gets_the_template_file_unchanged() {
        let file: Value = serde_json::from_str(SOURCE).unwrap();
        assert_eq!(for_engine(TemplateKind::Trail, OPENSEARCH, "cwl-*").unwrap(), file);
        assert_eq!(
            for_engine(TemplateKind::Trail, OPENSEARCH, "audit-*").unwrap()["index_patterns"],
            json!(["audit-*"])
        );
        assert!(version(TemplateKind::Trail).unwrap() > 0);
    }

    #[test]
    fn elasticsearch_7_gets_a_template_without_types() {
        let template = for_engine(TemplateKind::Trail, elasticsearch(7), "cwl-*").unwrap();
        assert_eq!(template["index_patterns"], json!(["cwl-*"]));
        assert_eq!(template["settings"]["index"]["number_of_shards"], 1);
        assert_eq!(template["mappings"]["properties"]["eventName"]["type"], "keyword");
        assert!(template.get("template").is_none() && template.get("priority").is_none());
    }

    #[test]
    fn older_engine_gets_the_mapping_below_the_document_type() {
        let template = for_engine(TemplateKind::Trail, elasticsearch(6), "cwl-*").unwrap();
        assert_eq!(template["index_patterns"], json!(["cwl-*"]));
        assert_eq!(template["mappings"]["event"]["properties"]["eventName"]["type"], "keyword");
        assert!(template["mappings"]["event"].get("_all").is_none(), "6.x refuses to hear of it");

        let template = for_engine(TemplateKind::Trail, elasticsearch(5), "cwl-*").unwrap();
        assert_eq!(template["template"], "cwl-*");
        assert!(template.get("index_patterns").is_none());
        assert_eq!(template["mappings"]["event"]["_all"]["enabled"], false);
    }

    #[test]
    fn elasticsearch_2_gets_string_fields() {
        let template = for_engine(TemplateKind::Trail, elasticsearch(2), "cwl-*").unwrap();
        let mapping = &template["mappings"]["event"];
        let exact = json!({ "type": "string", "index": "not_analyzed", "ignore_above": 1024 });
        assert_eq!(mapping["properties"]["ct"]["properties"]["bucket"], exact);
        assert_eq!(mapping["properties"]["eventName"]["fields"]["keyword"], exact);
        assert_eq!(mapping["properties"]["@message"], json!({ "type": "string" }));
        // A field that is called `type` is not a type.
        assert_eq!(mapping["properties"]["userIdentity"]["properties"]["type"]["type"], "string");
        assert_eq!(mapping["dynamic_templates"][1]["promoted"]["mapping"], exact);
        let text = template.to_string();
        assert!(!text.contains(r#""type":"keyword""#) && !text.contains(r#""type":"text""#), "{text}");
    }

    #[test]
    fn collection_template_has_no_storage_settings() {
        let collection = Engine { kind: EngineKind::Serverless, version: (0, 0) };
        let template = for_engine(TemplateKind::Trail, collection, "cwl-*").unwrap();
        let settings = &template["template"]["settings"]["index"];
        let keys: Vec<&String> = settings.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["mapping", "query"]);
    }

    #[test]
    fn template_keeps_subtrees_whole_and_has_promoted_fields() {
        let template = for_engine(TemplateKind::Trail, OPENSEARCH, "cwl-*").unwrap();
        let properties = &template["template"]["mappings"]["properties"];
        for subtree in ["requestParameters", "responseElements", "additionalEventData", "serviceEventDetails"] {
            assert_eq!(properties[subtree], json!({ "type": "object", "enabled": false }), "{subtree}");
        }
        let promoted = properties[extract::OBJECT]["properties"].as_object().unwrap();
        assert!(promoted.values().all(|field| field["type"] == "keyword"));
        let mapped: BTreeSet<&str> = promoted.keys().map(String::as_str).collect();
        assert_eq!(mapped, extract::fields().collect());
    }

    #[test]
    fn template_version_is_read_in_each_engines_layout() {
        let meta = json!({ "_meta": { "trailgate": { "version": 7 } } });
        let read = |engine, answer: Value| installed_version(engine, "t", &answer);
        let composable = json!({ "index_templates": [
            { "name": "t", "index_template": { "template": { "mappings": meta } } }
        ] });
        assert_eq!(read(OPENSEARCH, composable), 7);
        assert_eq!(read(elasticsearch(7), json!({ "t": { "mappings": meta } })), 7);
        assert_eq!(read(elasticsearch(2), json!({ "t": { "mappings": { "event": meta } } })), 7);
        assert_eq!(read(elasticsearch(7), json!({ "t": { "mappings": {} } })), 0, "somebody else's");
    }

    #[test]
    fn required_replica_count_is_applied() {
        let refusal = b"expected max cap on auto expand to be a multiple of total awareness attributes [3];";
        assert_eq!(required_copies(refusal), Some(3));
        assert_eq!(required_copies(b"another reason"), None);

        let mut template = for_engine(TemplateKind::Trail, OPENSEARCH, "cwl-*").unwrap();
        set_copies(&mut template, 3);
        assert_eq!(template["template"]["settings"]["index"]["auto_expand_replicas"], "0-2");
        let mut template = for_engine(TemplateKind::Trail, elasticsearch(5), "cwl-*").unwrap();
        set_copies(&mut template, 2);
        assert_eq!(template["settings"]["index"]["auto_expand_replicas"], "0-1");
    }
}
