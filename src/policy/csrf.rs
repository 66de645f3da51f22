//! CSRF protection: rejects cross-site writes by `Sec-Fetch-Site` and `Origin`.
//!
//! An allowed IP address identifies a user, not the sites open in the user's browser. The algorithm is that of
//! [`http.CrossOriginProtection`](https://pkg.go.dev/net/http#CrossOriginProtection) in Go: if the browser sends
//! `Sec-Fetch-Site`, it decides. Otherwise `Origin` has to name the requested host.
//!
//! These attacks remain:
//!
//! - Without `Sec-Fetch-Site` (browsers before 2023, and any browser over plain HTTP except on loopback) only `Origin`
//!   decides. Its scheme is not compared, because a proxy may terminate TLS. An attacker who controls the plain-HTTP
//!   site of the same host can write. HSTS closes this.
//! - The login paths of [`LOGIN_PATHS`] accept a form of any site, because the identity provider is another site. A
//!   hostile site can log a browser in under the attacker's account (login CSRF) if the domain accepts assertions that
//!   it did not request.
//! - A `GET` is never rejected. Any site can cause its side effects at the domain, such as those of `GET /_refresh`.
//! - A script in a page of the same origin, such as one stored in a dashboard, and a browser extension act as the user.

use std::fmt;
use std::str::FromStr;

use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, Uri};

use crate::policy::host_check::named_hosts;

/// An origin (RFC 6454) of a scheme that has hosts: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    scheme: String,
    host: String,
    port: Option<u16>,
}

/// The origins whose cross-site writes are accepted; none by default.
#[derive(Clone, Debug, Default)]
pub struct TrustedOrigins(Vec<Origin>);

/// The rejection of a cross-site write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a page of another site sent this request")]
pub struct CrossSite;

/// The error for a text that is not an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not an origin: write scheme and host, as in \"https://portal.example.com\", without a path")]
pub struct BadOrigin;

impl TrustedOrigins {
    /// Accepts cross-site writes from `origins`.
    #[must_use]
    pub fn new(origins: Vec<Origin>) -> Self {
        Self(origins)
    }

    /// Rejects a cross-site write.
    ///
    /// `is_proxied` is set if the peer is a trusted proxy, so that its `X-Forwarded-Host` counts.
    pub fn check(&self, head: &Parts, is_proxied: bool) -> Result<(), CrossSite> {
        if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let mut sites = head.headers.get_all(SEC_FETCH_SITE).iter().peekable();
        let is_allowed = if sites.peek().is_some() {
            // `none` means that the user started the request: a bookmark, an extension, a desktop application.
            sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
        } else {
            let origins = head.headers.get_all(header::ORIGIN);
            origins.iter().all(|origin| is_own(origin, &head.headers, is_proxied))
        };
        if is_allowed || self.exempts(head) { Ok(()) } else { Err(CrossSite) }
    }

    /// Returns whether a cross-site request is permitted: it is a login, or its origin is trusted.
    fn exempts(&self, head: &Parts) -> bool {
        let is_login = head.method == Method::POST && LOGIN_PATHS.contains(&head.uri.path());
        let mut origins = head.headers.get_all(header::ORIGIN).iter().peekable();
        let is_trusted = |origin: &HeaderValue| parse(origin).is_some_and(|origin| self.0.contains(&origin));
        is_login || (origins.peek().is_some() && origins.all(is_trusted))
    }
}

/// Returns whether `origin` names the requested host. A default port equals an absent one.
fn is_own(origin: &HeaderValue, headers: &HeaderMap, is_proxied: bool) -> bool {
    // `null` is an opaque origin: it has no host, so it is rejected.
    let Some(origin) = parse(origin).filter(|origin| origin.default_port().is_some()) else { return false };
    named_hosts(headers, is_proxied).iter().any(|host| origin.is_at(host))
}

fn parse(origin: &HeaderValue) -> Option<Origin> {
    origin.to_str().ok()?.parse().ok()
}

