//! Saved objects: what Kibana and `OpenSearch` Dashboards keep of searches, visualizations and dashboards.

use ring::digest::{SHA256, digest as hash};
use serde_json::{Map, Value, json};

use super::format::{Form, Kind, name};
use super::source::{COLUMNS, Dashboard, Panel, Scope, Search, Shows, Source};
use super::{fields, visual};

/// A saved object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its name, which is that of no other object of its kind.
    pub id: String,
    /// What it says.
    pub attributes: Map<String, Value>,
    /// What it refers to, as pairs of the reference's name and the object's kind and id.
    pub references: Vec<(String, Kind, String)>,
}

impl Object {
    fn new(kind: Kind, id: String, attributes: Value, references: Vec<(String, Kind, String)>) -> Self {
        let Value::Object(mut attributes) = attributes else { unreachable!("attributes are written as an object") };
        if kind != Kind::IndexPattern {
            let signed = format!("{SIGNED}{}", digest(&attributes));
            attributes.insert(DESCRIPTION.to_owned(), signed.into());
        }
        Self { kind, id, attributes, references }
    }

    /// The name that people see.
    #[must_use]
    pub fn title(&self) -> &str {
        self.attributes["title"].as_str().unwrap_or_default()
    }

    /// As a line of a file that Kibana 7.10 and later import.
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

/// What of an object a user may have changed, as few characters: all but the description, which holds them.
pub(super) fn digest(attributes: &Map<String, Value>) -> String {
    let mut attributes = attributes.clone();
    attributes.remove(DESCRIPTION);
    let mut all = Value::Object(attributes);
    // Whoever stored them may have changed their order.
    all.sort_all_objects();
    hex::encode(&hash(&SHA256, all.to_string().as_bytes()).as_ref()[..DIGEST_BYTES])
}

/// Whether these attributes are as they were installed, by whatever release.
pub(super) fn is_as_installed(attributes: &Map<String, Value>) -> bool {
    let signed = attributes.get(DESCRIPTION).and_then(Value::as_str).and_then(|text| text.strip_prefix(SIGNED));
    signed.is_some_and(|signed| signed == digest(attributes))
}

/// All objects of a source over the indices of `pattern`, such as `cwl-*`, each behind those that it refers to.
///
/// `mapping` is that of the indices: an object with `properties`.
#[must_use]
pub fn objects(source: &Source, pattern: &str, mapping: &Value, form: Form) -> Vec<Object> {
    let scene = Scene { pattern, time: &source.time, form };
    let pattern = json!({ "title": pattern, "timeFieldName": source.time, "fields": fields::list(mapping, form) });
    let mut objects = vec![Object::new(Kind::IndexPattern, scene.pattern.to_owned(), pattern, Vec::new())];
    objects.extend(source.searches.iter().map(|search| scene.search(search)));
    for dashboard in &source.dashboards {
        let panels = dashboard.panels.iter().filter(|panel| panel.shows != Shows::Events);
        objects.extend(panels.map(|panel| scene.visualization(panel)));
    }
    objects.extend(source.dashboards.iter().map(|dashboard| scene.dashboard(dashboard)));
    objects
}

/// What all objects have in common.
struct Scene<'a> {
    pattern: &'a str,
    time: &'a str,
    form: Form,
}

impl Scene<'_> {
    fn search(&self, search: &Search) -> Object {
        let newest = json!([self.time, "desc"]);
        let (origin, references) = self.over_pattern(&search.query);
        let attributes = json!({
            "title": search.title,
            "columns": search.columns,
            "sort": if self.form == Form::Kibana5 { newest } else { json!([newest]) },
            "hits": 0,
            "version": 1,
            "kibanaSavedObjectMeta": { "searchSourceJSON": origin.to_string() },
        });
        Object::new(Kind::Search, name(&search.id), attributes, references)
    }

    fn visualization(&self, panel: &Panel) -> Object {
        let state = visual::state(panel, self.time, self.form);
        let mut attributes = json!({
            "title": panel.title, "visState": state.to_string(), "uiStateJSON": self.ui_state(panel), "version": 1,
        });
        let (origin, references) = match (&panel.shows, &panel.scope) {
            (Shows::Note(_), _) => (json!({ "query": self.form.query(""), "filter": [] }), Vec::new()),
            (_, Scope::All) => self.over_pattern("*"),
            (_, Scope::Query(query)) => self.over_pattern(query),
            // In Kibana 5 a query of its own would stand in for the search's.
            (_, Scope::Search(search)) if self.form == Form::Kibana5 => {
                attributes["savedSearchId"] = json!(name(search));
                (json!({ "filter": [] }), Vec::new())
            }
            (_, Scope::Search(search)) => {
                attributes["savedSearchRefName"] = json!("search_0");
                let references = vec![("search_0".to_owned(), Kind::Search, name(search))];
                (json!({ "query": self.form.query(""), "filter": [] }), references)
            }
        };
        attributes["kibanaSavedObjectMeta"] = json!({ "searchSourceJSON": origin.to_string() });
        Object::new(Kind::Visualization, name(&panel.id), attributes, references)
    }

    fn ui_state(&self, panel: &Panel) -> String {
        match visual::column_widths(panel).filter(|_| self.form == Form::Kibana7) {
            None => "{}".to_owned(),
            Some(widths) => {
                let widths = widths.iter().enumerate().map(|(nth, width)| json!({ "colIndex": nth, "width": width }));
                json!({ "vis": { "columnsWidth": widths.collect::<Vec<_>>() } }).to_string()
            }
        }
    }

    fn dashboard(&self, dashboard: &Dashboard) -> Object {
        let places = places(&dashboard.panels);
        let mut references = Vec::new();
        let mut panels = Vec::new();
        for (nth, (panel, (column, row))) in dashboard.panels.iter().zip(places).enumerate() {
            let (kind, id) = match (&panel.shows, &panel.scope) {
                (Shows::Events, Scope::Search(search)) => (Kind::Search, name(search)),
                _ => (Kind::Visualization, name(&panel.id)),
            };
            if self.form == Form::Kibana5 {
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
        let (options, origin) = match self.form {
            Form::Kibana5 => (json!({ "darkTheme": false }), json!({ "filter": [{ "query": self.form.query("*") }] })),
            Form::Kibana7 => (
                json!({ "useMargins": true, "hidePanelTitles": false }),
                json!({ "query": self.form.query(""), "filter": [] }),
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
        Object::new(Kind::Dashboard, name(&dashboard.id), attributes, references)
    }

    /// A search in the indices of the pattern.
    fn over_pattern(&self, query: &str) -> (Value, Vec<(String, Kind, String)>) {
        let query = self.form.query(query);
        if self.form == Form::Kibana5 {
            return (json!({ "index": self.pattern, "query": query, "filter": [] }), Vec::new());
        }
        let reference = "kibanaSavedObjectMeta.searchSourceJSON.index";
        let origin = json!({ "indexRefName": reference, "query": query, "filter": [] });
        (origin, vec![(reference.to_owned(), Kind::IndexPattern, self.pattern.to_owned())])
    }
}

/// Columns and rows from 0: each panel to the right of the one before it, or below all of them.
fn places(panels: &[Panel]) -> impl Iterator<Item = (u8, u8)> {
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

/// What a description begins with, before the digest of what was installed.
const SIGNED: &str = "Installed by trailgate, ";

/// Enough to tell a change, and short enough for a list that people read.
const DIGEST_BYTES: usize = 6;
