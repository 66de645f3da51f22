//! Where the files are: on disk, on standard input, or in S3.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context as _, bail};
use aws_sdk_s3::Client;
use bytes::Bytes;
use jiff::civil::Date;
use tokio::fs;
use tokio::task::spawn_blocking;

/// All files of a run, in the order in which they are read, and the way to those in S3.
pub struct Sources {
    list: Vec<Source>,
    s3: Option<Client>,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    name: String,
    place: Place,
    /// What changes when the content does.
    mark: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Stdin,
    Disk(PathBuf),
    S3 { bucket: String, key: String },
}

impl Sources {
    /// Finds the files that `paths` name: files, folders with all that is in them, `-` for standard input,
    /// `s3://BUCKET/PREFIX`. `client` is asked for when there is one in S3.
    pub async fn find(paths: &[String], client: impl AsyncFnOnce() -> Client) -> anyhow::Result<Self> {
        let mut sources = Self { list: Vec::new(), s3: None };
        if paths.iter().any(|path| path.starts_with(S3)) {
            sources.s3 = Some(client().await);
        }
        for path in paths {
            match path.strip_prefix(S3) {
                Some(place) => sources.add_bucket(place).await.with_context(|| path.clone())?,
                None if path == "-" => {
                    sources.list.push(Source { name: path.clone(), place: Place::Stdin, mark: None });
                }
                None => sources.add_path(Path::new(path)).await.with_context(|| path.clone())?,
            }
        }
        Ok(sources)
    }

    /// The files.
    #[must_use]
    pub fn list(&self) -> &[Source] {
        &self.list
    }

    pub(super) async fn read(&self, source: &Source) -> anyhow::Result<Bytes> {
        match &source.place {
            Place::Stdin => {
                let read = || {
                    let mut bytes = Vec::new();
                    std::io::stdin().read_to_end(&mut bytes).map(|_| bytes.into())
                };
                spawn_blocking(read).await?.context("standard input")
            }
            Place::Disk(path) => Ok(fs::read(path).await?.into()),
            Place::S3 { bucket, key } => {
                let client = self.s3.as_ref().context("there is no way to S3")?;
                let object = client.get_object().bucket(bucket).key(key).send().await?;
                Ok(object.body.collect().await?.into_bytes())
            }
        }
    }

    /// Adds a file, or all files in a folder and below it, in the order of their names: CloudTrail's begin with the
    /// date.
    async fn add_path(&mut self, path: &Path) -> anyhow::Result<()> {
        let mut waiting = vec![path.to_owned()];
        let mut files = Vec::new();
        while let Some(path) = waiting.pop() {
            let metadata = fs::metadata(&path).await?;
            if metadata.is_dir() {
                let mut entries = fs::read_dir(&path).await?;
                while let Some(entry) = entries.next_entry().await? {
                    waiting.push(entry.path());
                }
            } else {
                let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let mark = format!("{}-{}", metadata.len(), modified.as_nanos());
                let place = Place::Disk(fs::canonicalize(&path).await?);
                files.push(Source { name: path.display().to_string(), place, mark: Some(mark) });
            }
        }
        // What a folder holds beside logs is passed over; a file that is named is read, whatever it is called.
        if files.len() > 1 || path.is_dir() {
            files.retain(|file| ENDINGS.iter().any(|ending| file.name.ends_with(ending)));
        }
        files.sort_by(|a, b| a.name.cmp(&b.name));
        self.list.append(&mut files);
        Ok(())
    }

    async fn add_bucket(&mut self, place: &str) -> anyhow::Result<()> {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let Some(client) = &self.s3 else { bail!("there is no way to S3") };
        let mut pages = client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page?.contents.unwrap_or_default() {
                let Some(key) = object.key.filter(|key| ENDINGS.iter().any(|ending| key.ends_with(ending))) else {
                    continue;
                };
                let name = format!("{S3}{bucket}/{key}");
                self.list.push(Source {
                    name,
                    place: Place::S3 { bucket: bucket.to_owned(), key },
                    mark: object.e_tag,
                });
            }
        }
        Ok(())
    }
}

impl Source {
    /// What people call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The day whose files are in its folder, where folders are laid out as CloudTrail does: `…/2026/01/31/…`.
    #[must_use]
    pub fn day(&self) -> Option<Date> {
        let folders: Vec<&str> = self.name.rsplit('/').skip(1).take(3).collect();
        let [day, month, year] = folders[..] else { return None };
        if (year.len(), month.len(), day.len()) != (4, 2, 2) {
            return None;
        }
        Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
    }

    /// Name and content on one line; none for what cannot be read twice.
    pub(super) fn version(&self) -> Option<String> {
        let place = match &self.place {
            Place::Stdin => return None,
            Place::Disk(path) => path.display().to_string(),
            Place::S3 { .. } => self.name.clone(),
        };
        Some(format!("{} {}", self.mark.as_deref()?, place.escape_debug()))
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("list", &self.list).finish_non_exhaustive()
    }
}

const S3: &str = "s3://";
const ENDINGS: [&str; 4] = [".json", ".json.gz", ".jsonl", ".jsonl.gz"];
