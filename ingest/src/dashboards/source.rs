//! The dashboards as they are written.

use std::collections::BTreeSet;

use serde::Deserialize;

/// All dashboards, and the searches behind them. Each name in it leads somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The field that tells an event's time.
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
    /// Its name for others in the file.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// In Lucene's syntax.
    pub query: String,
    /// The fields that are shown.
    pub columns: Vec<String>,
}

/// A page of panels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dashboard {
    /// Its name for others in the file.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// From left to right and from top to bottom.
    pub panels: Vec<Panel>,
}

/// A part of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panel {
    /// Its name, which is that of no other panel.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// In columns, of which there are [`COLUMNS`].
    pub width: u8,
    /// In rows of 100 pixels.
    pub height: u8,
    /// What narrows it.
    pub scope: Scope,
    /// What it shows.
    pub shows: Shows,
}

/// Which events a panel is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those that the saved search of this name finds.
    Search(String),
    /// Those that are found so, in Lucene's syntax.
    Query(String),
}

/// What a panel shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shows {
    /// A text in Markdown.
    Note(String),
    /// How many events there are.
    Count,
    /// How many there are by the values of fields.
    Table {
        /// The fields, each within the one before it.
        by: Vec<String>,
        /// How many values of each.
        top: u8,
    },
    /// How many there are at which time, as bars.
    OverTime(Split),
    /// The events that its search finds.
    Events,
}

/// What the bars of a panel are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Split {
    /// One piece.
    None,
    /// A piece for each of a field's values, of so many.
    By(String, u8),
    /// A piece for each query, under its title.
    Into(Vec<(String, String)>),
}

/// Why a text is no source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is no TOML of the right shape.
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    /// Something in it makes no sense.
    #[error("{id}: {problem}")]
    Wrong {
        /// What has this name.
        id: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Source {
    /// Reads a source.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        let written: WrittenSource = toml::from_str(text)?;
        let mut ids = BTreeSet::new();
        let panels = written.dashboard.iter().flat_map(|dashboard| &dashboard.panel);
        let all = (written.search.iter().map(|search| ("search", &search.id)))
            .chain(written.dashboard.iter().map(|dashboard| ("dashboard", &dashboard.id)))
            .chain(panels.map(|panel| ("panel", &panel.id)));
        for (kind, id) in all {
            if !ids.insert((kind, id)) {
                return Err(wrong(id, "is the name of two things"));
            }
        }
        let dashboards = written.dashboard.iter().map(|dashboard| {
            let panels = dashboard.panel.iter().map(|panel| panel.parse(&written)).collect::<Result<_, _>>()?;
            Ok(Dashboard { id: dashboard.id.clone(), title: dashboard.title.clone(), panels })
        });
        let dashboards = dashboards.collect::<Result<_, SourceError>>()?;
        Ok(Self { time: written.time, searches: written.search, dashboards })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSource {
    time: String,
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
    kind: Kind,
    width: u8,
    height: u8,
    search: Option<String>,
    query: Option<String>,
    text: Option<String>,
    top: Option<u8>,
    #[serde(default)]
    by: Vec<String>,
    #[serde(default)]
    split: Vec<WrittenSplit>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Note,
    Count,
    Table,
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
    fn parse(&self, source: &WrittenSource) -> Result<Panel, SourceError> {
        if self.width == 0 || self.width > COLUMNS || self.height == 0 {
            return Err(wrong(&self.id, "has no such place"));
        }
        let scope = match (&self.search, &self.query) {
            (None, None) => Scope::All,
            (Some(id), None) => Scope::Search(source.search(id)?.id.clone()),
            (None, Some(query)) => Scope::Query(query.clone()),
            (Some(_), Some(_)) => return Err(wrong(&self.id, "has both a search and a query")),
        };
        let shows = match (self.kind, &self.text, &self.by[..]) {
            (Kind::Note, Some(text), []) => Shows::Note(text.clone()),
            (Kind::Count, None, []) => Shows::Count,
            (Kind::Table, None, [_, ..]) => Shows::Table { by: self.by.clone(), top: self.top.unwrap_or(TOP) },
            (Kind::OverTime, None, by) => Shows::OverTime(self.split(by, source)?),
            (Kind::Events, None, []) if self.search.is_some() => Shows::Events,
            _ => return Err(wrong(&self.id, "lacks what its kind needs, or has more")),
        };
        Ok(Panel {
            id: self.id.clone(),
            title: self.title.clone(),
            width: self.width,
            height: self.height,
            scope,
            shows,
        })
    }

    fn split(&self, by: &[String], source: &WrittenSource) -> Result<Split, SourceError> {
        match (by, &self.split[..]) {
            ([], []) => Ok(Split::None),
            ([field], []) => Ok(Split::By(field.clone(), self.top.unwrap_or(TOP))),
            ([], pieces) => {
                let queries = pieces.iter().map(|piece| Ok((piece.title.clone(), piece.query(source)?)));
                Ok(Split::Into(queries.collect::<Result<_, SourceError>>()?))
            }
            _ => Err(wrong(&self.id, "is split in two ways")),
        }
    }
}

impl WrittenSplit {
    /// Its own query, or what any of its searches finds.
    fn query(&self, source: &WrittenSource) -> Result<String, SourceError> {
        match (&self.query, &self.searches[..]) {
            (Some(query), []) => Ok(query.clone()),
            (None, [_, ..]) => {
                let queries = self.searches.iter().map(|id| Ok(format!("({})", source.search(id)?.query)));
                Ok(queries.collect::<Result<Vec<_>, SourceError>>()?.join(" OR "))
            }
            _ => Err(wrong(&self.title, "needs a query or searches")),
        }
    }
}

impl WrittenSource {
    fn search(&self, id: &str) -> Result<&Search, SourceError> {
        self.search.iter().find(|search| search.id == id).ok_or_else(|| wrong(id, "is no search"))
    }
}

fn wrong(id: &str, problem: &'static str) -> SourceError {
    SourceError::Wrong { id: id.to_owned(), problem }
}

/// How many columns a page has.
pub const COLUMNS: u8 = 12;

/// How many values are shown where nothing is said.
const TOP: u8 = 8;
