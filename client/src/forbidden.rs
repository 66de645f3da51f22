//! The reasons of a 403: a rejected signature, or a missing permission.
//!
//! The service answers 403 for many reasons. Only the error message distinguishes a signature mismatch and clock skew
//! from a missing permission. On a mismatch it contains the canonical request that the service expected.

use std::time::SystemTime;

use hyper::HeaderMap;
use hyper::header::{self, HeaderName};

use crate::clock;
use crate::stats::ForbiddenKind;

/// The reason why the domain answered 403.
#[derive(Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// The signature does not match the one that the domain computed.
    Mismatch {
        /// The canonical request that the domain computed, with its session token hidden.
        expected: String,
    },
    /// The signature has expired or is not yet valid: clock skew.
    Skew {
        /// The domain's time, if the response has a `Date`.
        domain_time: Option<SystemTime>,
    },
    /// The domain rejected the credentials, or the region or service of the signing scope.
    Credentials {
        /// The service's error message.
        message: String,
    },
    /// Any other reason, such as a missing permission. The response is returned like others.
    Other,
}

impl Forbidden {
    /// Classifies a 403 by its headers and its JSON body.
    #[must_use]
    pub fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let Some(message) = message(body) else { return Self::Other };
        if message.starts_with("Signature expired") || message.starts_with("Signature not yet current") {
            Self::Skew { domain_time: domain_time(headers) }
        } else if message.starts_with("The request signature we calculated does not match") {
            Self::Mismatch { expected: without_token(expected_canonical_request(&message).unwrap_or_default()) }
        } else if CREDENTIALS.iter().any(|start| message.starts_with(start)) {
            Self::Credentials { message }
        } else {
            Self::Other
        }
    }

    /// Classifies a 403 to `HEAD`, which has no body: a distant `Date` shows clock skew, and `x-amzn-ErrorType` shows
    /// rejected credentials. `signed_at` is the time of the signature.
    #[must_use]
    pub fn of_head(headers: &HeaderMap, signed_at: SystemTime) -> Self {
        let skew = domain_time(headers).filter(|&time| clock::offset(signed_at, time).abs() >= SKEW);
        if skew.is_some() {
            return Self::Skew { domain_time: skew };
        }
        let error_type = headers.get(ERROR_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if CREDENTIALS_TYPES.iter().any(|kind| error_type.starts_with(kind)) {
            return Self::Credentials { message: error_type.to_owned() };
        }
        Self::Other
    }

    /// Returns the kind that the 403 is counted under.
    #[must_use]
    pub fn kind(&self) -> ForbiddenKind {
        match self {
            Self::Mismatch { .. } => ForbiddenKind::Signature,
            Self::Skew { .. } => ForbiddenKind::Expired,
            Self::Credentials { .. } => ForbiddenKind::Credentials,
            Self::Other => ForbiddenKind::NotAuthorized,
        }
    }
}

/// The prefixes of the service's messages about credentials.
const CREDENTIALS: [&str; 3] =
    ["The security token included in the request is", "Credential should be scoped to", "Missing Authentication Token"];

/// The values of `x-amzn-ErrorType` for the same errors.
const CREDENTIALS_TYPES: [&str; 3] =
    ["UnrecognizedClientException", "ExpiredTokenException", "MissingAuthenticationTokenException"];

const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");

/// Seconds of difference between the signature's time and the domain's from which a 403 is attributed to clock skew.
/// The service accepts five minutes.
const SKEW: i64 = 4 * 60;

fn domain_time(headers: &HeaderMap) -> Option<SystemTime> {
    let date = headers.get(header::DATE)?.to_str().ok()?;
    httpdate::parse_http_date(date).ok()
}

/// Returns a canonical request with the value of its session token hidden, which is a credential.
pub(crate) fn without_token(canonical_request: &str) -> String {
    let hidden = |line: &str| match line.split_once(':') {
        Some((name @ "x-amz-security-token", _)) => format!("{name}:(hidden)"),
        _ => line.to_owned(),
    };
    canonical_request.split('\n').map(hidden).collect::<Vec<_>>().join("\n")
}

