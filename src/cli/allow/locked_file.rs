//! Atomic edits of the allowlist file, serialised by a lock.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::NamedTempFile;

use crate::cli::output::print_note;

/// The exclusive lock on a file, held until it is dropped.
#[derive(Debug)]
pub(super) struct LockedFile {
    /// The path with all symlinks resolved, so that links to the file stay.
    file: PathBuf,
    folder: File,
}

impl LockedFile {
    /// Waits for the lock.
    ///
    /// It locks the folder: each edit replaces the file itself, and a separate lock file would be one more to manage.
    pub(super) fn take(file: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("{}: cannot be changed", file.display());
        let file = fs::canonicalize(file).with_context(cannot)?;
        let folder = File::open(file.parent().unwrap_or(Path::new("/"))).with_context(cannot)?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                print_note(&format!("waiting for another edit of {} to end", file.display()));
                folder.lock().with_context(cannot)?;
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        Ok(Self { file, folder })
    }

    /// Replaces the file atomically with `text`, and keeps its owner, group and mode.
    pub(super) fn replace(&self, text: &str) -> anyhow::Result<()> {
        self.try_replace(text).with_context(|| format!("{}: not changed", self.file.display()))
    }

    fn try_replace(&self, text: &str) -> anyhow::Result<()> {
        let old = fs::metadata(&self.file)?;
        let folder = self.file.parent().unwrap_or(Path::new("/"));
        let mut new = NamedTempFile::with_prefix_in(".allowlist.", folder)?;
        new.write_all(text.as_bytes())?;
        let made = new.as_file().metadata()?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            fchown(new.as_file(), Some(old.uid()), Some(old.gid())).context("its owner and group cannot be kept")?;
        }
        new.as_file().set_permissions(old.permissions())?;
        new.as_file().sync_all()?;
        new.persist(&self.file)?;
        self.folder.sync_all().context("the new one is there, but perhaps not yet on the disk")
    }
}
