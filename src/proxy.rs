//! The request pipeline: every step of one request, in order.

pub mod response_body;
pub mod root_redirect;

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Once};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode, Version};
use trailgate_client::{PooledBody, SignedClient, Target, UnsignedRequest};

use crate::http::discard::discard;
use crate::http::head::HeadError;
use crate::http::headers::{self, ForwardedContext, wants_html};
use crate::http::listener::Connection;
use crate::http::memory_budget::{BodyLimits, MemoryBudget};
use crate::http::server::{self, BoundListener, ClientRequest, ConnectionLimits, ServerConfig, Worker};
use crate::ops::metrics::Metrics;
use crate::ops::outcome::Outcome;
use crate::ops::request_id::{REQUEST_ID, RequestId};
use crate::ops::request_record::{RequestRecord, RequestRecorder};
use crate::policy::access_log::AccessLogPresence;
use crate::policy::allowlist::{Allowlist, Entry};
use crate::policy::client_address::forwards_others;
use crate::policy::engine::{Engine, KnownEngine};
use crate::policy::grant::{self, Access, AccessLogView, ReadOnly};
use crate::policy::quota::{Quotas, SearchLimits};
use crate::policy::signing_role::SigningRoles;
use crate::proxy::response_body::{BodySource, ResponseBody, StreamingBody};
use crate::proxy::root_redirect::RootRedirect;
use crate::reject::{Contact, Reject, RejectContext};

/// The state that requests of one worker need.
#[derive(Debug)]
pub struct Proxy {
    /// The state that all workers share.
    pub shared: Arc<Shared>,
    /// The signed client of the domain, with this worker's own connection pool.
    pub upstream: SignedClient,
}

/// The state that the proxies of all workers share.
#[derive(Debug)]
pub struct Shared {
    /// The allowlist.
    pub allowlist: Allowlist,
    /// The roles that sign requests.
    pub roles: SigningRoles,
    /// The memory budget for request bodies.
    pub budget: MemoryBudget,
    /// The domain's engine, which decides what a read grant covers.
    pub engine: KnownEngine,
    /// The presence of the access log's indices, which a read grant hides.
    pub(crate) access_log: AccessLogPresence,
    /// The redirect of browsers from `/`.
    pub root_redirect: RootRedirect,
    /// The quotas of each read entry: open searches and scrolls.
    pub quotas: Arc<Quotas>,
    /// The operator's contact that rejections name.
    pub contact: Option<Contact>,
    /// The idle timeout of the domain within a response.
    pub idle_timeout: Duration,
    /// The access log and the request counters.
    pub recorder: RequestRecorder,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Warns once of a proxy on this machine that is not trusted.
    local_proxy_warning: Once,
}

/// The configuration of the request pipeline.
#[derive(Debug)]
pub struct ProxyConfig {
    /// The domain's engine, unless it is detected.
    pub engine: Option<Engine>,
    /// The redirect of browsers from `/`.
    pub root_redirect: RootRedirect,
    /// The operator's contact that rejections name.
    pub contact: Option<Contact>,
    /// The idle timeout of the domain within a response.
    pub idle_timeout: Duration,
    /// The limits of request bodies.
    pub body: BodyLimits,
    /// The quota of each read entry.
    pub searches: SearchLimits,
}

impl Shared {
    /// Creates the shared state of the proxies that `config` describes.
    #[must_use]
    pub fn new(
        config: ProxyConfig,
        allowlist: Allowlist,
        roles: SigningRoles,
        recorder: RequestRecorder,
        metrics: Arc<Metrics>,
    ) -> Self {
        let engine = KnownEngine::default();
        engine.set(config.engine);
        Self {
            allowlist,
            roles,
            budget: MemoryBudget::new(config.body, metrics.buffer_wait.clone()),
            engine,
            access_log: AccessLogPresence::default(),
            root_redirect: config.root_redirect,
            quotas: Arc::new(Quotas::new(config.searches)),
            contact: config.contact,
            idle_timeout: config.idle_timeout,
            recorder,
            metrics,
            local_proxy_warning: Once::new(),
        }
    }
}

/// Serves at `listeners` until `shutdown` is ready, then drains (graceful shutdown).
pub async fn serve(
    listeners: Vec<BoundListener>,
    workers: Vec<Worker<Proxy>>,
    limits: ConnectionLimits,
    shared: &Shared,
    shutdown: impl Future<Output = ()>,
) {
    let config =
        ServerConfig { limits, allowlist: shared.allowlist.clone(), metrics: shared.metrics.connections.clone() };
    let handle = |proxy: Arc<Proxy>, request| async move { proxy.handle(request).await };
    server::run(listeners, workers, config, handle, shutdown, || shared.recorder.mark_cut()).await;
}

