//! Finds and opens files: on disk, on standard input, or in S3.

pub(crate) mod bucket;
mod disk;
mod file;
mod names;

pub use self::file::Source;

use std::collections::HashMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::Context as _;
use aws_sdk_s3::Client;
use aws_sdk_s3::types::Object;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::civil::Date;
use tokio::task::spawn_blocking;

use self::bucket::{Bucket, parse_place, read_object};
use self::file::{Location, SkippedFile};
use super::days::Days;
use super::input::ByteReader;

/// All files of a run, in the order in which they are read, and the buckets of those in S3.
pub struct Sources {
    list: Vec<Source>,
    skipped: Vec<SkippedFile>,
    failures: Vec<(String, String)>,
    paths_without_files: Vec<String>,
    buckets: HashMap<String, Bucket>,
}

impl Sources {
    /// Finds the files that `paths` name: files, folders with all that is in them, `-` for standard input,
    /// `s3://BUCKET/PREFIX`. Calls `client` only if a path is in S3.
    pub async fn find(paths: &[String], client: impl AsyncFnOnce() -> Client) -> anyhow::Result<Self> {
        let mut sources = Self {
            list: Vec::new(),
            skipped: Vec::new(),
            failures: Vec::new(),
            paths_without_files: Vec::new(),
            buckets: HashMap::new(),
        };
        let is_in_s3 = paths.iter().any(|path| path.starts_with(S3));
        let client = if is_in_s3 { Some(client().await) } else { None };
        for path in paths {
            let before = sources.list.len() + sources.skipped.len() + sources.failures.len();
            match (path.strip_prefix(S3), &client) {
                (Some(place), Some(client)) => {
                    sources.add_bucket(place, client.clone()).await.with_context(|| path.clone())?;
                }
                _ if path == "-" => {
                    sources.list.push(Source { name: path.clone(), place: Location::Stdin, fingerprint: None });
                }
                _ => {
                    let root = path.clone();
                    let found = spawn_blocking(move || disk::find(Path::new(&root))).await?;
                    let found = found.with_context(|| path.clone())?;
                    sources.list.extend(found.sources);
                    sources.skipped.extend(found.skipped);
                    sources.failures.extend(found.failures);
                }
            }
            if sources.list.len() + sources.skipped.len() + sources.failures.len() == before {
                sources.paths_without_files.push(path.clone());
            }
        }
        Ok(sources)
    }

    /// Returns the files to read.
    #[must_use]
    pub fn list(&self) -> &[Source] {
        &self.list
    }

    /// Returns the files that are skipped.
    #[must_use]
    pub fn skipped(&self) -> &[SkippedFile] {
        &self.skipped
    }

    /// Returns the paths below which no file exists.
    #[must_use]
    pub fn paths_without_files(&self) -> &[String] {
        &self.paths_without_files
    }

    /// Returns the names of the files that cannot be read, each with the reason.
    #[must_use]
    pub fn failures(&self) -> &[(String, String)] {
        &self.failures
    }

    /// Opens a file, and requests one in S3. The reader must not be used on a thread of the runtime.
    pub(crate) async fn open(&self, source: &Source) -> anyhow::Result<ByteReader> {
        match &source.place {
            Location::Stdin => Ok(Box::new(std::io::stdin())),
            Location::Disk(path) => Ok(Box::new(disk::Lazy::new(path.clone()))),
            Location::S3 { bucket, key } => read_object(self.bucket(bucket)?.get(key).await?).await,
        }
    }

    /// Opens a digest file, and returns its signature: the object's metadata in S3, or the file next to it with `.sig`
    /// added to its name on disk.
    pub(crate) async fn open_digest(&self, source: &Source) -> anyhow::Result<(ByteReader, Option<String>)> {
        match &source.place {
            Location::Stdin => Ok((self.open(source).await?, None)),
            Location::Disk(path) => {
                let mut sidecar = path.clone().into_os_string();
                sidecar.push(".sig");
                let signature = match std::fs::read_to_string(&sidecar) {
                    Ok(text) => Some(text.trim().to_owned()),
                    Err(error) if error.kind() == ErrorKind::NotFound => None,
                    Err(error) => return Err(error).with_context(|| Path::new(&sidecar).display().to_string()),
                };
                Ok((self.open(source).await?, signature))
            }
            Location::S3 { bucket, key } => {
                let mut object = self.bucket(bucket)?.get(key).await?;
                let signature = object.metadata.as_mut().and_then(|metadata| metadata.remove("signature"));
                Ok((read_object(object).await?, signature))
            }
        }
    }

    fn bucket(&self, name: &str) -> anyhow::Result<&Bucket> {
        self.buckets.get(name).context("the bucket was not listed")
    }

