//! Accepts connections, and checks, records and responds to each request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::Incoming,
    header::{CONNECTION, CONTENT_TYPE, DATE, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use crate::{
    domain::Shared,
    fault, kibana,
    seen::Seen,
    verify::Refusal,
    wire::{Head, Tapped, Wire},
};

/// The body of every response.
pub(crate) type Body = UnsyncBoxBody<Bytes, BoxError>;

/// An error of a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Serves all connections until dropped.
pub(crate) async fn accept(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Most likely out of file descriptors; some may soon be free.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        // Nagle's algorithm would merge the parts of a held response.
        let _ = stream.set_nodelay(true);
        let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        connections.spawn(async move {
            match acceptor {
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, number, shared).await;
                    }
                }
                None => serve(stream, number, shared).await,
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(stream: S, number: usize, shared: Arc<Shared>) {
    let wire = Arc::new(Wire::default());
    let io = TokioIo::new(Tapped::new(stream, Arc::clone(&wire)));
    let exchange = service_fn(|request| exchange(request, number, Arc::clone(&wire), Arc::clone(&shared)));
    let mut connection = http1::Builder::new().serve_connection(io, exchange);
    let last_words = tokio::select! {
        // An error here is a disconnect, or malformed HTTP, which hyper has already rejected.
        _ = &mut connection => return,
        last_words = wire.is_cut() => last_words,
    };
    let mut stream = connection.into_parts().io.into_inner().into_stream();
    if stream.write_all(&last_words).await.is_ok() {
        let _ = stream.flush().await;
    }
}

async fn exchange(
    request: Request<Incoming>,
    connection: usize,
    wire: Arc<Wire>,
    shared: Arc<Shared>,
) -> Result<Response<Body>, BoxError> {
    let body = request.into_body().collect().await?.to_bytes();
    let Some(Head { method, target, headers }) = wire.take_head(body.len()) else {
        return Ok(close(bad_request("the request's head is malformed")));
    };
    let mut seen = Seen { connection, method, target, headers, body, signer: None, refusal: None };
    let now = shared.now();
    seen.signer = shared.signer(&seen.request());
    let refused = reject(&seen, &shared, now);
    seen.refusal = refused.as_ref().map(|(reason, _)| reason.clone());
    // Recorded before the response, so that a test that has received it finds the record.
    shared.seen.send_modify(|all| all.push(seen.clone()));

    let mut response = match refused {
        Some((_, response)) => response,
        None => match shared.faults.take(&seen) {
            None => respond(&seen, &shared).await,
            Some(fault) => fault::answer(fault, respond(&seen, &shared), &wire).await?,
        },
    };
    stamp(response.headers_mut(), now);
    Ok(response)
}

/// Returns the reason to reject a request and the response to it, if there is one.
fn reject(seen: &Seen, shared: &Shared, now: Timestamp) -> Option<(String, Response<Body>)> {
    let malformed = if seen.values("transfer-encoding").next().is_some() {
        Some("a chunked body cannot be signed: Content-Length is required")
    } else if seen.values("content-length").count() > 1 {
        Some("several Content-Length headers")
    } else if seen.values("host").next().is_none() {
        Some("no Host header")
    } else if !seen.target.starts_with('/') {
        Some("the request target is no path")
    } else {
        None
    };
    if let Some(reason) = malformed {
        return Some((reason.to_owned(), close(bad_request(reason))));
    }
    let refusal = shared.check(&seen.request(), now).err()?;
    let mut response = json_response(StatusCode::FORBIDDEN, &refusal.body());
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(refusal.error_type()));
    let reason = match &refusal {
        Refusal::Mismatch { reading, .. } => format!("{} ({reading})", refusal.message()),
        _ => refusal.message(),
    };
    Some((reason, response))
}

async fn respond(seen: &Seen, shared: &Shared) -> Response<Body> {
    if let Some(redirect) = kibana::redirect(seen) {
        return redirect;
    }
    match &shared.pass_on {
        Some(pass_on) => pass_on.answer(seen).await,
        None => kibana::page(seen)
            .or_else(|| shared.saved_objects.answer(seen))
            .unwrap_or_else(|| shared.memory.answer(seen)),
    }
}

fn bad_request(reason: &str) -> Response<Body> {
    json_response(StatusCode::BAD_REQUEST, &json!({ "message": reason }))
}

fn close(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

pub(crate) fn json_response(status: StatusCode, body: &Value) -> Response<Body> {
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=UTF-8"));
    response
}

pub(crate) fn full(body: impl Into<Bytes>) -> Body {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Returns the text of the header `Date`.
pub(crate) fn http_date(time: Timestamp) -> String {
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Adds the headers that AWS adds to every response of a domain.
fn stamp(headers: &mut HeaderMap, now: Timestamp) {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    let id = format!("00000000-0000-4000-8000-{:012x}", COUNT.fetch_add(1, Ordering::Relaxed));
    for (name, text) in [(REQUEST_ID, id), (DATE, http_date(now))] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.entry(name).or_insert(value);
        }
    }
}

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
