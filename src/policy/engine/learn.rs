//! Engine detection: at start, at an interval, and soon after a response that contradicts the known engine.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use trailgate_client::{RoleSession, SignedClient};

use super::banner::fetch_banner;
use super::{Engine, KnownEngine};

/// Keeps `known` up to date by requesting the domain's banner, signed by what `session` returns.
///
/// A failed request changes nothing, because an unreachable domain cannot be written to either. A response that names
/// no engine makes the engine unknown, which fails closed.
pub async fn learn(
    upstream: &SignedClient,
    session: impl Fn() -> Option<Arc<RoleSession>>,
    known: &KnownEngine,
) -> Infallible {
    let mut logged = None;
    loop {
        let learned = detect(upstream, session().as_deref()).await;
        let pause = if learned.is_ok() { INTERVAL } else { RETRY };
        match learned {
            Ok(engine) => {
                if known.set(Some(engine)) != Some(engine) {
                    tracing::info!(engine = %engine, "learned the domain's engine");
                }
                logged = None;
            }
            Err(problem) => {
                if problem.is_answer {
                    known.set(None);
                }
                // Log each problem once, not once a retry.
                if logged.as_ref() != Some(&problem.reason) {
                    let engine = known.get().map(|engine| engine.to_string());
                    tracing::warn!(
                        reason = problem.reason,
                        engine,
                        "cannot learn the domain's engine: set upstream.engine if the role may not ask"
                    );
                    logged = Some(problem.reason);
                }
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = known.doubted() => sleep(GAP).await,
        }
    }
}

struct Problem {
    reason: String,
    /// Set if the domain responded, but not with an engine's banner.
    is_answer: bool,
}

async fn detect(upstream: &SignedClient, session: Option<&RoleSession>) -> Result<Engine, Problem> {
    let answer = fetch_banner(upstream, session).await.map_err(|reason| Problem { reason, is_answer: false })?;
    let status = answer.status();
    if !status.is_success() {
        let is_answer = !status.is_server_error() && status.as_u16() != 429;
        return Err(Problem { reason: format!("the domain answers GET / with {status}"), is_answer });
    }
    let unknown = || Problem { reason: "the answer to GET / names no known engine".to_owned(), is_answer: true };
    Engine::from_banner(answer.body()).ok_or_else(unknown)
}

/// Interval between requests. An AWS upgrade takes many minutes, and a contradicting response shortens the wait.
const INTERVAL: Duration = Duration::from_mins(1);
/// Delay after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// Delay after a doubt. It bounds the rate, because each client request can raise a doubt.
const GAP: Duration = Duration::from_secs(1);
