//! AWS Signature Version 4 of a buffered request, for given credentials and a given time.
//!
//! The rules are those of "Create a signed AWS API request" in the IAM User Guide. The signed headers are `host`,
//! `x-amz-content-sha256`, `x-amz-date` and `x-amz-security-token`: none that a hop may change.
//!
//! The canonical request is our own code: it writes one buffer from a target that is canonical already, with a third of
//! the instructions of `aws-sigv4`. The signing key is that of `aws-sigv4`, and the tests compare the signatures with
//! it.

mod signing_key;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;
use ring::digest::{SHA256, digest};

use self::signing_key::SigningKey;
use crate::target::Target;

/// A signer of requests to one domain. It keeps the signing key of the last credentials, so that credentials which are
/// used at the same time have a signer each.
#[derive(Debug)]
pub struct Signer {
    scope: Arc<SigningScope>,
    context: Mutex<Option<SigningContext>>,
}

/// The parts that all signatures for one domain share.
#[derive(Debug)]
struct SigningScope {
    authority: Authority,
    host: HeaderValue,
    region: String,
    service: String,
}

/// The parts that signatures with the same second and credentials share.
#[derive(Clone, Debug)]
struct SigningContext {
    /// Seconds of Unix time.
    second: i64,
    date: SigningDate,
    key: Arc<SigningKey>,
}

impl Signer {
    /// Creates a signer for the domain at `authority`; `service` is `es` or `aoss`.
    #[must_use]
    pub fn new(authority: &Authority, region: &str, service: &str) -> Self {
        let host = HeaderValue::from_str(authority.as_str()).expect("an authority holds visible characters only");
        let (region, service) = (region.to_owned(), service.to_owned());
        let scope = SigningScope { authority: authority.clone(), host, region, service };
        Self { scope: Arc::new(scope), context: Mutex::default() }
    }

    /// Creates a signer for the same domain that keeps the signing key of other credentials.
    #[must_use]
    pub fn with_own_key(&self) -> Self {
        Self { scope: Arc::clone(&self.scope), context: Mutex::default() }
    }

    /// Sets the headers that authenticate a request with this method, target and body hash: `Host`, `Authorization` and
    /// `X-Amz-*`.
    ///
    /// `headers` must not contain other `Authorization` or `X-Amz-*` headers.
    pub fn sign(&self, signing: &SigningParams<'_>, headers: &mut HeaderMap) {
        let SigningContext { date, key, .. } = self.context(signing.credentials, signing.time);
        let canonical = digest(&SHA256, self.canonical(signing, &date).as_bytes());
        let canonical = canonical.as_ref().try_into().expect("a SHA-256 digest has 32 bytes");
        let mut hex = hex::Buffer::<32>::new();
        let mut text = String::with_capacity(256);
        text.extend(["AWS4-HMAC-SHA256\n", date.as_str(), "\n", key.scope(), "\n", hex.format(canonical)]);
        let signature = key.signature(&text);
        text.clear();
        text.extend(["AWS4-HMAC-SHA256 Credential=", key.credential(), ", SignedHeaders="]);
        text.extend([signed_headers(signing.credentials), ", Signature=", hex.format(&signature)]);

        headers.insert(HOST, self.scope.host.clone());
        headers.insert(X_AMZ_CONTENT_SHA256, header_value(signing.body_sha256));
        headers.insert(X_AMZ_DATE, date.0);
        if let Some(token) = &key.token {
            headers.insert(X_AMZ_SECURITY_TOKEN, token.clone());
        }
        headers.insert(AUTHORIZATION, sensitive(&text));
    }

    /// Returns the canonical request that [`Signer::sign`] signs, to compare it with that of a domain that rejects the
    /// signature.
    #[must_use]
    pub fn canonical_request(&self, signing: &SigningParams<'_>) -> String {
        self.canonical(signing, &self.context(signing.credentials, signing.time).date)
    }

    fn canonical(&self, signing: &SigningParams<'_>, date: &SigningDate) -> String {
        let SigningParams { method, target, body_sha256, credentials, .. } = *signing;
        let token = credentials.session_token();
        let mut canonical = String::with_capacity(512 + target.as_str().len() + token.map_or(0, str::len));
        canonical.push_str(method.as_str());
        canonical.push('\n');
        target.push_signed_path(&mut canonical);
        canonical.push('\n');
        target.push_signed_query(&mut canonical);
        canonical.extend(["\nhost:", self.scope.authority.as_str(), "\nx-amz-content-sha256:", body_sha256]);
        canonical.extend(["\nx-amz-date:", date.as_str()]);
        if let Some(token) = token {
            canonical.extend(["\nx-amz-security-token:", token]);
        }
        canonical.extend(["\n\n", signed_headers(credentials), "\n", body_sha256]);
        canonical
    }

