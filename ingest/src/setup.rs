//! The index template and the retention policy, installed when absent or older.

mod retention;
mod template;

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::domain::{Body, Domain, DomainError, Reply};
use crate::engine::Engine;
use crate::settings::Plan;

/// The mapping that every index has under the template: an object with `properties`.
///
/// `Err` only if the template is not what it is known for, which a test excludes.
pub fn mapping() -> Result<Value, serde_json::Error> {
    template::mapping()
}

/// How it went. Whatever did, documents can be written: without the template the engine guesses their mapping.
///
/// After an error it is worth another try at the next invocation: the engine may be a guess, too.
#[derive(Debug)]
pub struct Ensured {
    /// What the domain runs, or is taken to run.
    pub engine: Engine,
    /// The template.
    pub template: Result<State, TemplateError>,
    /// The retention policy, if there is to be one.
    pub retention: Option<Result<State, TemplateError>>,
}

/// What was found, and done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There was none; now there is.
    Installed,
    /// There was an older or different one; it is replaced.
    Replaced,
    /// It was there already.
    Current,
    /// There is the one of a newer release, and it stays.
    Newer,
}

/// Finds out what the domain runs, and gives it the template and the policy where it lacks them.
///
/// Each of the requests, some eight at most and two when all is there, may take as long as `patience`. Indices that exist
/// keep the mapping they have: a new template begins with the next day's index.
pub async fn ensure(domain: &Domain, plan: &Plan, patience: Duration) -> Ensured {
    let link = Link { domain, patience };
    let engine = match plan.engine {
        Some(engine) => Ok(engine),
        None => link.engine().await,
    };
    let engine = match engine {
        Ok(engine) => engine,
        Err(error) => return Ensured { engine: Engine::ASSUMED, template: Err(error), retention: None },
    };
    let template = install(link, engine, plan).await;
    let retention = match plan.retention {
        Some(days) => Some(retain(link, engine, plan, days).await),
        None => None,
    };
    Ensured { engine, template, retention }
}

async fn install(link: Link<'_>, engine: Engine, plan: &Plan) -> Result<State, TemplateError> {
    let name = plan.name();
    let path = template::path(engine, &name);
    let state = match link.get(&path).await? {
        None => State::Installed,
        Some(answer) => {
            let installed = template::installed_version(engine, &name, &answer).map_err(TemplateError::Unreadable)?;
            match installed.cmp(&template::version().map_err(TemplateError::Unreadable)?) {
                Ordering::Less => State::Replaced,
                Ordering::Equal => return Ok(State::Current),
                Ordering::Greater => return Ok(State::Newer),
            }
        }
    };
    let mut template = template::for_engine(engine, &plan.pattern()).map_err(TemplateError::Unreadable)?;
    let mut answered = link.send(Method::PUT, &path, &template).await?;
    for _ in 0..PRIORITIES {
        if !template::is_of_equal_priority(&answered.reply.body) {
            break;
        }
        let answer = answered.beginning();
        tracing::warn!(%answer, "another index template matches with the same priority: this one gets a higher one");
        template::raise_priority(&mut template);
        answered = link.send(Method::PUT, &path, &template).await?;
    }
    if let Some(copies) = template::copies_wanted(&answered.reply.body) {
        template::set_copies(&mut template, copies);
        link.send(Method::PUT, &path, &template).await?.accepted()?;
    } else {
        answered.accepted()?;
    }
    Ok(state)
}

async fn retain(link: Link<'_>, engine: Engine, plan: &Plan, days: NonZeroU32) -> Result<State, TemplateError> {
    let api = engine.state_management().ok_or(TemplateError::NoStateManagement(engine))?;
    let name = plan.name();
    let path = format!("{api}/policies/{name}");
    let found = match link.get(&path).await? {
        Some(answer) => Some(serde_json::from_slice(&answer).map_err(TemplateError::Unreadable)?),
        None => None,
    };
    let policy = |untold| retention::policy(&plan.pattern(), days, untold);
    let retention::Step::Put { path: place, verb } = retention::step(&path, found.as_ref(), &policy(None)) else {
        return Ok(State::Current);
    };
    let Some(put) = put_policy(link, &place, &policy(Some(verb))).await? else { return Ok(State::Current) };
    let told =
        link.send(Method::POST, &format!("{api}/{verb}/{}", plan.pattern()), &json!({ "policy_id": name })).await?;
    // No index yet is as good as all indices told.
    if told.reply.status != StatusCode::NOT_FOUND {
        told.accepted()?;
    }
    put_policy(link, &put.place(&path), &policy(None)).await?;
    Ok(if found.is_some() { State::Replaced } else { State::Installed })
}

