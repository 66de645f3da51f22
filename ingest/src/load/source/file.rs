//! One file that is to be read.

use std::path::{Path, PathBuf};

use jiff::civil::Date;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub(super) name: String,
    pub(super) place: Location,
    /// A text that changes with the content.
    pub(super) fingerprint: Option<String>,
}

/// A file in a folder or a bucket that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedFile {
    /// Its name.
    pub name: String,
    /// The reason why it is not read.
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Location {
    Stdin,
    Disk(PathBuf),
    S3 { bucket: String, key: String },
}

impl Source {
    /// Returns its name for users.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the day of its folder, where folders are laid out as CloudTrail does: `…/2026/01/31/…`.
    #[must_use]
    pub fn day(&self) -> Option<Date> {
        let folders: Vec<&str> = self.name.rsplit('/').skip(1).take(3).collect();
        let [day, month, year] = folders[..] else { return None };
        if (year.len(), month.len(), day.len()) != (4, 2, 2) {
            return None;
        }
        Date::new(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?).ok()
    }

    /// Returns whether the file is CloudTrail's by its path. The folders of other programs, such as those of failed
    /// invocations and of backups, have the day on which they wrote.
    #[must_use]
    pub fn is_of_cloudtrail(&self) -> bool {
        self.name.contains("CloudTrail")
    }

    /// Returns the path of a file on disk.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Location::Disk(path) => Some(path),
            Location::Stdin | Location::S3 { .. } => None,
        }
    }

    /// Returns name and content on one line; none for a file that cannot be read twice.
    pub(in crate::load) fn version(&self) -> Option<String> {
        let place = match &self.place {
            Location::Stdin => return None,
            Location::Disk(path) => path.display().to_string(),
            Location::S3 { .. } => self.name.clone(),
        };
        Some(format!("{} {}", self.fingerprint.as_deref()?, place.escape_debug()))
    }
}
