//! The admin address: liveness, readiness, metrics and status for the operator.
//!
//! It has its own listener, separate from the clients'. It uses neither the allowlist nor TLS.

mod address;
mod charts;
mod exposition;
mod history;
mod observed_proxy;
mod observer;
mod page;
mod rates;
mod readiness;
mod status;
mod text;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

pub(crate) use address::{AdminAddress, AdminListener};
pub(crate) use history::Point;
pub(crate) use observed_proxy::ObservedProxy;
pub(crate) use observer::Observer;
pub(crate) use readiness::Check;
#[cfg(test)]
pub(crate) use status::tests::sample as sample_status;
pub(crate) use status::{Status, span};
pub(crate) use text::{ALLOWED, FORWARDS};

use crate::policy::host_check::Hosts;

/// Serves the admin endpoints on `listener`. Accepts as `Host` IP addresses, `localhost` and the names in `hosts` (DNS
/// rebinding protection).
pub(crate) async fn run(listener: AdminListener, observer: Arc<Observer>, hosts: Hosts) -> Infallible {
    let hosts = Arc::new(hosts);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The timeouts below bound how long a connection holds its permit.
        let place = Arc::clone(&places).acquire_owned().await.ok();
        let answered = match &listener {
            AdminListener::Tcp(tcp) => tcp.accept().await.map(|(stream, _)| {
                tokio::spawn(serve(stream, Arc::clone(&observer), Some(Arc::clone(&hosts)), place));
            }),
            // A Unix socket needs no DNS rebinding protection: browsers cannot reach it.
            AdminListener::Unix(unix) => unix.accept().await.map(|(stream, _)| {
                tokio::spawn(serve(stream, Arc::clone(&observer), None, place));
            }),
        };
        if let Err(error) = answered {
            tracing::warn!(%error, "cannot accept a connection to the admin address");
            sleep(RETRY).await;
        }
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    observer: Arc<Observer>,
    hosts: Option<Arc<Hosts>>,
    _place: Option<OwnedSemaphorePermit>,
) {
    let service = service_fn(|request| answer(request, &observer, hosts.as_deref()));
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .serve_connection(TokioIo::new(stream), service)
    );
    if timeout(LIFETIME, served.as_mut()).await.is_err() {
        served.as_mut().graceful_shutdown();
        // A client that does not read its response is disconnected.
        drop(timeout(HEAD_TIMEOUT, served).await);
    }
}

async fn answer(
    request: Request<Incoming>,
    observer: &Observer,
    hosts: Option<&Hosts>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, _) = request.into_parts();
    if hosts.is_some_and(|hosts| is_from_elsewhere(&head.headers, hosts)) {
        let reason = "the request comes from a page of another site, or its host name is not in admin.hosts\n";
        return Ok(plain(StatusCode::FORBIDDEN, reason));
    }
    if !matches!(head.method, Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "there is nothing to change here\n");
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(response);
    }
    Ok(match head.uri.path() {
        "/healthz" => plain(StatusCode::OK, "alive\n"),
        "/readyz" => {
            let checks = observer.checks().await;
            let is_ready = checks.iter().all(Check::passes);
            let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            plain(status, checks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n") + "\n")
        }
        "/metrics" if asks_for_open_metrics(&head.headers) => {
            whole(StatusCode::OK, exposition::OPEN_METRICS, observer.exposition())
        }
        "/metrics" => whole(StatusCode::OK, exposition::PLAIN, exposition::plain(&observer.exposition())),
        "/status.json" => match serde_json::to_vec(&observer.status().await) {
            Ok(json) => whole(StatusCode::OK, "application/json", json),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/" | "/status" => {
            let is_paused = head.uri.query() == Some("paused");
            let page = observer.status().await.page(is_paused);
            let mut response = whole(StatusCode::OK, "text/html; charset=utf-8", page);
            if !is_paused {
                response.headers_mut().insert(header::REFRESH, REFRESH);
            }
            let policy =
                HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
            response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "/healthz, /readyz, /metrics, /status and /status.json are here\n"),
    })
}

/// Returns whether a browser sends this request for a hostile page: by DNS rebinding, where the page points its own
/// host name at this address, or as a cross-site request other than opening a link.
fn is_from_elsewhere(headers: &HeaderMap, hosts: &Hosts) -> bool {
    let names = headers.get_all(header::HOST);
    let is_own = |name: &HeaderValue| name.to_str().is_ok_and(|name| address::is_local(name) || hosts.names(name));
    let is_cross_site = headers.get(SEC_FETCH_SITE).is_some_and(|site| site == "cross-site");
    let is_link = headers.get(SEC_FETCH_DEST).is_some_and(|destination| destination == "document");
    // A browser sends exactly one `Host`. A monitor that speaks HTTP/1.0 may send none.
    names.iter().count() > 1 || !names.iter().all(is_own) || (is_cross_site && !is_link)
}

fn asks_for_open_metrics(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.any(|accept| accept.contains("application/openmetrics-text"))
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    whole(status, "text/plain; charset=utf-8", text)
}

fn whole(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The interval in seconds after which the page reloads itself.
const REFRESH: HeaderValue = HeaderValue::from_static("15");
/// The maximum number of concurrent connections, enough for a monitor and a few people.
const CONNECTIONS: usize = 64;
/// The header timeout of a request, and the idle timeout of a keep-alive connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// The maximum age of a connection, so that a client that reads nothing cannot hold a permit forever.
const LIFETIME: Duration = Duration::from_mins(5);
/// The delay after a failed accept.
const RETRY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn elsewhere(headers: &[(&str, &str)], expected: bool) {
        let hosts = Hosts::new(vec!["proxy.internal".to_owned()]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        assert_eq!(is_from_elsewhere(&map, &hosts), expected, "{headers:?}");
    }

    #[test]
    fn foreign_host_name_is_rejected_on_the_admin_address() {
        for host in ["127.0.0.1:9180", "localhost", "LOCALHOST:9180", "[::1]:9180", "10.0.0.5", "proxy.internal:9180"] {
            elsewhere(&[("host", host)], false);
        }
        for host in ["evil.test", "evil.test:9180", "localhost.evil.test", "127.0.0.1.evil.test", "a@127.0.0.1", ""] {
            elsewhere(&[("host", host)], true);
        }
        elsewhere(&[], false);
        elsewhere(&[("host", "localhost"), ("host", "evil.test")], true);
    }

    #[test]
    fn cross_site_request_is_rejected_except_navigation() {
        let host = ("host", "localhost:9180");
        elsewhere(&[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document")], false);
        elsewhere(&[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "image")], true);
        elsewhere(&[host, ("sec-fetch-site", "cross-site")], true);
        elsewhere(&[host, ("sec-fetch-site", "none"), ("sec-fetch-dest", "document")], false);
        elsewhere(&[host, ("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "empty")], false);
    }
}
