//! One file that is to be read.

use std::path::{Path, PathBuf};

use jiff::civil::Date;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    pub(super) name: String,
    pub(super) place: Place,
    /// What changes when the content does.
    pub(super) mark: Option<String>,
}

/// A file in a folder or a bucket that is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedOver {
    /// Its name.
    pub name: String,
    /// Why it is not read.
    pub reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Stdin,
    Disk(PathBuf),
    S3 { bucket: String, key: String },
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

    /// The file on disk, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Disk(path) => Some(path),
            Place::Stdin | Place::S3 { .. } => None,
        }
    }

    /// Name and content on one line; none for what cannot be read twice.
    pub(in crate::load) fn version(&self) -> Option<String> {
        let place = match &self.place {
            Place::Stdin => return None,
            Place::Disk(path) => path.display().to_string(),
            Place::S3 { .. } => self.name.clone(),
        };
        Some(format!("{} {}", self.mark.as_deref()?, place.escape_debug()))
    }
}
