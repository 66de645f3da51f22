//! A trail's bucket of one month: real events in log files, and a digest chain that a key of the tests signs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use walkdir::WalkDir;

use crate::{gzip, repository, sample_events};

/// The bucket, as a folder, and its events.
pub struct TrailBucket {
    folder: TempDir,
    pub events: Vec<Value>,
    shape: TrailShape,
}

/// The differences between trails.
#[derive(Clone, Copy)]
pub struct TrailShape {
    /// The beginning of keys: an organisation trail has its id there.
    pub root: &'static str,
    /// The hour in which the trail was created again, without a digest before it.
    pub restart: Option<DateTime>,
}

impl Default for TrailShape {
    fn default() -> Self {
        Self { root: "AWSLogs/", restart: None }
    }
}

impl TrailBucket {
    /// Writes January 2026: the real events spread over its days, a log file for each half of a day's events, and a digest
    /// for each hour until two hours after its end.
    #[must_use]
    pub fn write() -> Self {
        Self::write_as(TrailShape::default())
    }

    /// Writes the same as another trail does.
    pub fn write_as(shape: TrailShape) -> Self {
        Self::with_logs(sample_month(), shape, Self::write_halves)
    }

    /// Writes January 2026 with the log files of each hour that `write_logs` writes by [`TrailBucket::put_log`].
    pub fn with_logs(
        events: Vec<Value>,
        shape: TrailShape,
        write_logs: impl Fn(&Self, DateTime) -> Vec<Value>,
    ) -> Self {
        let bucket = Self { folder: tempfile::tempdir().unwrap(), events, shape };
        bucket.write_chain(write_logs);
        bucket
    }

    /// Writes a log file for each half of a day's events at noon.
    fn write_halves(&self, hour: DateTime) -> Vec<Value> {
        if hour.hour() != 12 {
            return Vec::new();
        }
        let halves = (0..2).map(|half| {
            let events: Vec<&Value> = self.events_of(hour.date()).skip(half).step_by(2).collect();
            self.write_log(&log_key(hour.date(), half), &events)
        });
        halves.collect()
    }

    fn write_chain(&self, write_logs: impl Fn(&Self, DateTime) -> Vec<Value>) {
        let mut start = first_hour();
        let mut previous: Option<WrittenDigest> = None;
        while start < DateTime::constant(2026, 2, 1, 2, 0, 0, 0) {
            let end = start + 1.hour();
            let files = write_logs(self, start);
            if self.shape.restart == Some(start) {
                previous = None;
            }
            previous = Some(self.write_digest(&digest_key(end), start, &files, previous.as_ref()));
            start = end;
        }
    }

    /// Writes the backfill digest of the hour from `start` on, which lists log files that the hour's digest lacks.
    #[must_use]
    pub fn write_backfill(&self, start: DateTime, files: &[Value], previous: Option<&WrittenDigest>) -> WrittenDigest {
        self.write_digest(&backfill_key(start + 1.hour()), start, files, previous)
    }

    fn write_digest(
        &self,
        key: &str,
        start: DateTime,
        files: &[Value],
        previous: Option<&WrittenDigest>,
    ) -> WrittenDigest {
        let (object, end) = (self.key(key), start + 1.hour());
        let content = json!({
            "awsAccountId": ACCOUNT, "digestStartTime": format!("{start}Z"), "digestEndTime": format!("{end}Z"),
            "digestS3Bucket": "trail", "digestS3Object": object, "digestSignatureAlgorithm": "SHA256withRSA",
            "digestPublicKeyFingerprint": "trail", "previousDigestS3Bucket": "trail",
            "previousDigestS3Object": previous.map(|previous| &previous.key),
            "previousDigestHashValue": previous.map(|previous| &previous.sha256),
            "previousDigestHashAlgorithm": "SHA-256",
            "previousDigestSignature": previous.map(|previous| &previous.signature),
            "logFiles": files,
        });
        let content = content.to_string();
        let signature = sign_digest(&digest_signing_key("trail"), &content);
        self.put(&object, &gzip(&content));
        self.put(&format!("{object}.sig"), signature.as_bytes());
        WrittenDigest { key: object, sha256: sha256(content.as_bytes()), signature }
    }

    /// Writes events to a log file; returns the entry of the digest.
    #[must_use]
    pub fn write_log(&self, key: &str, events: &[&Value]) -> Value {
        let times = || events.iter().filter_map(|event| event["eventTime"].as_str());
        let (oldest, newest) = (times().min().unwrap(), times().max().unwrap());
        self.put_log(key, &json!({ "Records": events }).to_string(), oldest, newest)
    }

    /// Writes a log file; returns the entry of the digest.
    #[must_use]
    pub fn put_log(&self, key: &str, content: &str, oldest: &str, newest: &str) -> Value {
        let object = self.key(key);
        self.put(&object, &gzip(content));
        json!({
            "s3Bucket": "trail", "s3Object": object, "hashValue": sha256(content.as_bytes()), "hashAlgorithm": "SHA-256",
            "oldestEventTime": oldest, "newestEventTime": newest,
        })
    }

