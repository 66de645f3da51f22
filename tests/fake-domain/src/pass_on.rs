//! Passes verified requests on to real servers, unsigned. A server with the security plug-in gets session and role of the
//! signer by its proxy authentication.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, Uri, header::HeaderName};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::json;

use crate::{
    kibana,
    seen::Seen,
    server::{Body, BoxError, json_response},
};

/// The servers that requests are passed on to.
#[derive(Debug)]
pub(crate) struct PassOn {
    elasticsearch: Uri,
    kibana: Option<Uri>,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl PassOn {
    pub(crate) fn new(elasticsearch: Uri, kibana: Option<Uri>) -> Self {
        Self { elasticsearch, kibana, client: Client::builder(TokioExecutor::new()).build_http() }
    }

    pub(crate) async fn answer(&self, seen: &Seen) -> Response<Body> {
        self.forward(seen).await.unwrap_or_else(|error| {
            let message = format!("the server behind the domain does not answer: {error}");
            json_response(StatusCode::BAD_GATEWAY, &json!({ "message": message }))
        })
    }

    async fn forward(&self, seen: &Seen) -> Result<Response<Body>, BoxError> {
        let (server, target) = match (&self.kibana, kibana::inner_target(&seen.target)) {
            (Some(kibana), Some(target)) => (kibana, target),
            _ => (&self.elasticsearch, seen.target.as_str()),
        };
        let uri = format!("{}{target}", server.to_string().trim_end_matches('/'));
        let mut request = Request::builder().method(seen.method.as_str()).uri(uri);
        for (name, value) in seen.headers.iter().filter(|(name, _)| is_forwarded_header(name)) {
            request = request.header(name, value.as_slice());
        }
        if let Some(session) = &seen.signer {
            request = request.header(PROXY_USER, session).header(PROXY_ROLES, role_of(session));
            // The plug-in believes these headers of a proxy only.
            if seen.header(FORWARDED_FOR).is_none() {
                request = request.header(FORWARDED_FOR, "127.0.0.1");
            }
        }
        let mut response = self.client.request(request.body(Full::new(seen.body.clone()))?).await?;
        for name in HOP_BY_HOP {
            response.headers_mut().remove(HeaderName::from_static(name));
        }
        Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
    }
}

/// Returns the ARN of the role of a session, by which a domain with fine-grained access control maps its roles.
fn role_of(session: &str) -> String {
    let role = session.replacen(":sts:", ":iam:", 1).replacen(":assumed-role/", ":role/", 1);
    role.rsplit_once('/').map_or(role.clone(), |(role, _)| role.to_owned())
}

/// Returns whether a request header is end-to-end. `host` and `content-length` are set for the new request.
fn is_forwarded_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    !name.starts_with("x-amz-")
        && !name.starts_with("x-proxy-")
        && !HOP_BY_HOP.contains(&name.as_str())
        && !["authorization", "host", "content-length"].contains(&name.as_str())
}

/// The headers of the security plug-in's proxy authentication.
const PROXY_USER: &str = "x-proxy-user";
const PROXY_ROLES: &str = "x-proxy-roles";
const FORWARDED_FOR: &str = "x-forwarded-for";

const HOP_BY_HOP: [&str; 3] = ["connection", "keep-alive", "transfer-encoding"];
