//! What only a request's body tells.

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::statement::Language;
use super::tunnel::ApiCall;
use super::{Call, ReadOnly, Why};
use crate::body::Buffered;
use crate::engine::Engine;

/// What is left to be decided once the body is there.
#[derive(Debug)]
pub struct BodyCheck {
    question: Question,
    call: String,
    engine: Option<Engine>,
    /// Whether its headers promise a body that can be read.
    is_plain_json: bool,
}

/// What a body is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Nothing: it may be anything.
    None,
    /// Whether its statement reads.
    Statement(Language),
    /// Whether it ends searches of others.
    Cursors,
    /// Which function of the engine's client it calls.
    ApiCaller,
    /// Whether it stays a search.
    Search,
    /// Whether each of its searches stays one.
    Batch,
}

impl BodyCheck {
    pub(super) fn new(question: Question, call: &Call<'_>, is_plain_json: bool) -> Self {
        Self { question, call: call.to_string(), engine: call.engine, is_plain_json }
    }

    pub(super) fn nothing() -> Self {
        Self { question: Question::None, call: String::new(), engine: None, is_plain_json: false }
    }

    /// Decides on the rest. A body that is asked nothing is not touched.
    pub fn run(self, body: &Buffered) -> Result<(), ReadOnly> {
        // What asks for nothing does nothing.
        if self.question == Question::None || body.is_empty() {
            return Ok(());
        }
        if !self.is_plain_json || body.len() > READABLE {
            return Err(self.refuse(Why::Unreadable));
        }
        let body = body.joined();
        match self.question {
            Question::None => Ok(()),
            Question::Statement(language) => {
                let Statement { query, sql, cursor } = self.read(&body)?;
                let statements: Vec<String> = query.into_iter().chain(sql).collect();
                if statements.is_empty() && cursor.is_none()
                    || !statements.iter().all(|statement| language.reads(statement))
                {
                    return Err(self.refuse(Why::Statement));
                }
                Ok(())
            }
            Question::Cursors => {
                let Cursors { scroll_id, pit_id, id } = self.read(&body)?;
                let names_all = |names: Names| names.iter().any(|name| name == "_all");
                if [scroll_id, pit_id, id].into_iter().flatten().any(names_all) {
                    return Err(self.refuse(Why::Everybody));
                }
                Ok(())
            }
            Question::ApiCaller => self.read::<ApiCall>(&body)?.check(&self.call, self.engine),
            Question::Search => self.all_search(&[self.read(&body)?]),
            Question::Batch => {
                let Batch { batch } = self.read(&body)?;
                if batch.iter().any(|item| !item.options.is_known()) {
                    return Err(self.refuse(Why::Unknown));
                }
                self.all_search(&batch.into_iter().map(|item| item.request).collect::<Vec<_>>())
            }
        }
    }

    /// Reads JSON. A key that decides something and is there twice is an error.
    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ReadOnly> {
        serde_json::from_slice(body).map_err(|_| self.refuse(Why::Unreadable))
    }

    fn all_search(&self, searches: &[Search]) -> Result<(), ReadOnly> {
        searches.iter().all(Search::is_search).then_some(()).ok_or_else(|| self.refuse(Why::Unknown))
    }

    fn refuse(&self, why: Why) -> ReadOnly {
        ReadOnly { call: self.call.clone(), why }
    }
}

/// A query of the SQL and PPL plug-ins.
#[derive(Deserialize)]
struct Statement {
    query: Option<String>,
    sql: Option<String>,
    /// Goes on with a query that has passed before.
    cursor: Option<String>,
}

#[derive(Deserialize)]
struct Cursors {
    scroll_id: Option<Names>,
    pit_id: Option<Names>,
    id: Option<Names>,
}

/// Searches by Kibana's search service.
#[derive(Deserialize)]
struct Batch {
    batch: Vec<BatchItem>,
}

#[derive(Deserialize)]
struct BatchItem {
    request: Search,
    #[serde(default)]
    options: Options,
}

#[derive(Default, Deserialize)]
struct Options {
    strategy: Option<String>,
}

impl Options {
    fn is_known(&self) -> bool {
        self.strategy.as_deref().is_none_or(|name| ["es", "ese", "opensearch"].contains(&name))
    }
}

#[derive(Deserialize)]
struct Search {
    id: Option<String>,
    #[serde(default)]
    params: Params,
}

#[derive(Default, Deserialize)]
struct Params {
    index: Option<Names>,
    /// The engine's client lets these stand in for the search's own.
    method: Option<IgnoredAny>,
    path: Option<IgnoredAny>,
}

impl Search {
    /// Whether the engine's client makes a search of it: some versions write `index` and `id` into a path as they are.
    fn is_search(&self) -> bool {
        let is_name = |name: &str| !name.contains(['/', '?', '#', '%', '\\']) && !name.starts_with('_');
        let Params { index, method, path } = &self.params;
        let indices = index.iter().flat_map(Names::iter).flat_map(|list| list.split(','));
        method.is_none()
            && path.is_none()
            && indices.chain(self.id.as_deref()).all(|name| name == "_all" || is_name(name))
    }
}

/// One name, or a list of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum Names {
    One(String),
    Many(Vec<String>),
}

impl Names {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let names = match self {
            Self::One(name) => std::slice::from_ref(name),
            Self::Many(names) => names,
        };
        names.iter().map(String::as_str)
    }
}

/// Bytes of a body that is looked into: more than Kibana sends, and little beside the memory for bodies.
const READABLE: usize = 4 * 1024 * 1024;