    /// Finds the files below `path` that may have events of `days`. In S3 it lists the folders of these days only, which
    /// CloudTrail lays out as `…/2026/01/31/`.
    pub async fn find_days(path: &str, days: Days, client: impl AsyncFnOnce() -> Client) -> anyhow::Result<Self> {
        let Some(place) = path.strip_prefix(S3) else {
            return Self::find(&[path.to_owned()], client).await;
        };
        let (name, prefix) = parse_place(place).with_context(|| path.to_owned())?;
        let mut sources = Self::find(&[], async || unreachable!("no path is in S3")).await?;
        // Below a folder that is named without its slash. A policy may permit nothing else to be listed.
        let prefix = if prefix.is_empty() || prefix.ends_with('/') { prefix.to_owned() } else { format!("{prefix}/") };
        let bucket = Bucket::locate(client().await, name, &prefix).await;
        sources.buckets.insert(name.to_owned(), bucket.clone());
        let mut folders = vec![prefix];
        while !folders.is_empty() {
            let lists = folders.iter().map(|folder| bucket.list_folders(folder));
            let lists: anyhow::Result<Vec<Vec<String>>> =
                stream::iter(lists).buffered(PARALLEL_LISTS).try_collect().await;
            let lists = lists.with_context(|| path.to_owned())?;
            let (mut next, mut wanted) = (Vec::new(), Vec::new());
            for folder in lists.into_iter().flatten() {
                match days_of_folder(&folder) {
                    Some((first, last)) if !days.may_be_delivered_within(first, last) => {}
                    Some((first, last)) if first == last => wanted.push(folder),
                    _ if names::reason_to_skip(&format!("{S3}{name}/{folder}a.json.gz")).is_some() => {}
                    _ => next.push(folder),
                }
            }
            let lists = wanted.iter().map(|folder| bucket.list_objects(folder));
            let mut lists = std::pin::pin!(stream::iter(lists).buffered(PARALLEL_LISTS));
            while let Some(objects) = lists.next().await {
                for object in objects.with_context(|| path.to_owned())? {
                    sources.add_object(name, object, "");
                }
            }
            folders = next;
        }
        sources.list.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(sources)
    }

    async fn add_bucket(&mut self, place: &str, client: Client) -> anyhow::Result<()> {
        let (name, prefix) = parse_place(place)?;
        let bucket = Bucket::locate(client, name, prefix).await;
        for object in bucket.list_objects(prefix).await? {
            self.add_object(name, object, prefix);
        }
        self.buckets.insert(name.to_owned(), bucket);
        Ok(())
    }

    /// Adds an object; `named` is the key that a path names.
    fn add_object(&mut self, bucket: &str, object: Object, named: &str) {
        let Some(key) = object.key else { return };
        let name = format!("{S3}{bucket}/{key}");
        // The object by which S3's console represents a folder.
        if key.ends_with('/') && object.size == Some(0) {
            return;
        }
        // An object that a path names is read, whatever its name is.
        let reason = if key == named { None } else { names::reason_to_skip(&name) };
        match reason {
            Some(reason) => self.skipped.push(SkippedFile { name, reason }),
            None => self.list.push(Source {
                name,
                place: Location::S3 { bucket: bucket.to_owned(), key },
                fingerprint: object.e_tag,
            }),
        }
    }
}

/// Returns the first day and the last of a folder that ends with a year, a month or a day.
fn days_of_folder(folder: &str) -> Option<(Date, Date)> {
    let mut names = folder.trim_end_matches('/').rsplit('/');
    let number = |name: Option<&str>, digits: usize| name.filter(|name| name.len() == digits)?.parse::<i16>().ok();
    let last = [names.next(), names.next(), names.next()];
    let date = |year: i16, month: i16, day: i16| Date::new(year, month.try_into().ok()?, day.try_into().ok()?).ok();
    if let (Some(day), Some(month), Some(year)) = (number(last[0], 2), number(last[1], 2), number(last[2], 4)) {
        let day = date(year, month, day)?;
        return Some((day, day));
    }
    if let (Some(month), Some(year)) = (number(last[0], 2), number(last[1], 4)) {
        let first = date(year, month, 1)?;
        return Some((first, first.last_of_month()));
    }
    let year = number(last[0], 4)?;
    Some((date(year, 1, 1)?, date(year, 12, 31)?))
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("list", &self.list).finish_non_exhaustive()
    }
}

const S3: &str = "s3://";
/// Folders that are listed in parallel.
const PARALLEL_LISTS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_of_a_year_a_month_or_a_day_has_its_days() {
        for (folder, expected) in [
            ("AWSLogs/111122223333/CloudTrail/eu-west-1/2026/", Some("2026-01-01 2026-12-31")),
            ("AWSLogs/111122223333/CloudTrail/eu-west-1/2026/02/", Some("2026-02-01 2026-02-28")),
            ("AWSLogs/111122223333/CloudTrail/eu-west-1/2026/02/03/", Some("2026-02-03 2026-02-03")),
            ("AWSLogs/111122223333/CloudTrail/eu-west-1/", None),
            ("AWSLogs/111122223333/", None),
            ("AWSLogs/2026/31/", None),
        ] {
            let days = days_of_folder(folder).map(|(first, last)| format!("{first} {last}"));
            assert_eq!(days.as_deref(), expected, "{folder}");
        }
    }
}
