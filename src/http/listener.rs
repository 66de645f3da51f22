//! Where clients connect: an address, and what holds for whoever comes there.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Response, StatusCode};

use crate::http::tls::CertificateFiles;
use crate::policy::client_address::{ClientAddress, TrustedProxies};
use crate::policy::csrf::TrustedOrigins;
use crate::policy::host_check::{Hosts, UnknownHost};

/// One `[[listen]]` of the configuration.
#[derive(Debug)]
pub struct Listener {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Whose `X-Forwarded-For` and PROXY header are believed.
    pub trusted_proxies: TrustedProxies,
    /// Which host names are answered.
    pub hosts: Hosts,
    /// The other sites whose pages may write.
    pub trusted_origins: TrustedOrigins,
    /// Whether each connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// The certificate that it shows; without one it speaks plain HTTP.
    pub tls: Option<CertificateFiles>,
    /// Set when it does nothing but send clients to https.
    pub to_https: Option<ToHttps>,
}

/// The connection that a request came by.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The TCP peer, or whom the PROXY header names in its place.
    pub peer: ClientAddress,
    /// Where it came in.
    pub listener: Arc<Listener>,
}

/// The way from plain HTTP to the same host's https.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToHttps {
    /// The port that https is at.
    pub port: u16,
}

impl ToHttps {
    /// The redirect to the same URL by https; the method stays.
    pub fn redirect(self, head: &Parts) -> Result<Response<()>, UnknownHost> {
        let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let host: Authority = host.and_then(|host| host.parse().ok()).ok_or(UnknownHost)?;
        let port = if self.port == 443 { String::new() } else { format!(":{}", self.port) };
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let location = format!("https://{}{port}{target}", host.host());
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
        response.headers_mut().insert(header::LOCATION, HeaderValue::try_from(location).map_err(|_| UnknownHost)?);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    #[track_caller]
    fn location(port: u16, host: &str, target: &str) -> Option<String> {
        let (head, ()) = Request::get(target).header("host", host).body(()).unwrap().into_parts();
        let response = ToHttps { port }.redirect(&head).ok()?;
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        Some(response.headers()["location"].to_str().unwrap().to_owned())
    }

    #[test]
    fn a_redirect_leads_to_the_same_url_by_https() {
        assert_eq!(location(443, "audit.example", "/a?b=c").unwrap(), "https://audit.example/a?b=c");
        assert_eq!(location(443, "audit.example:80", "/").unwrap(), "https://audit.example/");
        assert_eq!(location(8443, "[::1]:8080", "/a").unwrap(), "https://[::1]:8443/a");
        assert_eq!(location(443, "audit.example", "http://audit.example/a").unwrap(), "https://audit.example/a");
    }

    #[test]
    fn a_host_that_is_none_is_not_redirected_to() {
        for host in ["", "a b", "a/b"] {
            assert_eq!(location(443, host, "/"), None, "{host:?}");
        }
    }
}
