//! One request and its answer: signed, sent, and tried once more where that is safe.

mod banner;
mod contact;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Body as _;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::timeout;

pub use self::contact::{Contact, Failure, LastAnswer};
use crate::body::{Buffered, Sending};
use crate::clock::Clock;
use crate::credentials::CredentialCache;
use crate::headers::{self, Hop};
use crate::metrics::{Metrics, Retry};
use crate::refusal::{Refusal, without_token};
use crate::reject::Reject;
use crate::sign::{Signer, Signing};
use crate::target::Target;
use crate::upstream::{Arriving, SendError, Upstream, Via};

/// All it takes to get an answer from the domain.
#[derive(Debug)]
pub struct Exchange {
    upstream: Upstream,
    signer: Arc<Signer>,
    credentials: CredentialCache,
    clock: Arc<Clock>,
    contact: Arc<Contact>,
    metrics: Arc<Metrics>,
}

/// A request that is ready but for its signature.
#[derive(Debug)]
pub struct Outgoing {
    /// The request's method.
    pub method: Method,
    /// The request's target.
    pub target: Target,
    /// The headers that go to the domain, or the client's if it is a client's request.
    pub headers: HeaderMap,
    /// The way that it came, if it is a client's: what ends there of its headers stays behind.
    pub hop: Option<Hop>,
    /// The whole body.
    pub body: Buffered,
}

/// The domain's answer, or the part of it that had to be read.
#[derive(Debug)]
pub enum Answer {
    /// The body as it arrives.
    Streaming(Arriving),
    /// A short 403, read for what it says.
    Read(Bytes),
}

impl Exchange {
    /// An exchange with the domain behind `upstream`.
    #[must_use]
    pub fn new(upstream: Upstream, signer: Signer, credentials: CredentialCache, metrics: Arc<Metrics>) -> Self {
        let (clock, contact) = (Arc::default(), Arc::default());
        Self { upstream, signer: Arc::new(signer), credentials, clock, contact, metrics }
    }

    /// The same exchange over connections of its own, in the runtime that this is called in.
    #[must_use]
    pub fn with_own_pool(&self) -> Self {
        Self {
            upstream: self.upstream.with_own_pool(),
            signer: Arc::clone(&self.signer),
            credentials: self.credentials.clone(),
            clock: Arc::clone(&self.clock),
            contact: Arc::clone(&self.contact),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// The domain's host and port.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        self.upstream.endpoint().authority()
    }

    /// What requests are signed with.
    #[must_use]
    pub fn credentials(&self) -> &CredentialCache {
        &self.credentials
    }

    /// The time that requests are signed with.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What the domain last did when it was asked.
    #[must_use]
    pub fn contact(&self) -> &Contact {
        &self.contact
    }

    /// Signs and sends `outgoing`, and notes what comes of it.
    pub async fn send(&self, outgoing: &Outgoing) -> Result<Response<Answer>, Reject> {
        let answer = self.ask(outgoing).await;
        match &answer {
            Ok(response) => self.contact.note_answer(response.status(), SystemTime::now()),
            Err(reject @ (Reject::Upstream(_) | Reject::Signature | Reject::Credentials)) => {
                self.contact.note_failure(reject.outcome(), SystemTime::now());
            }
            // Those are not about the domain.
            Err(_) => {}
        }
        answer
    }

    /// Signs and sends `outgoing`. A closed connection, a wrong clock and rotated credentials are each worth one retry,
    /// signed again. The retry after a closed connection opens a connection of its own: the next idle one is likely to
    /// be as stale as the first.
    async fn ask(&self, outgoing: &Outgoing) -> Result<Response<Answer>, Reject> {
        let (mut via, mut is_corrected, mut is_renewed) = (Via::Pool, false, false);
        loop {
            let local = SystemTime::now();
            let credentials = self.credentials.current(local).await?;
            let signing = outgoing.signing(&credentials, self.clock.at(local));
            let response = match self.upstream.send(self.request(outgoing, &signing), via).await {
                Err(error) if via == Via::Pool && error.may_retry(&outgoing.method) => {
                    via = Via::NewConnection;
                    self.metrics.retry(Retry::Closed);
                    continue;
                }
                other => other?,
            };
            if response.status() != StatusCode::FORBIDDEN {
                return Ok(response.map(Answer::Streaming));
            }
            // Boxed: this rare branch would otherwise enlarge every request's future.
            let (response, refusal) = Box::pin(read_refusal(response, &signing)).await?;
            self.metrics.forbidden(refusal.kind());
            match refusal {
                Refusal::Other => return Ok(response),
                Refusal::Skew { domain_time: Some(domain_time) } if !is_corrected => {
                    is_corrected = true;
                    self.metrics.retry(Retry::Clock);
                    if let Some(offset) = self.clock.correct(local, domain_time) {
                        tracing::warn!(offset_s = offset, "this machine's clock is wrong: signing by the domain's");
                    }
                }
                Refusal::Skew { .. } => {
                    tracing::error!("the domain finds the signature out of time, and its Date does not help");
                    return Err(Reject::Signature);
                }
                Refusal::Credentials { message } => {
                    if !is_renewed && Box::pin(self.credentials.replace(&credentials)).await {
                        is_renewed = true;
                        self.metrics.retry(Retry::Credentials);
                        continue;
                    }
                    tracing::error!(domain_says = message, "the domain does not take the credentials");
                    return Err(Reject::Credentials);
                }
                Refusal::Mismatch { expected } => {
                    let signed = without_token(&self.signer.canonical_request(&signing));
                    tracing::error!(expected, signed, "the domain expected another canonical request");
                    // A wrong secret looks the same, and its file may have been corrected since.
                    self.credentials.hurry();
                    return Err(Reject::Signature);
                }
            }
        }
    }

    fn request(&self, outgoing: &Outgoing, signing: &Signing<'_>) -> Request<Sending> {
        let mut request = Request::new(outgoing.body.to_send());
        *request.method_mut() = outgoing.method.clone();
        *request.uri_mut() = outgoing.target.uri();
        // Made anew for each try, for that is less work than to copy what is made.
        *request.headers_mut() = match &outgoing.hop {
            Some(hop) => headers::to_domain(&outgoing.headers, hop),
            None => outgoing.headers.clone(),
        };
        // Said even of an empty body, except where none is usual: a service may wait for what is not announced.
        if !outgoing.body.is_empty() || !matches!(outgoing.method, Method::GET | Method::HEAD) {
            request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(outgoing.body.len()));
        }
        self.signer.sign(signing, request.headers_mut());
        request
    }
}

