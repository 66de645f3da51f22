//! The signing key, which signatures of one day with the same credentials share.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::generate_signing_key;
use hyper::header::HeaderValue;
use ring::hmac;

use super::sensitive;

/// A derived signing key, which saves four HMACs per signature, and the strings that depend on it.
#[derive(Clone, Debug)]
pub(super) struct SigningKey {
    credentials: Credentials,
    /// `AKIDEXAMPLE/20150830/eu-west-1/es/aws4_request`.
    credential: String,
    hmac: hmac::Key,
    /// The session token as a header value, if there is one.
    pub(super) token: Option<HeaderValue>,
}

impl SigningKey {
    /// Derives the key for `time`, which is on `day`.
    pub(super) fn new(credentials: &Credentials, time: SystemTime, day: &str, region: &str, service: &str) -> Self {
        let key = generate_signing_key(credentials.secret_access_key(), time, region, service);
        Self {
            credentials: credentials.clone(),
            credential: format!("{}/{day}/{region}/{service}/aws4_request", credentials.access_key_id()),
            hmac: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()),
            token: credentials.session_token().map(sensitive),
        }
    }

    pub(super) fn is_for(&self, day: &str) -> bool {
        self.scope().starts_with(day)
    }

    pub(super) fn is_of(&self, credentials: &Credentials) -> bool {
        let own = &self.credentials;
        own.access_key_id() == credentials.access_key_id()
            && own.secret_access_key() == credentials.secret_access_key()
            && own.session_token() == credentials.session_token()
    }

    /// Returns the `Credential` of the `Authorization` header: access key ID and scope.
    pub(super) fn credential(&self) -> &str {
        &self.credential
    }

    /// Returns the credential scope: day, region, service and `aws4_request`.
    pub(super) fn scope(&self) -> &str {
        &self.credential[self.credentials.access_key_id().len() + 1..]
    }

    pub(super) fn signature(&self, string_to_sign: &str) -> [u8; 32] {
        let tag = hmac::sign(&self.hmac, string_to_sign.as_bytes());
        tag.as_ref().try_into().expect("a tag of HMAC-SHA256 has 32 bytes")
    }
}
