//! DNS rebinding protection: only known host names are answered, so that a hostile page cannot point its own host name at
//! this proxy and read in the browser of an allowed user.

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
        authority.is_some_and(|authority| {
            // A name with the dot of the root is the same name.
            let name = authority.host().strip_suffix('.').unwrap_or(authority.host());
            self.0.iter().any(|host| host.eq_ignore_ascii_case(name))
        })
    }
}

/// A request asks for a host that is not among those answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host name is not answered here: the operator can add it to listen.hosts")]
pub struct UnknownHost;

/// The hosts, with their ports, that a request was sent to: by its own account, and by that of the proxy before it.
pub(crate) fn named_hosts(headers: &HeaderMap, is_proxied: bool) -> Vec<&str> {
    let forwarded = headers.get_all(FORWARDED_HOST).iter().filter(|_| is_proxied);
    let values = headers.get_all(header::HOST).iter().chain(forwarded);
    // What is no text is no host that could be known.
    values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim).collect()
}

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
