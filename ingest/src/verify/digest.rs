//! A digest file of CloudTrail, and its signature.

use jiff::Timestamp;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;

use super::keys::PublicKeys;

/// The content of a digest file.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the names are CloudTrail's")]
#[serde(rename_all = "camelCase")]
pub(super) struct Digest {
    pub(super) digest_start_time: Timestamp,
    /// As it is written, since it is signed.
    pub(super) digest_end_time: String,
    pub(super) digest_s3_bucket: String,
    pub(super) digest_s3_object: String,
    pub(super) digest_public_key_fingerprint: String,
    pub(super) previous_digest_s3_object: Option<String>,
    pub(super) previous_digest_hash_value: Option<String>,
    pub(super) previous_digest_signature: Option<String>,
    #[serde(default)]
    pub(super) log_files: Vec<LogFile>,
}

/// A log file as a digest lists it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LogFile {
    pub(super) s3_object: String,
    pub(super) hash_value: String,
    pub(super) hash_algorithm: String,
    pub(super) newest_event_time: Option<Timestamp>,
    pub(super) oldest_event_time: Option<Timestamp>,
}

/// The reason why a signature does not prove a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SignatureError {
    #[error("no public key has its fingerprint")]
    UnknownKey,
    #[error("its signature is invalid")]
    Invalid,
}

impl Digest {
    /// Returns the end of the hour that it covers.
    pub(super) fn end(&self) -> Option<Timestamp> {
        self.digest_end_time.parse().ok()
    }

    /// Verifies a signature in hexadecimal digits; `sha256` is the hash of the digest's uncompressed bytes.
    pub(super) fn verify(&self, sha256: &str, signature: &str, keys: &PublicKeys) -> Result<(), SignatureError> {
        let key = keys.get(&self.digest_public_key_fingerprint).ok_or(SignatureError::UnknownKey)?;
        let signature = hex::decode(signature).map_err(|_| SignatureError::Invalid)?;
        let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key);
        key.verify(self.signed_text(sha256).as_bytes(), &signature).map_err(|_| SignatureError::Invalid)
    }

    /// Returns the text that CloudTrail signs.
    fn signed_text(&self, sha256: &str) -> String {
        let Self { digest_end_time, digest_s3_bucket, digest_s3_object, .. } = self;
        let previous = self.previous_digest_signature.as_deref().unwrap_or("null");
        format!("{digest_end_time}\n{digest_s3_bucket}/{digest_s3_object}\n{sha256}\n{previous}")
    }
}