impl Outgoing {
    fn signing<'a>(&'a self, credentials: &'a Credentials, time: SystemTime) -> Signing<'a> {
        Signing { method: &self.method, target: &self.target, body_sha256: self.body.sha256(), credentials, time }
    }
}

/// Reads a 403 as far as it may be the service's rejection of the signature.
async fn read_refusal(
    response: Response<Arriving>,
    signing: &Signing<'_>,
) -> Result<(Response<Answer>, Refusal), SendError> {
    if *signing.method == Method::HEAD {
        let refusal = Refusal::of_head(response.headers(), signing.time);
        return Ok((response.map(Answer::Streaming), refusal));
    }
    if !may_be_refusal(&response) {
        return Ok((response.map(Answer::Streaming), Refusal::Other));
    }
    let response = read(response).await?;
    let refusal = Refusal::read(response.headers(), response.body());
    Ok((response.map(Answer::Read), refusal))
}

/// Returns whether a 403 may be the service's rejection of a signature: those are short, and never compressed.
fn may_be_refusal(response: &Response<Arriving>) -> bool {
    let is_short = response.body().size_hint().exact().is_none_or(|length| (1..=REFUSAL_BYTES).contains(&length));
    is_short && !response.headers().contains_key(header::CONTENT_ENCODING)
}

async fn read(response: Response<Arriving>) -> Result<Response<Bytes>, SendError> {
    let (head, body) = response.into_parts();
    let limit = usize::try_from(REFUSAL_BYTES).unwrap_or(usize::MAX);
    let body = timeout(REFUSAL_TIMEOUT, Limited::new(body, limit).collect()).await;
    let body = body.map_err(|_| SendError::ResponseTimeout)?.map_err(SendError::Broken)?;
    Ok(Response::from_parts(head, body.to_bytes()))
}

/// A refusal repeats the canonical request, so it can be as long as a URL and the session token.
const REFUSAL_BYTES: u64 = 256 * 1024;
/// How long the rest of a refusal may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(10);
