//! The definitions of the dashboards, as they are written in `dashboards/*.toml`.

use std::collections::BTreeSet;

use serde::Deserialize;

/// All dashboards, and the searches behind them. Each name in it refers to something in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definitions {
    /// The field of an event's time.
    pub time: String,
    /// Saved searches.
    pub searches: Vec<Search>,
    /// Dashboards.
    pub dashboards: Vec<Dashboard>,
}

/// A saved search.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    /// Its name for the rest of the file.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// The query, in Lucene's syntax.
    pub query: String,
    /// The fields that are shown.
    pub columns: Vec<String>,
}

/// A page of panels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dashboard {
    /// Its name for the rest of the file.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// The panels, from left to right and from top to bottom.
    pub panels: Vec<Panel>,
}

/// A part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    /// Its name, which is that of no other panel.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// The width in columns, of which a page has [`COLUMNS`].
    pub width: u8,
    /// The height in rows of 100 pixels.
    pub height: u8,
    /// The events that it counts.
    pub scope: PanelScope,
    /// The number that it shows of them.
    pub measure: Measure,
    /// Its content.
    pub content: PanelContent,
}

/// The number that a panel shows of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Their count, under this title.
    Count(String),
    /// The sum of a field.
    Sum(String),
}

/// The events of a panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PanelScope {
    /// All events.
    All,
    /// Those of the saved search of this name.
    Search(String),
    /// Those of a query in Lucene's syntax.
    Query(String),
}

/// The content of a panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PanelContent {
    /// A text in Markdown.
    Note(String),
    /// The number of events.
    Count,
    /// The number of events by the values of fields.
    Table {
        /// The fields, each within the one before it.
        by: Vec<String>,
        /// The number of values of each.
        top: u8,
    },
    /// The number of events by the values of a field, as slices of a pie.
    Pie {
        /// The field.
        by: String,
        /// The number of its values.
        top: u8,
    },
    /// The number of events over time, as bars.
    OverTime(BarSplit),
    /// The events of its search, one by one.
    Events,
}

/// The pieces of the bars of a panel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BarSplit {
    /// One piece.
    None,
    /// A piece for each of this number of values of a field.
    By(String, u8),
    /// A piece for each query, under its title.
    Into(Vec<(String, String)>),
}

/// The reason why a text does not define dashboards.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionsError {
    /// It is no TOML of the right shape.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// A part of it contradicts the rest.
    #[error("{id}: {problem}")]
    Wrong {
        /// The name of the part.
        id: String,
        /// Its fault.
        problem: &'static str,
    },
}

