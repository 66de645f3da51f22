//! Grants: the access level of a client, from viewing only to full access.
//!
//! A read grant protects the evidence. The [`table`] lists the permitted routes; a request that is not known to be a
//! read is rejected (fails closed). Kibana's requests can carry nested calls to the engine. [`nested_call`] extracts
//! them, and the same rules decide them. A [`BodyCheck`] remains if the decision needs the request's body.

mod access_log;
mod body_check;
mod body_rule;
mod content;
mod contexts;
mod deny_reason;
mod engines;
mod json;
mod nested_call;
mod objects;
mod path;
mod rules;
mod search;
mod shape;
mod statement;
mod table;
mod timelion;

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use hyper::Method;
use hyper::header::HeaderMap;
use hyper::http::HeaderName;
use serde::Serialize;
use trailgate_client::Target;

pub use self::access_log::AccessLogView;
use self::access_log::Scope;
pub use self::body_check::BodyCheck;
use self::body_rule::BodyRule;
pub use self::contexts::Load;
use self::deny_reason::DenyReason;
pub use self::deny_reason::ReadOnly;
use self::objects::Kind;
use self::path::{pairs, parameters, readings};
use self::rules::{Backend, Rule, Verdict};
use crate::policy::engine::Engine;

/// The access level that an allowlist entry grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Reads, without writing saved objects.
    View,
    /// Reads, and writes saved objects of Kibana other than the shipped ones.
    #[default]
    Read,
    /// Everything that the proxy's IAM role permits.
    Full,
}

impl Access {
    /// Returns the level's name in an allowlist.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Read => "read",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The decision by a request's head: the rule for its body, the indices that it can reach, and its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decision {
    body_rule: BodyRule,
    scope: Scope,
    load: Load,
}

/// Decides on a request by its head, and returns the check that its body has to pass.
///
/// `access_log` states whether the client may search the access log's indices. `engine` is the domain's engine, if it
/// is known. `longest` is the longest permitted keep-alive of a search.
pub fn decide(
    access: Access,
    access_log: AccessLogView,
    engine: Option<Engine>,
    method: &Method,
    target: &Target,
    headers: &HeaderMap,
    longest: Duration,
) -> Result<BodyCheck, ReadOnly> {
    let call = Call { method: method.as_str(), target, context: Context { access, access_log, engine, longest } };
    match access {
        Access::Full => Ok(BodyCheck::nothing()),
        // A server that honours these headers executes another method than the one decided on.
        _ if OVERRIDES.iter().any(|name| headers.contains_key(name)) => Err(call.deny(DenyReason::Ambiguous)),
        Access::View | Access::Read => Ok(BodyCheck::new(call.decide_all_readings(below_prefix)?, &call, headers)),
    }
}

/// A call to the engine or to Kibana: the request itself, or a nested one.
#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    method: &'a str,
    target: &'a Target,
    context: Context,
}

/// The inputs of a decision other than the call.
#[derive(Clone, Copy, Debug)]
struct Context {
    access: Access,
    access_log: AccessLogView,
    /// The domain's engine, if it is known.
    engine: Option<Engine>,
    /// The longest permitted keep-alive of a search.
    longest: Duration,
}

impl Call<'_> {
    /// Decides under every reading of the path. Rejects the call if the decisions differ.
    fn decide_all_readings(
        &self,
        decide: fn(&Self, &[&str]) -> Result<Decision, ReadOnly>,
    ) -> Result<Decision, ReadOnly> {
        let readings = readings(self.target).ok_or_else(|| self.deny(DenyReason::Ambiguous))?;
        let mut agreed = None;
        for segments in &readings {
            let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
            let decision = decide(self, &segments)?;
            if *agreed.get_or_insert(decision) != decision {
                return Err(self.deny(DenyReason::Ambiguous));
            }
        }
        agreed.ok_or_else(|| self.deny(DenyReason::Ambiguous))
    }

    fn parameters(&self) -> Result<Vec<(String, String)>, ReadOnly> {
        parameters(self.target).ok_or_else(|| self.deny(DenyReason::Ambiguous))
    }

    fn deny(&self, why: DenyReason) -> ReadOnly {
        ReadOnly { call: self.to_string(), why }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.path();
        // A canonical path is ASCII.
        let (shown, more) = if path.len() > SHOWN { (&path[..SHOWN], "…") } else { (path, "") };
        // Only these two are readable. The rest stays escaped, so that it is safe in every output.
        write!(f, "{} {}{more}", self.method, shown.replace("%2A", "*").replace("%2C", ","))
    }
}

