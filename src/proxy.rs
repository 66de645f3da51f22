//! One request from start to end: the steps in order, and nothing else.

pub mod response_body;
pub mod root_redirect;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode, Version};
use ipnet::IpNet;
use trailgate_client::{PooledBody, SignedClient, Target, UnsignedRequest};

use crate::http::discard::discard;
use crate::http::head::HeadError;
use crate::http::headers::{self, Hop};
use crate::http::listener::Connection;
use crate::http::memory_budget::Budget;
use crate::ops::access_log::{AccessLine, AccessLog};
use crate::ops::metrics::Metrics;
use crate::ops::outcome::Outcome;
use crate::ops::request_id::{REQUEST_ID, RequestId};
use crate::policy::allowlist::Allowlist;
use crate::policy::engine::KnownEngine;
use crate::policy::grant::{self, Access};
use crate::policy::quota::Quotas;
use crate::proxy::response_body::{Reply, Source, Streaming};
use crate::proxy::root_redirect::Home;
use crate::reject::{Reject, wants_html};

/// What the entry that lets a client in says of it.
struct Granted {
    access: Access,
    block: IpNet,
}

/// Everything that a request needs on its way through.
#[derive(Debug)]
pub struct Gate {
    /// Who is let in.
    pub allowlist: Allowlist,
    /// The memory for bodies.
    pub budget: Budget,
    /// The way to the domain.
    pub upstream: SignedClient,
    /// The domain's engine, which decides what a read grant covers.
    pub engine: KnownEngine,
    /// Where browsers are sent from `/`.
    pub home: Home,
    /// What each read entry may take of the domain at once.
    pub quotas: Arc<Quotas>,
    /// How long the domain may be silent within an answer.
    pub idle_timeout: Duration,
    /// Where each request's line goes.
    pub access_log: AccessLog,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl Gate {
    /// The same gate with connections to the domain of its own, in the runtime that this is called in.
    #[must_use]
    pub fn with_own_pool(&self) -> Self {
        Self {
            allowlist: self.allowlist.clone(),
            budget: self.budget.clone(),
            upstream: self.upstream.with_own_pool(),
            engine: self.engine.clone(),
            home: self.home.clone(),
            quotas: Arc::clone(&self.quotas),
            idle_timeout: self.idle_timeout,
            access_log: self.access_log.clone(),
            metrics: Arc::clone(&self.metrics),
        }
    }

    /// Answers a request, with what the domain said or with the reason why not.
    ///
    /// `refused` says why the request stands in for one whose head was refused, if it does.
    pub async fn serve(
        &self,
        connection: Connection,
        refused: Option<HeadError>,
        request: Request<Incoming>,
    ) -> Response<Reply> {
        let id = RequestId::new(fastrand::u64(..));
        let id_header = id.to_header();
        let (head, mut body) = request.into_parts();
        let is_chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
        let is_http_2 = head.version == Version::HTTP_2;
        let wants_html = wants_html(&head.headers);
        let asked = refused.is_none().then_some((&head.method, &head.uri));
        let mut line = self.access_log.begin(SystemTime::now(), id, &connection.peer, asked);

        let forwarding = self.forward(connection, refused, head, &mut body, &mut line);
        let forwarding = AssertUnwindSafe(forwarding).catch_unwind();
        let mut response = match forwarding.await.unwrap_or(Err(Reject::Internal)) {
            Ok(response) => response,
            Err(reject) => {
                if let Some(cause) = reject.cause() {
                    tracing::warn!(
                        request_id = line.id().as_str(),
                        kind = reject.outcome().name(),
                        cause,
                        "request failed"
                    );
                }
                reject.response(wants_html).map(|body| Source::Whole { body, outcome: reject.outcome() })
            }
        };
        if is_http_2 && !body.is_end_stream() {
            tokio::spawn(discard(body));
        }
        line.set_status(response.status());
        response.headers_mut().insert(REQUEST_ID, id_header);
        if is_chunked {
            // Nobody but hyper has looked for the end of a chunked body, so nothing may follow it.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|source| Reply::new(source, line))
    }

    /// The request's life.
    async fn forward(
        &self,
        connection: Connection,
        refused: Option<HeadError>,
        head: Parts,
        body: &mut Incoming,
        line: &mut AccessLine,
    ) -> Result<Response<Source>, Reject> {
        refused.map_or(Ok(()), Err)?;
        self.access_log.check()?;
        let listener = &connection.listener;
        let client = listener.trusted_proxies.client(connection.peer.ip(), &head.headers)?;
        let Granted { access, block } = self.admit(client, line.time(), line)?;
        check_form(&head)?;
        let is_proxied = listener.trusted_proxies.contains(connection.peer.ip());
        listener.hosts.check(&head, is_proxied)?;
        if let Some(to_https) = listener.to_https {
            return Ok(redirected(to_https.redirect(&head)?));
        }
        listener.trusted_origins.check(&head, is_proxied)?;
        let target = Target::canonical(head.uri.path(), head.uri.query())?;
        line.set_target(&target);
        if let Some(response) = self.home.redirect(&head.method, &head.headers, &target) {
            return Ok(redirected(response));
        }
        let longest = self.quotas.keep_alive();
        let check = grant::decide(access, self.engine.get(), &head.method, &target, &head.headers, longest)?;
        let (body, _permit) = self.budget.buffer(client, body).await?;
        line.add_bytes_in(body.len() as u64);
        let load = check.run(&body)?;
        let ticket = self.quotas.admit(block, load).await?;
        let hop = Hop::new(&connection, &head.headers);
        let request = UnsignedRequest { method: head.method, target, body };
        let sent = Instant::now();
        let response = self.upstream.send(&request, || headers::to_domain(&head.headers, &hop)).await?;
        ticket.answered(response.status());
        line.set_upstream(sent.elapsed(), response.headers());
        if access != Access::Full && may_be_unknown_route(&request.method, response.status()) {
            self.engine.doubt();
        }
        // The answer can be minutes after the question, and the list may have changed.
        self.admit(client, SystemTime::now(), line)?;
        Ok(self.answer(response, client, &hop))
    }

    /// Whether `client` is on the allowlist at this moment.
    #[must_use]
    pub fn knows(&self, client: IpAddr) -> bool {
        self.allowlist.grant(client, SystemTime::now()).is_some()
    }

    fn admit(&self, client: IpAddr, now: SystemTime, line: &mut AccessLine) -> Result<Granted, Reject> {
        line.set_client(client);
        let entry = self.allowlist.grant(client, now);
        let entry = entry.ok_or_else(|| match self.allowlist.expiry(client, now) {
            Some(at) => Reject::Expired(client, at),
            None => Reject::NotListed(client),
        })?;
        let granted = Granted { access: entry.access, block: entry.cidr };
        line.set_entry(entry);
        Ok(granted)
    }

    fn answer(&self, mut response: Response<PooledBody>, client: IpAddr, hop: &Hop) -> Response<Source> {
        headers::to_client(response.headers_mut(), self.upstream.authority(), hop);
        response.map(|body| Source::Streaming(Streaming::new(body, self.idle_timeout, self.allowlist.clone(), client)))
    }
}

/// Returns whether the domain may have rejected the request because it knows the route no longer, or not yet.
fn may_be_unknown_route(method: &Method, status: StatusCode) -> bool {
    method == Method::POST
        && matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
}

fn redirected(response: Response<()>) -> Response<Source> {
    response.map(|()| Source::Whole { body: Bytes::new(), outcome: Outcome::Redirected })
}

/// Refuses what cannot be forwarded whatever it asks for.
fn check_form(head: &Parts) -> Result<(), Reject> {
    let upgrades = head.headers.get_all(header::UPGRADE).iter();
    let mut upgrades = upgrades.flat_map(|protocols| protocols.as_bytes().split(|&byte| byte == b','));
    // Other upgrades (`h2c`, `TLS/1.2`) are offers that some clients make with each request, and may be ignored.
    if upgrades.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket")) {
        return Err(Reject::Unsupported("an upgrade to WebSocket"));
    }
    match head.method {
        Method::CONNECT => Err(Reject::Unsupported("CONNECT")),
        // The domain's answer would show the client the signature.
        Method::TRACE => Err(Reject::Unsupported("TRACE")),
        _ => Ok(()),
    }
}
