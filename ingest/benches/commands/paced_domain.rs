//! A domain that takes the same time for each bulk request, one after another, and hardly any processor time: as if its
//! engine were on another machine.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A running paced domain; it ends when this is dropped.
pub(crate) struct PacedDomain {
    pub(crate) url: String,
    server: JoinHandle<()>,
}

impl PacedDomain {
    /// Starts a domain that knows these compressed bodies of bulk requests.
    pub(crate) async fn start(bodies: impl Iterator<Item = &Bytes>) -> Self {
        let shared = Arc::new(Shared {
            responses: bodies.map(|body| (body.clone(), accept_all(body))).collect(),
            turn: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| {
                    let shared = Arc::clone(&shared);
                    async move { Ok::<_, Infallible>(shared.respond(request).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, server }
    }
}

impl Drop for PacedDomain {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Shared {
    /// The responses by the requests' bodies.
    responses: HashMap<Bytes, Bytes>,
    /// Held by the request that the domain works on.
    turn: Mutex<()>,
}

impl Shared {
    async fn respond(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let (status, answer) = match (head.method, head.uri.path()) {
            (Method::POST, "/_bulk") => {
                let answer = self.responses[&body].clone();
                let _turn = self.turn.lock().await;
                sleep(PACE).await;
                (StatusCode::OK, answer)
            }
            (Method::GET, "/") => {
                let version = r#"{"version":{"number":"2.19.0","distribution":"opensearch"}}"#;
                (StatusCode::OK, Bytes::from_static(version.as_bytes()))
            }
            (Method::GET, _) => (StatusCode::NOT_FOUND, Bytes::from_static(b"{}")),
            _ => (StatusCode::OK, Bytes::from_static(br#"{"acknowledged":true}"#)),
        };
        let mut response = Response::new(Full::new(answer));
        *response.status_mut() = status;
        response
    }
}

/// Returns the response that accepts each document of a body.
fn accept_all(body: &Bytes) -> Bytes {
    let mut text = String::new();
    GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
    // Each document is a line of the action and a line of the source.
    let items = vec![r#"{"index":{"status":201}}"#; text.lines().count() / 2];
    format!(r#"{{"errors":false,"items":[{}]}}"#, items.join(",")).into()
}

/// The time for a request, that of an engine which indexes 5,400 events a second.
const PACE: Duration = Duration::from_millis(250);
