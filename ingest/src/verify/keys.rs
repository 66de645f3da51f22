//! CloudTrail's public keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, bail};
use aws_credential_types::Credentials;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{Timestamp, ToSpan as _};
use serde::Deserialize;
use serde_json::{Value, json};
use trailgate_client::{Endpoint, JsonCall, Upstream, UpstreamConfig, load_roots};

use super::Period;
use super::files::BucketFile;

/// Public keys by fingerprint, each as DER in the form of PKCS #1.
#[derive(Clone, Debug, Default)]
pub struct PublicKeys(BTreeMap<String, Vec<u8>>);

/// The keys to request from CloudTrail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyQuery {
    /// The regions, each of which has keys of its own.
    pub regions: BTreeSet<String>,
    /// The beginning of the time in which the keys were valid.
    pub start: Timestamp,
    /// The end of that time.
    pub end: Timestamp,
}

impl KeyQuery {
    /// Creates the query for the digests of a period. Backfill digests are signed when they are made, at the latest `now`.
    pub(super) fn new(digests: &[BucketFile], period: Period, now: Timestamp) -> Self {
        let regions = digests.iter().filter_map(|file| Some(file.account_and_region()?.1.to_owned())).collect();
        // The digests before the period and after it belong to the chain.
        let (start, end) = (period.start() - 48.hours(), period.end() + 48.hours());
        let end = if digests.iter().any(BucketFile::is_backfill) { end.max(now) } else { end };
        // No key of the future has signed a digest, and CloudTrail rejects ranges outside of the possible values.
        let end = if start < now { end.min(now) } else { end };
        Self { regions, start, end }
    }
}

/// The output of `aws cloudtrail list-public-keys`, and a page of it.
#[derive(Deserialize)]
struct KeyList {
    #[serde(rename = "PublicKeyList")]
    keys: Vec<Key>,
    #[serde(rename = "NextToken")]
    next_token: Option<String>,
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
        let mut keys = Self::default();
        keys.add(list.keys).context(advice)?;
        Ok(keys)
    }

    /// Returns the keys as `aws cloudtrail list-public-keys` prints them.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let key = |(fingerprint, value): (&String, &Vec<u8>)| json!({ "Value": STANDARD.encode(value), "Fingerprint": fingerprint });
        json!({ "PublicKeyList": self.0.iter().map(key).collect::<Vec<_>>() })
    }

    /// Fetches keys from CloudTrail. `endpoint` replaces CloudTrail's endpoint of every region.
    pub async fn fetch(query: &KeyQuery, credentials: Credentials, endpoint: Option<&str>) -> anyhow::Result<Self> {
        let mut keys = Self::default();
        for region in &query.regions {
            let fetched = keys.fetch_region(region, query, &credentials, endpoint).await;
            fetched.with_context(|| {
                format!("cannot list CloudTrail's public keys in {region}; name a file of them with --public-keys")
            })?;
        }
        Ok(keys)
    }

    async fn fetch_region(
        &mut self,
        region: &str,
        query: &KeyQuery,
        credentials: &Credentials,
        endpoint: Option<&str>,
    ) -> anyhow::Result<()> {
        let endpoint = endpoint.map_or_else(|| cloudtrail_endpoint(region), str::to_owned);
        let upstream = Upstream::new(Endpoint::parse(&endpoint)?, load_roots(None)?, UpstreamConfig::default());
        let mut next_token: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let mut body = json!({ "StartTime": query.start.as_second(), "EndTime": query.end.as_second() });
            if let Some(token) = next_token.take() {
                body["NextToken"] = token.into();
            }
            let call = JsonCall { region, service: "cloudtrail", target: LIST_PUBLIC_KEYS, body: body.to_string() };
            let page = call.send(&upstream, credentials.clone(), SystemTime::now()).await?;
            let page: KeyList = serde_json::from_slice(&page).context("the response is not a list of keys")?;
            self.add(page.keys)?;
            next_token = page.next_token;
            if next_token.is_none() {
                return Ok(());
            }
        }
        bail!("the list has more than {MAX_PAGES} pages")
    }

    fn add(&mut self, keys: Vec<Key>) -> anyhow::Result<()> {
        for key in keys {
            self.0.insert(key.fingerprint, STANDARD.decode(key.value)?);
        }
        Ok(())
    }

    /// Returns the key with this fingerprint.
    pub(super) fn get(&self, fingerprint: &str) -> Option<&[u8]> {
        self.0.get(fingerprint).map(Vec::as_slice)
    }
}

/// Returns CloudTrail's endpoint in a region.
fn cloudtrail_endpoint(region: &str) -> String {
    let partition = PARTITIONS.iter().find(|(regions, _)| region.starts_with(regions));
    let suffix = partition.map_or("amazonaws.com", |(_, suffix)| *suffix);
    format!("https://cloudtrail.{region}.{suffix}")
}

/// The beginnings of regions in AWS's other partitions, and their DNS suffixes.
const PARTITIONS: [(&str, &str); 6] = [
    ("cn-", "amazonaws.com.cn"),
    ("eusc-", "amazonaws.eu"),
    ("us-iso-", "c2s.ic.gov"),
    ("us-isob-", "sc2s.sgov.gov"),
    ("eu-isoe-", "cloud.adc-e.uk"),
    ("us-isof-", "csp.hci.ic.gov"),
];

const LIST_PUBLIC_KEYS: &str = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.ListPublicKeys";
/// A month has some keys for each region.
const MAX_PAGES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_has_the_suffix_of_the_partition() {
        for (region, endpoint) in [
            ("eu-west-1", "https://cloudtrail.eu-west-1.amazonaws.com"),
            ("us-gov-west-1", "https://cloudtrail.us-gov-west-1.amazonaws.com"),
            ("cn-north-1", "https://cloudtrail.cn-north-1.amazonaws.com.cn"),
            ("eusc-de-east-1", "https://cloudtrail.eusc-de-east-1.amazonaws.eu"),
            ("us-isob-east-1", "https://cloudtrail.us-isob-east-1.sc2s.sgov.gov"),
        ] {
            assert_eq!(cloudtrail_endpoint(region), endpoint);
        }
    }
}
