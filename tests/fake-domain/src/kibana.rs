//! The path of Kibana on a domain, and its fake home page.

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};

use crate::{
    seen::Seen,
    server::{Body, full},
};

/// Redirects from Kibana's path without its last slash, to the domain's own name.
pub(crate) fn redirect(seen: &Seen) -> Option<Response<Body>> {
    let prefix = PREFIXES.iter().find(|prefix| prefix.strip_suffix('/') == Some(seen.path()))?;
    let location = format!("https://{}{prefix}", seen.header("host")?);
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, HeaderValue::try_from(location).ok()?);
    Some(response)
}

/// Returns the fake home page of Kibana.
pub(crate) fn page(seen: &Seen) -> Option<Response<Body>> {
    if !PREFIXES.contains(&seen.path()) || !["GET", "HEAD"].contains(&seen.method.as_str()) {
        return None;
    }
    let mut response = Response::new(full(include_str!("kibana.html")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Some(response)
}

/// Returns Kibana's part of a target, relative to its own root.
pub(crate) fn inner_target(target: &str) -> Option<&str> {
    // The prefix's last slash is the first one of the inner target.
    PREFIXES.iter().find(|prefix| target.starts_with(*prefix)).map(|prefix| &target[prefix.len() - 1..])
}

const PREFIXES: [&str; 2] = ["/_plugin/kibana/", "/_dashboards/"];
