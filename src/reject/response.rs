//! The response of a rejection: HTML for a browser, JSON in the form of Elasticsearch errors for a program.

use std::time::Duration;

use bytes::Bytes;
use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;

use super::page::{CONTENT_SECURITY_POLICY, page};
use super::{Reject, RejectContext, minute, second};

impl Reject {
    /// Returns the response.
    #[must_use]
    pub(crate) fn response(&self, context: &RejectContext<'_>) -> Response<Bytes> {
        let status = self.status();
        let (content_type, body) = if context.wants_html {
            ("text/html; charset=utf-8", page(self, context))
        } else {
            ("application/json", self.json(context).to_string())
        };
        let mut response = Response::new(Bytes::from(body));
        *response.status_mut() = status;
        if let Some(phrase) = self.phrase() {
            response.extensions_mut().insert(phrase);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if context.wants_html {
            headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
            headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
            headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
        }
        if self.closes() {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    fn json(&self, context: &RejectContext<'_>) -> serde_json::Value {
        let mut error = json!({
            "type": self.outcome().name(),
            "reason": self.to_string(),
            "help": self.help(),
            "request_id": context.request_id,
            "time": second(context.time),
        });
        if let Some(client) = context.client {
            error["client"] = client.to_string().into();
        }
        if let Some(contact) = context.contact {
            error["contact"] = contact.as_str().into();
        }
        json!({ "error": error, "status": self.status().as_u16() })
    }

    /// Returns the HTTP/1.1 reason phrase, which Kibana and Dashboards show instead of an error's text.
    fn phrase(&self) -> Option<ReasonPhrase> {
        match self {
            Self::NotListed(_) | Self::ReadOnly(_) => Some(ReasonPhrase::from_static(self.title().as_bytes())),
            Self::Expired(_, at) => ReasonPhrase::try_from(format!("Grant expired {}", minute(*at))).ok(),
            _ => None,
        }
    }

    /// Returns whether the connection closes after the response, because the rest of the request is unread or not worth
    /// reading.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::Head(_)
                | Self::ForwardedFor(_)
                | Self::Log(_)
                | Self::NotListed(_)
                | Self::Expired(..)
                | Self::UnknownHost(_)
                | Self::CrossSite(_)
                | Self::ReadOnly(_)
                | Self::Unsupported(_)
                | Self::Body(_)
        )
    }
}

/// The value of `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(5);
