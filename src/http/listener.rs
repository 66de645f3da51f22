//! A listener: the address that clients connect to, and the settings of its connections.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{Response, StatusCode};

use crate::http::tls::CertificateFiles;
use crate::policy::allowlist::Entries;
use crate::policy::client_address::{BadHop, ClientAddress, TrustedProxies};
use crate::policy::csrf::TrustedOrigins;
use crate::policy::host_check::{FORWARDED_HOST, Hosts, UnknownHost};

/// One `[[listen]]` of the configuration.
#[derive(Debug)]
pub struct Listener {
    /// The address to bind; port 0 selects a free port.
    pub address: SocketAddr,
    /// Set if the address is `[::]` and another listener accepts IPv4 at its port.
    pub is_ipv6_only: bool,
    /// The proxies whose `X-Forwarded-For` and PROXY headers are trusted.
    pub trusted_proxies: TrustedProxies,
    /// The host names that are served (DNS rebinding protection).
    pub hosts: Hosts,
    /// The other sites whose pages may write (CSRF protection).
    pub trusted_origins: TrustedOrigins,
    /// Set if each connection starts with a PROXY header.
    pub proxy_protocol: bool,
    /// The TLS certificate; without one the listener serves plain HTTP.
    pub tls: Option<CertificateFiles>,
    /// Set if the listener only redirects to https.
    pub to_https: Option<ToHttps>,
}

impl Listener {
    /// Returns the warnings about entries of the allowlist that cover trusted proxies of `listeners`.
    pub fn allowlist_warnings(listeners: &[Self], entries: &Entries, now: SystemTime) -> BTreeSet<String> {
        listeners.iter().filter_map(|listener| listener.trusted_proxies.warning(entries, now)).collect()
    }
}

/// The client connection of a request.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The TCP peer, or the client that the PROXY header names.
    pub peer: ClientAddress,
    /// Set if the peer is a trusted proxy, so that its forwarding headers are believed.
    ///
    /// Not set if a PROXY header names no client: the load balancer forwards bytes that a client may have written.
    pub is_trusted: bool,
    /// The listener that accepted the connection.
    pub listener: Arc<Listener>,
}

impl Connection {
    /// Returns the address of the client that sent a request with these headers.
    pub(crate) fn client(&self, headers: &HeaderMap) -> Result<IpAddr, BadHop> {
        let peer = self.peer.ip();
        if self.is_trusted { self.listener.trusted_proxies.client(peer, headers) } else { Ok(peer) }
    }
}

/// A redirect from plain HTTP to https on the same host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToHttps {
    /// The port of https.
    pub port: u16,
}

impl ToHttps {
    /// Returns the redirect (308, which keeps the method) to the same URL over https.
    ///
    /// `is_proxied` is set if the peer is a trusted proxy, so that its `X-Forwarded-Host` names the browser's host.
    pub fn redirect(self, head: &Parts, is_proxied: bool) -> Result<Response<()>, UnknownHost> {
        let forwarded = head.headers.get(FORWARDED_HOST).filter(|_| is_proxied);
        let host = forwarded.or_else(|| head.headers.get(header::HOST)).and_then(|host| host.to_str().ok());
        let host = host.and_then(|hosts| hosts.split(',').next());
        let host: Authority = host.and_then(|host| host.trim().parse().ok()).ok_or(UnknownHost)?;
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
        let response = ToHttps { port }.redirect(&head, false).ok()?;
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        Some(response.headers()["location"].to_str().unwrap().to_owned())
    }

    #[test]
    fn redirect_to_https_keeps_the_url() {
        assert_eq!(location(443, "audit.example", "/a?b=c").unwrap(), "https://audit.example/a?b=c");
        assert_eq!(location(443, "audit.example:80", "/").unwrap(), "https://audit.example/");
        assert_eq!(location(8443, "[::1]:8080", "/a").unwrap(), "https://[::1]:8443/a");
        assert_eq!(location(443, "audit.example", "http://audit.example/a").unwrap(), "https://audit.example/a");
    }

    #[test]
    fn redirect_behind_a_proxy_leads_to_the_browsers_host() {
        let request = Request::get("/a").header("host", "10.0.0.5:8080");
        let (head, ()) = request.header("x-forwarded-host", "audit.example, inner").body(()).unwrap().into_parts();
        let location =
            |is_proxied| ToHttps { port: 443 }.redirect(&head, is_proxied).unwrap().headers()["location"].clone();
        assert_eq!(location(true), "https://audit.example/a");
        assert_eq!(location(false), "https://10.0.0.5/a");
    }

    #[test]
    fn invalid_host_is_not_redirected_to() {
        for host in ["", "a b", "a/b"] {
            assert_eq!(location(443, host, "/"), None, "{host:?}");
        }
    }
}