    fn context(&self, credentials: &Credentials, time: SystemTime) -> SigningContext {
        // A poisoned lock holds a whole context or none: the code below cannot panic during the assignment.
        let mut cached = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        let known = cached.take().filter(|known| known.key.is_of(credentials));
        let timestamp = Timestamp::try_from(time).unwrap_or_default();
        let context = match known {
            Some(known) if known.second == timestamp.as_second() => known,
            known => {
                let date = SigningDate::new(timestamp);
                let key = known.map(|known| known.key).filter(|key| key.is_for(date.day()));
                let key = key.unwrap_or_else(|| {
                    Arc::new(SigningKey::new(credentials, time, date.day(), &self.scope.region, &self.scope.service))
                });
                SigningContext { second: timestamp.as_second(), date, key }
            }
        };
        cached.insert(context).clone()
    }
}

/// The parameters of a signature.
#[derive(Clone, Copy, Debug)]
pub struct SigningParams<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's target.
    pub target: &'a Target,
    /// The SHA-256 of the body, in lower-case hexadecimal.
    pub body_sha256: &'a str,
    /// The credentials that sign.
    pub credentials: &'a Credentials,
    /// The time of the signature. A domain accepts a difference of five minutes ("AWS Signature Version 4 for API
    /// requests" in the IAM User Guide).
    pub time: SystemTime,
}

/// Returns whether the header `name` (in lower case) is set only by a signer, so that one from a client must not pass.
#[must_use]
pub fn is_signing_header(name: &str) -> bool {
    name == "authorization" || name.starts_with("x-amz-")
}

/// A time in the form `20150830T123600Z`.
#[derive(Clone, Debug)]
struct SigningDate(HeaderValue);

impl SigningDate {
    fn new(timestamp: Timestamp) -> Self {
        let mut text = String::with_capacity(24);
        SECONDS.print_timestamp(&timestamp, &mut text).expect("a string takes every write");
        text.retain(|character| !matches!(character, '-' | ':'));
        Self(header_value(&text))
    }

    fn as_str(&self) -> &str {
        self.0.to_str().expect("digits and letters are visible characters")
    }

    fn day(&self) -> &str {
        &self.as_str()[..8]
    }
}

const SECONDS: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

fn signed_headers(credentials: &Credentials) -> &'static str {
    match credentials.session_token() {
        Some(_) => "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
        None => "host;x-amz-content-sha256;x-amz-date",
    }
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hexadecimal digits and dates are visible characters")
}

