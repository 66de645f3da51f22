//! What only a request's body tells.

use std::time::Duration;

use hyper::header::HeaderMap;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use trailgate_client::HashedBody;

use super::content::Content;
use super::contexts::{Load, check_keep_alive, check_scroll_body, check_search_body};
use super::objects::Kind;
use super::statement::Language;
use super::{Access, Call, Context, Decision, ReadOnly, Why, json, objects, search, timelion, tunnel};

/// What is left to be decided once the body is there.
#[derive(Debug)]
pub struct BodyCheck {
    decision: Decision,
    call: String,
    /// The form that its headers promise for the body.
    content: Content,
    context: Context,
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
    /// For how long it keeps a scroll open.
    Scroll,
    /// Whether one of its searches keeps a point in time open, and for how long.
    Searches,
    /// The same, for a template of a search.
    Template,
    /// Which function of the engine's client it calls.
    ApiCaller,
    /// Whether it stays a search.
    Search,
    /// Whether each of its searches stays one.
    Batch,
    /// Whether it is JSON with one meaning.
    Json,
    /// Whether none of its expressions fetches.
    Timelion,
    /// Whether none of its settings makes the server fetch.
    Settings,
    /// Whether the saved object of this kind does not make the server fetch.
    Object(Kind),
    /// The same, for many objects.
    Objects,
    /// The same, for objects in a file.
    Import,
    /// The same, for a document in Kibana's own index.
    Document {
        /// What the path says that it is.
        kind: Kind,
        /// Whether it is a part of the document.
        is_update: bool,
    },
    /// Whether its link leads to a page of the same server.
    ShortLink,
}

impl BodyCheck {
    pub(super) fn new(decision: Decision, call: &Call<'_>, headers: &HeaderMap) -> Self {
        if decision.question == Question::None {
            return Self { decision, ..Self::nothing() };
        }
        Self { decision, call: call.to_string(), content: Content::of(headers), context: call.context }
    }

    /// A check that passes whatever the body is, of a client whose load is not counted.
    pub(super) fn nothing() -> Self {
        let decision = Decision { question: Question::None, load: Load::None };
        let context = Context { access: Access::Full, engine: None, longest: Duration::ZERO };
        Self { decision, call: String::new(), content: Content::UNREAD, context }
    }

    /// Decides on the rest, and returns what the request costs. A body that is asked nothing is not touched.
    pub fn run(self, body: &HashedBody) -> Result<Load, ReadOnly> {
        let Decision { question, load } = self.decision;
        // What asks for nothing does nothing.
        if question == Question::None || body.is_empty() {
            return Ok(load);
        }
        let changed = match question {
            // The nested call names itself.
            Question::ApiCaller => return self.api_caller(body, load),
            question => self.ask(question, body),
        };
        let changed = changed.map_err(|why| ReadOnly { call: self.call, why })?;
        Ok(changed.unwrap_or(load))
    }

    /// Asks the body, and returns what the request costs if that is not what its head says.
    fn ask(&self, question: Question, body: &HashedBody) -> Result<Option<Load>, Why> {
        match question {
            Question::None | Question::ApiCaller => Ok(None),
            Question::Statement(language) => self.statement(language, body),
            Question::Cursors => {
                let Cursors { scroll_id, pit_id, id } = self.read(body)?;
                let names_all = |names: Names| names.iter().any(|name| name == "_all");
                let is_all = [scroll_id, pit_id, id].into_iter().flatten().any(names_all);
                if is_all { Err(Why::Everybody) } else { Ok(None) }
            }
            Question::Scroll => check_scroll_body(self.content, body, self.context.longest),
            Question::Searches | Question::Template => {
                check_search_body(self.content, body, question, self.context.longest)
            }
            Question::Import => objects::check_import(&self.content.form(body)?).map(|()| None),
            _ => ask_json(question, &json::parse(&self.content.json(body)?)?).map(|()| None),
        }
    }

    fn api_caller(self, body: &HashedBody, load: Load) -> Result<Load, ReadOnly> {
        let text = self.content.json(body).and_then(|text| json::parse(&text));
        let call = text.map_err(|why| ReadOnly { call: self.call.clone(), why })?;
        tunnel::check_api_call(&call, &self.call, self.context).map(|inner| inner.unwrap_or(load))
    }

    fn statement(&self, language: Language, body: &HashedBody) -> Result<Option<Load>, Why> {
        let Statement { query, sql, cursor, fetch_size, page_timeout, keep_alive } = self.read(body)?;
        let statements: Vec<String> = query.into_iter().chain(sql).collect();
        if statements.is_empty() && cursor.is_none() || !statements.iter().all(|statement| language.reads(statement)) {
            return Err(Why::Statement);
        }
        let mut asked = CURSOR;
        for text in [page_timeout, keep_alive].iter().flatten() {
            asked = asked.max(check_keep_alive(text, self.context.longest)?);
        }
        Ok(match (cursor, fetch_size) {
            (Some(_), _) => Some(Load::Extend(asked)),
            (None, Some(_)) => Some(Load::Open(asked)),
            (None, None) => None,
        })
    }

    /// Reads JSON. A key that decides something and is there twice is an error.
    fn read<T: DeserializeOwned>(&self, body: &HashedBody) -> Result<T, Why> {
        serde_json::from_slice(&self.content.json(body)?).map_err(|_| Why::Unreadable)
    }
}

/// Asks a body of which the whole has to be understood.
fn ask_json(question: Question, body: &Value) -> Result<(), Why> {
    match question {
        Question::Search => search::check(body),
        Question::Batch => search::check_batch(body),
        Question::Timelion => timelion::check_run(body),
        Question::Settings => objects::check_settings(body),
        Question::Object(kind) => objects::check_one(kind, body),
        Question::Objects => objects::check_many(body),
        Question::Document { kind, is_update } => objects::check_document(kind, is_update, body),
        Question::ShortLink => objects::check_short_link(body),
        _ => Ok(()),
    }
}

/// A query of the SQL and PPL plug-ins.
#[derive(Deserialize)]
struct Statement {
    query: Option<String>,
    sql: Option<String>,
    /// Goes on with a query that has passed before.
    cursor: Option<String>,
    /// Makes a cursor for what does not fit.
    fetch_size: Option<IgnoredAny>,
    page_timeout: Option<String>,
    keep_alive: Option<String>,
}

#[derive(Deserialize)]
struct Cursors {
    scroll_id: Option<Names>,
    pit_id: Option<Names>,
    id: Option<Names>,
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

/// How long SQL keeps a cursor open unless the domain says otherwise.
const CURSOR: Duration = Duration::from_mins(1);
