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
        let Connection { peer, listener } = connection;
        Self::of(peer.clone(), listener.tls.is_some(), listener.trusted_proxies.contains(peer.ip()), headers)
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
        // Browsers reject `SameSite=None` on a cookie that is not `Secure`.
        let needs_tls = name.eq_ignore_ascii_case(b"secure")
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
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7));

    fn context() -> ForwardedContext {
        ForwardedContext { peer: ClientAddress::new(PEER), is_tls: false, is_trusted: false, is_secure: false }
    }

    fn map(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let value = |value: &str| HeaderValue::from_bytes(value.as_bytes()).unwrap();
        pairs.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect()
    }

    fn lines(headers: &HeaderMap) -> Vec<String> {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
        };
        headers.iter().map(line).collect()
    }

    #[track_caller]
    fn to_domain_from(is_trusted: bool, sent: &[(&'static str, &str)], expected: &[&str]) {
        let headers = to_domain(&map(sent), &ForwardedContext { is_trusted, ..context() });
        let (mut found, mut expected) = (lines(&headers), expected.iter().map(ToString::to_string).collect::<Vec<_>>());
        found.sort();
        expected.sort();
        assert_eq!(found, expected);
    }

    const FORWARDED: [&str; 3] =
        ["x-forwarded-for: 203.0.113.7", "x-forwarded-host: gate.test", "x-forwarded-proto: http"];

    #[test]
    fn headers_that_end_at_this_hop_do_not_pass() {
        let sent = [
            ("host", "gate.test"),
            ("connection", "keep-alive, X-Private"),
            ("connection", "x-other"),
            ("x-private", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic eA=="),
            ("expect", "100-continue"),
            ("content-length", "3"),
        ];
        to_domain_from(false, &sent, &FORWARDED);
    }

    #[test]
    fn header_that_names_an_identity_does_not_pass() {
        let sent = [
            ("host", "gate.test"),
            ("x-proxy-user", "admin"),
            ("x-proxy-roles", "all_access"),
            ("x-proxy-ext-department", "audit"),
            ("opendistro_security_impersonate_as", "admin"),
            ("opensearch_security_impersonate_as", "admin"),
            ("_opendistro_security_user_header", "rO0AB"),
            ("_opensearch_security_user", "rO0AB"),
            ("_sg_user", "admin"),
            ("sg_impersonate_as", "admin"),
            ("es-security-runas-user", "admin"),
        ];
        to_domain_from(false, &sent, &FORWARDED);
        to_domain_from(true, &sent, &FORWARDED);
    }

    #[test]
    fn tenant_passes() {
        let expected = [&FORWARDED[..], &["securitytenant: global"]].concat();
        to_domain_from(false, &[("host", "gate.test"), ("securitytenant", "global")], &expected);
    }

    #[test]
    fn what_a_signer_sets_does_not_pass_from_a_client() {
        let sent = [
            ("host", "gate.test"),
            ("authorization", "Basic eA=="),
            ("x-amz-date", "20150830T123600Z"),
            ("x-amz-security-token", "stale"),
            ("x-amz-anything", "1"),
        ];
        to_domain_from(false, &sent, &FORWARDED);
    }

    #[test]
    fn all_that_kibana_and_dashboards_send_passes() {
        let sent = [
            ("host", "gate.test"),
            ("cookie", "security_authentication=abc"),
            ("kbn-version", "5.1.1"),
            ("osd-xsrf", "osd-fetch"),
            ("securitytenant", "private"),
            ("content-encoding", "gzip"),
            ("x-latin", "caf\u{e9}"),
            ("x-amzn-trace-id", "Root=1"),
        ];
        let passed = [
            "cookie: security_authentication=abc",
            "kbn-version: 5.1.1",
            "osd-xsrf: osd-fetch",
            "securitytenant: private",
            "content-encoding: gzip",
            "x-latin: caf\u{e9}",
            "x-amzn-trace-id: Root=1",
        ];
        to_domain_from(false, &sent, &[&FORWARDED[..], &passed].concat());
    }

    #[test]
    fn a_clients_own_x_forwarded_headers_are_replaced() {
        let sent = [
            ("host", "gate.test"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=198.51.100.1"),
        ];
        to_domain_from(false, &sent, &FORWARDED);
    }

    #[test]
    fn a_trusted_proxys_x_forwarded_headers_are_continued() {
        let sent = [
            ("host", "gate.test"),
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-host", "audit.example"),
            ("x-forwarded-proto", "https"),
        ];
        let expected = [
            "x-forwarded-for: 198.51.100.1",
            "x-forwarded-for: 203.0.113.7",
            "x-forwarded-host: audit.example",
            "x-forwarded-proto: https",
        ];
        to_domain_from(true, &sent, &expected);
    }

    fn domain() -> Authority {
        Authority::from_static("search-trail.eu-west-1.es.amazonaws.com")
    }

    #[track_caller]
    fn location(from_domain: &str, to_browser: &str) {
        let mut headers = map(&[("location", from_domain)]);
        to_client(&mut headers, &domain(), &context());
        assert_eq!(lines(&headers), [format!("location: {to_browser}")]);
    }

    #[test]
    fn a_redirect_within_the_domain_stays_on_the_gate() {
        location("https://search-trail.eu-west-1.es.amazonaws.com/_plugin/kibana/", "/_plugin/kibana/");
        location("http://SEARCH-trail.eu-west-1.es.amazonaws.com:80/a?b#c", "/a?b#c");
        location("//search-trail.eu-west-1.es.amazonaws.com/a", "/a");
        location("https://search-trail.eu-west-1.es.amazonaws.com", "/");
        location("/_plugin/kibana/", "/_plugin/kibana/");
        location("app/kibana", "app/kibana");
    }

    #[test]
    fn a_redirect_elsewhere_is_left_alone() {
        location("https://login.example/oauth", "https://login.example/oauth");
        let other = "https://search-trail.eu-west-1.es.amazonaws.com.evil.test/";
        location(other, other);
        let protocol_relative = "https://search-trail.eu-west-1.es.amazonaws.com//evil.test/";
        location(protocol_relative, protocol_relative);
    }

    #[track_caller]
    fn cookie(is_secure: bool, from_domain: &str, to_browser: &str) {
        let mut headers = map(&[("set-cookie", from_domain)]);
        to_client(&mut headers, &domain(), &ForwardedContext { is_secure, ..context() });
        assert_eq!(lines(&headers), [format!("set-cookie: {to_browser}")]);
    }

    #[test]
    fn a_cookie_for_the_domain_becomes_one_for_the_gate() {
        cookie(true, "a=b; Domain=.eu-west-1.es.amazonaws.com; Path=/; Secure", "a=b; Path=/; Secure");
        cookie(true, "a=b; domain=search-trail.eu-west-1.es.amazonaws.com", "a=b");
        cookie(true, "a=b; Domain=example.com; HttpOnly", "a=b; Domain=example.com; HttpOnly");
        cookie(true, "a=b; Domain=st-1.es.amazonaws.com", "a=b; Domain=st-1.es.amazonaws.com");
        cookie(
            true,
            "domain=search-trail.eu-west-1.es.amazonaws.com",
            "domain=search-trail.eu-west-1.es.amazonaws.com",
        );
    }

    #[test]
    fn a_cookie_loses_secure_over_plain_http_alone() {
        cookie(true, "a=b; Secure; SameSite=None", "a=b; Secure; SameSite=None");
        cookie(false, "a=b; Secure; SameSite=None; HttpOnly", "a=b; HttpOnly");
        cookie(false, "a=b; secure; SameSite=Lax", "a=b; SameSite=Lax");
        cookie(false, "secure=secure", "secure=secure");
    }

    #[test]
    fn hop_by_hop_headers_of_a_response_do_not_pass() {
        let mut headers =
            map(&[("connection", "close, x-context"), ("x-context", "1"), ("keep-alive", "1"), ("etag", "\"a\"")]);
        to_client(&mut headers, &domain(), &context());
        assert_eq!(lines(&headers), ["etag: \"a\""]);
    }

    #[test]
    fn scheme_is_the_listeners_unless_a_trusted_proxy_sets_it() {
        let https = map(&[("x-forwarded-proto", "https")]);
        assert!(!ForwardedContext::of(ClientAddress::new(PEER), false, false, &https).is_secure);
        assert!(ForwardedContext::of(ClientAddress::new(PEER), false, true, &https).is_secure);
        assert!(ForwardedContext::of(ClientAddress::new(PEER), true, false, &HeaderMap::new()).is_secure);
    }

    #[test]
    fn first_scheme_of_a_forwarded_list_is_the_browsers() {
        let is_secure = |proto| {
            ForwardedContext::of(ClientAddress::new(PEER), false, true, &map(&[("x-forwarded-proto", proto)])).is_secure
        };
        assert!(is_secure("https,http"));
        assert!(is_secure("HTTPS , http"));
        assert!(!is_secure("http,https"));
        assert!(!is_secure(""));
    }
}