/// Returns a header value that debug output hides. Credentials that no header can hold cannot sign validly, so they
/// become an empty value.
fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_sigv4::http_request::{
        PayloadChecksumKind, SignableBody, SignableRequest, SigningSettings, sign as sign_by_oracle,
    };
    use aws_sigv4::sign::v4::SigningParams as OracleParams;
    use proptest::prelude::*;

    use super::*;

    const HOST_NAME: &str = "search-trail-abc123.eu-west-1.es.amazonaws.com";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn signer() -> Signer {
        Signer::new(&Authority::from_static(HOST_NAME), "eu-west-1", "es")
    }

    fn credentials(secret: &str, token: Option<&str>) -> Credentials {
        Credentials::new("AKIDEXAMPLE", secret, token.map(str::to_owned), None, "test")
    }

    /// Returns 2015-08-30T12:36:00Z, the time of AWS's own examples, plus `days`.
    fn after(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_mins(24_015_636) + Duration::from_hours(24 * days)
    }

    fn authorization(signer: &Signer, signing: &SigningParams<'_>) -> String {
        let mut headers = HeaderMap::new();
        signer.sign(signing, &mut headers);
        headers[AUTHORIZATION].to_str().unwrap().to_owned()
    }

    fn authorization_by_oracle(signing: &SigningParams<'_>, body: &[u8]) -> String {
        let mut settings = SigningSettings::default();
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = signing.credentials.clone().into();
        let params = OracleParams::builder().identity(&identity).region("eu-west-1").name("es");
        let params = params.time(signing.time).settings(settings).build().unwrap().into();
        let uri = format!("https://{HOST_NAME}{}", signing.target.as_str());
        let headers = [("host", HOST_NAME)];
        let body = SignableBody::Bytes(body);
        let request = SignableRequest::new(signing.method.as_str(), uri, headers.into_iter(), body).unwrap();
        let (instructions, _) = sign_by_oracle(request, &params).unwrap().into_parts();
        let (headers, _) = instructions.into_parts();
        let authorization = headers.iter().find(|header| header.name() == "authorization").unwrap();
        authorization.value().to_owned()
    }

    proptest! {
        #[test]
        fn signature_equals_that_of_aws_sigv4(
            method in prop::sample::select(vec![Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD]),
            path in "(/[a-z*,:@ <>{}|.+é漢-]{1,6}){0,4}/?",
            // The reference implementation decodes a query as UTF-8 and drops invalid parts, so there are no escapes of
            // single bytes here.
            query in prop::option::of("([a-c*é;$ -]{1,3}(=[a-z0-9:(),/+é漢-]{0,6})?&?){0,6}"),
            token in prop::option::of("[A-Za-z0-9+/=]{20,60}"),
            body in prop::collection::vec(any::<u8>(), 0..100),
            days in 0_u64..10_000,
        ) {
            let Ok(target) = Target::canonical(&format!("/{path}"), query.as_deref()) else { return Ok(()) };
            let body_sha256 = hex::encode(digest(&SHA256, &body));
            let credentials = credentials(SECRET, token.as_deref());
            let signing = SigningParams {
                method: &method,
                target: &target,
                body_sha256: &body_sha256,
                credentials: &credentials,
                time: after(days),
            };
            prop_assert_eq!(authorization(&signer(), &signing), authorization_by_oracle(&signing, &body));
        }
    }

    #[test]
    fn signing_context_changes_with_time_and_credentials() {
        let signer = signer();
        let target = Target::canonical("/", None).unwrap();
        let body_sha256 = hex::encode(digest(&SHA256, b""));
        for (days, seconds, secret, token) in [
            (0, 0, SECRET, None),
            (0, 0, SECRET, None),
            (0, 1, SECRET, None),
            (1, 1, SECRET, None),
            (1, 1, "another", None),
            (0, 1, "another", None),
            (0, 1, "another", Some("token")),
            (0, 1, "another", Some("other")),
            (0, 0, SECRET, None),
        ] {
            let credentials = credentials(secret, token);
            let time = after(days) + Duration::from_secs(seconds);
            let (method, target, body_sha256) = (&Method::GET, &target, body_sha256.as_str());
            let signing = SigningParams { method, target, body_sha256, credentials: &credentials, time };
            assert_eq!(
                authorization(&signer, &signing),
                authorization_by_oracle(&signing, b""),
                "{days} {seconds} {secret}"
            );
        }
    }

    /// The test vector "get-vanilla" of the AWS Signature Version 4 test suite.
    #[test]
    fn signing_key_yields_the_signature_of_the_aws_test_suite() {
        let key = SigningKey::new(&credentials(SECRET, None), after(0), "20150830", "us-east-1", "service");
        let string_to_sign = "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n\
                              bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63";
        let signature = "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
        assert_eq!(hex::encode(key.signature(string_to_sign)), signature);
    }

    #[test]
    fn signed_headers_are_set_and_debug_output_hides_secrets() {
        let credentials = credentials(SECRET, Some("SESSION"));
        let target = Target::canonical("/cwl-*/_search", Some("q=b&a")).unwrap();
        let (method, time) = (&Method::GET, after(0));
        let signing = SigningParams { method, target: &target, body_sha256: "e3b0", credentials: &credentials, time };
        let mut headers = HeaderMap::new();
        signer().sign(&signing, &mut headers);
        assert_eq!(headers[HOST], HOST_NAME);
        assert_eq!(headers["x-amz-date"], "20150830T123600Z");
        assert_eq!(headers["x-amz-content-sha256"], "e3b0");
        assert_eq!(headers["x-amz-security-token"], "SESSION");
        let debug = format!("{headers:?} {:?}", signer());
        assert!(!debug.contains("SESSION") && !debug.contains("Signature=") && !debug.contains(SECRET), "{debug}");
        let canonical = "GET\n/cwl-%252A/_search\na=&q=b\nhost:search-trail-abc123.eu-west-1.es.amazonaws.com\n\
                         x-amz-content-sha256:e3b0\nx-amz-date:20150830T123600Z\nx-amz-security-token:SESSION\n\n\
                         host;x-amz-content-sha256;x-amz-date;x-amz-security-token\ne3b0";
        assert_eq!(signer().canonical_request(&signing), canonical);
    }
}
