//! The allowlist on the disk, while it is being changed: one at a time, and whole or not at all.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use tempfile::NamedTempFile;

/// The right to change a file, which nobody else has until this is dropped.
#[derive(Debug)]
pub(super) struct LockedFile {
    /// Where the file really is: symlinks that lead there stay.
    file: PathBuf,
    folder: File,
}

impl LockedFile {
    /// Waits for its turn.
    ///
    /// The lock is on the folder: the file is another one after each change, and a file for the lock alone would be
    /// one more to look after.
    pub(super) fn take(file: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("{}: cannot be changed", file.display());
        let file = fs::canonicalize(file).with_context(cannot)?;
        let folder = File::open(file.parent().unwrap_or(Path::new("/"))).with_context(cannot)?;
        match folder.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                eprintln!("trailgate: waiting for another who changes {}", file.display());
                folder.lock().with_context(cannot)?;
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
        Ok(Self { file, folder })
    }

    /// Puts `text` in the file's place, with its owner, group and mode. Until it is there as a whole, the old one is.
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