/// Decides on the request itself: Kibana's path prefixes lead to Kibana, everything else to the engine.
fn below_prefix(call: &Call<'_>, segments: &[&str]) -> Result<Decision, ReadOnly> {
    match segments {
        // A space of Kibana, or a workspace of Dashboards, has all routes again.
        ["_plugin", "kibana", "s" | "w", _, inner @ ..]
        | ["_dashboards", "s" | "w", _, inner @ ..]
        | ["_plugin", "kibana", inner @ ..]
        | ["_dashboards", inner @ ..] => of_kibana(call, inner),
        engine => of_engine(call, engine),
    }
}

fn of_kibana(call: &Call<'_>, segments: &[&str]) -> Result<Decision, ReadOnly> {
    if let ["api" | "internal", ..] = segments
        && call.target.query().is_some()
    {
        let parameters = pairs(call.target).ok_or_else(|| call.deny(DenyReason::Ambiguous))?;
        shape::check(segments, &parameters).map_err(|why| call.deny(why))?;
    }
    let rule = match (table::find(Backend::Kibana, call.method, segments), segments) {
        (Some(rule), _) => rule,
        // Kibana 4 to 6 forward these paths to the engine.
        (None, ["elasticsearch" | "es_admin", engine @ ..]) => return of_engine(call, engine),
        (None, _) => return Err(call.deny(DenyReason::Unknown)),
    };
    if rule.verdict == Verdict::Console {
        return nested_call::console(call);
    }
    let load = match segments.last() {
        // Both use a scroll of one minute.
        Some(&"legacy_scroll_start") => Load::Open(SCROLL),
        Some(&"legacy_scroll_continue") => Load::Extend(SCROLL),
        _ if call.method == "GET" || call.method == "HEAD" => Load::None,
        _ => Load::Call,
    };
    let scope = access_log::of_kibana(call, rule, segments).map_err(ReadOnly::of_access_log)?;
    Ok(Decision { body_rule: apply_rule(rule, call, segments)?, scope, load })
}

fn of_engine(call: &Call<'_>, segments: &[&str]) -> Result<Decision, ReadOnly> {
    let rule = table::find(Backend::Engine, call.method, segments).ok_or_else(|| call.deny(DenyReason::Unknown))?;
    // No engine interprets a `GET` as indexing a document, whatever its body.
    if !matches!(call.method, "GET" | "HEAD") && !rule.engines.include(call.context.engine) {
        return Err(call.deny(call.context.engine.map_or(DenyReason::EngineUnknown, DenyReason::NotOnEngine)));
    }
    let body_rule = apply_rule(rule, call, segments)?;
    let (body_rule, load) = contexts::decide(call, segments, body_rule)?;
    let scope = access_log::of_engine(call, segments).map_err(ReadOnly::of_access_log)?;
    Ok(Decision { body_rule, scope, load })
}

