//! The digest chain of each account, region and trail.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;

use super::Period;
use super::digest::Digest;
use super::files::{BucketFile, BucketFiles, key_of, place_of};
use super::keys::PublicKeys;
use super::log_file;
use super::report::{Finding, Kind, Report};
use crate::load::source::Sources;

/// The digests' evidence about log files.
#[derive(Debug, Default)]
pub(super) struct BucketEvidence {
    /// The hashes of log files by their keys.
    hashes: HashMap<String, String>,
    /// The times that valid digests cover, by account and region.
    covered: BTreeMap<(String, String), Vec<(Timestamp, Timestamp)>>,
    /// The log files that a digest lists and the bucket lacks.
    pub(super) missing: Vec<MissingFile>,
}

/// A log file that the bucket lacks.
#[derive(Debug)]
pub(super) struct MissingFile {
    region: String,
    oldest: Timestamp,
    newest: Timestamp,
}

/// A digest file that was read.
#[derive(Debug)]
struct ReadDigest {
    file: BucketFile,
    digest: Digest,
    sha256: String,
    /// The signature that is kept with it.
    signature: Option<String>,
}

impl BucketEvidence {
    /// Returns the hash that a valid digest has for a log file.
    pub(super) fn hash_of(&self, key: &str) -> Option<&str> {
        self.hashes.get(key).map(String::as_str)
    }

    /// Returns whether valid digests cover the time of a log file's delivery, so that one of them would list it.
    pub(super) fn covers(&self, file: &BucketFile) -> bool {
        let (Some((account, region)), Some(time)) = (file.place(), file.time()) else { return true };
        let Some(covered) = self.covered.get(&(account.to_owned(), region.to_owned())) else { return false };
        let is_covered = |time: Timestamp| covered.iter().any(|(start, end)| *start <= time && time < *end);
        is_covered(time) && is_covered(time + DELIVERY_MINUTES.minutes())
    }
}

impl MissingFile {
    /// Returns whether the event of a document may be in this file.
    pub(super) fn may_have(&self, time: Timestamp, document: &Value) -> bool {
        let is_of_region = document["awsRegion"].as_str().is_none_or(|region| region == self.region);
        is_of_region && self.oldest <= time && time <= self.newest
    }
}

/// Verifies the digests of `files`, and adds what is wrong with them to `report`.
pub(super) async fn verify_digests(
    sources: &Arc<Sources>,
    files: &BucketFiles,
    keys: &PublicKeys,
    period: Period,
    report: &mut Report,
) -> anyhow::Result<BucketEvidence> {
    let mut chains: BTreeMap<String, Vec<ReadDigest>> = BTreeMap::new();
    let reads = stream::iter(files.digests.clone()).map(|file| async {
        let read = read(sources, &file).await;
        (file, read)
    });
    let mut reads = std::pin::pin!(reads.buffered(OPEN_DIGESTS));
    while let Some((file, read)) = reads.next().await {
        report.digests += 1;
        match read {
            Ok((digest, sha256, signature)) => {
                chains.entry(chain_of(&file.key)).or_default().push(ReadDigest { file, digest, sha256, signature });
            }
            Err(error) => {
                report.add(Finding::new(Kind::InvalidDigest, Some(file.day), &file.key, format!("{error:#}")));
            }
        }
    }
    let mut evidence = BucketEvidence::default();
    let present: BTreeSet<&str> = files.logs.iter().map(|file| file.key.as_str()).collect();
    for (name, mut chain) in chains {
        chain.sort_by_key(|read| read.digest.end());
        report.chains.insert(name.clone());
        verify_chain(&name, &chain, keys, period, &present, &mut evidence, report);
    }
    // An account and a region without any digest.
    let places: BTreeSet<_> = files.logs.iter().filter_map(BucketFile::place).collect();
    for (account, region) in places {
        if !evidence.covered.contains_key(&(account.to_owned(), region.to_owned())) {
            let reason = "no valid digest covers any log file";
            report.add(Finding::new(Kind::Unproven, None, &format!("{account} {region}"), reason));
        }
    }
    Ok(evidence)
}

async fn read(sources: &Sources, file: &BucketFile) -> anyhow::Result<(Digest, String, Option<String>)> {
    let signature = sources.digest_signature(&file.source).await?;
    let input = sources.open(&file.source).await?;
    let is_gzip = file.is_gzip();
    let (bytes, sha256) = tokio::task::spawn_blocking(move || log_file::read_digest(input, is_gzip)).await??;
    let digest = serde_json::from_slice(&bytes).context("is no digest file")?;
    Ok((digest, sha256, signature))
}

/// Returns the chain of a digest: its key up to the region, and the trail in its name.
fn chain_of(key: &str) -> String {
    let folders = key.rsplitn(5, '/').last().unwrap_or_default();
    let name = key.rsplit('/').next().unwrap_or_default();
    let trail = name.rsplit_once('_').map_or(name, |(trail, _)| trail);
    format!("{folders}/{trail}")
}

