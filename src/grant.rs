//! What a client that is let in may do: everything, or read and keep its own objects in Kibana.
//!
//! A read grant protects the evidence. The [`table`] lists what passes it; what is not known to be read is refused.
//! Kibana carries calls to the engine inside its own; [`tunnel`] finds them, and they are decided by the same rules.
//! Where only the body tells, a [`BodyCheck`] is left for when it is there.

mod body;
mod engines;
mod path;
mod rules;
mod statement;
mod table;
mod tunnel;

use std::fmt;

use clap::ValueEnum;
use hyper::Method;
use hyper::header::{self, HeaderMap};
use hyper::http::HeaderName;
use serde::Serialize;

pub use self::body::BodyCheck;
use self::body::Question;
use self::path::{parameters, readings};
use self::rules::{Place, Rule, Verdict};
use crate::engine::Engine;
use crate::target::Target;

/// How much an entry of the allowlist grants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Reads, and writes through Kibana's own saved objects alone.
    #[default]
    Read,
    /// Whatever the role may do that the gate signs with.
    Full,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Full => "full",
        })
    }
}

/// Why a read grant does not cover a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} {why}: this address may read only")]
pub struct ReadOnly {
    /// Method and path of the call that decided, which may be one inside another.
    call: String,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Why {
    #[error("writes, or is not known to read")]
    Unknown,
    #[error("{0}")]
    Named(&'static str),
    #[error("can be read in more than one way")]
    Ambiguous,
    #[error("has a body that cannot be looked into")]
    Unreadable,
    #[error("has a statement that writes, or is not known to read")]
    Statement,
    #[error("is no API of {0}, which could take it for a document")]
    NotOnEngine(Engine),
    #[error("is an API of some engines only, and the domain's engine is not known yet")]
    EngineUnknown,
    #[error("would end everybody's searches")]
    Everybody,
}

/// Decides on a request as far as its head tells. `engine` is the domain's, if it is known.
pub fn decide(
    access: Access,
    engine: Option<Engine>,
    method: &Method,
    target: &Target,
    headers: &HeaderMap,
) -> Result<BodyCheck, ReadOnly> {
    let call = Call { method: method.as_str(), target, engine };
    let question = match access {
        Access::Full => Question::None,
        // Whoever believes these sees another method than the one that is decided on.
        Access::Read if OVERRIDES.iter().any(|name| headers.contains_key(name)) => {
            return Err(call.refuse(Why::Ambiguous));
        }
        Access::Read => call.agree(below_prefix)?,
    };
    Ok(match question {
        Question::None => BodyCheck::nothing(),
        question => BodyCheck::new(question, &call, is_plain_json(headers)),
    })
}

/// A call of the engine or of Kibana, on the wire or inside another.
#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    method: &'a str,
    target: &'a Target,
    engine: Option<Engine>,
}

impl Call<'_> {
    /// Decides under every reading of the path; they have to come to the same.
    fn agree(&self, decide: fn(&Self, &[&str]) -> Result<Question, ReadOnly>) -> Result<Question, ReadOnly> {
        let readings = readings(self.target).ok_or_else(|| self.refuse(Why::Ambiguous))?;
        let mut agreed = None;
        for segments in &readings {
            let segments: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
            let question = decide(self, &segments)?;
            if *agreed.get_or_insert(question) != question {
                return Err(self.refuse(Why::Ambiguous));
            }
        }
        agreed.ok_or_else(|| self.refuse(Why::Ambiguous))
    }

    fn parameters(&self) -> Result<Vec<(String, String)>, ReadOnly> {
        parameters(self.target).ok_or_else(|| self.refuse(Why::Ambiguous))
    }

    fn refuse(&self, why: Why) -> ReadOnly {
        ReadOnly { call: self.to_string(), why }
    }
}

impl fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.path();
        // A canonical path is ASCII.
        let (shown, more) = if path.len() > SHOWN { (&path[..SHOWN], "…") } else { (path, "") };
        // As people write them; all else stays escaped, so that it can stand anywhere.
        write!(f, "{} {}{more}", self.method, shown.replace("%2A", "*").replace("%2C", ","))
    }
}

