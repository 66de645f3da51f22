//! The digest chain of each account, region and trail.
//!
//! Digests are read in the order of their keys, which end with their times: of each chain one is kept, until the next is
//! read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::stream::{self, StreamExt as _};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan as _};
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::Period;
use super::compare::day_of;
use super::digest::Digest;
use super::files::{BucketFile, BucketFiles, key_of, place_of};
use super::keys::PublicKeys;
use super::log_file;
use super::report::{ChainSummary, Finding, Kind, Report};
use crate::load::progress::Progress;
use crate::load::source::Sources;

/// The digests' evidence about log files.
#[derive(Debug, Default)]
pub(super) struct BucketEvidence {
    /// The log files that valid digests list, by the hashes of their keys.
    listed: HashMap<u128, ListedFile>,
    /// The times that valid digests cover, by account and region.
    covered: BTreeMap<(String, String), Vec<(Timestamp, Timestamp)>>,
    /// The log files that a digest lists and the bucket lacks.
    pub(super) missing: Vec<MissingFile>,
}

/// A log file as a valid digest lists it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ListedFile {
    sha256: [u8; 32],
    /// The days of the first event and of the last, if it has them.
    days: Option<(Date, Date)>,
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
    /// Returns what a valid digest has for a log file.
    pub(super) fn listed(&self, key: &str) -> Option<ListedFile> {
        self.listed.get(&hash_key(key)).copied()
    }

    /// Returns whether valid digests cover the time of a log file's delivery, so that one of them would list it.
    pub(super) fn covers(&self, file: &BucketFile) -> bool {
        let (Some((account, region)), Some(time)) = (file.place(), file.time()) else { return true };
        let Some(covered) = self.covered.get(&(account.to_owned(), region.to_owned())) else { return false };
        let is_covered = |time: Timestamp| covered.iter().any(|(start, end)| *start <= time && time < *end);
        is_covered(time) && is_covered(time + DELIVERY_MINUTES.minutes())
    }
}

impl ListedFile {
    /// Returns whether this is the file's hash, in hexadecimal digits.
    pub(super) fn has_hash(&self, sha256: &str) -> bool {
        hex::encode(self.sha256).eq_ignore_ascii_case(sha256)
    }

    /// Sets the days that a file may have events of.
    pub(super) fn set_days(&self, file: &mut BucketFile) {
        let Some((oldest, newest)) = self.days else { return };
        file.read_day = file.day.min(oldest.tomorrow().unwrap_or(oldest));
        file.last_day = newest;
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
    progress: &Progress,
) -> anyhow::Result<BucketEvidence> {
    let present: BTreeSet<&str> = files.logs.iter().map(|file| file.key.as_str()).collect();
    let digests: BTreeSet<&str> = files.digests.iter().map(|file| file.key.as_str()).collect();
    let mut verifier = Verifier { keys, period, present, digests, evidence: BucketEvidence::default(), report };
    // The last digest of each chain: the next one may prove it.
    let mut chains: BTreeMap<String, ReadDigest> = BTreeMap::new();
    let reads = stream::iter(files.digests.clone()).map(|file| async {
        let read = read(sources, &file).await;
        (file, read)
    });
    let mut reads = std::pin::pin!(reads.buffered(OPEN_DIGESTS));
    while let Some((file, read)) = reads.next().await {
        verifier.report.digests += 1;
        match read {
            Ok((digest, sha256, signature)) if file.is_backfill() => {
                verifier.verify_backfill(&ReadDigest { file, digest, sha256, signature });
            }
            Ok((digest, sha256, signature)) => {
                let name = chain_of(&file.key);
                let read = ReadDigest { file, digest, sha256, signature };
                match chains.get(&name) {
                    Some(last) => verifier.verify(&name, last, Some(&read)),
                    None => verifier.begin_chain(&name, &read),
                }
                chains.insert(name, read);
            }
            Err(error) => {
                let finding = Finding::new(Kind::InvalidDigest, Some(file.day), &file.key, format!("{error:#}"));
                verifier.report.add(finding);
            }
        }
        progress.show_count(usize::try_from(verifier.report.digests).unwrap_or(usize::MAX), "reading digests");
    }
    for (name, last) in chains {
        verifier.verify(&name, &last, None);
        verifier.end_chain(&name, &last);
    }
    let Verifier { evidence, report, .. } = verifier;
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
    let (input, signature) = sources.open_digest(&file.source).await?;
    let is_gzip = file.is_gzip();
    let (bytes, sha256) = tokio::task::spawn_blocking(move || log_file::read_digest(input, is_gzip)).await??;
    let digest = serde_json::from_slice(&bytes).context("is not a digest file")?;
    Ok((digest, sha256, signature))
}

/// Returns the chain of a digest: its key up to the region, and the trail in its name.
fn chain_of(key: &str) -> String {
    let folders = key.rsplitn(5, '/').last().unwrap_or_default();
    let name = key.rsplit('/').next().unwrap_or_default();
    let trail = name.rsplit_once('_').map_or(name, |(trail, _)| trail);
    format!("{folders}/{trail}")
}

/// The state of a verification of digests.
struct Verifier<'a> {
    keys: &'a PublicKeys,
    period: Period,
    /// The keys of all log files.
    present: BTreeSet<&'a str>,
    /// The keys of all digests.
    digests: BTreeSet<&'a str>,
    evidence: BucketEvidence,
    report: &'a mut Report,
}

