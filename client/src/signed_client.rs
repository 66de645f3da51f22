//! The signed client: signs and sends each request, and retries it where that is safe.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use hyper::body::Body as _;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

use crate::body::{BodyFrames, HashedBody};
use crate::clock::Clock;
use crate::credentials::{Assumer, CredentialCache, RoleSession, RoleSessionKeeper, RoleSessions, SessionLimits};
use crate::error::RequestError;
use crate::forbidden::{Forbidden, without_token};
use crate::health::UpstreamHealth;
use crate::sign::{Signer, SigningParams};
use crate::stats::{ClientStats, RetryReason};
use crate::target::Target;
use crate::upstream::{PooledBody, Upstream, UpstreamError, Via};

/// A client that signs its requests to one domain.
#[derive(Debug)]
pub struct SignedClient {
    shared: Arc<Shared>,
    upstream: Upstream,
}

/// The state that all pools share.
#[derive(Debug)]
struct Shared {
    signer: Signer,
    credentials: CredentialCache,
    clock: Clock,
    health: UpstreamHealth,
}

/// A request without headers and signature.
#[derive(Debug)]
pub struct UnsignedRequest {
    /// The method.
    pub method: Method,
    /// The canonical target.
    pub target: Target,
    /// The buffered body.
    pub body: HashedBody,
}

impl SignedClient {
    /// Creates a client that sends to `upstream`, signed by `signer` with `credentials`.
    #[must_use]
    pub fn new(upstream: Upstream, signer: Signer, credentials: CredentialCache) -> Self {
        let (clock, health) = (Clock::default(), UpstreamHealth::default());
        Self { shared: Arc::new(Shared { signer, credentials, clock, health }), upstream }
    }

    /// Creates the sessions of roles that `assumer` assumes, and their keeper, which has to run.
    #[must_use]
    pub fn role_sessions(&self, assumer: Assumer, limits: SessionLimits) -> (RoleSessions, RoleSessionKeeper) {
        RoleSessions::new(&self.shared.signer, assumer, limits)
    }

    /// Creates a client that shares everything except the connections, which belong to the current Tokio runtime.
    #[must_use]
    pub fn with_own_pool(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), upstream: self.upstream.with_own_pool() }
    }

    /// Returns the domain's host and port.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        self.upstream.endpoint().authority()
    }

    /// Returns the credentials that requests are signed with.
    #[must_use]
    pub fn credentials(&self) -> &CredentialCache {
        &self.shared.credentials
    }

    /// Returns the clock that signatures are dated by.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Returns the upstream health, over all pools.
    #[must_use]
    pub fn health(&self) -> &UpstreamHealth {
        &self.shared.health
    }

    /// Returns the counters, over all pools.
    #[must_use]
    pub fn stats(&self) -> &Arc<ClientStats> {
        self.upstream.stats()
    }

    /// Signs and sends `request`, and returns the response once its head has arrived.
    ///
    /// `headers` returns the headers without the signature. It is called for each attempt, because a clone for a rare
    /// retry would cost more. The client adds `Content-Length`, `Host`, `Authorization` and `X-Amz-*`.
    ///
    /// A closed pooled connection (if the request is idempotent or was not sent), clock skew and rotated credentials
    /// are each retried once, with a new signature. A 403 for any other reason is a response.
    ///
    /// # Errors
    ///
    /// Returns an error without valid credentials, without a complete response head, or if the domain rejects the
    /// signature or the credentials.
    pub async fn send(
        &self,
        request: &UnsignedRequest,
        headers: impl Fn() -> HeaderMap,
    ) -> Result<Response<PooledBody>, RequestError> {
        self.send_as(None, request, headers).await
    }

    /// Signs with the credentials of `session`, if there is one, and otherwise does the same as [`SignedClient::send`].
    ///
    /// # Errors
    ///
    /// As [`SignedClient::send`]; a role that cannot be assumed is an error of its own sessions only.
    pub async fn send_as(
        &self,
        session: Option<&RoleSession>,
        request: &UnsignedRequest,
        headers: impl Fn() -> HeaderMap,
    ) -> Result<Response<PooledBody>, RequestError> {
        let result = self.send_with_retries(session, request, headers).await;
        match &result {
            Ok(response) => self.shared.health.record_response(response.status(), SystemTime::now()),
            // Missing credentials are not the domain's failure.
            Err(RequestError::NoCredentials(_)) => {}
            Err(error) => self.shared.health.record_failure(error.kind(), SystemTime::now()),
        }
        result
    }

    /// Sends with retries. A retry after a closed connection opens a new one: the next idle one is probably stale as
    /// well.
    async fn send_with_retries(
        &self,
        session: Option<&RoleSession>,
        request: &UnsignedRequest,
        headers: impl Fn() -> HeaderMap,
    ) -> Result<Response<PooledBody>, RequestError> {
        let Shared { signer, credentials, clock, .. } = &*self.shared;
        let (signer, cache) =
            session.map_or((signer, credentials), |session| (session.signer(), session.credentials()));
        let stats = self.stats();
        let (mut via, mut is_corrected, mut is_refreshed) = (Via::Pool, false, false);
        loop {
            let local = SystemTime::now();
            let credentials = cache.current(local).await?;
            let params = request.signing_params(&credentials, clock.at(local));
            let response = match self.upstream.send(request.sign(&params, headers(), signer), via).await {
                Err(error) if via == Via::Pool && error.may_retry(&request.method) => {
                    via = Via::NewConnection;
                    stats.count_retry(RetryReason::ConnectionClosed);
                    continue;
                }
                other => other?,
            };
            if response.status() != StatusCode::FORBIDDEN {
                return Ok(response);
            }
            // Boxed: this rare branch would otherwise enlarge every request's future.
            let (response, forbidden) = Box::pin(read_forbidden(response, &params)).await?;
            stats.count_forbidden(forbidden.kind());
            match forbidden {
                Forbidden::Other => return Ok(response),
                Forbidden::Skew { domain_time: Some(domain_time) } if !is_corrected => {
                    is_corrected = true;
                    stats.count_retry(RetryReason::Clock);
                    if let Some(offset) = clock.correct(local, domain_time) {
                        tracing::warn!(
                            offset_s = offset,
                            "this machine's clock is wrong: signing by the domain's clock"
                        );
                    }
                }
                Forbidden::Skew { .. } => {
                    tracing::error!("the domain rejects the time of the signature, and its Date does not help");
                    return Err(RequestError::SignatureRejected);
                }
                Forbidden::Credentials { message } => {
                    if !is_refreshed && Box::pin(cache.replace(&credentials)).await {
                        is_refreshed = true;
                        stats.count_retry(RetryReason::Credentials);
                        continue;
                    }
                    tracing::error!(domain_says = message, "the domain rejects the credentials");
                    return Err(RequestError::CredentialsRejected);
                }
                Forbidden::Mismatch { expected } => {
                    let canonical = without_token(&signer.canonical_request(&params));
                    tracing::error!(expected, signed = canonical, "the domain expected a different canonical request");
                    // A wrong secret access key has the same symptom, and its file may have been corrected since.
                    cache.refresh_now();
                    return Err(RequestError::SignatureRejected);
                }
            }
        }
    }
}

