//! The one writer of the list: looks at the file's path again and again, and on request.

use std::{
    convert::Infallible,
    fs, future,
    os::unix::fs::MetadataExt,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::mpsc,
    task::{self, JoinError},
    time::{self, MissedTickBehavior},
};
use tracing::{error, info, warn};

use super::{Allowlist, Entries, LoadError, Publisher, channel, entries};

/// Keeps the list in force equal to the file, as far as the file is valid.
///
/// It polls the path because a watch on a file or its directory misses what happens behind a
/// symlink, and the path is all that the operator names.
#[derive(Debug)]
pub struct Reloader {
    file: PathBuf,
    publisher: Publisher,
    /// What the path showed at the last poll; two polls have to agree before the file is read.
    seen: Option<Stamp>,
    /// What was read last, whether it was good or not.
    reading: Reading,
    /// A reload was asked for and has not happened yet.
    asked: bool,
}

impl Reloader {
    /// Loads the list for the first time. What a reload would only complain about, or an empty
    /// list, is an error here.
    pub fn start(file: PathBuf) -> Result<(Self, Allowlist), LoadError> {
        let reading = Reading::take(&file);
        let entries = Entries::parse(&file, &reading.text.clone()?)?;
        if entries.is_empty() {
            return Err(LoadError::Empty { file });
        }
        let (publisher, allowlist) = channel(entries);
        let reloader = Self { file, publisher, seen: reading.stamp, reading, asked: false };
        Ok((reloader, allowlist))
    }

    /// Follows the file until cancelled. Each item of `hangups` loads it at once, changed or not.
    pub async fn run(mut self, mut hangups: mpsc::Receiver<()>) -> Infallible {
        let mut polls = time::interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = polls.tick() => self.poll().await,
                Some(()) = hangups.recv() => self.hang_up().await,
            }
        }
    }

    async fn poll(&mut self) {
        let file = self.file.clone();
        let stamp = aside(move || Stamp::of(&file)).await;
        let steady = stamp == self.seen;
        self.seen = stamp;
        let news = stamp != self.reading.stamp || !self.reading.settled || self.asked;
        if steady && news {
            self.read().await;
        }
    }

    async fn hang_up(&mut self) {
        self.asked = true;
        self.read().await;
    }

    async fn read(&mut self) {
        let file = self.file.clone();
        let reading = aside(move || Reading::take(&file)).await;
        if reading.torn {
            // Somebody writes at this moment: the polls find out when that has ended.
            return;
        }
        let known = reading.text == self.reading.text;
        self.reading = reading;
        if self.asked || !known {
            self.asked = false;
            self.apply().await;
        }
    }

    async fn apply(&self) {
        let (file, text) = (self.file.clone(), self.reading.text.clone());
        let old = self.publisher.current();
        let before = old.len();
        let outcome = aside(move || {
            let new = Entries::parse(&file, &text?)?;
            let (added, removed) = (new.missing_from(&old), old.missing_from(&new));
            Ok::<_, LoadError>((new, added, removed))
        });
        match outcome.await {
            Ok((new, added, removed)) => {
                let entries = new.len();
                self.publisher.publish(new);
                let file = self.file.display();
                info!(%file, before, entries, added, removed, "allowlist reloaded");
                if entries == 0 {
                    warn!(%file, "allowlist is empty: nobody gets in");
                }
            }
            Err(error) => {
                error!(%error, "allowlist not reloaded, the list of {before} entries stays in force");
            }
        }
    }
}

/// The file as one reading found it.
#[derive(Debug)]
struct Reading {
    stamp: Option<Stamp>,
    text: Result<Arc<str>, LoadError>,
    /// The file changed while it was read.
    torn: bool,
    /// A later change is sure to show in the stamp.
    settled: bool,
}

impl Reading {
    fn take(file: &Path) -> Self {
        let stamp = Stamp::of(file);
        let text = entries::read(file).map(Arc::from);
        let torn = stamp != Stamp::of(file);
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
    fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
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
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is ending, and whoever waits here with it.
        Err(Err(_)) => future::pending().await,
    }
}

/// Two polls and a read are well within the second that a change may take.
const POLL: Duration = Duration::from_millis(200);

/// Seconds; FAT has the coarsest clock in use.
const COARSEST_TICK: i64 = 2;

#[cfg(test)]
mod tests;
