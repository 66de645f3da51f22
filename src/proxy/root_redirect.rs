//! The redirect of browsers from the proxy's root to Kibana or Dashboards.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use trailgate_client::Target;

use crate::http::headers::wants_html;

/// The page that browsers are redirected to from `/`, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootRedirect(Option<String>);

impl RootRedirect {
    /// Creates a redirect to `path`.
    #[must_use]
    pub fn to(path: &str) -> Self {
        Self(Some(path.to_owned()))
    }

    /// Disables the redirect: `/` is forwarded for browsers as well.
    #[must_use]
    pub fn disabled() -> Self {
        Self(None)
    }

    /// Creates a redirect to the service's own page: Kibana, or Dashboards for collections (`aoss`).
    #[must_use]
    pub fn for_service(service: &str) -> Self {
        Self::to(if service == "aoss" { DASHBOARDS } else { KIBANA })
    }

    /// Returns the page that browsers are redirected to.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// Returns the redirect for a request of `/`, or of Kibana or Dashboards without the trailing slash.
    ///
    /// Elasticsearch clients read the banner at `/`, so only browsers are redirected from there.
    #[must_use]
    pub fn respond(&self, method: &Method, headers: &HeaderMap, target: &Target) -> Option<Response<()>> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return None;
        }
        let path = target.path();
        let location = match &self.0 {
            Some(home) if path == "/" && wants_html(headers) => home.clone(),
            _ if [KIBANA, DASHBOARDS].iter().any(|app| app.strip_suffix('/') == Some(path)) => match target.query() {
                Some(query) => format!("{path}/?{query}"),
                None => format!("{path}/"),
            },
            _ => return None,
        };
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(location).ok()?);
        Some(response)
    }
}

const KIBANA: &str = "/_plugin/kibana/";
const DASHBOARDS: &str = "/_dashboards/";

#[cfg(test)]
mod tests {
    use super::*;

    const BROWSER: &str = "text/html,application/xhtml+xml,*/*;q=0.8";

    #[track_caller]
    fn check(redirect: &RootRedirect, accept: &'static str, path: &str, query: Option<&str>, expected: Option<&str>) {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        let target = Target::canonical(path, query).unwrap();
        let response = redirect.respond(&Method::GET, &headers, &target);
        let location = response.map(|response| response.headers()[header::LOCATION].to_str().unwrap().to_owned());
        assert_eq!(location.as_deref(), expected);
    }

    #[test]
    fn browser_is_redirected_from_root_to_the_home_page() {
        check(&RootRedirect::for_service("es"), BROWSER, "/", None, Some("/_plugin/kibana/"));
        check(&RootRedirect::for_service("aoss"), BROWSER, "/", None, Some("/_dashboards/"));
        check(&RootRedirect::to("/_dashboards/app/discover"), BROWSER, "/", None, Some("/_dashboards/app/discover"));
        check(&RootRedirect::disabled(), BROWSER, "/", None, None);
    }

    #[test]
    fn api_client_at_the_root_is_not_redirected() {
        check(&RootRedirect::for_service("es"), "*/*", "/", None, None);
        check(&RootRedirect::for_service("es"), "application/json", "/", None, None);
    }

    #[test]
    fn kibana_and_dashboards_paths_get_a_trailing_slash() {
        check(&RootRedirect::disabled(), "*/*", "/_plugin/kibana", None, Some("/_plugin/kibana/"));
        check(&RootRedirect::disabled(), "*/*", "/_dashboards", Some("a=b c"), Some("/_dashboards/?a=b%20c"));
        check(&RootRedirect::disabled(), "*/*", "/_plugin/kibana/", None, None);
    }

    #[test]
    fn post_is_not_redirected() {
        let target = Target::canonical("/_dashboards", None).unwrap();
        assert!(RootRedirect::disabled().respond(&Method::POST, &HeaderMap::new(), &target).is_none());
    }
}
