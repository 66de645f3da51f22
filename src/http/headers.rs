//! Header rewriting in both directions: removes hop-by-hop headers, sets forwarding headers, replaces the domain's
//! name.

use hyper::header::{self, Entry, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use memchr::memmem;
use trailgate_client::is_signing_header;

use crate::http::listener::Connection;
use crate::policy::client_address::{ClientAddress, FORWARDED_FOR};
use crate::policy::host_check::FORWARDED_HOST;

/// The path of a request up to this proxy, as forwarding headers describe it.
#[derive(Clone, Debug)]
pub(crate) struct ForwardedContext {
    peer: ClientAddress,
    /// Set if the connection uses TLS.
    is_tls: bool,
    /// Set if the peer is a trusted proxy, so that its forwarding headers are believed.
    is_trusted: bool,
    /// Set if the browser uses an `https` URL.
    is_secure: bool,
}

impl ForwardedContext {
    pub(crate) fn new(connection: &Connection, headers: &HeaderMap) -> Self {
        let Connection { peer, is_trusted, listener } = connection;
        Self::of(peer.clone(), listener.tls.is_some(), *is_trusted, headers)
    }

    fn of(peer: ClientAddress, is_tls: bool, is_trusted: bool, headers: &HeaderMap) -> Self {
        let forwarded = headers.get(FORWARDED_PROTO).filter(|_| is_trusted);
        // Each proxy of a chain may append its own scheme; the first one is the browser's.
        let first = |proto: &HeaderValue| {
            let first = proto.as_bytes().split(|&byte| byte == b',').next().unwrap_or_default();
            first.trim_ascii().eq_ignore_ascii_case(b"https")
        };
        let is_secure = forwarded.map_or(is_tls, first);
        Self { peer, is_tls, is_trusted, is_secure }
    }

    /// Returns whether the browser uses an `https` URL.
    pub(crate) fn is_secure(&self) -> bool {
        self.is_secure
    }
}

/// Returns the request headers for the domain, without the signature: the client's end-to-end headers and the
/// forwarding headers.
pub(crate) fn to_domain(client: &HeaderMap, context: &ForwardedContext) -> HeaderMap {
    let named = named_by_connection(client);
    let passes = |name: &HeaderName| {
        let text = name.as_str();
        let is_forwarded = [FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO].contains(name);
        // The length is known once the body is buffered, and the proxy answers `Expect` itself.
        let ends = matches!(text, "host" | "content-length" | "expect" | "forwarded") || is_hop_by_hop(text);
        !ends
            && !is_signing_header(text)
            && !names_identity(text)
            && (context.is_trusted || !is_forwarded)
            && !named.contains(name)
    };
    let mut headers = HeaderMap::with_capacity(client.len() + ADDED);
    for (name, value) in client.iter().filter(|(name, _)| passes(name)) {
        headers.append(name, value.clone());
    }
    headers.append(FORWARDED_FOR, context.peer.to_header());
    if let (Entry::Vacant(vacant), Some(host)) = (headers.entry(FORWARDED_HOST), client.get(header::HOST)) {
        vacant.insert(host.clone());
    }
    let proto = HeaderValue::from_static(if context.is_tls { "https" } else { "http" });
    headers.entry(FORWARDED_PROTO).or_insert(proto);
    headers
}

/// Rewrites the domain's response headers for the client: redirects and cookies then lead to the proxy, not to the
/// domain.
pub(crate) fn to_client(headers: &mut HeaderMap, domain: &Authority, context: &ForwardedContext) {
    let mut named = named_by_connection(headers);
    while let Some(name) = named.pop().or_else(|| headers.keys().find(|name| is_hop_by_hop(name.as_str())).cloned()) {
        headers.remove(name);
    }
    for name in [header::LOCATION, header::CONTENT_LOCATION] {
        if let Some(location) = headers.get_mut(name)
            && let Some(path) = path_on_domain(location.as_bytes(), domain)
            && let Ok(path) = HeaderValue::from_bytes(path)
        {
            *location = path;
        }
    }
    // `entry` reserves memory, so it is called only for the few responses with cookies.
    if headers.contains_key(header::SET_COOKIE)
        && let Entry::Occupied(mut cookies) = headers.entry(header::SET_COOKIE)
    {
        for cookie in cookies.iter_mut() {
            if let Ok(rewritten) =
                HeaderValue::from_bytes(&rewrite_cookie(cookie.as_bytes(), domain, context.is_secure))
            {
                *cookie = rewritten;
            }
        }
    }
}

/// Returns whether the client accepts HTML, as a browser that loads a page does.
#[must_use]
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT).iter().any(|accept| memmem::find(accept.as_bytes(), b"text/html").is_some())
}

