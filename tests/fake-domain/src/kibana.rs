//! Where Kibana is on a domain, and the page that stands in for it.

use hyper::{
    Response, StatusCode,
    header::{CONTENT_TYPE, HeaderValue, LOCATION},
};

use crate::{
    seen::Seen,
    server::{Body, full},
};

/// Kibana's path without its last slash: the domain sends the browser on, naming itself.
pub(crate) fn redirect(seen: &Seen) -> Option<Response<Body>> {
    let prefix = PREFIXES.iter().find(|prefix| prefix.strip_suffix('/') == Some(seen.path()))?;
    let location = format!("https://{}{prefix}", seen.header("host")?);
    let mut response = Response::new(full(""));
    *response.status_mut() = StatusCode::FOUND;
    response.headers_mut().insert(LOCATION, HeaderValue::try_from(location).ok()?);
    Some(response)
}

/// The page that stands in for Kibana.
pub(crate) fn page(seen: &Seen) -> Option<Response<Body>> {
    if !PREFIXES.contains(&seen.path()) || !["GET", "HEAD"].contains(&seen.method.as_str()) {
        return None;
    }
    let mut response = Response::new(full(include_str!("kibana.html")));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    Some(response)
}

/// The part of a target that is Kibana's, from its own root on.
pub(crate) fn inner_target(target: &str) -> Option<&str> {
    // The prefix keeps its last slash, which is the inner target's first.
    PREFIXES.iter().find(|prefix| target.starts_with(*prefix)).map(|prefix| &target[prefix.len() - 1..])
}

const PREFIXES: [&str; 2] = ["/_plugin/kibana/", "/_dashboards/"];