/// Decides on what came by the wire: the domain's prefixes lead to Kibana, everything else to the engine.
fn below_prefix(call: &Call<'_>, segments: &[&str]) -> Result<Question, ReadOnly> {
    match segments {
        // A space of Kibana, or a workspace of Dashboards, holds all of it again.
        ["_plugin", "kibana", "s" | "w", _, inner @ ..]
        | ["_dashboards", "s" | "w", _, inner @ ..]
        | ["_plugin", "kibana", inner @ ..]
        | ["_dashboards", inner @ ..] => of_kibana(call, inner),
        engine => of_engine(call, engine),
    }
}

fn of_kibana(call: &Call<'_>, segments: &[&str]) -> Result<Question, ReadOnly> {
    match (rules::find(Place::Kibana, call.method, segments), segments) {
        (Some(rule), _) => ask(rule, call),
        // Kibana 4 to 6 pass on what is below these.
        (None, ["elasticsearch" | "es_admin", engine @ ..]) => of_engine(call, engine),
        (None, _) => Err(call.refuse(Why::Unknown)),
    }
}

fn of_engine(call: &Call<'_>, segments: &[&str]) -> Result<Question, ReadOnly> {
    let rule = rules::find(Place::Engine, call.method, segments).ok_or_else(|| call.refuse(Why::Unknown))?;
    // No engine takes a `GET` for a write, whatever its body.
    if !matches!(call.method, "GET" | "HEAD") && !rule.engines.include(call.engine) {
        return Err(call.refuse(call.engine.map_or(Why::EngineUnknown, Why::NotOnEngine)));
    }
    ask(rule, call)
}

/// Decides by the query what a rule leaves open.
fn ask(rule: &Rule, call: &Call<'_>) -> Result<Question, ReadOnly> {
    if rule.place == Place::Kibana && rule.verdict.needs_body() {
        // Some versions of the plug-ins look for what the body should say in the query, too.
        let is_usual = |(key, _): &(String, String)| ["dataSourceId", "dataSourceMDSId"].contains(&key.as_str());
        if !call.parameters()?.iter().all(is_usual) {
            return Err(call.refuse(Why::Ambiguous));
        }
    }
    match rule.verdict {
        Verdict::Allow => Ok(Question::None),
        Verdict::Refuse => Err(call.refuse(Why::Named(rule.what))),
        Verdict::OwnIndex => {
            let is_usual = |(key, _): &(String, String)| OWN_INDEX_PARAMETERS.contains(&key.as_str());
            let is_own = call.parameters()?.iter().all(is_usual);
            is_own.then_some(Question::None).ok_or_else(|| call.refuse(Why::Unknown))
        }
        Verdict::Statement(language) => {
            for (key, value) in parameters_beside_body(call)? {
                if ["sql", "query", "ppl"].contains(&key.as_str()) && !language.reads(&value) {
                    return Err(call.refuse(Why::Statement));
                }
            }
            Ok(Question::Statement(language))
        }
        Verdict::Cursors => {
            let mut parameters = parameters_beside_body(call)?.into_iter();
            if parameters.any(|(_, value)| value.contains("_all")) {
                return Err(call.refuse(Why::Everybody));
            }
            Ok(Question::Cursors)
        }
        Verdict::Console => tunnel::console(call),
        Verdict::ApiCaller => Ok(Question::ApiCaller),
        Verdict::Search => Ok(Question::Search),
        Verdict::Batch => Ok(Question::Batch),
    }
}

/// The parameters of a call that is also decided by its body.
fn parameters_beside_body(call: &Call<'_>) -> Result<Vec<(String, String)>, ReadOnly> {
    let parameters = call.parameters()?;
    // `source` stands in for the body, and engines up to 6 begin a new parameter at `;`.
    let is_doubtful = |(key, value): &(String, String)| key == "source" || key.contains(';') || value.contains(';');
    if parameters.iter().any(is_doubtful) {
        return Err(call.refuse(Why::Ambiguous));
    }
    Ok(parameters)
}

/// Whether the body is what every server takes for the same JSON: a form can be written so that it is JSON, too.
fn is_plain_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (types.next(), types.next());
    let is_json = first.and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json") && !value.contains(',')
    });
    is_json && second.is_none() && !headers.contains_key(header::CONTENT_ENCODING)
}

static OVERRIDES: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-method-override"),
];

/// What Kibana 4 to 6 write with. Not `pipeline`, which can lead a document to another index.
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

/// Bytes of a path that a refusal repeats.
const SHOWN: usize = 200;

#[cfg(test)]
mod tests;