impl Proxy {
    /// Creates a proxy that shares everything except the upstream connections, which belong to the current runtime.
    #[must_use]
    pub fn with_own_pool(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), upstream: self.upstream.with_own_pool() }
    }

    /// Returns the domain's response to a request, or a rejection.
    pub async fn handle(&self, request: ClientRequest) -> Response<ResponseBody> {
        let ClientRequest { connection, head_error, request } = request;
        let id = RequestId::new(fastrand::u64(..));
        let id_header = id.to_header();
        let (head, mut body) = request.into_parts();
        let is_chunked = head.headers.contains_key(header::TRANSFER_ENCODING);
        let is_http_2 = head.version == Version::HTTP_2;
        let wants_html = wants_html(&head.headers);
        let logged = head_error.is_none().then_some((&head.method, &head.uri));
        let mut record = self.shared.recorder.begin(SystemTime::now(), id, &connection.peer, logged);

        let forwarding = self.forward(connection, head_error, head, &mut body, &mut record);
        let forwarding = AssertUnwindSafe(forwarding).catch_unwind();
        let mut response = match forwarding.await.unwrap_or(Err(Reject::Internal)) {
            Ok(response) => response,
            Err(reject) => {
                if let Some(cause) = reject.cause() {
                    tracing::warn!(
                        request_id = record.id().as_str(),
                        kind = reject.outcome().name(),
                        cause,
                        "request failed"
                    );
                }
                let context = RejectContext {
                    wants_html,
                    client: record.known_client(),
                    time: record.time(),
                    request_id: record.id().as_str(),
                    contact: self.shared.contact.as_ref(),
                };
                reject.response(&context).map(|body| BodySource::Whole { body, outcome: reject.outcome() })
            }
        };
        if is_http_2 && !body.is_end_stream() {
            tokio::spawn(discard(body));
        }
        record.set_status(response.status());
        response.headers_mut().insert(REQUEST_ID, id_header);
        if is_chunked {
            // Only hyper has parsed the end of a chunked body, so no request may follow it (request smuggling).
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|source| ResponseBody::new(source, record))
    }

    /// Checks a request and forwards it, or returns its rejection.
    async fn forward(
        &self,
        connection: Connection,
        head_error: Option<HeadError>,
        head: Parts,
        body: &mut Incoming,
        record: &mut RequestRecord,
    ) -> Result<Response<BodySource>, Reject> {
        let Shared { budget, engine, quotas, recorder, .. } = &*self.shared;
        if let Some(error) = head_error {
            return Err(error.into());
        }
        recorder.check_writable()?;
        let listener = &connection.listener;
        let client = connection.client(&head.headers)?;
        record.set_client(client);
        let mut entry = self
            .check_allowlist(client, record.time())
            .inspect_err(|_| record.set_forwarded(forwards_others(client, &head.headers)))?;
        self.warn_of_local_proxy(client, &entry, &head.headers);
        record.set_entry(Arc::clone(&entry));
        check_supported(&head)?;
        let is_proxied = connection.is_trusted;
        listener.hosts.check(&head, is_proxied)?;
        // A load balancer may forward its https port here, too: then a redirect would lead back.
        let is_insecure = || !ForwardedContext::new(&connection, &head.headers).is_secure();
        if let Some(to_https) = listener.to_https.filter(|_| is_insecure()) {
            return Ok(redirect_response(to_https.redirect(&head, is_proxied)?));
        }
        listener.trusted_origins.check(&head, is_proxied)?;
        let target = Target::canonical(head.uri.path(), head.uri.query())?;
        record.set_target(&target);
        if let Some(response) = self.shared.root_redirect.respond(&head.method, &head.headers, &target) {
            return Ok(redirect_response(response));
        }
        let decide = |entry: &Entry, view| {
            let Parts { method, headers, .. } = &head;
            grant::decide(entry.access, view, engine.get(), method, &target, headers, quotas.keep_alive())
        };
        let decide_head = async |entry: &Entry| match decide(entry, view(entry)) {
            Ok(check) => Ok(check),
            Err(denied) => self.reconsider(denied, || decide(entry, AccessLogView::Visible)).await,
        };
        let mut check = decide_head(&entry).await?;
        let has_body = !body.is_end_stream();
        // The permit holds the body's memory until the request is sent and answered.
        let (body, _permit) = budget.buffer(client, body).await?;
        record.add_bytes_in(body.len() as u64);
        if has_body {
            // A body can take hours to arrive, and the allowlist may have changed.
            let latest = self.check_allowlist(client, SystemTime::now())?;
            if latest != entry {
                record.set_entry(Arc::clone(&latest));
                check = decide_head(&latest).await?;
                entry = latest;
            }
        }
        let load = match check.run(&body) {
            Ok(load) => load,
            Err(denied) => self.reconsider(denied, || decide(&entry, AccessLogView::Visible)?.run(&body)).await?,
        };
        let ticket = quotas.admit(entry.cidr, load).await?;
        let context = ForwardedContext::new(&connection, &head.headers);
        let request = UnsignedRequest { method: head.method, target, body };
        let sent = Instant::now();
        let session = self.shared.roles.session(&entry);
        record.set_signer(session.as_ref().map(|session| Arc::clone(session.label())));
        let to_domain = || headers::to_domain(&head.headers, &context);
        let response = self.upstream.send_as(session.as_deref(), &request, to_domain).await?;
        ticket.answered(response.status());
        record.set_upstream(sent.elapsed(), response.headers());
        if entry.access != Access::Full && may_be_unknown_route(&request.method, response.status()) {
            engine.doubt();
        }
        // The response can arrive minutes after the request, and the allowlist may have changed.
        self.check_allowlist(client, SystemTime::now())?;
        Ok(self.stream_response(response, client, &context))
    }

    /// Decides again if a call was denied only because of an access log that the domain does not have.
    ///
    /// Boxed, because a request's future is moved and this branch is rare.
    fn reconsider<'a, T>(
        &'a self,
        denied: ReadOnly,
        decide: impl FnOnce() -> Result<T, ReadOnly> + Send + 'a,
    ) -> BoxFuture<'a, Result<T, ReadOnly>> {
        let Shared { access_log, roles, .. } = &*self.shared;
        Box::pin(async move {
            if denied.is_of_access_log() && access_log.is_absent(&self.upstream, roles.own_session().as_deref()).await {
                return decide();
            }
            Err(denied)
        })
    }

    /// Warns once of a proxy on this machine that is not trusted: all its clients have the entry of this machine.
    fn warn_of_local_proxy(&self, client: IpAddr, entry: &Entry, headers: &HeaderMap) {
        if client.is_loopback() && forwards_others(client, headers) {
            self.shared.local_proxy_warning.call_once(|| {
                tracing::warn!(
                    client = %client,
                    entry = &*entry.name,
                    "a proxy on this machine is not in listen.trusted_proxies, so all its clients have this entry"
                );
            });
        }
    }

    /// Returns the entry that grants `client` access at `now`.
    fn check_allowlist(&self, client: IpAddr, now: SystemTime) -> Result<Arc<Entry>, Reject> {
        let allowlist = &self.shared.allowlist;
        allowlist.grant(client, now).ok_or_else(|| match allowlist.expiry(client, now) {
            Some(at) => Reject::Expired(client, at),
            None => Reject::NotListed(client),
        })
    }

    fn stream_response(
        &self,
        mut response: Response<PooledBody>,
        client: IpAddr,
        context: &ForwardedContext,
    ) -> Response<BodySource> {
        let Shared { allowlist, idle_timeout, .. } = &*self.shared;
        headers::to_client(response.headers_mut(), self.upstream.authority(), context);
        // An intermediary sends its own version, not the domain's (RFC 9112, section 2.3).
        *response.version_mut() = Version::HTTP_11;
        response.map(|body| BodySource::Streaming(StreamingBody::new(body, *idle_timeout, allowlist.clone(), client)))
    }
}

