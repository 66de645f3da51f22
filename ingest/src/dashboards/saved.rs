//! Saved objects: searches, visualizations and dashboards as Kibana and `OpenSearch` Dashboards store them.

use ring::digest::{SHA256, digest as hash};
use serde_json::{Map, Value, json};

use super::definitions::{COLUMNS, Dashboard, Definitions, Panel, PanelContent, PanelScope, Search};
use super::format::{ExportFormat, ObjectKind, object_id};
use super::{fields, visual};

/// A saved object.
#[derive(Clone, Debug, PartialEq)]
pub struct SavedObject {
    /// Its kind.
    pub kind: ObjectKind,
    /// Its id, unique among the objects of its kind.
    pub id: String,
    /// Its attributes.
    pub attributes: Map<String, Value>,
    /// Its references: the name of each, and the kind and id of the object.
    pub references: Vec<(String, ObjectKind, String)>,
}

impl SavedObject {
    fn new(kind: ObjectKind, id: String, attributes: Value, references: Vec<(String, ObjectKind, String)>) -> Self {
        let Value::Object(mut attributes) = attributes else { unreachable!("attributes are written as an object") };
        if kind != ObjectKind::IndexPattern {
            let signed = format!("{DESCRIPTION_PREFIX}{}", attributes_digest(&attributes));
            attributes.insert(DESCRIPTION.to_owned(), signed.into());
        }
        Self { kind, id, attributes, references }
    }

    /// Returns the title, which users see.
    #[must_use]
    pub fn title(&self) -> &str {
        self.attributes["title"].as_str().unwrap_or_default()
    }

    /// Returns it as a line of a file that Kibana 7.10 and later import.
    #[must_use]
    pub fn to_import(&self) -> Value {
        let references = self.references.iter();
        let references = references.map(|(name, kind, id)| json!({ "name": name, "type": kind.name(), "id": id }));
        json!({
            "type": self.kind.name(),
            "id": self.id,
            "attributes": self.attributes,
            "references": references.collect::<Vec<_>>(),
            "migrationVersion": { self.kind.name(): self.kind.migration_version() },
        })
    }
}

/// Returns the digest of all that a user may have changed: all attributes but the description, which holds the digest.
pub(super) fn attributes_digest(attributes: &Map<String, Value>) -> String {
    let mut attributes = attributes.clone();
    attributes.remove(DESCRIPTION);
    let mut all = Value::Object(attributes);
    // Their order may have changed when they were stored.
    all.sort_all_objects();
    hex::encode(&hash(&SHA256, all.to_string().as_bytes()).as_ref()[..DIGEST_BYTES])
}

/// Returns whether these attributes are as some release installed them.
pub(super) fn is_as_installed(attributes: &Map<String, Value>) -> bool {
    let signed =
        attributes.get(DESCRIPTION).and_then(Value::as_str).and_then(|text| text.strip_prefix(DESCRIPTION_PREFIX));
    signed.is_some_and(|signed| signed == attributes_digest(attributes))
}

/// Builds the objects of `definitions` over the indices of `pattern`, such as `cwl-*`, each after those that it refers
/// to.
///
/// `mapping` is that of the indices: an object with `properties`.
#[must_use]
pub fn build_objects(
    definitions: &Definitions,
    pattern: &str,
    mapping: &Value,
    format: ExportFormat,
) -> Vec<SavedObject> {
    let context = ExportContext { pattern, time: &definitions.time, format };
    let mut pattern =
        json!({ "title": pattern, "timeFieldName": definitions.time, "fields": fields::field_list(mapping, format) });
    if let Some(formats) = fields::format_map(mapping) {
        pattern["fieldFormatMap"] = formats.into();
    }
    let mut objects = vec![SavedObject::new(ObjectKind::IndexPattern, context.pattern.to_owned(), pattern, Vec::new())];
    objects.extend(definitions.searches.iter().map(|search| context.search(search)));
    for dashboard in &definitions.dashboards {
        let panels = dashboard.panels.iter().filter(|panel| panel.content != PanelContent::Events);
        objects.extend(panels.map(|panel| context.visualization(panel)));
    }
    objects.extend(definitions.dashboards.iter().map(|dashboard| context.dashboard(dashboard)));
    objects
}

/// The parameters that all objects share.
struct ExportContext<'a> {
    pattern: &'a str,
    time: &'a str,
    format: ExportFormat,
}