impl UnsignedRequest {
    /// Creates a `GET` of `target`.
    #[must_use]
    pub fn get(target: Target) -> Self {
        Self { method: Method::GET, target, body: HashedBody::empty() }
    }

    fn signing_params<'a>(&'a self, credentials: &'a Credentials, time: SystemTime) -> SigningParams<'a> {
        SigningParams { method: &self.method, target: &self.target, body_sha256: self.body.sha256(), credentials, time }
    }

    fn sign(&self, params: &SigningParams<'_>, headers: HeaderMap, signer: &Signer) -> Request<BodyFrames> {
        let mut request = Request::new(self.body.frames());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.uri();
        *request.headers_mut() = headers;
        // Sent for an empty body as well, except with methods that usually have none: a service may wait for an
        // unannounced body.
        if !self.body.is_empty() || !matches!(self.method, Method::GET | Method::HEAD) {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        }
        signer.sign(params, request.headers_mut());
        request
    }
}

/// Reads as much of a 403 as is needed to determine whether the service rejected the signature. A body that is longer,
/// or slower, than a rejection passes like that of any other response.
async fn read_forbidden(
    response: Response<PooledBody>,
    params: &SigningParams<'_>,
) -> Result<(Response<PooledBody>, Forbidden), UpstreamError> {
    if *params.method == Method::HEAD {
        let forbidden = Forbidden::of_head(response.headers(), params.time);
        return Ok((response, forbidden));
    }
    if !may_be_rejection(&response) {
        return Ok((response, Forbidden::Other));
    }
    let (head, mut body) = response.into_parts();
    let read = timeout(REJECTION_TIMEOUT, body.read_ahead(REJECTION_BYTES)).await;
    let rejection = read.unwrap_or(Ok(None)).map_err(UpstreamError::broken)?;
    let forbidden = rejection.map_or(Forbidden::Other, |rejection| Forbidden::read(&head.headers, rejection));
    Ok((Response::from_parts(head, body), forbidden))
}

/// Returns whether a 403 may be the service's rejection of a signature: these are short and never compressed.
fn may_be_rejection(response: &Response<PooledBody>) -> bool {
    let length = response.body().size_hint().exact();
    let is_short = length.is_none_or(|length| (1..=REJECTION_BYTES as u64).contains(&length));
    is_short && !response.headers().contains_key(header::CONTENT_ENCODING)
}

/// Maximum bytes of a rejection. It repeats the canonical request, so it is as long as the URL and the session token.
const REJECTION_BYTES: usize = 256 * 1024;
/// The time limit for the body of a rejection.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(10);