/// Returns whether the clients of `entry` may search the access log.
fn view(entry: &Entry) -> AccessLogView {
    if entry.access_log { AccessLogView::Visible } else { AccessLogView::Hidden }
}

/// Returns whether the domain may have rejected the request because its engine lacks the route, as after an upgrade.
fn may_be_unknown_route(method: &Method, status: StatusCode) -> bool {
    method == Method::POST
        && matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED)
}

fn redirect_response(response: Response<()>) -> Response<BodySource> {
    response.map(|()| BodySource::Whole { body: Bytes::new(), outcome: Outcome::Redirected })
}

/// Rejects a request that cannot be forwarded with any target.
fn check_supported(head: &Parts) -> Result<(), Reject> {
    let upgrades = head.headers.get_all(header::UPGRADE).iter();
    let mut upgrades = upgrades.flat_map(|protocols| protocols.as_bytes().split(|&byte| byte == b','));
    // Clients may offer other upgrades (`h2c`, `TLS/1.2`) with each request, and a server may ignore them.
    if upgrades.any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(b"websocket")) {
        return Err(Reject::Unsupported("an upgrade to WebSocket"));
    }
    match head.method {
        Method::CONNECT => Err(Reject::Unsupported("CONNECT")),
        // The domain would echo the signature to the client.
        Method::TRACE => Err(Reject::Unsupported("TRACE")),
        _ => Ok(()),
    }
}