impl Origin {
    /// Returns whether `authority`, which may have a port, is the host of this origin.
    fn is_at(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let is_named = authority.host().eq_ignore_ascii_case(&self.host) && !authority.as_str().contains('@');
        is_named && authority.port_u16().or(self.default_port()) == self.port.or(self.default_port())
    }

    fn default_port(&self) -> Option<u16> {
        match self.scheme.as_str() {
            "https" => Some(443),
            "http" => Some(80),
            _ => None,
        }
    }
}

impl FromStr for Origin {
    type Err = BadOrigin;

    /// Parses an origin in its serialised form. The default port of `http` and `https` is accepted and dropped.
    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let (scheme, authority) = text.split_once("://").ok_or(BadOrigin)?;
        let uri: Uri = text.parse().map_err(|_| BadOrigin)?;
        let parsed = uri.authority().filter(|parsed| parsed.as_str() == authority).ok_or(BadOrigin)?;
        let has_bad_port = parsed.port_u16().is_none() && parsed.as_str().len() != parsed.host().len();
        if has_bad_port || parsed.as_str().contains(['@', '*']) || parsed.host().is_empty() {
            return Err(BadOrigin);
        }
        let mut origin =
            Self { scheme: scheme.to_ascii_lowercase(), host: parsed.host().to_ascii_lowercase(), port: None };
        origin.port = parsed.port_u16().filter(|port| Some(*port) != origin.default_port());
        Ok(origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The SAML assertion consumer services of the security plugins of Kibana and Dashboards: the identity provider's page
/// posts its assertion to them. `OpenID` Connect logins return by `GET`.
pub(crate) const LOGIN_PATHS: [&str; 8] = [
    "/_dashboards/_opendistro/_security/saml/acs",
    "/_dashboards/_opendistro/_security/saml/acs/idpinitiated",
    "/_dashboards/_plugins/_security/saml/acs",
    "/_dashboards/_plugins/_security/saml/acs/idpinitiated",
    "/_plugin/kibana/_opendistro/_security/saml/acs",
    "/_plugin/kibana/_opendistro/_security/saml/acs/idpinitiated",
    "/_plugin/kibana/_plugins/_security/saml/acs",
    "/_plugin/kibana/_plugins/_security/saml/acs/idpinitiated",
];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn head(method: &str, path: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn trusted() -> TrustedOrigins {
        TrustedOrigins::new(vec!["https://portal.example".parse().unwrap()])
    }

    #[track_caller]
    fn write_by(is_proxied: bool, headers: &[(&str, &str)], passes: bool) {
        assert_eq!(trusted().check(&head("POST", "/", headers), is_proxied).is_ok(), passes, "{headers:?}");
        assert!(trusted().check(&head("GET", "/", headers), is_proxied).is_ok());
    }

    #[track_caller]
    fn write(headers: &[(&str, &str)], passes: bool) {
        write_by(false, headers, passes);
    }

    #[test]
    fn same_origin_or_non_browser_write_passes() {
        write(&[("host", "gate.test")], true);
        write(&[("host", "gate.test:8080"), ("origin", "http://gate.test:8080")], true);
        write(&[("host", "gate.test"), ("origin", "https://GATE.test"), ("sec-fetch-site", "same-origin")], true);
        write(&[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")], true);
    }

    #[test]
    fn sec_fetch_site_precedes_origin() {
        for (site, passes) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)] {
            for origin in ["null", "https://evil.test", "chrome-extension://abcdefghijklmnop", "https://gate.test"] {
                write(&[("host", "gate.test"), ("origin", origin), ("sec-fetch-site", site)], passes);
            }
            write(&[("host", "gate.test"), ("sec-fetch-site", site)], passes);
        }
        write(&[("host", "gate.test"), ("sec-fetch-site", "")], false);
        write(&[("host", "gate.test"), ("sec-fetch-site", "none"), ("sec-fetch-site", "cross-site")], false);
    }

    #[test]
    fn default_ports_of_host_and_origin_are_equal() {
        write(&[("host", "gate.test:443"), ("origin", "https://gate.test")], true);
        write(&[("host", "gate.test:80"), ("origin", "http://gate.test")], true);
        write(&[("host", "gate.test"), ("origin", "https://gate.test:443")], true);
        write(&[("host", "gate.test:80"), ("origin", "https://gate.test")], false);
        write(&[("host", "gate.test:443"), ("origin", "http://gate.test")], false);
        let forwarded = |host| [("host", "10.0.0.1"), ("x-forwarded-host", host), ("origin", "https://audit.example")];
        write_by(true, &forwarded("audit.example:443"), true);
        write_by(true, &forwarded("audit.example"), true);
        write_by(false, &forwarded("audit.example"), false);
    }

    #[test]
    fn cross_origin_write_is_rejected() {
        write(&[("host", "gate.test"), ("origin", "https://evil.test")], false);
        write(&[("host", "gate.test:8080"), ("origin", "http://gate.test")], false);
        write(&[("host", "gate.test:8080"), ("origin", "http://gate.test:8081")], false);
        write(&[("host", "gate.test"), ("origin", "null")], false);
        write(&[("host", "gate.test"), ("origin", "")], false);
        write(&[("host", "gate.test"), ("origin", "chrome-extension://gate.test")], false);
        write(&[("host", "gate.test"), ("origin", "http://gate.test"), ("origin", "http://evil.test")], false);
        write(&[("host", "gate.test"), ("origin", "caf\u{e9}")], false);
        write(&[("host", ""), ("origin", "https://evil.test")], false);
        write(&[("host", "gate.test@evil.test"), ("origin", "https://evil.test")], false);
    }

    #[test]
    fn trusted_origin_passes_exactly() {
        let from = |origin| [("host", "gate.test"), ("sec-fetch-site", "cross-site"), ("origin", origin)];
        write(&from("https://portal.example"), true);
        write(&from("https://portal.example:443"), true);
        write(&from("http://portal.example"), false);
        write(&from("https://portal.example:8443"), false);
        write(&from("https://a.portal.example"), false);
        write(&[("host", "gate.test"), ("origin", "https://portal.example")], true);
        let both = [("host", "gate.test"), ("origin", "https://portal.example"), ("origin", "https://evil.test")];
        write(&both, false);
    }

    #[test]
    fn login_form_of_an_identity_provider_passes() {
        let from_idp = [("host", "gate.test"), ("origin", "https://idp.example"), ("sec-fetch-site", "cross-site")];
        let post = |method, path: &str| TrustedOrigins::default().check(&head(method, path, &from_idp), false);
        for path in LOGIN_PATHS {
            assert_eq!(post("POST", path), Ok(()), "{path}");
            assert_eq!(post("PUT", path), Err(CrossSite), "{path}");
            assert_eq!(post("POST", &format!("{path}/x")), Err(CrossSite), "{path}");
        }
        assert_eq!(post("POST", "/_dashboards/_plugins/_security/saml/acs?a=b"), Ok(()));
        assert_eq!(post("POST", "/_dashboards/_plugins/_security/saml/%61cs"), Err(CrossSite));
        assert_eq!(post("POST", "/_dashboards/api/saved_objects"), Err(CrossSite));
    }

    #[test]
    fn origin_is_scheme_host_and_port() {
        let shown = |text: &str| text.parse::<Origin>().map(|origin| origin.to_string());
        assert_eq!(shown("HTTPS://Portal.example:443"), Ok("https://portal.example".to_owned()));
        assert_eq!(shown("http://[::1]:8080"), Ok("http://[::1]:8080".to_owned()));
        assert_eq!(shown("chrome-extension://abcdef"), Ok("chrome-extension://abcdef".to_owned()));
        for bad in ["", "null", "portal.example", "https://", "https://a/", "https://a/b", "https://a?b", "https://a#b"]
        {
            assert_eq!(shown(bad), Err(BadOrigin), "{bad}");
        }
        for bad in ["https://u@a", "https://*.a", "https://a:", "https://a:x", "https://a:99999", "https://a b"] {
            assert_eq!(shown(bad), Err(BadOrigin), "{bad}");
        }
    }
}
