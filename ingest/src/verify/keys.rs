//! CloudTrail's public keys.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

/// Public keys by fingerprint, each as DER in the form of PKCS #1.
#[derive(Clone, Debug, Default)]
pub struct PublicKeys(HashMap<String, Vec<u8>>);

/// The output of `aws cloudtrail list-public-keys`.
#[derive(Deserialize)]
struct KeyList {
    #[serde(rename = "PublicKeyList")]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Key {
    value: String,
    fingerprint: String,
}

impl PublicKeys {
    /// Reads the output of `aws cloudtrail list-public-keys`.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Self::parse(&text).with_context(|| file.display().to_string())
    }

    /// Parses the output of `aws cloudtrail list-public-keys`.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let advice = "is not the output of aws cloudtrail list-public-keys";
        let list: KeyList = serde_json::from_str(text).context(advice)?;
        let keys = list.keys.into_iter().map(|key| anyhow::Ok((key.fingerprint, STANDARD.decode(key.value)?)));
        Ok(Self(keys.collect::<anyhow::Result<_>>().context(advice)?))
    }

    /// Returns the key with this fingerprint.
    pub(super) fn get(&self, fingerprint: &str) -> Option<&[u8]> {
        self.0.get(fingerprint).map(Vec::as_slice)
    }
}
