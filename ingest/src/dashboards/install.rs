//! Installs the dashboards that a domain lacks.

mod api;
mod index;

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use self::api::Api;
use self::index::Index;
use super::definitions::Definitions;
use super::format::{ExportFormat, ObjectKind};
use super::saved::{SavedObject, attributes_digest, build_objects, is_as_installed};
use crate::domain::Domain;
use crate::domain::json_client::{JsonClient, JsonRequestError};
use crate::engine::{Engine, EngineKind};

/// The parameters of an installation.
#[derive(Clone, Debug)]
pub struct InstallPlan {
    /// The dashboards, of which the first set has the default index pattern.
    pub sets: Vec<DashboardSet>,
    /// True if objects that users changed are replaced, too.
    pub is_forced: bool,
}

/// Dashboards of the same indices.
#[derive(Clone, Debug)]
pub struct DashboardSet {
    /// The dashboards.
    pub definitions: Definitions,
    /// The indices that they search, such as `cwl-*`. None has to exist.
    pub pattern: String,
    /// The mapping of these indices: an object with `properties`.
    pub mapping: Value,
}

impl InstallPlan {
    fn build_objects(&self, format: ExportFormat) -> Vec<SavedObject> {
        self.sets.iter().flat_map(|set| build_objects(&set.definitions, &set.pattern, &set.mapping, format)).collect()
    }

    fn default_pattern(&self) -> &str {
        self.sets.first().map_or("", |set| &set.pattern)
    }
}

/// The reason why the dashboards are not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] JsonRequestError),
    /// There is no Kibana, or none that was ever started.
    #[error("the domain has no Kibana: {0}")]
    NoKibana(&'static str),
}

/// The result of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallResult {
    /// The store of the objects.
    pub store: ObjectStore,
    /// Each object by kind and title, in the order in which they were installed.
    pub objects: Vec<(ObjectKind, String, ObjectState)>,
    /// True if the index pattern has become the default, because there was none.
    pub is_default: bool,
}

/// The store of saved objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectStore {
    /// The index of Kibana 5 or 6.
    Index(Engine),
    /// The API of Kibana 7.10 or `OpenSearch` Dashboards, below this path.
    Api(&'static str),
}

/// The state of an object before the installation, and the action taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectState {
    /// Nothing; it is installed.
    Installed,
    /// The object of another release, or one to be replaced; it is replaced.
    Replaced,
    /// The same.
    Current,
    /// An object that a user changed; it stays.
    Kept,
}

/// Detects the Kibana of the domain, and installs the objects that are missing or of another release.
///
/// A domain of Elasticsearch 5 or 6 is written to at its `.kibana` index, one of a later engine through its Kibana.
/// Each request lasts for `timeout` at most.
pub async fn install_dashboards(
    domain: &Domain,
    plan: &InstallPlan,
    timeout: Duration,
) -> Result<InstallResult, InstallError> {
    let client = JsonClient::new(domain, timeout).with_headers(dashboards_headers());
    let engine = client.detect_engine().await?;
    if stores_in_index(engine) {
        let missing = InstallError::NoKibana("the index .kibana does not exist; Kibana creates it when it starts");
        let index = Index::find(client).await?.ok_or(missing)?;
        let wanted = plan.build_objects(ExportFormat::Kibana5);
        let found = index.fetch_attributes(&wanted).await?;
        let (missing, objects) = compare(wanted, &found, plan.is_forced);
        index.put_objects(&missing).await?;
        let is_default = index.set_default_pattern(plan.default_pattern()).await?;
        return Ok(InstallResult { store: ObjectStore::Index(engine), objects, is_default });
    }
    let missing = InstallError::NoKibana("neither /_dashboards nor /_plugin/kibana responds");
    let api = Api::find(client).await?.ok_or(missing)?;
    let wanted = plan.build_objects(ExportFormat::Kibana7);
    let found = api.fetch_attributes(&wanted).await?;
    let (missing, objects) = compare(wanted, &found, plan.is_forced);
    api.put_objects(&missing).await?;
    let is_default = api.set_default_pattern(plan.default_pattern()).await?;
    Ok(InstallResult { store: ObjectStore::Api(api.path()), objects, is_default })
}

/// Returns the headers without which Kibana and Dashboards reject a request as cross-site (CSRF), and the one that selects
/// the tenant: with fine-grained access control the default is a private one, which only the caller sees. The engine
/// ignores them.
fn dashboards_headers() -> HeaderMap {
    let headers = [("kbn-xsrf", "trailgate"), ("osd-xsrf", "trailgate"), ("securitytenant", "global")];
    headers.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).into_iter().collect()
}

/// Returns whether the Kibana of this engine stores its objects by plain requests to the engine.
fn stores_in_index(engine: Engine) -> bool {
    engine.kind == EngineKind::Elasticsearch && engine.version.0 < 7
}

/// Returns the objects to put, and the state of each.
fn compare(
    wanted: Vec<SavedObject>,
    found: &[Option<Map<String, Value>>],
    is_forced: bool,
) -> (Vec<SavedObject>, Vec<(ObjectKind, String, ObjectState)>) {
    let mut missing = Vec::new();
    let mut states = Vec::new();
    for (mut object, found) in wanted.into_iter().zip(found) {
        let state = state(&object, found.as_ref(), is_forced);
        if let Some(found) = found
            && object.kind == ObjectKind::IndexPattern
        {
            object.attributes = with_fields(found, &object.attributes);
        }
        states.push((object.kind, object.title().to_owned(), state));
        if matches!(state, ObjectState::Installed | ObjectState::Replaced) {
            missing.push(object);
        }
    }
    (missing, states)
}

