//! Signature Version 4 for a buffered request, at a given time, with given credentials.
//!
//! The canonical request is our own, written into one buffer over a target that is canonical already; the cryptography
//! is `aws-sigv4`'s. Signed are `host`, `x-amz-content-sha256`, `x-amz-date` and `x-amz-security-token`, nothing that
//! a hop might touch. The rules are those of "Create a signed AWS API request" in the IAM User Guide.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::Authority;
use hyper::{Method, header};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::target::Target;

/// Signs requests to one domain.
#[derive(Debug)]
pub struct Signer {
    authority: Authority,
    host: HeaderValue,
    region: String,
    service: String,
    /// The last signing key: good for a day, and five HMACs cheaper than a new one.
    key: Mutex<Option<CachedKey>>,
}

impl Signer {
    /// A signer for the domain at `authority`; `service` is `es` or `aoss`.
    #[must_use]
    pub fn new(authority: &Authority, region: &str, service: &str) -> Self {
        let host = HeaderValue::from_str(authority.as_str()).expect("an authority holds visible characters only");
        let (region, service) = (region.to_owned(), service.to_owned());
        Self { authority: authority.clone(), host, region, service, key: Mutex::default() }
    }

    /// Sets the headers that make the request `method target` with a body of this hash an authentic one.
    ///
    /// `headers` must not hold an `Authorization` or `X-Amz-*` of anybody else.
    pub fn sign(&self, signing: &Signing<'_>, headers: &mut HeaderMap) {
        let date = SigningDate::new(signing.time);
        let canonical = self.canonical_request(signing);
        let scope = format!("{}/{}/{}/aws4_request", date.day(), self.region, self.service);
        let string_to_sign =
            format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", date.0, hex::encode(Sha256::digest(&canonical)));
        let key = self.signing_key(signing.credentials, signing.time, date.day());
        let signature = calculate_signature(key, string_to_sign.as_bytes());
        let authorization = format!(
            "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
            signing.credentials.access_key_id(),
            signed_headers(signing.credentials),
        );

        headers.insert(HOST, self.host.clone());
        headers.insert(X_AMZ_CONTENT_SHA256, header_value(signing.body_sha256));
        headers.insert(X_AMZ_DATE, header_value(&date.0));
        if let Some(token) = signing.credentials.session_token() {
            headers.insert(X_AMZ_SECURITY_TOKEN, sensitive(token));
        }
        headers.insert(AUTHORIZATION, sensitive(&authorization));
    }

    /// The canonical request that [`Signer::sign`] signs: what a domain that refuses the signature is compared with.
    #[must_use]
    pub fn canonical_request(&self, signing: &Signing<'_>) -> String {
        let Signing { method, target, body_sha256, credentials, time } = *signing;
        let token = credentials.session_token();
        let mut canonical = String::with_capacity(512 + target.as_str().len() + token.map_or(0, str::len));
        canonical.push_str(method.as_str());
        canonical.push('\n');
        target.push_signed_path(&mut canonical);
        canonical.push('\n');
        target.push_signed_query(&mut canonical);
        for piece in ["\nhost:", self.authority.as_str(), "\nx-amz-content-sha256:", body_sha256, "\nx-amz-date:"] {
            canonical.push_str(piece);
        }
        canonical.push_str(&SigningDate::new(time).0);
        if let Some(token) = token {
            canonical.push_str("\nx-amz-security-token:");
            canonical.push_str(token);
        }
        for piece in ["\n\n", signed_headers(credentials), "\n", body_sha256] {
            canonical.push_str(piece);
        }
        canonical
    }

    fn signing_key(&self, credentials: &Credentials, time: SystemTime, day: &str) -> [u8; 32] {
        // A poisoned lock holds a whole key or none: the assignment below cannot stop half-way.
        let mut cached = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = cached.as_ref().filter(|key| key.is_for(credentials, day)) {
            return key.bytes;
        }
        let key = generate_signing_key(credentials.secret_access_key(), time, &self.region, &self.service);
        let bytes = key.as_ref().try_into().expect("HMAC-SHA256 gives 32 bytes");
        *cached = Some(CachedKey { day: day.to_owned(), secret: credentials.clone(), bytes });
        bytes
    }
}

/// All that a signature depends on.
#[derive(Clone, Copy, Debug)]
pub struct Signing<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// The request's target.
    pub target: &'a Target,
    /// SHA-256 of the body, in lower-case hexadecimal.
    pub body_sha256: &'a str,
    /// Who signs.
    pub credentials: &'a Credentials,
    /// When; a domain takes five minutes to either side.
    pub time: SystemTime,
}

/// Whether only a signer sets this header, so that a client's own must not pass.
#[must_use]
pub fn is_signers(name: &HeaderName) -> bool {
    *name == header::AUTHORIZATION || name.as_str().starts_with("x-amz-")
}

#[derive(Debug)]
struct CachedKey {
    day: String,
    secret: Credentials,
    bytes: [u8; 32],
}

impl CachedKey {
    fn is_for(&self, credentials: &Credentials, day: &str) -> bool {
        self.day == day && self.secret.secret_access_key() == credentials.secret_access_key()
    }
}

/// A time as `20150830T123600Z`.
struct SigningDate(String);

impl SigningDate {
    fn new(time: SystemTime) -> Self {
        let timestamp = Timestamp::try_from(time).unwrap_or_default();
        Self(timestamp.strftime("%Y%m%dT%H%M%SZ").to_string())
    }

    fn day(&self) -> &str {
        &self.0[..8]
    }
}

fn signed_headers(credentials: &Credentials) -> &'static str {
    match credentials.session_token() {
        Some(_) => "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
        None => "host;x-amz-content-sha256;x-amz-date",
    }
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("hexadecimal digits and dates are visible characters")
}

/// A value that debug output hides. Credentials with characters that no header can hold sign nothing valid anyway.
fn sensitive(text: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
