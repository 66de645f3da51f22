//! A file that is looked at again and again, and tells when it holds something else.
//!
//! The path is polled, because a watch on a file or its directory misses what happens behind a symlink, and the path is
//! all that the operator names.

use std::future;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, io};

use jiff::Timestamp;
use tokio::task::{self, JoinError};

/// A path and what was read there last.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    /// What the path showed at the last poll; two polls have to agree before the file is read.
    seen: Option<Stamp>,
    /// What was read last, whether it was good or not.
    reading: Reading,
    /// A reading was asked for and has not happened yet.
    asked: bool,
}

/// What a file holds, or why it cannot be read, in the system's words.
pub(crate) type Text = Result<Arc<str>, String>;

impl WatchedFile {
    /// Reads the file for the first time.
    pub(crate) fn open(path: PathBuf) -> Self {
        let reading = Reading::take(&path);
        Self { path, seen: reading.stamp, reading, asked: false }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn text(&self) -> Text {
        self.reading.text.clone()
    }

    /// When the file was modified that was read last.
    pub(crate) fn modified(&self) -> Option<Timestamp> {
        let (seconds, nanoseconds) = self.reading.stamp?.modified;
        Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()
    }

    /// Looks once, and says whether there is news in [`WatchedFile::text`]. To be called every [`POLL`].
    pub(crate) async fn poll(&mut self) -> bool {
        let path = self.path.clone();
        let stamp = aside(move || Stamp::of(&path)).await;
        let steady = stamp == self.seen;
        self.seen = stamp;
        let may_differ = stamp != self.reading.stamp || !self.reading.settled || self.asked;
        steady && may_differ && self.read().await
    }

    /// Reads at once, and says `true` as soon as that has worked, changed or not: now, or at a later poll.
    pub(crate) async fn ask(&mut self) -> bool {
        self.asked = true;
        self.read().await
    }

    async fn read(&mut self) -> bool {
        let path = self.path.clone();
        let reading = aside(move || Reading::take(&path)).await;
        if reading.torn {
            // Somebody writes at this moment: the polls find out when that has ended.
            return false;
        }
        let known = reading.text == self.reading.text;
        self.reading = reading;
        let asked = std::mem::take(&mut self.asked);
        asked || !known
    }
}

/// The file as one reading found it.
#[derive(Debug)]
struct Reading {
    stamp: Option<Stamp>,
    text: Text,
    /// The file changed while it was read.
    torn: bool,
    /// A later change is sure to show in the stamp.
    settled: bool,
}

impl Reading {
    fn take(path: &Path) -> Self {
        let stamp = Stamp::of(path);
        let text = fs::read_to_string(path).map(Arc::from).map_err(|error: io::Error| error.to_string());
        let torn = stamp != Stamp::of(path);
        // A file system's clock has ticks, and two changes within one leave the same stamp. So
        // text is final only when its stamp was old at the reading, as git does it; and an error
        // never is, because it may pass without a trace.
        let settled = text.is_ok() && !torn && stamp.is_some_and(Stamp::is_old);
        Self { stamp, text, torn, settled }
    }
}

/// What tells that a path leads to other content than before, without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Follows symlinks; `None` if the path leads nowhere.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// By the time of change alone: the time of modification can be set to anything.
    fn is_old(self) -> bool {
        Timestamp::now().as_second() - self.changed.0 > COARSEST_TICK
    }
}

/// Does what waits for a disk, or computes for long, where it holds up no request.
pub(crate) async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is ending, and whoever waits here with it.
        Err(Err(_)) => future::pending().await,
    }
}

/// How often to look: two polls and a read are well within the second that a change may take.
pub(crate) const POLL: Duration = Duration::from_millis(200);

/// Seconds; FAT has the coarsest clock in use.
const COARSEST_TICK: i64 = 2;

#[cfg(test)]
impl WatchedFile {
    /// As if the file were old, so that nothing but its stamp can tell of a change.
    pub(crate) fn pretend_old(&mut self) {
        self.reading.settled = true;
    }

    /// As if the file had changed within the tick of the clock in which it was read.
    pub(crate) fn pretend_same_tick(&mut self) {
        self.reading.stamp = Stamp::of(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_text_of_an_old_file_is_final() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("list"), "text").unwrap();
        assert!(!Reading::take(&dir.path().join("list")).settled, "new");
        assert!(Reading::take(Path::new("/etc/passwd")).settled, "old");
        assert!(!Reading::take(Path::new("/usr")).settled, "an error");
    }
}
