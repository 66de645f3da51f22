//! What a browser says of the page behind a request: a client's address vouches for its browser, and not for every page
//! that is open in it.

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

/// The host names that are answered; all of them by default.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Answers to `names` alone, or to all if there are none. They come without port.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Refuses a request that asks for another host: the page behind it has its own name lead here.
    ///
    /// `Host`, the target's host and what a trusted proxy forwards must all be known, for the page may have set the
    /// latter itself.
    pub fn check(&self, head: &Parts, is_proxied: bool) -> Result<(), UnknownHost> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut names: Vec<&str> = named_hosts(&head.headers, is_proxied);
        names.extend(head.uri.authority().map(Authority::as_str));
        if !names.is_empty() && names.iter().all(|name| self.names(name)) { Ok(()) } else { Err(UnknownHost) }
    }

    /// Whether `authority`, a host with or without port, is one of these.
    pub(crate) fn names(&self, authority: &str) -> bool {
        let authority: Option<Authority> = authority.parse().ok();
        authority.is_some_and(|authority| self.0.iter().any(|host| host.eq_ignore_ascii_case(authority.host())))
    }
}

/// Refuses a request that changes something and was sent by a page of another site.
///
/// A browser says so in `Sec-Fetch-Site`, and in `Origin`, which older ones send as well.
pub fn check_site(head: &Parts, is_proxied: bool) -> Result<(), CrossSite> {
    if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if head.headers.get_all(SEC_FETCH_SITE).iter().any(|site| site.as_bytes().eq_ignore_ascii_case(b"cross-site")) {
        return Err(CrossSite);
    }
    let hosts = named_hosts(&head.headers, is_proxied);
    for origin in head.headers.get_all(header::ORIGIN) {
        // `null` has no host: it is a page that hides where it is from.
        let host = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
        if !host.is_some_and(|host| hosts.iter().any(|named| named.eq_ignore_ascii_case(host))) {
            return Err(CrossSite);
        }
    }
    Ok(())
}

/// A request that changes something came from a page of another site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page of another site sent this request")]
pub struct CrossSite;

/// A request asks for a host that is not among those answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host name is not answered here")]
pub struct UnknownHost;

/// The hosts, with their ports, that a request was sent to: by its own account, and by that of the proxy before it.
fn named_hosts(headers: &HeaderMap, is_proxied: bool) -> Vec<&str> {
    let forwarded = headers.get_all(FORWARDED_HOST).iter().filter(|_| is_proxied);
    let values = headers.get_all(header::HOST).iter().chain(forwarded);
    // What is no text is no host that could be known.
    values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim).collect()
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The header by which proxies name the host that the browser asked for.
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn head(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[track_caller]
    fn site(is_proxied: bool, headers: &[(&str, &str)], passes: bool) {
        assert_eq!(check_site(&head("POST", headers), is_proxied).is_ok(), passes, "{headers:?}");
        assert!(check_site(&head("GET", headers), is_proxied).is_ok());
    }

    #[test]
    fn a_write_passes_from_its_own_page_and_from_no_page() {
        site(false, &[("host", "gate.test")], true);
        site(false, &[("host", "gate.test:8080"), ("origin", "http://gate.test:8080")], true);
        site(false, &[("host", "gate.test"), ("origin", "https://GATE.test"), ("sec-fetch-site", "same-origin")], true);
        site(false, &[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")], true);
    }

    #[test]
    fn a_write_from_another_page_does_not_pass() {
        site(false, &[("host", "gate.test"), ("sec-fetch-site", "cross-site")], false);
        site(false, &[("host", "gate.test"), ("origin", "https://evil.test")], false);
        site(false, &[("host", "gate.test:8080"), ("origin", "http://gate.test")], false);
        site(false, &[("host", "gate.test:8080"), ("origin", "http://gate.test:8081")], false);
        site(false, &[("host", "gate.test"), ("origin", "null")], false);
        site(false, &[("host", "gate.test"), ("origin", "http://gate.test"), ("origin", "http://evil.test")], false);
        site(false, &[("host", "gate.test"), ("origin", "caf\u{e9}")], false);
        site(false, &[("host", ""), ("origin", "https://evil.test")], false);
    }

    #[test]
    fn a_trusted_proxy_names_the_host_that_the_browser_sees() {
        let headers =
            [("host", "10.0.0.1:8080"), ("x-forwarded-host", "audit.example"), ("origin", "https://audit.example")];
        site(true, &headers, true);
        site(false, &headers, false);
    }

    #[track_caller]
    fn host(is_proxied: bool, headers: &[(&str, &str)], passes: bool) {
        let hosts = Hosts::new(vec!["audit.example".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()]);
        assert_eq!(hosts.check(&head("GET", headers), is_proxied).is_ok(), passes, "{headers:?}");
    }

    #[test]
    fn a_host_is_known_by_its_name_whatever_its_port() {
        host(false, &[("host", "audit.example")], true);
        host(false, &[("host", "AUDIT.example:8080")], true);
        host(false, &[("host", "127.0.0.1:8080")], true);
        host(false, &[("host", "[::1]:8080")], true);
        host(false, &[("host", "evil.test")], false);
        host(false, &[("host", "audit.example.evil.test")], false);
        host(false, &[("host", "audit.example@evil.test")], false);
        host(false, &[("host", "")], false);
        host(false, &[], false);
        assert!(Hosts::default().check(&head("GET", &[]), false).is_ok());
    }

    #[test]
    fn behind_a_proxy_every_name_must_be_known() {
        host(true, &[("host", "audit.example"), ("x-forwarded-host", "evil.test")], false);
        host(true, &[("host", "evil.test"), ("x-forwarded-host", "audit.example")], false);
        host(true, &[("host", "127.0.0.1"), ("x-forwarded-host", "audit.example")], true);
        host(false, &[("host", "audit.example"), ("x-forwarded-host", "evil.test")], true);
    }
}
