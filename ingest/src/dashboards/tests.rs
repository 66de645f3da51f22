use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::definitions::{BarSplit, Definitions, Measure, Panel, PanelContent, PanelScope};
use super::format::{ExportFormat, ObjectKind};
use super::install::DashboardSet;
use super::saved::{SavedObject, build_objects};
use super::{ACCESS_LOG_PATTERN, ACCESS_LOG_SOURCE, SOURCE, fields, file, visual};
use crate::setup;

const FORMATS: [ExportFormat; 2] = [ExportFormat::Kibana5, ExportFormat::Kibana7];

/// Returns the dashboards of events, and that of the access log.
fn sets() -> [DashboardSet; 2] {
    let set = |source, pattern: &str, mapping: Result<Value, _>| DashboardSet {
        definitions: Definitions::parse(source).unwrap(),
        pattern: pattern.to_owned(),
        mapping: mapping.unwrap(),
    };
    [
        set(SOURCE, "cwl-*", setup::index_mapping()),
        set(ACCESS_LOG_SOURCE, ACCESS_LOG_PATTERN, setup::access_log_mapping()),
    ]
}

fn objects(set: &DashboardSet, format: ExportFormat) -> Vec<SavedObject> {
    build_objects(&set.definitions, &set.pattern, &set.mapping, format)
}

fn all(format: ExportFormat) -> Vec<SavedObject> {
    sets().iter().flat_map(|set| objects(set, format)).collect()
}

/// Returns the names of the fields that documents can be counted by.
fn countable(set: &DashboardSet) -> BTreeSet<String> {
    let fields: Vec<Value> = serde_json::from_str(&fields::field_list(&set.mapping, ExportFormat::Kibana5)).unwrap();
    let countable = fields.iter().filter(|field| field["aggregatable"] == true);
    countable.map(|field| field["name"].as_str().unwrap().to_owned()).collect()
}

/// Returns each field that a query names: the text before a colon.
fn queried(query: &str) -> impl Iterator<Item = &str> {
    let before = query.split(':').rev().skip(1);
    before.map(|text| text.rsplit([' ', '(']).next().unwrap())
}

#[test]
fn import_files_match_the_definitions() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboards");
    let names = [file::file_name, file::access_log_file_name];
    for (set, name) in sets().iter().zip(names) {
        for format in FORMATS {
            let written = std::fs::read_to_string(folder.join(name(format))).unwrap();
            let is_same = written == file::file_text(&objects(set, format), format);
            assert!(is_same, "cargo run -p trailgate-ingest --bin trailgate-ingest write-dashboards dashboards");
        }
    }
}

#[test]
fn each_field_that_a_panel_counts_by_is_mapped() {
    for set in sets() {
        let countable = countable(&set);
        for panel in set.definitions.dashboards.iter().flat_map(|dashboard| &dashboard.panels) {
            let mut fields = match &panel.content {
                PanelContent::Table { by, .. } => by.clone(),
                PanelContent::Pie { by: field, .. } | PanelContent::OverTime(BarSplit::By(field, _)) => {
                    vec![field.clone()]
                }
                PanelContent::OverTime(_) => vec![set.definitions.time.clone()],
                PanelContent::Note(_) | PanelContent::Count | PanelContent::Events => Vec::new(),
            };
            if let Measure::Sum(field) = &panel.measure {
                fields.push(field.clone());
            }
            for field in fields {
                assert!(countable.contains(&field), "{}: {field}", panel.id);
            }
        }
    }
}

#[test]
fn each_field_that_a_search_names_is_mapped() {
    for set in sets() {
        let countable = countable(&set);
        for search in &set.definitions.searches {
            let shown = search.columns.iter().map(String::as_str).filter(|field| *field != "@message");
            for field in shown.chain(queried(&search.query)) {
                assert!(countable.contains(field), "{}: {field}", search.id);
            }
        }
    }
}

