//! The signing key: the part that signatures of one day with the same credentials share.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::sign::v4::generate_signing_key;
use hyper::header::HeaderValue;
use ring::hmac;

use super::sensitive;

/// A signing key, ready to use: four HMACs cheaper than a new one, and the texts that go with it.
#[derive(Clone, Debug)]
pub(super) struct SigningKey {
    credentials: Credentials,
    /// `AKIDEXAMPLE/20150830/eu-west-1/es/aws4_request`.
    credential: String,
    hmac: hmac::Key,
    /// The session token as a header, if there is one.
    pub(super) token: Option<HeaderValue>,
}

impl SigningKey {
    /// The key for `time`, which is on `day`.
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

    /// The access key and the scope, as `Authorization` names them.
    pub(super) fn credential(&self) -> &str {
        &self.credential
    }

    /// Day, region and service.
    pub(super) fn scope(&self) -> &str {
        &self.credential[self.credentials.access_key_id().len() + 1..]
    }

    pub(super) fn signature(&self, string_to_sign: &str) -> [u8; 32] {
        let tag = hmac::sign(&self.hmac, string_to_sign.as_bytes());
        tag.as_ref().try_into().expect("a tag of HMAC-SHA256 has 32 bytes")
    }
}
