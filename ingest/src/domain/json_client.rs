//! Requests with JSON bodies, and an error that names the request and quotes the response.
//!
//! [`Domain`] sends bytes without interpreting them. The few requests that install something in a domain or its Kibana
//! use this client; `_bulk`, whose responses are read item by item, does not.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use serde::de::DeserializeOwned;

use super::{Domain, DomainError, DomainResponse, RequestBody};
use crate::engine::Engine;

/// The media type of a JSON body.
pub(crate) const JSON: &str = "application/json";

/// A client of one domain, with the headers and the timeout of each of its requests.
pub(crate) struct JsonClient<'a> {
    domain: &'a Domain,
    headers: HeaderMap,
    timeout: Duration,
}

/// A response, and the request that it belongs to.
pub(crate) struct JsonResponse {
    request: String,
    reply: DomainResponse,
}

/// The reason why a request did not get the response that it needs.
#[derive(Debug, thiserror::Error)]
pub enum JsonRequestError {
    /// There is no whole response.
    #[error("{request}: {}", describe(.error))]
    NoResponse {
        /// Method and path.
        request: String,
        /// The reason.
        error: DomainError,
    },
    /// The domain rejected the request, or its response is not JSON of the expected shape.
    #[error("{request}: {}", describe_response(*.status, .excerpt))]
    Unexpected {
        /// Method and path.
        request: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the body.
        excerpt: String,
    },
}

impl<'a> JsonClient<'a> {
    /// Creates a client whose requests end after `timeout` each.
    pub(crate) fn new(domain: &'a Domain, timeout: Duration) -> Self {
        Self { domain, headers: HeaderMap::new(), timeout }
    }

    /// Sends `headers` with each request.
    pub(crate) fn with_headers(self, headers: HeaderMap) -> Self {
        Self { headers, ..self }
    }

    /// Detects the domain's engine.
    pub(crate) async fn detect_engine(&self) -> Result<Engine, JsonRequestError> {
        let response = self.request(Method::GET, "/", RequestBody::default()).await?;
        Engine::from_root(response.reply.status, &response.reply.body).ok_or_else(|| response.into_error())
    }

    /// Returns the resource at `path`, or `None` if it is not found.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, JsonRequestError> {
        let response = self.request(Method::GET, path, RequestBody::default()).await?;
        if response.status() == StatusCode::NOT_FOUND { Ok(None) } else { response.json().map(Some) }
    }

    /// Sends a body, and returns the response whatever its status is.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: impl Into<Bytes>,
    ) -> Result<JsonResponse, JsonRequestError> {
        self.request(method, path, RequestBody { bytes: body.into(), content_type, is_gzip: false }).await
    }

    async fn request(&self, method: Method, path: &str, body: RequestBody) -> Result<JsonResponse, JsonRequestError> {
        let request = format!("{method} {path}");
        match self.domain.send_with(method, path, self.headers.clone(), body, self.timeout).await {
            Ok(reply) => Ok(JsonResponse { request, reply }),
            Err(error) => Err(JsonRequestError::NoResponse { request, error }),
        }
    }
}

impl JsonResponse {
    pub(crate) fn status(&self) -> StatusCode {
        self.reply.status
    }

    pub(crate) fn body(&self) -> &[u8] {
        &self.reply.body
    }

    /// Returns an error unless the status says success.
    pub(crate) fn check(self) -> Result<(), JsonRequestError> {
        if self.status().is_success() { Ok(()) } else { Err(self.into_error()) }
    }

    /// Parses the body of a successful response.
    pub(crate) fn json<T: DeserializeOwned>(self) -> Result<T, JsonRequestError> {
        let value = serde_json::from_slice(self.body()).ok().filter(|_| self.status().is_success());
        value.ok_or_else(|| self.into_error())
    }

    /// Returns as much of the body as belongs on a line of a log.
    pub(crate) fn excerpt(&self) -> String {
        let start: String = String::from_utf8_lossy(self.body()).chars().take(EXCERPT_CHARS).collect();
        start.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn into_error(self) -> JsonRequestError {
        let excerpt = self.excerpt();
        JsonRequestError::Unexpected { request: self.request, status: self.reply.status, excerpt }
    }
}

/// Adds the cause, which only this variant does not display itself.
fn describe(error: &DomainError) -> String {
    match error {
        DomainError::BrokeOff(cause) => format!("{error}: {cause}"),
        other => other.to_string(),
    }
}

fn describe_response(status: StatusCode, excerpt: &str) -> String {
    if status.is_redirection() {
        return format!("{status}: the endpoint redirects, as a login page does; write the domain's own endpoint");
    }
    if excerpt.is_empty() { status.to_string() } else { format!("{status}: {excerpt}") }
}

const EXCERPT_CHARS: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn test(status: StatusCode, body: &'static str, expected: &str) {
        let reply = DomainResponse { status, body: Bytes::from_static(body.as_bytes()) };
        let error = JsonResponse { request: "GET /".to_owned(), reply }.into_error();
        assert_eq!(error.to_string(), format!("GET /: {expected}"));
    }

    #[test]
    fn error_quotes_the_response_on_one_line() {
        test(StatusCode::BAD_GATEWAY, "<html>\r\n  <h1>502</h1>\r\n", "502 Bad Gateway: <html> <h1>502</h1>");
        test(StatusCode::GONE, "", "410 Gone");
        let advice = "the endpoint redirects, as a login page does; write the domain's own endpoint";
        test(StatusCode::FOUND, "<html>", &format!("302 Found: {advice}"));
    }
}
