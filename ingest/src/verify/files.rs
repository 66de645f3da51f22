//! The digest files and log files of a bucket.

use std::path::Path;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use crate::load::days::Days;
use crate::load::source::{Source, Sources};

/// The files of a period, by day.
#[derive(Debug, Default)]
pub(super) struct BucketFiles {
    pub(super) digests: Vec<BucketFile>,
    pub(super) logs: Vec<BucketFile>,
}

/// A file of CloudTrail.
#[derive(Clone, Debug)]
pub(super) struct BucketFile {
    pub(super) source: Source,
    /// Its object key from `AWSLogs/` on.
    pub(super) key: String,
    /// The day of its folder.
    pub(super) day: Date,
    /// The first day after all that it may have events of an earlier day: files are read in this order.
    pub(super) read_day: Date,
    /// The last day that it may have events of.
    pub(super) last_day: Date,
}

/// Lists the files that may have events of `days` or prove such files, in the order of their keys.
pub(super) fn list_files(sources: &Sources, days: Days) -> BucketFiles {
    let mut files = BucketFiles::default();
    for source in sources.list() {
        let name = source.path().map_or_else(|| source.name().to_owned(), |path| path.display().to_string());
        let Some(key) = key_of(&name).map(str::to_owned) else { continue };
        let Some(day) = source.day().filter(|day| days.may_be_delivered(*day)) else { continue };
        let file = BucketFile { source: source.clone(), key, day, read_day: day, last_day: day };
        if file.key.contains("/CloudTrail-Digest/") {
            files.digests.push(file);
        } else if file.place().is_some() {
            files.logs.push(file);
        }
    }
    files
}

/// Returns an object's key from `AWSLogs/` on, so that copies below another folder are the same object.
pub(super) fn key_of(name: &str) -> Option<&str> {
    name.find("AWSLogs/").map(|start| &name[start..])
}

impl BucketFile {
    /// Returns the folder of the account and the region: `AWSLogs/[ORGANIZATION/]ACCOUNT`, `REGION`.
    pub(super) fn place(&self) -> Option<(&str, &str)> {
        place_of(&self.key)
    }

    /// Returns the account and the region.
    pub(super) fn account_and_region(&self) -> Option<(&str, &str)> {
        let (folder, region) = self.place()?;
        Some((folder.rsplit('/').next()?, region))
    }

    /// Returns whether its events have a folder of their own: Insights, network activity and aggregated events.
    pub(super) fn has_own_folder(&self) -> bool {
        !self.key.contains("/CloudTrail/")
    }

    /// Returns whether it is a backfill digest.
    pub(super) fn is_backfill(&self) -> bool {
        self.key.ends_with("_backfill.json.gz")
    }

    /// Returns whether its name says that it is compressed.
    pub(super) fn is_gzip(&self) -> bool {
        Path::new(&self.key).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"))
    }

    /// Returns the time in the name: about when CloudTrail delivered it.
    pub(super) fn time(&self) -> Option<Timestamp> {
        let name = self.key.rsplit('/').next()?;
        let digits =
            name.split(['_', '.']).find_map(|part| part.strip_suffix('Z').filter(|part| part.contains('T')))?;
        let time = DateTime::strptime(if digits.len() == 13 { "%Y%m%dT%H%M" } else { "%Y%m%dT%H%M%S" }, digits).ok()?;
        Offset::UTC.to_timestamp(time).ok()
    }
}

/// Returns the account's folder and the region of a key: `AWSLogs/ACCOUNT/CloudTrail/REGION/…`. Digests and some kinds of
/// events have folders of their own, such as `CloudTrail-Insight`.
pub(super) fn place_of(key: &str) -> Option<(&str, &str)> {
    let (account, rest) = key.split_once("/CloudTrail")?;
    let (kind, rest) = rest.split_once('/')?;
    let is_kind = kind.is_empty() || kind.starts_with('-');
    let region = rest.split('/').next()?;
    is_kind.then_some((account, region))
}

/// The longest time from an event to its delivery, in days: CloudWatch Logs accepts no older one.
pub(super) const DELIVERY_DAYS: i32 = 14;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_is_found_in_the_folders_of_all_kinds_of_events() {
        for (key, place) in [
            ("AWSLogs/1/CloudTrail/us-east-1/2026/01/15/a.json.gz", Some(("AWSLogs/1", "us-east-1"))),
            ("AWSLogs/o-a/1/CloudTrail-Digest/us-east-1/2026/01/15/a.json.gz", Some(("AWSLogs/o-a/1", "us-east-1"))),
            ("AWSLogs/1/CloudTrail-Insight/us-east-1/2026/01/15/a.json.gz", Some(("AWSLogs/1", "us-east-1"))),
            ("AWSLogs/1/CloudTrail-NetworkActivity/us-east-1/2026/01/15/a.json.gz", Some(("AWSLogs/1", "us-east-1"))),
            ("AWSLogs/1/CloudTrail-Aggregated/us-east-1/2026/01/15/a.json.gz", Some(("AWSLogs/1", "us-east-1"))),
            ("AWSLogs/1/CloudTrails/us-east-1/2026/01/15/a.json.gz", None),
            ("AWSLogs/1/Config/us-east-1/2026/1/15/a.json.gz", None),
        ] {
            assert_eq!(place_of(key), place, "{key}");
        }
    }
}