fn state(wanted: &SavedObject, found: Option<&Map<String, Value>>, is_forced: bool) -> ObjectState {
    match found {
        None => ObjectState::Installed,
        // Kibana itself writes the fields into it, and users their formats: only a missing field of ours matters.
        Some(found) if wanted.kind == ObjectKind::IndexPattern => {
            if with_fields(found, &wanted.attributes) == *found {
                ObjectState::Current
            } else {
                ObjectState::Replaced
            }
        }
        Some(found) if attributes_digest(found) == attributes_digest(&wanted.attributes) => ObjectState::Current,
        Some(found) if is_forced || is_as_installed(found) => ObjectState::Replaced,
        Some(_) => ObjectState::Kept,
    }
}

/// Returns the index pattern that was found, with those of our fields that it lacks: a panel that counts by a field of
/// a later release would show only an error.
fn with_fields(found: &Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
    let list = |attributes: &Map<String, Value>| -> Vec<Value> {
        attributes
            .get("fields")
            .and_then(Value::as_str)
            .and_then(|text| serde_json::from_str(text).ok())
            .unwrap_or_default()
    };
    let mut fields = list(found);
    let names: HashSet<Value> = fields.iter().map(|field| field["name"].clone()).collect();
    let missing: Vec<_> = list(wanted).into_iter().filter(|field| !names.contains(&field["name"])).collect();
    let mut merged = found.clone();
    if !missing.is_empty() {
        fields.extend(missing);
        merged.insert("fields".to_owned(), Value::Array(fields).to_string().into());
    }
    merged
}

impl InstallResult {
    /// Returns whether an object is not what was shipped, because a user changed it.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.objects.iter().any(|(_, _, state)| *state == ObjectState::Kept)
    }
}

impl fmt::Display for InstallResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.store {
            ObjectStore::Index(engine) => write!(f, "{engine}, .kibana")?,
            ObjectStore::Api(path) => write!(f, "{path}")?,
        }
        let count = |state| self.objects.iter().filter(|(_, _, other)| *other == state).count();
        let (installed, replaced, current) =
            (count(ObjectState::Installed), count(ObjectState::Replaced), count(ObjectState::Current));
        writeln!(f, ": {installed} objects installed, {replaced} replaced, {current} unchanged")?;
        if self.is_default {
            writeln!(f, "set the index pattern as the default")?;
        }
        for (kind, title, _) in self.objects.iter().filter(|(_, _, state)| *state == ObjectState::Kept) {
            writeln!(f, "kept, because a user changed it: {} {title:?}; --force replaces it", kind.name())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::SOURCE;
    use super::*;
    use crate::setup;

    fn ours() -> SavedObject {
        build_objects(&Definitions::parse(SOURCE).unwrap(), "cwl-*", &Value::Null, ExportFormat::Kibana7).pop().unwrap()
    }

    fn state_of(change: impl FnOnce(&mut Map<String, Value>), is_forced: bool) -> ObjectState {
        let mut found = ours().attributes;
        change(&mut found);
        state(&ours(), Some(&found), is_forced)
    }

    #[test]
    fn missing_objects_are_installed_and_present_ones_kept() {
        assert_eq!(state(&ours(), None, false), ObjectState::Installed);
        assert_eq!(state_of(|_| (), false), ObjectState::Current);
        assert_eq!(state_of(|_| (), true), ObjectState::Current);
    }

    #[test]
    fn index_pattern_gains_missing_fields_and_keeps_the_rest() {
        let mapping = setup::index_mapping().unwrap();
        let all = build_objects(&Definitions::parse(SOURCE).unwrap(), "cwl-*", &mapping, ExportFormat::Kibana7);
        let wanted = all.into_iter().next().unwrap();
        let theirs =
            json!([{ "name": "eventName", "type": "string", "count": 7 }, { "name": "mine", "type": "string" }]);
        let mut found = wanted.attributes.clone();
        found["fields"] = theirs.to_string().into();
        found.insert("fieldFormatMap".to_owned(), json!("{}"));
        assert_eq!(state(&wanted, Some(&found), false), ObjectState::Replaced);
        let (missing, _) = compare(vec![wanted.clone()], &[Some(found)], false);
        let merged = &missing[0].attributes;
        let fields: Vec<Value> = serde_json::from_str(merged["fields"].as_str().unwrap()).unwrap();
        assert_eq!((&fields[0]["count"], &fields[1]["name"]), (&json!(7), &json!("mine")));
        assert!(fields.iter().any(|field| field["name"] == "ct.principal"));
        assert_eq!(merged["fieldFormatMap"], "{}");
        assert_eq!(state(&wanted, Some(merged), false), ObjectState::Current);
    }

    #[test]
    fn attribute_order_is_no_change() {
        assert_eq!(
            state_of(|found| *found = std::mem::take(found).into_iter().rev().collect(), false),
            ObjectState::Current
        );
    }

    #[test]
    fn object_changed_by_a_user_is_kept_unless_forced() {
        let rename = |found: &mut Map<String, Value>| found["title"] = json!("Mine");
        assert_eq!(state_of(rename, false), ObjectState::Kept);
        assert_eq!(state_of(rename, true), ObjectState::Replaced);
    }

    #[test]
    fn object_of_another_release_is_replaced() {
        let other_release = |found: &mut Map<String, Value>| {
            found["title"] = json!("As it was called once");
            found["description"] = json!(format!("Installed by trailgate, {}", attributes_digest(found)));
        };
        assert_eq!(state_of(other_release, false), ObjectState::Replaced);
    }
}
