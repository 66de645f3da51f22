//! The body check: the part of a decision that needs the request's body.

use std::time::Duration;

use hyper::header::HeaderMap;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use trailgate_client::HashedBody;

use super::access_log::{check_engine_body, check_page_body};
use super::body_rule::BodyRule;
use super::content::{Content, Media};
use super::contexts::{Load, check_keep_alive, check_scroll_body, check_search_body};
use super::statement::Language;
use super::{
    Access, AccessLogView, Call, Context, Decision, DenyReason, ReadOnly, Scope, json, nested_call, objects, search,
    timelion,
};

/// A check of the request's body, which completes the decision.
#[derive(Debug)]
pub struct BodyCheck {
    decision: Decision,
    call: String,
    /// The declared format of the body.
    content: Content,
    context: Context,
}

impl BodyCheck {
    pub(super) fn new(decision: Decision, call: &Call<'_>, headers: &HeaderMap) -> Self {
        if decision.body_rule == BodyRule::None && decision.scope == Scope::Open {
            return Self { decision, ..Self::nothing() };
        }
        Self { decision, call: call.to_string(), content: Content::of(headers), context: call.context }
    }

    /// Creates a check that passes any body and counts no load.
    pub(super) fn nothing() -> Self {
        let decision = Decision { body_rule: BodyRule::None, scope: Scope::Open, load: Load::None };
        let access_log = AccessLogView::Visible;
        let context = Context { access: Access::Full, access_log, engine: None, longest: Duration::ZERO };
        Self { decision, call: String::new(), content: Content::UNREAD, context }
    }

    /// Checks the body and returns the request's load. A body without a rule is not read.
    pub fn run(self, body: &HashedBody) -> Result<Load, ReadOnly> {
        let Decision { body_rule, scope, load } = self.decision;
        if body.is_empty() && scope.needs_body() {
            return Err(ReadOnly { call: self.call, why: DenyReason::access_log(None) });
        }
        // An empty body cannot make the request a write.
        if body_rule == BodyRule::None && scope == Scope::Open || body.is_empty() {
            return Ok(load);
        }
        let changed = match body_rule {
            // A rejection names the nested call.
            BodyRule::ApiCaller => return self.api_caller(body, load),
            body_rule => self
                .check_body(body_rule, body)
                .and_then(|changed| self.check_scope(body).map(|()| changed).map_err(DenyReason::of_access_log)),
        };
        let changed = changed.map_err(|why| ReadOnly { call: self.call, why })?;
        Ok(changed.unwrap_or(load))
    }

    /// Checks the body, and returns the load if it differs from the head's.
    fn check_body(&self, body_rule: BodyRule, body: &HashedBody) -> Result<Option<Load>, DenyReason> {
        match body_rule {
            BodyRule::None | BodyRule::ApiCaller => Ok(None),
            BodyRule::Statement(language) => self.statement(language, body),
            BodyRule::Cursors => {
                let body = json::parse_once(&self.content.json(body)?)?;
                let members = search::object(&body)?;
                let ids = ["scroll_id", "pit_id", "id"].into_iter().filter_map(|name| members.get(name));
                let is_all =
                    ids.map(names_all).collect::<Option<Vec<_>>>().ok_or(DenyReason::Unreadable)?.contains(&true);
                if is_all { Err(DenyReason::AllSearches) } else { Ok(None) }
            }
            BodyRule::Scroll => check_scroll_body(self.content, body, self.context.longest),
            BodyRule::Searches | BodyRule::Template => {
                check_search_body(self.content, body, body_rule, self.context.longest)
            }
            BodyRule::Import => objects::check_import(&self.content.form(body)?).map(|()| None),
            _ => {
                let body = json::parse(&self.content.json(body)?)?;
                check_json(body_rule, &body)?;
                let named = check_page_body(self.decision.scope, body_rule, &body);
                named.map(|()| None).map_err(DenyReason::of_access_log)
            }
        }
    }

    /// Rejects a body of an engine call that names the access log. [`Self::check_body`] does this for the bodies of pages.
    fn check_scope(&self, body: &HashedBody) -> Result<(), DenyReason> {
        match self.decision.body_rule {
            BodyRule::Statement(_) if self.decision.scope != Scope::Open => check_page_body(
                self.decision.scope,
                self.decision.body_rule,
                &json::parse_once(&self.content.json(body)?)?,
            ),
            BodyRule::None | BodyRule::Searches | BodyRule::Template if self.decision.scope != Scope::Open => {
                if self.content.media() == Media::Binary {
                    return Err(DenyReason::Unreadable);
                }
                let is_template = self.decision.body_rule == BodyRule::Template;
                check_engine_body(self.decision.scope, is_template, &self.content.decode_search(body)?)
            }
            _ => Ok(()),
        }
    }

    fn api_caller(self, body: &HashedBody, load: Load) -> Result<Load, ReadOnly> {
        let text = self.content.json(body).and_then(|text| json::parse(&text));
        let call = text.map_err(|why| ReadOnly { call: self.call.clone(), why })?;
        nested_call::check_api_call(&call, &self.call, self.context).map(|inner| inner.unwrap_or(load))
    }

    fn statement(&self, language: Language, body: &HashedBody) -> Result<Option<Load>, DenyReason> {
        let Statement { query, sql, cursor, fetch_size, page_timeout, keep_alive } = self.read(body)?;
        let statements: Vec<String> = query.into_iter().chain(sql).collect();
        if statements.is_empty() && cursor.is_none() || !statements.iter().all(|statement| language.reads(statement)) {
            return Err(DenyReason::Statement);
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

    /// Parses a JSON body. A duplicate of a key that decides is an error.
    fn read<T: DeserializeOwned>(&self, body: &HashedBody) -> Result<T, DenyReason> {
        serde_json::from_slice(&self.content.json(body)?).map_err(|_| DenyReason::Unreadable)
    }
}

/// Checks a JSON body whose every member decides.
fn check_json(body_rule: BodyRule, body: &Value) -> Result<(), DenyReason> {
    match body_rule {
        BodyRule::Search => search::check(body),
        BodyRule::Batch => search::check_batch(body),
        BodyRule::Timelion => timelion::check_run(body),
        BodyRule::Settings => objects::check_settings(body),
        BodyRule::Object(kind) => objects::check_one(kind, body),
        BodyRule::Objects => objects::check_many(body),
        BodyRule::Document { kind, is_update } => objects::check_document(kind, is_update, body),
        BodyRule::ShortLink => objects::check_short_link(body),
        _ => Ok(()),
    }
}

/// A query of the SQL and PPL plug-ins.
#[derive(Deserialize)]
struct Statement {
    query: Option<String>,
    sql: Option<String>,
    /// Continues a query that was checked before.
    cursor: Option<String>,
    /// Opens a cursor for the rows beyond the first page.
    fetch_size: Option<IgnoredAny>,
    page_timeout: Option<String>,
    keep_alive: Option<String>,
}

/// Returns whether one name or a list of names contains `_all`, or `None` for another value.
fn names_all(names: &Value) -> Option<bool> {
    match names {
        Value::Null => Some(false),
        Value::String(name) => Some(name == "_all"),
        Value::Array(names) if names.iter().all(Value::is_string) => Some(names.iter().any(|name| name == "_all")),
        _ => None,
    }
}

/// The plug-in's default keep-alive of an SQL cursor.
const CURSOR: Duration = Duration::from_mins(1);
