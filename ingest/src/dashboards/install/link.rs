//! The way to the domain.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::Value;

use crate::domain::{Body, Domain, DomainError, Reply};
use crate::engine::Engine;

/// The way to the domain, and how long each request may take on it.
#[derive(Clone, Copy)]
pub(super) struct Link<'a> {
    domain: &'a Domain,
    patience: Duration,
}

/// Why the dashboards are not installed.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The domain did not answer.
    #[error("{request}: {error}")]
    NoAnswer {
        /// Method and path.
        request: String,
        /// Why not.
        error: DomainError,
    },
    /// The domain answered something else.
    #[error("{request}: {status}: {answer}")]
    Refused {
        /// Method and path.
        request: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        answer: String,
    },
    /// There is no Kibana, or none that was ever started.
    #[error("the domain has no Kibana: {0}")]
    NoKibana(&'static str),
}

impl<'a> Link<'a> {
    pub(super) fn new(domain: &'a Domain, patience: Duration) -> Self {
        Self { domain, patience }
    }

    pub(super) async fn engine(self) -> Result<Engine, InstallError> {
        let reply = self.exchange(Method::GET, "/", Body::default()).await?;
        Engine::read(reply.status, &reply.body).ok_or_else(|| refused("GET /".to_owned(), &reply))
    }

    /// What is at `path`, if anything is.
    pub(super) async fn get(self, path: &str) -> Result<Option<Value>, InstallError> {
        let reply = self.exchange(Method::GET, path, Body::default()).await?;
        match reply.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => accepted(&format!("GET {path}"), &reply).map(Some),
        }
    }

    pub(super) async fn post(
        self,
        path: &str,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Result<Value, InstallError> {
        self.write(Method::POST, path, content_type, body.into()).await
    }

    pub(super) async fn put(
        self,
        path: &str,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Result<Value, InstallError> {
        self.write(Method::PUT, path, content_type, body.into()).await
    }

    async fn write(
        self,
        method: Method,
        path: &str,
        content_type: &'static str,
        bytes: Bytes,
    ) -> Result<Value, InstallError> {
        let request = format!("{method} {path}");
        accepted(&request, &self.exchange(method, path, Body { bytes, content_type, is_gzip: false }).await?)
    }

    async fn exchange(self, method: Method, path: &str, body: Body) -> Result<Reply, InstallError> {
        let request = format!("{method} {path}");
        let sent = self.domain.send_with(method, path, forgery_tokens(), body, self.patience).await;
        sent.map_err(|error| InstallError::NoAnswer { request, error })
    }
}

/// Without its own of these, Kibana and Dashboards take a request for one of another site's page. The engine does not
/// look.
fn forgery_tokens() -> HeaderMap {
    let token = HeaderValue::from_static("trailgate");
    ["kbn-xsrf", "osd-xsrf"].into_iter().map(|name| (name.parse().expect("it is a name"), token.clone())).collect()
}

fn accepted(request: &str, reply: &Reply) -> Result<Value, InstallError> {
    let answer = serde_json::from_slice(&reply.body).ok().filter(|_| reply.status.is_success());
    answer.ok_or_else(|| refused(request.to_owned(), reply))
}

pub(super) fn refused(request: String, reply: &Reply) -> InstallError {
    let answer = String::from_utf8_lossy(&reply.body).chars().take(ANSWER_CHARS).collect();
    InstallError::Refused { request, status: reply.status, answer }
}

/// As much of an answer as belongs on a line.
const ANSWER_CHARS: usize = 500;