fn verify_chain(
    name: &str,
    chain: &[ReadDigest],
    keys: &PublicKeys,
    period: Period,
    present: &BTreeSet<&str>,
    evidence: &mut BucketEvidence,
    report: &mut Report,
) {
    for (index, read) in chain.iter().enumerate() {
        let next = chain.get(index + 1);
        let digest = &read.digest;
        let names_this = |next: &&ReadDigest| {
            next.digest.previous_digest_s3_object.as_deref().and_then(key_of) == Some(read.file.key.as_str())
        };
        let named_by_next = next.filter(names_this);
        let signature =
            read.signature.as_deref().or_else(|| named_by_next?.digest.previous_digest_signature.as_deref());
        let is_valid = check_digest(read, signature, keys, report);
        if let Some(next) = named_by_next
            && is_valid
            && next.digest.previous_digest_hash_value.as_deref() != Some(read.sha256.as_str())
        {
            let reason = "the next digest has another hash of it";
            report.add(Finding::new(Kind::InvalidDigest, Some(read.file.day), &read.file.key, reason));
        }
        if let Some(next) = next.filter(|_| named_by_next.is_none()) {
            report_break(name, read, next, report);
        }
        if is_valid {
            report.fingerprints.insert(digest.digest_public_key_fingerprint.clone());
            add_files(read, period, present, evidence, report);
        }
    }
    let start = Offset::UTC.to_timestamp(period.from.at(0, 0, 0, 0)).unwrap_or_default();
    let end = period.to.tomorrow().and_then(|day| Offset::UTC.to_timestamp(day.at(0, 0, 0, 0))).unwrap_or_default();
    if let Some(first) = chain.first().filter(|first| first.digest.digest_start_time > start) {
        let reason = format!("the first digest begins at {}", first.digest.digest_start_time);
        report.add(Finding::new(Kind::Unproven, Some(period.from), name, reason));
    }
    if let Some(last) = chain.last().and_then(|last| last.digest.end()).filter(|last| *last < end) {
        report.add(Finding::new(Kind::Unproven, Some(period.to), name, format!("the last digest ends at {last}")));
    }
}

/// Checks the place and the signature of a digest.
fn check_digest(read: &ReadDigest, signature: Option<&str>, keys: &PublicKeys, report: &mut Report) -> bool {
    let ReadDigest { file, digest, sha256, .. } = read;
    let problem = if key_of(&digest.digest_s3_object) == Some(file.key.as_str()) {
        let Some(signature) = signature else {
            let reason = "its signature is in no later digest and not next to it";
            report.add(Finding::new(Kind::Unproven, Some(file.day), &file.key, reason));
            return false;
        };
        match digest.verify(sha256, signature, keys) {
            Ok(()) => return true,
            Err(error) => error.to_string(),
        }
    } else {
        format!("was moved from {}", digest.digest_s3_object)
    };
    report.add(Finding::new(Kind::InvalidDigest, Some(file.day), &file.key, problem));
    false
}

/// Reports a digest that does not name the one before it.
fn report_break(name: &str, read: &ReadDigest, next: &ReadDigest, report: &mut Report) {
    let day = Some(next.file.day);
    if let Some(previous) = next.digest.previous_digest_s3_object.as_deref() {
        let reason = format!("{} names it as the one before", next.file.key);
        report.add(Finding::new(Kind::MissingDigest, day, key_of(previous).unwrap_or(previous), reason));
        return;
    }
    let (end, start) = (&read.digest.digest_end_time, next.digest.digest_start_time);
    let reason = format!("the chain ends at {end} and begins again at {start}: logging was off, or the trail is new");
    report.add(Finding::new(Kind::Unproven, day, name, reason));
}

/// Adds the log files that a valid digest lists.
fn add_files(
    read: &ReadDigest,
    period: Period,
    present: &BTreeSet<&str>,
    evidence: &mut BucketEvidence,
    report: &mut Report,
) {
    let digest = &read.digest;
    if let (Some((account, region)), Some(end)) = (read.file.place(), digest.end()) {
        let covered = evidence.covered.entry((account.to_owned(), region.to_owned())).or_default();
        covered.push((digest.digest_start_time, end));
    }
    for listed in &digest.log_files {
        let key = key_of(&listed.s3_object).unwrap_or(&listed.s3_object);
        if listed.hash_algorithm != "SHA-256" {
            let reason = format!("its hash is {}, which is not read here", listed.hash_algorithm);
            report.add(Finding::new(Kind::Unreadable, Some(read.file.day), key, reason));
            continue;
        }
        evidence.hashes.insert(key.to_owned(), listed.hash_value.clone());
        // Files of the day before the period are not listed, and not needed.
        let is_wanted = day_of_key(key).is_none_or(|day| period.days().may_be_delivered(day));
        if is_wanted && !present.contains(key) {
            let reason = format!("{} lists it", read.file.key);
            report.add(Finding::new(Kind::MissingFile, Some(read.file.day), key, reason));
            if let (Some(oldest), Some(newest)) = (listed.oldest_event_time, listed.newest_event_time) {
                let region = place_of(key).map(|(_, region)| region.to_owned()).unwrap_or_default();
                evidence.missing.push(MissingFile { region, oldest, newest });
            }
        }
    }
}

fn day_of_key(key: &str) -> Option<jiff::civil::Date> {
    let mut folders = key.rsplit('/').skip(1);
    let (day, month, year) = (folders.next()?, folders.next()?, folders.next()?);
    jiff::civil::Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// The longest time from the time in a log file's name to its delivery, in minutes; CloudTrail names it by five minutes.
const DELIVERY_MINUTES: i64 = 20;
/// Digests that are read at once.
const OPEN_DIGESTS: usize = 8;
