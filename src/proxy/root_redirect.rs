//! Where browsers are sent that come to the gate's own address.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, StatusCode};
use trailgate_client::Target;

use crate::reject::wants_html;

/// The page that a browser gets for `/`, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home(Option<String>);

impl Home {
    /// The home page at `path`.
    #[must_use]
    pub fn at(path: &str) -> Self {
        Self(Some(path.to_owned()))
    }

    /// No home page: `/` is forwarded to browsers, too.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// The domain's own home: Kibana's, or for collections (`aoss`) Dashboards'.
    #[must_use]
    pub fn of_service(service: &str) -> Self {
        Self::at(if service == "aoss" { DASHBOARDS } else { KIBANA })
    }

    /// Where browsers are sent, if anywhere.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The redirect for a request that asks for a home page, or for one without its final slash.
    ///
    /// `/` is Elasticsearch's banner, which its clients ask for, so only browsers are sent from there.
    #[must_use]
    pub fn redirect(&self, method: &Method, headers: &HeaderMap, target: &Target) -> Option<Response<()>> {
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
    fn redirect(home: &Home, accept: &'static str, path: &str, query: Option<&str>, expected: Option<&str>) {
        let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]);
        let target = Target::canonical(path, query).unwrap();
        let response = home.redirect(&Method::GET, &headers, &target);
        let location = response.map(|response| response.headers()[header::LOCATION].to_str().unwrap().to_owned());
        assert_eq!(location.as_deref(), expected);
    }

    #[test]
    fn a_browser_is_sent_from_the_root_to_the_home_page() {
        redirect(&Home::of_service("es"), BROWSER, "/", None, Some("/_plugin/kibana/"));
        redirect(&Home::of_service("aoss"), BROWSER, "/", None, Some("/_dashboards/"));
        redirect(&Home::at("/_dashboards/app/discover"), BROWSER, "/", None, Some("/_dashboards/app/discover"));
        redirect(&Home::off(), BROWSER, "/", None, None);
    }

    #[test]
    fn a_client_of_elasticsearch_gets_its_banner() {
        redirect(&Home::of_service("es"), "*/*", "/", None, None);
        redirect(&Home::of_service("es"), "application/json", "/", None, None);
    }

    #[test]
    fn kibana_and_dashboards_get_their_slash() {
        redirect(&Home::off(), "*/*", "/_plugin/kibana", None, Some("/_plugin/kibana/"));
        redirect(&Home::off(), "*/*", "/_dashboards", Some("a=b c"), Some("/_dashboards/?a=b%20c"));
        redirect(&Home::off(), "*/*", "/_plugin/kibana/", None, None);
    }

    #[test]
    fn a_post_is_never_redirected() {
        let target = Target::canonical("/_dashboards", None).unwrap();
        assert!(Home::off().redirect(&Method::POST, &HeaderMap::new(), &target).is_none());
    }
}