/// Returns the headers that `Connection` declares hop-by-hop, except those that are removed anyway.
fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let connection = headers.get_all(header::CONNECTION).iter();
    let named = connection.flat_map(|value| value.as_bytes().split(|&byte| byte == b',')).map(<[u8]>::trim_ascii);
    // Most values are one of these: a connection option, and a header that is removed anyway.
    let named = named.filter(|name| !matches!(*name, b"keep-alive" | b"close"));
    named.filter_map(|name| HeaderName::from_bytes(name).ok()).collect()
}

/// Returns the path and what follows it, if `location` is an absolute URL on the domain.
fn path_on_domain<'a>(location: &'a [u8], domain: &Authority) -> Option<&'a [u8]> {
    let rest = ["https://", "http://", "//"].iter().find_map(|scheme| strip_prefix_ignoring_case(location, scheme))?;
    let end = rest.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let host = authority.split(|&byte| byte == b':').next()?;
    if !host.eq_ignore_ascii_case(domain.host().as_bytes()) {
        return None;
    }
    match path {
        [] => Some(b"/"),
        // A path without its leading slash would be relative, and one with two would name another host.
        [b'/', b'/', ..] | [b'?' | b'#', ..] => None,
        path => Some(path),
    }
}

/// Rewrites a cookie of the domain for the proxy: drops a `Domain` that covers the domain's host and, over plain http,
/// `Secure`, because a browser would reject the cookie there.
fn rewrite_cookie(cookie: &[u8], domain: &Authority, is_secure: bool) -> Vec<u8> {
    let keeps = |attribute: &&[u8]| {
        let (name, value) = match attribute.iter().position(|&byte| byte == b'=') {
            Some(at) => (attribute[..at].trim_ascii(), attribute[at + 1..].trim_ascii()),
            None => (attribute.trim_ascii(), &[][..]),
        };
        let names_domain = name.eq_ignore_ascii_case(b"domain") && covers_host(value, domain.host().as_bytes());
        // Browsers reject `SameSite=None` and `Partitioned` on a cookie that is not `Secure`.
        let needs_tls = name.eq_ignore_ascii_case(b"secure")
            || name.eq_ignore_ascii_case(b"partitioned")
            || (name.eq_ignore_ascii_case(b"samesite") && value.eq_ignore_ascii_case(b"none"));
        !names_domain && (is_secure || !needs_tls)
    };
    let mut parts = cookie.split(|&byte| byte == b';');
    let pair = parts.next().unwrap_or_default();
    std::iter::once(pair).chain(parts.filter(keeps)).collect::<Vec<_>>().join(&b';')
}

/// Returns whether a cookie's `Domain` covers `host`: the host itself, or a parent domain.
fn covers_host(cookie_domain: &[u8], host: &[u8]) -> bool {
    let suffix = cookie_domain.strip_prefix(b".").unwrap_or(cookie_domain);
    let Some(at) = host.len().checked_sub(suffix.len()) else { return false };
    host[at..].eq_ignore_ascii_case(suffix) && (at == 0 || host[at - 1] == b'.')
}

fn strip_prefix_ignoring_case<'a>(text: &'a [u8], prefix: &str) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix.as_bytes()).then_some(rest)
}

/// Returns whether the header names the user that a request is made for, or that user's roles (impersonation).
///
/// The domain may trust these headers from a proxy, and the proxy's role may be allowed to impersonate. They are those
/// of the security plugin (proxy authentication, impersonation, and headers between nodes), of its predecessor Search
/// Guard, and of X-Pack. `securitytenant` passes: Dashboards sends it with each request to select one of the tenants
/// that the signing role may use, and it names no user.
fn names_identity(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'x') => name.starts_with("x-proxy-"),
        Some(b'o') => name.starts_with("opendistro_security_") || name.starts_with("opensearch_security_"),
        Some(b'_') => ["_opendistro_security_", "_opensearch_security_", "_sg_"].iter().any(|it| name.starts_with(it)),
        Some(b's') => name == "sg_impersonate_as",
        Some(b'e') => name == "es-security-runas-user",
        _ => false,
    }
}

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Headers added to a request for the domain: three for forwarding, its length, and those of the signature.
const ADDED: usize = 9;

/// Returns whether a header is hop-by-hop (RFC 9110, section 7.6.1), including those that older peers send.
fn is_hop_by_hop(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

#[cfg(test)]
mod tests;