impl Definitions {
    /// Parses the text of the file.
    pub fn parse(text: &str) -> Result<Self, DefinitionsError> {
        let written: WrittenDefinitions = toml::from_str(text)?;
        let mut ids = BTreeSet::new();
        let panels = written.dashboard.iter().flat_map(|dashboard| &dashboard.panel);
        let all = (written.search.iter().map(|search| ("search", &search.id)))
            .chain(written.dashboard.iter().map(|dashboard| ("dashboard", &dashboard.id)))
            .chain(panels.map(|panel| ("panel", &panel.id)));
        for (kind, id) in all {
            if !ids.insert((kind, id)) {
                return Err(wrong(id, "is used twice; choose another id"));
            }
        }
        let dashboards = written.dashboard.iter().map(|dashboard| {
            let panels = dashboard.panel.iter().map(|panel| panel.parse(&written)).collect::<Result<_, _>>()?;
            Ok(Dashboard { id: dashboard.id.clone(), title: dashboard.title.clone(), panels })
        });
        let dashboards = dashboards.collect::<Result<_, DefinitionsError>>()?;
        Ok(Self { time: written.time, searches: written.search, dashboards })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDefinitions {
    time: String,
    #[serde(default = "default_counts")]
    counts: String,
    search: Vec<Search>,
    dashboard: Vec<WrittenDashboard>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDashboard {
    id: String,
    title: String,
    panel: Vec<WrittenPanel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPanel {
    id: String,
    title: String,
    kind: PanelKind,
    width: u8,
    height: u8,
    search: Option<String>,
    query: Option<String>,
    text: Option<String>,
    top: Option<u8>,
    sum: Option<String>,
    #[serde(default)]
    by: Vec<String>,
    #[serde(default)]
    split: Vec<WrittenSplit>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum PanelKind {
    Note,
    Count,
    Table,
    Pie,
    OverTime,
    Events,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSplit {
    title: String,
    query: Option<String>,
    #[serde(default)]
    searches: Vec<String>,
}

impl WrittenPanel {
    fn parse(&self, written: &WrittenDefinitions) -> Result<Panel, DefinitionsError> {
        if self.width == 0 || self.width > COLUMNS || self.height == 0 {
            return Err(wrong(&self.id, "needs a width of 1 to 12 and a height of 1 or more"));
        }
        let scope = match (&self.search, &self.query) {
            (None, None) => PanelScope::All,
            (Some(id), None) => PanelScope::Search(written.search(id)?.id.clone()),
            (None, Some(query)) => PanelScope::Query(query.clone()),
            (Some(_), Some(_)) => return Err(wrong(&self.id, "has both search and query; remove one")),
        };
        let measure = match (&self.sum, self.kind) {
            (None, _) => Measure::Count(written.counts.clone()),
            (Some(field), PanelKind::Table | PanelKind::Pie | PanelKind::OverTime) => Measure::Sum(field.clone()),
            (Some(_), _) => return Err(wrong(&self.id, "has sum, which its kind does not show")),
        };
        let content = match (self.kind, &self.text, &self.by[..]) {
            (PanelKind::Note, Some(text), []) => PanelContent::Note(text.clone()),
            (PanelKind::Count, None, []) => PanelContent::Count,
            (PanelKind::Table, None, [_, ..]) => {
                PanelContent::Table { by: self.by.clone(), top: self.top.unwrap_or(TOP) }
            }
            (PanelKind::Pie, None, [by]) => PanelContent::Pie { by: by.clone(), top: self.top.unwrap_or(TOP) },
            (PanelKind::OverTime, None, by) => PanelContent::OverTime(self.split(by, written)?),
            (PanelKind::Events, None, []) if self.search.is_some() => PanelContent::Events,
            _ => return Err(wrong(&self.id, "lacks a key of its kind, or has one of another kind")),
        };
        Ok(Panel {
            id: self.id.clone(),
            title: self.title.clone(),
            width: self.width,
            height: self.height,
            scope,
            measure,
            content,
        })
    }

    fn split(&self, by: &[String], written: &WrittenDefinitions) -> Result<BarSplit, DefinitionsError> {
        match (by, &self.split[..]) {
            ([], []) => Ok(BarSplit::None),
            ([field], []) => Ok(BarSplit::By(field.clone(), self.top.unwrap_or(TOP))),
            ([], pieces) => {
                let queries = pieces.iter().map(|piece| Ok((piece.title.clone(), piece.query(written)?)));
                Ok(BarSplit::Into(queries.collect::<Result<_, DefinitionsError>>()?))
            }
            _ => Err(wrong(&self.id, "has both by and split; remove one")),
        }
    }
}

impl WrittenSplit {
    /// Returns its own query, or the union of its searches.
    fn query(&self, written: &WrittenDefinitions) -> Result<String, DefinitionsError> {
        match (&self.query, &self.searches[..]) {
            (Some(query), []) => Ok(query.clone()),
            (None, [_, ..]) => {
                let queries = self.searches.iter().map(|id| Ok(format!("({})", written.search(id)?.query)));
                Ok(queries.collect::<Result<Vec<_>, DefinitionsError>>()?.join(" OR "))
            }
            _ => Err(wrong(&self.title, "lacks query or searches")),
        }
    }
}

impl WrittenDefinitions {
    fn search(&self, id: &str) -> Result<&Search, DefinitionsError> {
        self.search.iter().find(|search| search.id == id).ok_or_else(|| wrong(id, "is no search"))
    }
}

fn default_counts() -> String {
    "Events".to_owned()
}

fn wrong(id: &str, problem: &'static str) -> DefinitionsError {
    DefinitionsError::Wrong { id: id.to_owned(), problem }
}

/// The columns of a page.
pub const COLUMNS: u8 = 12;

/// The default number of values.
const TOP: u8 = 8;