#[test]
fn each_field_that_a_panel_queries_is_mapped() {
    for set in sets() {
        let countable = countable(&set);
        for panel in set.definitions.dashboards.iter().flat_map(|dashboard| &dashboard.panels) {
            let pieces = match &panel.content {
                PanelContent::OverTime(BarSplit::Into(pieces)) => &pieces[..],
                _ => &[],
            };
            let own = if let PanelScope::Query(query) = &panel.scope { Some(query) } else { None };
            for field in pieces.iter().map(|(_, query)| query).chain(own).flat_map(|query| queried(query)) {
                assert!(countable.contains(field), "{}: {field}", panel.id);
            }
        }
    }
}

#[test]
fn index_pattern_has_its_fields_in_both_formats() {
    for format in FORMATS {
        let pattern = all(format).into_iter().find(|object| object.kind == ObjectKind::IndexPattern).unwrap();
        let fields: Vec<Value> = serde_json::from_str(pattern.attributes["fields"].as_str().unwrap()).unwrap();
        let field = |name: &str| fields.iter().find(|field| field["name"] == name).unwrap();
        let keyword = field("eventName.keyword");
        assert_eq!((&keyword["type"], &keyword["aggregatable"]), (&"string".into(), &true.into()));
        assert_eq!(field("@timestamp")["type"], "date");
        assert_eq!(field("@message")["aggregatable"], false);
        if format == ExportFormat::Kibana7 {
            assert_eq!(keyword["esTypes"], json!(["keyword"]));
            assert_eq!(keyword["subType"]["multi"]["parent"], "eventName");
        }
    }
}

#[test]
fn index_pattern_of_access_lines_formats_bytes() {
    let [events, access_log] = sets();
    for format in FORMATS {
        let pattern = &objects(&access_log, format)[0];
        let formats: Value = serde_json::from_str(pattern.attributes["fieldFormatMap"].as_str().unwrap()).unwrap();
        assert_eq!(formats, json!({ "bytes_in": { "id": "bytes" }, "bytes_out": { "id": "bytes" } }));
        assert!(!objects(&events, format)[0].attributes.contains_key("fieldFormatMap"));
    }
}

#[test]
fn bars_are_labelled_by_what_they_measure() {
    let objects = all(ExportFormat::Kibana7);
    for (id, label) in
        [("calls-over-time", "Events"), ("looked-over-time", "Requests"), ("bytes-over-time", "bytes_out")]
    {
        let object = objects.iter().find(|object| object.id == format!("trailgate-{id}")).unwrap();
        let state: Value = serde_json::from_str(object.attributes["visState"].as_str().unwrap()).unwrap();
        assert_eq!(state["params"]["valueAxes"][0]["title"]["text"], label, "{id}");
    }
}

/// Returns the tables, each with the column widths that its saved object has in Dashboards.
fn tables() -> Vec<(Panel, Vec<u64>)> {
    let objects = all(ExportFormat::Kibana7);
    let dashboards = sets().into_iter().flat_map(|set| set.definitions.dashboards);
    let panels = dashboards.flat_map(|dashboard| dashboard.panels);
    let tables = panels.filter(|panel| matches!(panel.content, PanelContent::Table { .. }));
    let widths = |panel: &Panel| {
        let object = objects.iter().find(|object| object.id == format!("trailgate-{}", panel.id)).unwrap();
        let state: Value = serde_json::from_str(object.attributes["uiStateJSON"].as_str().unwrap()).unwrap();
        let columns = state["vis"]["columnsWidth"].as_array().unwrap();
        columns.iter().map(|column| column["width"].as_u64().unwrap()).collect()
    };
    tables.map(|panel| (panel.clone(), widths(&panel))).collect()
}

