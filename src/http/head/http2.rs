//! Normalizes the head of an HTTP/2 request to that of HTTP/1.1. `h2` validates it (RFC 9113, section 8.2); it has no
//! line ends that could be ambiguous.

use hyper::Request;
use hyper::header::{self, HeaderValue};

use super::error::{HeadError, HeadLimits};
use super::validator::has_user;

/// Sets one `Host`, from `:authority` if necessary, and joins all cookies into one `Cookie`.
pub(crate) fn normalize<B>(request: &mut Request<B>, limits: HeadLimits) -> Result<(), HeadError> {
    let authority = request.uri().authority().map(|authority| authority.as_str().to_owned());
    let headers = request.headers_mut();
    // Clients split cookies for better compression (RFC 9113, section 8.2.3).
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1 {
        let cookie = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).map_err(|_| HeadError::HeaderValue)?;
        headers.insert(header::COOKIE, cookie);
    }
    if headers.len() > limits.headers {
        return Err(HeadError::TooLarge);
    }
    let mut hosts = headers.get_all(header::HOST).iter().map(HeaderValue::as_bytes);
    match (authority, hosts.next(), hosts.next()) {
        (None, Some(_), None) => {}
        // Section 8.3.1: `:authority` and `Host` must not name different hosts.
        (Some(authority), Some(host), None) if authority.as_bytes().eq_ignore_ascii_case(host) => {}
        (Some(authority), None, None) => {
            let host = HeaderValue::try_from(authority).map_err(|_| HeadError::Host)?;
            headers.insert(header::HOST, host);
        }
        _ => return Err(HeadError::Host),
    }
    match headers.get(header::HOST) {
        Some(host) if has_user(host.as_bytes()) => Err(HeadError::User),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HeadLimits = HeadLimits { bytes: 1024, headers: 3 };

    fn normalized(uri: &str, headers: &[(&str, &str)]) -> Result<Vec<String>, HeadError> {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).unwrap();
        normalize(&mut request, LIMITS)?;
        let line = |(name, value): (&header::HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().unwrap());
        Ok(request.headers().iter().map(line).collect())
    }

    #[test]
    fn authority_becomes_the_host() {
        let host = || Ok(vec!["host: gate.test:8443".to_owned()]);
        assert_eq!(normalized("https://gate.test:8443/", &[]), host());
        assert_eq!(normalized("https://gate.test:8443/", &[("host", "gate.test:8443")]), host());
        assert_eq!(normalized("/", &[("host", "gate.test:8443")]), host());
    }

    #[test]
    fn request_with_no_host_or_two_is_rejected() {
        assert_eq!(normalized("/", &[]), Err(HeadError::Host));
        assert_eq!(normalized("https://gate.test/", &[("host", "evil.test")]), Err(HeadError::Host));
        assert_eq!(normalized("/", &[("host", "gate.test"), ("host", "gate.test")]), Err(HeadError::Host));
    }

    #[test]
    fn user_name_before_the_host_is_rejected() {
        assert_eq!(normalized("https://user:password@gate.test/", &[]), Err(HeadError::User));
        assert_eq!(normalized("/", &[("host", "user@gate.test")]), Err(HeadError::User));
    }

    #[test]
    fn cookie_crumbs_are_joined() {
        let crumbs = [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3"), ("cookie", "d=4")];
        let joined = vec!["cookie: a=1; b=2; c=3; d=4".to_owned(), "host: gate.test".to_owned()];
        assert_eq!(normalized("https://gate.test/", &crumbs), Ok(joined));
    }

    #[test]
    fn headers_beyond_the_limit_are_rejected() {
        let headers = [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")];
        assert_eq!(normalized("https://gate.test/", &headers[..3]).map(|lines| lines.len()), Ok(4));
        assert_eq!(normalized("https://gate.test/", &headers), Err(HeadError::TooLarge));
    }
}