fn message(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let message = body.get("message").or_else(|| body.get("Message"))?;
    message.as_str().map(str::to_owned)
}

fn expected_canonical_request(message: &str) -> Option<&str> {
    let (_, quoted) = message.split_once("The Canonical String for this request should have been\n'")?;
    quoted.split_once("'\n").map(|(canonical, _)| canonical)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper::header::HeaderValue;

    use super::*;

    fn read(message: &str) -> Forbidden {
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, HeaderValue::from_static("Sun, 30 Aug 2015 12:36:00 GMT"));
        Forbidden::read(&headers, serde_json::json!({ "message": message }).to_string().as_bytes())
    }

    #[test]
    fn signature_mismatch_yields_the_expected_canonical_request() {
        let message = "The request signature we calculated does not match the signature you provided. Check your AWS \
                       Secret Access Key and signing method. Consult the service documentation for details.\n\n\
                       The Canonical String for this request should have been\n\
                       'GET\n/a\n\nhost:h\nx-amz-security-token:secret\n\nhost;x-amz-security-token\ne3b0'\n\n\
                       The String-to-Sign should have been\n'AWS4-HMAC-SHA256\n'\n";
        let expected = "GET\n/a\n\nhost:h\nx-amz-security-token:(hidden)\n\nhost;x-amz-security-token\ne3b0".to_owned();
        assert_eq!(read(message), Forbidden::Mismatch { expected });
    }

    #[test]
    fn expired_signature_yields_the_domains_time() {
        let domain_time = Some(SystemTime::UNIX_EPOCH + Duration::from_mins(24_015_636));
        let skew = Forbidden::Skew { domain_time };
        assert_eq!(read("Signature expired: 20150830T120000Z is now earlier than 20150830T123100Z"), skew);
        assert_eq!(read("Signature not yet current: 20150830T130000Z is still later than 20150830T124100Z"), skew);
    }

    #[test]
    fn head_403_with_a_distant_date_is_a_skewed_clock() {
        let domain_time = SystemTime::UNIX_EPOCH + Duration::from_mins(24_015_636);
        let mut headers = HeaderMap::new();
        headers.insert(header::DATE, HeaderValue::from_static("Sun, 30 Aug 2015 12:36:00 GMT"));
        let minutes = |minutes| Duration::from_mins(minutes);
        let skew = Forbidden::Skew { domain_time: Some(domain_time) };
        assert_eq!(Forbidden::of_head(&headers, domain_time - minutes(10)), skew);
        assert_eq!(Forbidden::of_head(&headers, domain_time + minutes(10)), skew);
        assert_eq!(Forbidden::of_head(&headers, domain_time + minutes(1)), Forbidden::Other);
        assert_eq!(Forbidden::of_head(&HeaderMap::new(), domain_time), Forbidden::Other);
        headers.insert(ERROR_TYPE, HeaderValue::from_static("ExpiredTokenException:http://internal/"));
        let message = "ExpiredTokenException:http://internal/".to_owned();
        assert_eq!(Forbidden::of_head(&headers, domain_time), Forbidden::Credentials { message });
    }

    #[test]
    fn unknown_credentials_differ_from_a_missing_permission() {
        for message in [
            "The security token included in the request is invalid.",
            "The security token included in the request is expired",
            "Credential should be scoped to a valid region, not 'us-east-1'.",
        ] {
            assert_eq!(read(message), Forbidden::Credentials { message: message.to_owned() });
        }
    }

    #[test]
    fn missing_permission_is_an_ordinary_403() {
        assert_eq!(read("User: anonymous is not authorized to perform: es:ESHttpGet"), Forbidden::Other);
        assert_eq!(Forbidden::read(&HeaderMap::new(), b"<html>Forbidden</html>"), Forbidden::Other);
        assert_eq!(Forbidden::read(&HeaderMap::new(), br#"{"error":{"type":"security_exception"}}"#), Forbidden::Other);
    }
}