impl Verifier<'_> {
    fn begin_chain(&mut self, name: &str, first: &ReadDigest) {
        let start = first.digest.digest_start_time;
        self.report.chains.insert(name.to_owned(), ChainSummary { valid: 0, start, end: start });
        if start > self.period.start() {
            let reason = format!("the first digest begins at {start}");
            self.report.add(Finding::new(Kind::Unproven, Some(self.period.from), name, reason));
        }
    }

    fn end_chain(&mut self, name: &str, last: &ReadDigest) {
        let Some(end) = last.digest.end().filter(|end| *end < self.period.end()) else { return };
        let reason = format!("the last digest ends at {end}");
        self.report.add(Finding::new(Kind::Unproven, Some(self.period.to), name, reason));
    }

    /// Verifies a digest of the chain, and that the next one continues it.
    fn verify(&mut self, name: &str, read: &ReadDigest, next: Option<&ReadDigest>) {
        let digest = &read.digest;
        let names_this = |next: &&ReadDigest| {
            next.digest.previous_digest_s3_object.as_deref().and_then(key_of) == Some(read.file.key.as_str())
        };
        let named_by_next = next.filter(names_this);
        let signature =
            read.signature.as_deref().or_else(|| named_by_next?.digest.previous_digest_signature.as_deref());
        let is_valid = check_digest(read, signature, self.keys, self.report);
        if let Some(next) = named_by_next
            && is_valid
            && next.digest.previous_digest_hash_value.as_deref() != Some(read.sha256.as_str())
        {
            let reason = "the next digest lists another hash of it";
            self.report.add(Finding::new(Kind::InvalidDigest, Some(read.file.day), &read.file.key, reason));
        }
        if let Some(next) = next.filter(|_| named_by_next.is_none()) {
            report_break(name, read, next, self.report);
        }
        if is_valid {
            self.report.fingerprints.insert(digest.digest_public_key_fingerprint.clone());
            if let Some(chain) = self.report.chains.get_mut(name) {
                chain.valid += 1;
                chain.end = digest.end().unwrap_or(chain.end).max(chain.end);
            }
            self.add_covered_time(read);
            self.add_files(read);
        }
    }

    /// Verifies a backfill digest. It lists log files that the digest of their hour lacks because CloudTrail was late, and
    /// is not part of that digest's chain.
    fn verify_backfill(&mut self, read: &ReadDigest) {
        if check_digest(read, read.signature.as_deref(), self.keys, self.report) {
            self.report.fingerprints.insert(read.digest.digest_public_key_fingerprint.clone());
            self.add_files(read);
        }
        let Some(previous) = read.digest.previous_digest_s3_object.as_deref().and_then(key_of) else { return };
        let is_wanted = day_of_key(previous).is_some_and(|day| self.period.days().may_be_delivered(day));
        if is_wanted && !self.digests.contains(previous) {
            report_missing_digest(previous, read, self.report);
        }
    }

    fn add_covered_time(&mut self, read: &ReadDigest) {
        let digest = &read.digest;
        if let (Some((account, region)), Some(end)) = (read.file.place(), digest.end()) {
            let covered = self.evidence.covered.entry((account.to_owned(), region.to_owned())).or_default();
            match covered.last_mut() {
                Some((_, last)) if *last == digest.digest_start_time => *last = end,
                _ => covered.push((digest.digest_start_time, end)),
            }
        }
    }

    /// Adds the log files that a valid digest lists.
    fn add_files(&mut self, read: &ReadDigest) {
        for listed in &read.digest.log_files {
            let key = key_of(&listed.s3_object).unwrap_or(&listed.s3_object);
            let mut sha256 = [0; 32];
            if listed.hash_algorithm != "SHA-256" || hex::decode_to_slice(&listed.hash_value, &mut sha256).is_err() {
                let reason = format!("its hash algorithm {} is not supported", listed.hash_algorithm);
                self.report.add(Finding::new(Kind::Unreadable, Some(read.file.day), key, reason));
                continue;
            }
            let times = listed.oldest_event_time.zip(listed.newest_event_time);
            let days = times.map(|(oldest, newest)| (day_of(oldest), day_of(newest)));
            self.evidence.listed.insert(hash_key(key), ListedFile { sha256, days });
            // Files of the day before the period are not listed, and not needed.
            let is_wanted = day_of_key(key).is_none_or(|day| self.period.days().may_be_delivered(day));
            if is_wanted && !self.present.contains(key) {
                let reason = format!("listed by {}, but missing", read.file.key);
                self.report.add(Finding::new(Kind::MissingFile, Some(read.file.day), key, reason));
                if let Some((oldest, newest)) = times {
                    let region = place_of(key).map(|(_, region)| region.to_owned()).unwrap_or_default();
                    self.evidence.missing.push(MissingFile { region, oldest, newest });
                }
            }
        }
    }
}

