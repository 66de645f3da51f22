//! DNS rebinding protection: only requests for known host names are accepted. Otherwise a hostile page could point its
//! own host name at this proxy and read responses in the browser of an allowed user.

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

/// The accepted host names; by default all.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Accepts only `names`, which have no port, or every name if the list is empty.
    #[must_use]
    pub fn new(names: Vec<String>) -> Self {
        Self(names)
    }

    /// Rejects a request for an unknown host (DNS rebinding).
    ///
    /// `Host`, the target's host and a trusted proxy's `X-Forwarded-Host` must all be known, because a page can set the
    /// last one itself.
    pub fn check(&self, head: &Parts, is_proxied: bool) -> Result<(), UnknownHost> {
        if self.0.is_empty() {
            return Ok(());
        }
        let mut names: Vec<&str> = named_hosts(&head.headers, is_proxied);
        names.extend(head.uri.authority().map(Authority::as_str));
        if !names.is_empty() && names.iter().all(|name| self.names(name)) { Ok(()) } else { Err(UnknownHost) }
    }

    /// Returns whether the host of `authority`, which may have a port, is known.
    pub(crate) fn names(&self, authority: &str) -> bool {
        let authority: Option<Authority> = authority.parse().ok();
        authority.is_some_and(|authority| {
            // A fully qualified name may end with a dot.
            let name = authority.host().strip_suffix('.').unwrap_or(authority.host());
            self.0.iter().any(|host| host.eq_ignore_ascii_case(name))
        })
    }
}

/// The rejection of a request for an unknown host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this host name is not answered here: the operator can add it to listen.hosts")]
pub struct UnknownHost;

/// Returns the hosts, with their ports, that `Host` and a trusted proxy's `X-Forwarded-Host` name.
pub(crate) fn named_hosts(headers: &HeaderMap, is_proxied: bool) -> Vec<&str> {
    let forwarded = headers.get_all(FORWARDED_HOST).iter().filter(|_| is_proxied);
    let values = headers.get_all(header::HOST).iter().chain(forwarded);
    // A value that is not text becomes an empty name, which is unknown (fails closed).
    values.flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim).collect()
}

/// The header in which proxies forward the browser's `Host`.
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
    fn host_matches_by_name_with_any_port() {
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
    fn forwarded_host_of_a_trusted_proxy_must_be_known_too() {
        host(true, &[("host", "audit.example"), ("x-forwarded-host", "evil.test")], false);
        host(true, &[("host", "evil.test"), ("x-forwarded-host", "audit.example")], false);
        host(true, &[("host", "127.0.0.1"), ("x-forwarded-host", "audit.example")], true);
        host(false, &[("host", "audit.example"), ("x-forwarded-host", "evil.test")], true);
    }
}
