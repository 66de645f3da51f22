//! Files on disk.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use walkdir::WalkDir;

use super::file::{Location, SkippedFile, Source};
use super::names;

/// The files at a path.
#[derive(Debug, Default)]
pub(super) struct FoundFiles {
    pub(super) sources: Vec<Source>,
    pub(super) skipped: Vec<SkippedFile>,
    /// Names, and why they cannot be read.
    pub(super) failures: Vec<(String, String)>,
}

/// Finds a file, or all files in a folder and below it, in the order of their names: CloudTrail's begin with the date.
pub(super) fn find(root: &Path) -> anyhow::Result<FoundFiles> {
    let mut found = FoundFiles::default();
    let metadata = std::fs::metadata(root)?;
    if !metadata.is_dir() {
        found.sources.push(source(root, &metadata)?);
        return Ok(found);
    }
    // Links are followed, but not in circles, which walkdir reports as errors.
    for entry in WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let read = entry.map_err(|error| (error.path().map(Path::to_owned), io::Error::from(error)));
        let read = read.and_then(|entry| match entry.metadata() {
            Ok(metadata) => Ok((entry, metadata)),
            Err(error) => Err((Some(entry.path().to_owned()), error.into())),
        });
        match read {
            Ok((_, metadata)) if metadata.is_dir() => {}
            Ok((entry, metadata)) => found.add(entry.path(), &metadata),
            Err((path, error)) => {
                let name = path.as_deref().unwrap_or(root).display().to_string();
                found.failures.push((name, format!("cannot be read: {error}")));
            }
        }
    }
    found.sources.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

impl FoundFiles {
    fn add(&mut self, path: &Path, metadata: &Metadata) {
        let name = path.display().to_string();
        // A pipe may never get a writer.
        let reason = if metadata.is_file() { names::reason_to_skip(&name) } else { Some("pipes and devices") };
        match reason {
            Some(reason) => self.skipped.push(SkippedFile { name, reason }),
            None => match source(path, metadata) {
                Ok(source) => self.sources.push(source),
                Err(error) => self.failures.push((name, format!("cannot be read: {error}"))),
            },
        }
    }
}

fn source(path: &Path, metadata: &Metadata) -> io::Result<Source> {
    let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    // What a pipe held cannot be read twice.
    let fingerprint = metadata.is_file().then(|| format!("{}-{}", metadata.len(), modified.as_nanos()));
    let place = if metadata.is_file() { std::fs::canonicalize(path)? } else { path.to_owned() };
    Ok(Source { name: path.display().to_string(), place: Location::Disk(place), fingerprint })
}

/// A file that is opened when it is read, so that no more than one is open.
#[derive(Debug)]
pub(super) enum Lazy {
    Closed(PathBuf),
    Open(File),
}

impl Lazy {
    pub(super) fn new(path: PathBuf) -> Self {
        Self::Closed(path)
    }
}

impl Read for Lazy {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Closed(path) = self {
            *self = Self::Open(File::open(path)?);
        }
        match self {
            Self::Open(file) => file.read(buffer),
            Self::Closed(_) => Ok(0),
        }
    }
}