/// Checks the place and the signature of a digest.
fn check_digest(read: &ReadDigest, signature: Option<&str>, keys: &PublicKeys, report: &mut Report) -> bool {
    let ReadDigest { file, digest, sha256, .. } = read;
    let problem = if key_of(&digest.digest_s3_object) == Some(file.key.as_str()) {
        let Some(signature) = signature else {
            let reason = "has no signature, neither in a later digest nor in a .sig file next to it";
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
    if let Some(previous) = next.digest.previous_digest_s3_object.as_deref() {
        report_missing_digest(key_of(previous).unwrap_or(previous), next, report);
        return;
    }
    let (end, start) = (&read.digest.digest_end_time, next.digest.digest_start_time);
    let reason =
        format!("the chain ends at {end} and begins again at {start}: logging was off, or the trail was created again");
    report.add(Finding::new(Kind::Unproven, Some(next.file.day), name, reason));
}

/// Reports a digest that `next` names as the one before it.
fn report_missing_digest(key: &str, next: &ReadDigest, report: &mut Report) {
    let reason = format!("named by {} as the previous digest, but missing", next.file.key);
    report.add(Finding::new(Kind::MissingDigest, Some(next.file.day), key, reason));
}

fn day_of_key(key: &str) -> Option<Date> {
    let mut folders = key.rsplit('/').skip(1);
    let (day, month, year) = (folders.next()?, folders.next()?, folders.next()?);
    Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
}

/// Returns sixteen bytes that identify an object key.
pub(super) fn hash_key(key: &str) -> u128 {
    let hash = digest(&SHA256, key.as_bytes());
    hash.as_ref().first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes))
}

/// The longest time from the time in a log file's name to its delivery, in minutes; CloudTrail names it by five minutes.
const DELIVERY_MINUTES: i64 = 20;
/// Digests that are read at once.
const OPEN_DIGESTS: usize = 32;