/// Applies `rule` to the path and the query, and returns the rule for the body.
fn apply_rule(rule: &Rule, call: &Call<'_>, segments: &[&str]) -> Result<BodyRule, ReadOnly> {
    if rule.backend == Backend::Kibana && rule.verdict.is_said_by_body() {
        // Some versions of the plug-ins also read the body's members from the query.
        let is_usual = |(key, _): &(String, String)| ["dataSourceId", "dataSourceMDSId"].contains(&key.as_str());
        if !call.parameters()?.iter().all(is_usual) {
            return Err(call.deny(DenyReason::Ambiguous));
        }
    }
    if call.context.access == Access::View && rule.verdict.saves() {
        return Err(call.deny(DenyReason::Saves));
    }
    let writes = call.method != "DELETE";
    match rule.verdict {
        Verdict::Allow | Verdict::UsageCounter => Ok(BodyRule::None),
        Verdict::Refuse => Err(call.deny(DenyReason::Named(rule.what))),
        Verdict::OwnIndex => {
            let is_usual = |(key, _): &(String, String)| OWN_INDEX_PARAMETERS.contains(&key.as_str());
            let is_own = call.parameters()?.iter().all(is_usual);
            if is_own { document(call, segments) } else { Err(call.deny(DenyReason::Unknown)) }
        }
        Verdict::Statement(language) => {
            for (key, value) in parameters_with_body(call)? {
                if !["sql", "query", "ppl"].contains(&key.as_str()) {
                    continue;
                }
                if !language.reads(&value) {
                    return Err(call.deny(DenyReason::Statement));
                }
                if call.context.access_log == AccessLogView::Hidden {
                    access_log::check_statement(&value).map_err(|why| call.deny(why.of_access_log()))?;
                }
            }
            Ok(BodyRule::Statement(language))
        }
        Verdict::Cursors => {
            let mut parameters = parameters_with_body(call)?.into_iter();
            if parameters.any(|(_, value)| value.contains("_all")) {
                return Err(call.deny(DenyReason::AllSearches));
            }
            Ok(BodyRule::Cursors)
        }
        // `of_kibana` has decided it.
        Verdict::Console => Err(call.deny(DenyReason::Unknown)),
        Verdict::ApiCaller => Ok(BodyRule::ApiCaller),
        Verdict::Search => Ok(BodyRule::Search),
        Verdict::Batch => Ok(BodyRule::Batch),
        Verdict::Json => Ok(BodyRule::Json),
        Verdict::Timelion => Ok(BodyRule::Timelion),
        Verdict::Settings => {
            if let [_, _, "settings", name] = segments {
                objects::check_setting_name(name).map_err(|why| call.deny(why))?;
            }
            Ok(if writes { BodyRule::Settings } else { BodyRule::None })
        }
        Verdict::Object => {
            let kind = segments.get(2).copied().unwrap_or_default();
            let kind = Kind::of(kind).map_err(|why| call.deny(why))?;
            check_ids(call, segments)?;
            Ok(if writes { BodyRule::Object(kind) } else { BodyRule::None })
        }
        Verdict::Objects => Ok(BodyRule::Objects),
        Verdict::Import => Ok(BodyRule::Import),
        Verdict::ShortLink => Ok(BodyRule::ShortLink),
    }
}

/// Returns the rule for a document that Kibana 4 to 6 write into their own index.
fn document(call: &Call<'_>, segments: &[&str]) -> Result<BodyRule, ReadOnly> {
    let kind = match segments {
        [_, _, "_mapping" | "_refresh", ..] => return Ok(BodyRule::None),
        [_, _, name, ..] => Kind::of(name).map_err(|why| call.deny(why))?,
        _ => return Err(call.deny(DenyReason::Unknown)),
    };
    check_ids(call, segments)?;
    let is_update = segments.contains(&"_update");
    Ok(if call.method == "DELETE" { BodyRule::None } else { BodyRule::Document { kind, is_update } })
}

/// Rejects a path that names a shipped object.
fn check_ids(call: &Call<'_>, segments: &[&str]) -> Result<(), ReadOnly> {
    segments.iter().try_for_each(|segment| objects::check_id(segment)).map_err(|why| call.deny(why))
}

/// Returns the parameters of a call that is also decided by its body. Rejects those that could replace the body.
fn parameters_with_body(call: &Call<'_>) -> Result<Vec<(String, String)>, ReadOnly> {
    let parameters = call.parameters()?;
    // `source` replaces the body, and engines up to 6 also split parameters at `;`.
    let is_doubtful = |(key, value): &(String, String)| key == "source" || key.contains(';') || value.contains(';');
    if parameters.iter().any(is_doubtful) {
        return Err(call.deny(DenyReason::Ambiguous));
    }
    Ok(parameters)
}

static OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// The parameters of Kibana 4 to 6's writes. Not `pipeline`, which can redirect a document to another index.
const OWN_INDEX_PARAMETERS: &[&str] = &[
    "_",
    "consistency",
    "if_primary_term",
    "if_seq_no",
    "ignore",
    "op_type",
    "pretty",
    "refresh",
    "retry_on_conflict",
    "timeout",
    "version",
    "version_type",
    "wait_for_active_shards",
];

/// The keep-alive of the scrolls that Dashboards opens for its pages.
const SCROLL: Duration = Duration::from_mins(1);

/// Bytes of a path that a rejection repeats.
const SHOWN: usize = 200;

#[cfg(test)]
mod tests;