#[test]
fn each_column_of_a_table_has_room_in_a_window_of_1280_pixels() {
    for (panel, widths) in tables() {
        let PanelContent::Table { by, .. } = &panel.content else { unreachable!("these are tables") };
        assert_eq!(widths.len(), by.len() + 1, "{}", panel.id);
        assert!(widths.iter().sum::<u64>() <= u64::from(visual::width(&panel)), "{}: {widths:?}", panel.id);
        for (field, width) in by.iter().zip(&widths) {
            assert!(*width >= u64::from(visual::column_width(field)), "{}: {field} has {width} pixels", panel.id);
        }
        let measure = u64::from(visual::measure_width(&panel.measure));
        assert!(widths.last().is_some_and(|width| *width >= measure), "{}: {widths:?}", panel.id);
    }
}

#[test]
fn tables_show_the_caller_as_short_principal() {
    let names: Vec<_> = tables()
        .into_iter()
        .filter_map(|(panel, _)| match panel.content {
            PanelContent::Table { by, .. } => Some(by),
            _ => None,
        })
        .flatten()
        .collect();
    assert!(names.iter().filter(|name| *name == "ct.principal").count() >= 6);
    assert!(!names.contains(&"userIdentity.arn".to_owned()), "an ARN is cut where the name begins");
}

#[test]
fn each_reference_names_an_earlier_object() {
    let mut before = BTreeSet::new();
    for object in all(ExportFormat::Kibana7) {
        for (_, kind, id) in &object.references {
            assert!(before.contains(&(*kind, id.clone())), "{}: {id}", object.id);
        }
        assert!(before.insert((object.kind, object.id.clone())), "{} is there twice", object.id);
    }
}

#[test]
fn each_link_of_a_note_has_an_existing_target() {
    for (format, places) in [
        (ExportFormat::Kibana5, [("#/discover/", ObjectKind::Search), ("#/dashboard/", ObjectKind::Dashboard)]),
        (
            ExportFormat::Kibana7,
            [("discover#/view/", ObjectKind::Search), ("dashboards#/view/", ObjectKind::Dashboard)],
        ),
    ] {
        let objects = all(format);
        let notes = objects.iter().filter(|object| object.id.ends_with("-note"));
        let targets = notes.flat_map(|note| {
            let state: Value = serde_json::from_str(note.attributes["visState"].as_str().unwrap()).unwrap();
            let text = state["params"]["markdown"].as_str().unwrap().to_owned();
            text.split("](").skip(1).map(|link| link.split(')').next().unwrap().to_owned()).collect::<Vec<_>>()
        });
        let targets: Vec<_> = targets.collect();
        assert!(targets.len() > 10, "{targets:?}");
        for target in targets {
            let (kind, id) =
                places.iter().find_map(|(place, kind)| Some((*kind, target.strip_prefix(place)?))).unwrap();
            assert!(objects.iter().any(|object| object.kind == kind && object.id == id), "{target}");
        }
    }
}

#[test]
fn definition_with_a_dangling_name_is_rejected() {
    let panel = "[[dashboard]]\nid = \"d\"\ntitle = \"D\"\n[[dashboard.panel]]\nid = \"p\"\ntitle = \"P\"\nwidth = 6\n";
    for (rest, reason) in [
        ("height = 1\nkind = \"count\"\nsearch = \"x\"\n", "x: is no search"),
        ("height = 1\nkind = \"count\"\nsum = \"a\"\n", "p: has sum, which its kind does not show"),
        ("height = 1\nkind = \"pie\"\nby = [\"a\", \"b\"]\n", "p: lacks a key of its kind, or has one of another kind"),
        ("height = 1\nkind = \"table\"\n", "p: lacks a key of its kind, or has one of another kind"),
        ("height = 0\nkind = \"count\"\n", "p: needs a width of 1 to 12 and a height of 1 or more"),
        (
            "height = 1\nkind = \"over_time\"\nby = [\"a\"]\nsplit = [{ title = \"t\", query = \"q\" }]\n",
            "p: has both by and split; remove one",
        ),
    ] {
        let error = Definitions::parse(&format!("time = \"@timestamp\"\nsearch = []\n{panel}{rest}")).unwrap_err();
        assert_eq!(error.to_string(), reason);
    }
}