impl ExportContext<'_> {
    fn search(&self, search: &Search) -> SavedObject {
        let newest = json!([self.time, "desc"]);
        let (origin, references) = self.over_pattern(&search.query);
        let attributes = json!({
            "title": search.title,
            "columns": search.columns,
            "sort": if self.format == ExportFormat::Kibana5 { newest } else { json!([newest]) },
            "hits": 0,
            "version": 1,
            "kibanaSavedObjectMeta": { "searchSourceJSON": origin.to_string() },
        });
        SavedObject::new(ObjectKind::Search, object_id(&search.id), attributes, references)
    }

    fn visualization(&self, panel: &Panel) -> SavedObject {
        let state = visual::build_vis_state(panel, self.time, self.format);
        let mut attributes = json!({
            "title": panel.title, "visState": state.to_string(), "uiStateJSON": self.ui_state(panel), "version": 1,
        });
        let (origin, references) = match (&panel.content, &panel.scope) {
            (PanelContent::Note(_), _) => (json!({ "query": self.format.query(""), "filter": [] }), Vec::new()),
            (_, PanelScope::All) => self.over_pattern("*"),
            (_, PanelScope::Query(query)) => self.over_pattern(query),
            // In Kibana 5 a query of its own would stand in for the search's.
            (_, PanelScope::Search(search)) if self.format == ExportFormat::Kibana5 => {
                attributes["savedSearchId"] = json!(object_id(search));
                (json!({ "filter": [] }), Vec::new())
            }
            (_, PanelScope::Search(search)) => {
                attributes["savedSearchRefName"] = json!("search_0");
                let references = vec![("search_0".to_owned(), ObjectKind::Search, object_id(search))];
                (json!({ "query": self.format.query(""), "filter": [] }), references)
            }
        };
        attributes["kibanaSavedObjectMeta"] = json!({ "searchSourceJSON": origin.to_string() });
        SavedObject::new(ObjectKind::Visualization, object_id(&panel.id), attributes, references)
    }

    fn ui_state(&self, panel: &Panel) -> String {
        match visual::column_widths(panel).filter(|_| self.format == ExportFormat::Kibana7) {
            None => "{}".to_owned(),
            Some(widths) => {
                let widths = widths.iter().enumerate().map(|(nth, width)| json!({ "colIndex": nth, "width": width }));
                json!({ "vis": { "columnsWidth": widths.collect::<Vec<_>>() } }).to_string()
            }
        }
    }

    fn dashboard(&self, dashboard: &Dashboard) -> SavedObject {
        let grid_positions = grid_positions(&dashboard.panels);
        let mut references = Vec::new();
        let mut panels = Vec::new();
        for (nth, (panel, (column, row))) in dashboard.panels.iter().zip(grid_positions).enumerate() {
            let (kind, id) = match (&panel.content, &panel.scope) {
                (PanelContent::Events, PanelScope::Search(search)) => (ObjectKind::Search, object_id(search)),
                _ => (ObjectKind::Visualization, object_id(&panel.id)),
            };
            if self.format == ExportFormat::Kibana5 {
                panels.push(json!({
                    "id": id, "type": kind.name(), "panelIndex": nth + 1,
                    "col": column + 1, "row": row + 1, "size_x": panel.width, "size_y": panel.height,
                }));
            } else {
                let (index, reference) = ((nth + 1).to_string(), format!("panel_{nth}"));
                // Kibana's own translation of the older grid: 48 columns, rows of 20 pixels.
                let grid = json!({
                    "x": column * 4, "y": row * 5, "w": panel.width * 4, "h": panel.height * 5, "i": index,
                });
                panels.push(json!({
                    "version": "7.10.2", "gridData": grid, "panelIndex": index,
                    "embeddableConfig": {}, "panelRefName": reference,
                }));
                references.push((reference, kind, id));
            }
        }
        let (options, origin) = match self.format {
            ExportFormat::Kibana5 => {
                (json!({ "darkTheme": false }), json!({ "filter": [{ "query": self.format.query("*") }] }))
            }
            ExportFormat::Kibana7 => (
                json!({ "useMargins": true, "hidePanelTitles": false }),
                json!({ "query": self.format.query(""), "filter": [] }),
            ),
        };
        let attributes = json!({
            "title": dashboard.title,
            "hits": 0,
            "panelsJSON": Value::Array(panels).to_string(),
            "optionsJSON": options.to_string(),
            "timeRestore": true,
            "timeFrom": "now-7d",
            "timeTo": "now",
            "refreshInterval": { "pause": true, "value": 0 },
            "version": 1,
            "kibanaSavedObjectMeta": { "searchSourceJSON": origin.to_string() },
        });
        SavedObject::new(ObjectKind::Dashboard, object_id(&dashboard.id), attributes, references)
    }

    /// Returns a search in the indices of the pattern, and its references.
    fn over_pattern(&self, query: &str) -> (Value, Vec<(String, ObjectKind, String)>) {
        let query = self.format.query(query);
        if self.format == ExportFormat::Kibana5 {
            return (json!({ "index": self.pattern, "query": query, "filter": [] }), Vec::new());
        }
        let reference = "kibanaSavedObjectMeta.searchSourceJSON.index";
        let origin = json!({ "indexRefName": reference, "query": query, "filter": [] });
        (origin, vec![(reference.to_owned(), ObjectKind::IndexPattern, self.pattern.to_owned())])
    }
}

/// Returns columns and rows from 0: each panel is to the right of the one before it, or below all of them.
fn grid_positions(panels: &[Panel]) -> impl Iterator<Item = (u8, u8)> {
    let (mut column, mut row, mut height) = (0, 0, 0);
    panels.iter().map(move |panel| {
        if column + panel.width > COLUMNS {
            (column, row, height) = (0, row + height, 0);
        }
        let place = (column, row);
        column += panel.width;
        height = height.max(panel.height);
        place
    })
}

const DESCRIPTION: &str = "description";

/// The beginning of a description, before the digest of what was installed.
const DESCRIPTION_PREFIX: &str = "Installed by trailgate, ";

/// Enough to detect a change, and short enough to be read in a list.
const DIGEST_BYTES: usize = 6;
