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
    let line =
        |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
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

const FORWARDED: [&str; 3] = ["x-forwarded-for: 203.0.113.7", "x-forwarded-host: gate.test", "x-forwarded-proto: http"];

#[test]
fn hop_by_hop_headers_of_a_request_are_removed() {
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
fn header_that_asserts_an_identity_is_removed() {
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
fn tenant_header_passes() {
    let expected = [&FORWARDED[..], &["securitytenant: global"]].concat();
    to_domain_from(false, &[("host", "gate.test"), ("securitytenant", "global")], &expected);
}

#[test]
fn signing_headers_of_a_client_are_removed() {
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
fn headers_of_kibana_and_dashboards_pass() {
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
fn x_forwarded_headers_of_a_client_are_replaced() {
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
fn x_forwarded_headers_of_a_trusted_proxy_are_appended_to() {
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
fn redirect_within_the_domain_is_relative_to_the_proxy() {
    location("https://search-trail.eu-west-1.es.amazonaws.com/_plugin/kibana/", "/_plugin/kibana/");
    location("http://SEARCH-trail.eu-west-1.es.amazonaws.com:80/a?b#c", "/a?b#c");
    location("//search-trail.eu-west-1.es.amazonaws.com/a", "/a");
    location("https://search-trail.eu-west-1.es.amazonaws.com", "/");
    location("/_plugin/kibana/", "/_plugin/kibana/");
    location("app/kibana", "app/kibana");
}

#[test]
fn redirect_to_another_host_is_unchanged() {
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
fn cookie_of_the_domain_loses_its_domain_attribute() {
    cookie(true, "a=b; Domain=.eu-west-1.es.amazonaws.com; Path=/; Secure", "a=b; Path=/; Secure");
    cookie(true, "a=b; domain=search-trail.eu-west-1.es.amazonaws.com", "a=b");
    cookie(true, "a=b; Domain=example.com; HttpOnly", "a=b; Domain=example.com; HttpOnly");
    cookie(true, "a=b; Domain=st-1.es.amazonaws.com", "a=b; Domain=st-1.es.amazonaws.com");
    cookie(true, "domain=search-trail.eu-west-1.es.amazonaws.com", "domain=search-trail.eu-west-1.es.amazonaws.com");
}

#[test]
fn cookie_loses_secure_only_over_plain_http() {
    cookie(true, "a=b; Secure; SameSite=None", "a=b; Secure; SameSite=None");
    cookie(false, "a=b; Secure; SameSite=None; HttpOnly", "a=b; HttpOnly");
    cookie(false, "a=b; secure; SameSite=Lax", "a=b; SameSite=Lax");
    cookie(false, "a=b; Secure; Partitioned; Path=/", "a=b; Path=/");
    cookie(true, "a=b; Secure; Partitioned", "a=b; Secure; Partitioned");
    cookie(false, "secure=secure", "secure=secure");
}

#[test]
fn hop_by_hop_headers_of_a_response_are_removed() {
    let mut headers =
        map(&[("connection", "close, x-context"), ("x-context", "1"), ("keep-alive", "1"), ("etag", "\"a\"")]);
    to_client(&mut headers, &domain(), &context());
    assert_eq!(lines(&headers), ["etag: \"a\""]);
}

#[test]
fn trusted_proxy_overrides_the_scheme_of_the_listener() {
    let https = map(&[("x-forwarded-proto", "https")]);
    assert!(!ForwardedContext::of(ClientAddress::new(PEER), false, false, &https).is_secure);
    assert!(ForwardedContext::of(ClientAddress::new(PEER), false, true, &https).is_secure);
    assert!(ForwardedContext::of(ClientAddress::new(PEER), true, false, &HeaderMap::new()).is_secure);
}

#[test]
fn first_scheme_of_a_forwarded_list_decides() {
    let is_secure = |proto| {
        ForwardedContext::of(ClientAddress::new(PEER), false, true, &map(&[("x-forwarded-proto", proto)])).is_secure
    };
    assert!(is_secure("https,http"));
    assert!(is_secure("HTTPS , http"));
    assert!(!is_secure("http,https"));
    assert!(!is_secure(""));
}