    fn key(&self, key: &str) -> String {
        key.replacen("AWSLogs/", self.shape.root, 1)
    }

    pub fn events_of(&self, day: Date) -> impl Iterator<Item = &Value> {
        let day = day.to_string();
        self.events.iter().filter(move |event| event["eventTime"].as_str().unwrap().starts_with(&day))
    }

    /// Returns the id of the event with this number on `day`, counted from 0.
    #[must_use]
    pub fn event_id(&self, day: Date, number: usize) -> String {
        self.events_of(day).nth(number).unwrap()["eventID"].as_str().unwrap().to_owned()
    }

    #[must_use]
    pub fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join(key)
    }

    pub fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn remove(&self, key: &str) {
        std::fs::remove_file(self.path(key)).unwrap();
    }

    /// Removes the digests from noon of the last day on: no digest covers its log files.
    pub fn remove_last_digests(&self) {
        let mut end = DateTime::constant(2026, 1, 31, 13, 0, 0, 0);
        while end <= DateTime::constant(2026, 2, 1, 2, 0, 0, 0) {
            self.remove(&digest_key(end));
            end += 1.hour();
        }
    }

    /// Returns the keys of the bucket's objects.
    pub fn keys(&self) -> Vec<String> {
        let objects = WalkDir::new(self.path("AWSLogs")).into_iter().map(Result::unwrap);
        let objects = objects.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "gz"));
        objects.map(|entry| entry.path().strip_prefix(self.folder()).unwrap().display().to_string()).collect()
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Returns the real events, spread over the days of January 2026.
#[must_use]
pub fn sample_month() -> Vec<Value> {
    let mut events = sample_events().unwrap();
    for (number, event) in events.iter_mut().enumerate() {
        let time = event["eventTime"].as_str().unwrap()[10..].to_owned();
        event["eventTime"] = json!(format!("2026-01-{:02}{time}", number % 31 + 1));
    }
    events
}

/// A digest as the next one names it.
pub struct WrittenDigest {
    pub key: String,
    sha256: String,
    signature: String,
}

#[must_use]
pub fn log_key(day: Date, half: usize) -> String {
    let (folder, time) = (day.strftime("%Y/%m/%d"), day.strftime("%Y%m%dT1235Z"));
    format!("AWSLogs/{ACCOUNT}/CloudTrail/{REGION}/{folder}/{ACCOUNT}_CloudTrail_{REGION}_{time}_{half}.json.gz")
}

#[must_use]
pub fn digest_key(end: DateTime) -> String {
    let (folder, time) = (end.strftime("%Y/%m/%d"), end.strftime("%Y%m%dT%H%M%SZ"));
    let name = format!("{ACCOUNT}_CloudTrail-Digest_{REGION}_trail_{REGION}_{time}.json.gz");
    format!("AWSLogs/{ACCOUNT}/CloudTrail-Digest/{REGION}/{folder}/{name}")
}

#[must_use]
pub fn backfill_key(end: DateTime) -> String {
    digest_key(end).replace(".json.gz", "_backfill.json.gz")
}

#[must_use]
pub fn digest_signing_key(name: &str) -> RsaKeyPair {
    let path = repository("tests/data/digest-keys").join(format!("{name}.pk8"));
    RsaKeyPair::from_pkcs8(&std::fs::read(path).unwrap()).unwrap()
}

/// Returns the public key of the chain, as `aws cloudtrail list-public-keys` prints it.
#[must_use]
pub fn key_list() -> String {
    let value = STANDARD.encode(digest_signing_key("trail").public_key().as_ref());
    json!({ "PublicKeyList": [{ "Value": value, "Fingerprint": "trail" }] }).to_string()
}

/// Signs a digest as CloudTrail's documentation says.
#[must_use]
pub fn sign_digest(key: &RsaKeyPair, content: &str) -> String {
    let digest: Value = serde_json::from_str(content).unwrap();
    let text = |name: &str| digest[name].as_str().unwrap_or("null").to_owned();
    let mut signed = text("digestEndTime");
    write!(signed, "\n{}/{}", text("digestS3Bucket"), text("digestS3Object")).unwrap();
    write!(signed, "\n{}\n{}", sha256(content.as_bytes()), text("previousDigestSignature")).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    hex::encode(signature)
}

#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

#[must_use]
pub fn milliseconds(event: &Value) -> i64 {
    event["eventTime"].as_str().unwrap().parse::<Timestamp>().unwrap().as_millisecond()
}

#[must_use]
pub fn day_of(event: &Value) -> Date {
    Offset::UTC.to_datetime(Timestamp::from_millisecond(milliseconds(event)).unwrap()).date()
}

fn first_hour() -> DateTime {
    DateTime::constant(2026, 1, 1, 0, 0, 0, 0)
}

const ACCOUNT: &str = "123456789012";
const REGION: &str = "us-east-1";