/// Puts a policy, and gives what is then there; none if another run of this function has just done the same.
async fn put_policy(link: Link<'_>, path: &str, policy: &Value) -> Result<Option<retention::Found>, TemplateError> {
    let answered = link.send(Method::PUT, path, policy).await?;
    if answered.reply.status == StatusCode::CONFLICT {
        return Ok(None);
    }
    serde_json::from_slice(&answered.accepted()?).map(Some).map_err(TemplateError::Unreadable)
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Installed => "installed",
            Self::Replaced => "replaced",
            Self::Current => "current",
            Self::Newer => "newer",
        })
    }
}

/// The way to the domain, and how long each request may take on it.
#[derive(Clone, Copy)]
struct Link<'a> {
    domain: &'a Domain,
    patience: Duration,
}

impl Link<'_> {
    async fn engine(self) -> Result<Engine, TemplateError> {
        let answered = self.request(Method::GET, "/", Body::default()).await?;
        Engine::read(answered.reply.status, &answered.reply.body).ok_or_else(|| answered.refused())
    }

    /// What is at `path`, if anything is.
    async fn get(self, path: &str) -> Result<Option<Bytes>, TemplateError> {
        let answered = self.request(Method::GET, path, Body::default()).await?;
        if answered.reply.status == StatusCode::NOT_FOUND { Ok(None) } else { answered.accepted().map(Some) }
    }

    async fn send(self, method: Method, path: &str, body: &Value) -> Result<Answered, TemplateError> {
        let body = Body { bytes: body.to_string().into(), content_type: "application/json", is_gzip: false };
        self.request(method, path, body).await
    }

    async fn request(self, method: Method, path: &str, body: Body) -> Result<Answered, TemplateError> {
        let request = format!("{method} {path}");
        match self.domain.send(method, path, body, self.patience).await {
            Ok(reply) => Ok(Answered { request, reply }),
            Err(error) => Err(TemplateError::NoAnswer { request, error }),
        }
    }
}

/// A reply, and what it is to.
struct Answered {
    request: String,
    reply: Reply,
}

impl Answered {
    fn accepted(self) -> Result<Bytes, TemplateError> {
        if self.reply.status.is_success() { Ok(self.reply.body) } else { Err(self.refused()) }
    }

    fn beginning(&self) -> String {
        String::from_utf8_lossy(&self.reply.body).chars().take(ANSWER_CHARS).collect()
    }

    fn refused(self) -> TemplateError {
        let answer = self.beginning();
        TemplateError::Refused { request: self.request, status: self.reply.status, answer }
    }
}

/// Why something is not as planned.
#[derive(Debug)]
pub enum TemplateError {
    /// The domain did not answer.
    NoAnswer {
        /// Method and path.
        request: String,
        /// Why not.
        error: DomainError,
    },
    /// The domain answered something else.
    Refused {
        /// Method and path.
        request: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        answer: String,
    },
    /// The answer is no JSON of the kind that was expected.
    Unreadable(serde_json::Error),
    /// Indices cannot be deleted by age there.
    NoStateManagement(Engine),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer { request, error: DomainError::BrokeOff(error) } => {
                write!(f, "{request}: the answer broke off: {error}")
            }
            Self::NoAnswer {
                request,
                error: error @ (DomainError::Target(_) | DomainError::Request(_) | DomainError::Undecodable),
            } => {
                write!(f, "{request}: {error}")
            }
            Self::NoAnswer { request, error: DomainError::TimedOut } => write!(f, "{request}: no answer in time"),
            Self::Refused { request, status, answer } => write!(f, "{request}: {status}: {answer}"),
            Self::Unreadable(error) => write!(f, "an answer cannot be read: {error}"),
            Self::NoStateManagement(engine) => {
                write!(f, "{engine} has no index state management that attaches policies by name")
            }
        }
    }
}

impl std::error::Error for TemplateError {}

/// How many other templates with priorities in a row are evaded.
const PRIORITIES: usize = 10;

/// As much of an answer as belongs in a log line.
const ANSWER_CHARS: usize = 500;
