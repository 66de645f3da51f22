//! Installs the index template and the retention policy where they are missing or outdated.

mod retention;
pub mod roles;
pub(crate) mod template;

use std::cmp::Ordering;
use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use self::retention::{InstalledPolicy, PolicyUpdate};
use self::template::TemplateKind;
use crate::domain::Domain;
use crate::domain::json_client::{JSON, JsonClient, JsonRequestError, JsonResponse};
use crate::engine::Engine;
use crate::settings::SetupPlan;

/// Returns the mapping that every index has under the template: an object with `properties`.
///
/// It fails only if the template in this program is broken, which a test excludes.
pub fn index_mapping() -> Result<Value, serde_json::Error> {
    template::mapping(TemplateKind::Trail)
}

/// Returns the mapping of the access log's indices, as [`index_mapping`] does of the others.
pub fn access_log_mapping() -> Result<Value, serde_json::Error> {
    template::mapping(TemplateKind::AccessLog)
}

/// The result of [`set_up_domain`]. Documents can be written whatever it is: without the template the engine guesses
/// their mapping.
///
/// After an error the next invocation should try again: the engine may be a guess, too.
#[derive(Debug)]
pub struct SetupResult {
    /// The engine that the domain runs, or is assumed to run.
    pub engine: Engine,
    /// The template.
    pub template: Result<SetupState, SetupError>,
    /// The retention policy, if the plan has one.
    pub retention: Option<Result<SetupState, SetupError>>,
}

/// The state before the set-up, and the action taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetupState {
    /// Nothing; ours is installed.
    Installed,
    /// An older or different one; it is replaced.
    Replaced,
    /// The same.
    Current,
    /// The one of a newer release; it stays.
    Newer,
}

/// The reason why the template or the policy is not as planned.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] JsonRequestError),
    /// The template in this program is broken.
    #[error("cannot parse the built-in index template: {0}")]
    Template(#[from] serde_json::Error),
    /// The engine cannot delete indices by age.
    #[error("{0} has no index state management that attaches policies by name")]
    NoStateManagement(Engine),
}

/// Detects the engine, and installs template and policy where they are missing or outdated.
///
/// Each of the requests, some eight at most and two when nothing is to do, lasts for `timeout` at most. Existing
/// indices keep their mapping: a new template takes effect with the next day's index.
pub async fn set_up_domain(domain: &Domain, plan: &SetupPlan, timeout: Duration) -> SetupResult {
    let client = JsonClient::new(domain, timeout);
    let engine = match plan.engine {
        Some(engine) => Ok(engine),
        None => client.detect_engine().await,
    };
    let engine = match engine {
        Ok(engine) => engine,
        Err(error) => return SetupResult { engine: Engine::ASSUMED, template: Err(error.into()), retention: None },
    };
    let template = install_template(&client, engine, plan).await;
    let retention = match plan.retention {
        Some(days) => Some(install_policy(&client, engine, plan, days).await),
        None => None,
    };
    SetupResult { engine, template, retention }
}

async fn install_template(client: &JsonClient<'_>, engine: Engine, plan: &SetupPlan) -> Result<SetupState, SetupError> {
    let name = plan.name();
    let path = template::path(engine, &name);
    let state = match client.get(&path).await? {
        None => SetupState::Installed,
        Some(installed) => {
            match template::installed_version(engine, &name, &installed).cmp(&template::version(plan.kind)?) {
                Ordering::Less => SetupState::Replaced,
                Ordering::Equal => return Ok(SetupState::Current),
                Ordering::Greater => return Ok(SetupState::Newer),
            }
        }
    };
    let mut template = template::for_engine(plan.kind, engine, &plan.pattern())?;
    let mut response = send_json(client, Method::PUT, &path, &template).await?;
    for _ in 0..MAX_PRIORITY_RAISES {
        if !template::is_of_equal_priority(response.body()) {
            break;
        }
        let answer = response.excerpt();
        tracing::warn!(%answer, "another index template matches with the same priority; raising the priority of ours");
        template::raise_priority(&mut template);
        response = send_json(client, Method::PUT, &path, &template).await?;
    }
    if let Some(copies) = template::required_copies(response.body()) {
        template::set_copies(&mut template, copies);
        response = send_json(client, Method::PUT, &path, &template).await?;
    }
    response.check()?;
    Ok(state)
}

async fn install_policy(
    client: &JsonClient<'_>,
    engine: Engine,
    plan: &SetupPlan,
    days: NonZeroU32,
) -> Result<SetupState, SetupError> {
    let api = engine.state_management().ok_or(SetupError::NoStateManagement(engine))?;
    let name = plan.name();
    let path = format!("{api}/policies/{name}");
    let installed: Option<InstalledPolicy> = client.get(&path).await?;
    let policy = |pending, priority| retention::policy(&plan.pattern(), days, pending, priority);
    let mut priority = retention::priority(installed.as_ref());
    let update = retention::plan_update(&path, installed.as_ref(), &policy(None, priority));
    let PolicyUpdate::Put { path: put_path, action } = update else { return Ok(SetupState::Current) };
    let mut response = send_json(client, Method::PUT, &put_path, &policy(Some(action), priority)).await?;
    for _ in 0..MAX_PRIORITY_RAISES {
        if !retention::is_of_equal_priority(response.body()) {
            break;
        }
        let answer = response.excerpt();
        tracing::warn!(%answer, "another retention policy matches with the same priority; raising the priority of ours");
        priority += 1;
        response = send_json(client, Method::PUT, &put_path, &policy(Some(action), priority)).await?;
    }
    let Some(put) = stored_policy(response)? else { return Ok(SetupState::Current) };
    let attach_path = format!("{api}/{action}/{}", plan.pattern());
    let attached = send_json(client, Method::POST, &attach_path, &json!({ "policy_id": name })).await?;
    // Without any index there is nothing to attach the policy to.
    if attached.status() != StatusCode::NOT_FOUND {
        attached.check()?;
    }
    stored_policy(send_json(client, Method::PUT, &put.replace_path(&path), &policy(None, priority)).await?)?;
    Ok(if installed.is_some() { SetupState::Replaced } else { SetupState::Installed })
}

/// Returns the policy that was put as it is stored; none if a concurrent run of this function has just done the same.
fn stored_policy(response: JsonResponse) -> Result<Option<InstalledPolicy>, JsonRequestError> {
    if response.status() == StatusCode::CONFLICT { Ok(None) } else { response.json().map(Some) }
}

async fn send_json(
    client: &JsonClient<'_>,
    method: Method,
    path: &str,
    body: &Value,
) -> Result<JsonResponse, JsonRequestError> {
    client.send(method, path, JSON, body.to_string()).await
}

impl fmt::Display for SetupState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Installed => "installed",
            Self::Replaced => "replaced",
            Self::Current => "current",
            Self::Newer => "newer",
        })
    }
}

/// The most raises of the priority of a template or a policy above others with consecutive priorities.
const MAX_PRIORITY_RAISES: usize = 10;
