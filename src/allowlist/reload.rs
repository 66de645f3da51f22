//! The one writer of the list: looks at the file's path again and again, and on request.

use std::{
    convert::Infallible,
    fs, future, mem,
    os::unix::fs::MetadataExt,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::{mpsc, watch},
    task::{self, JoinError},
    time::{self, MissedTickBehavior},
};
use tracing::{error, info, warn};

use super::{Allowlist, Entries, LoadError, Publisher, channel, entries};
use crate::systemd::Manager;

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
    state: watch::Sender<State>,
    manager: Manager,
}

/// Which list is in force, and whether the file still says the same.
#[derive(Clone, Debug)]
pub struct State {
    /// The file.
    pub file: PathBuf,
    /// When the list in force was loaded.
    pub loaded: SystemTime,
    /// When the file was modified that it was loaded from.
    pub modified: Option<Timestamp>,
    /// SHA-256 of that file, in hexadecimal.
    pub sha256: String,
    /// Lists that were put in force since the start.
    pub reloads: u64,
    /// Times that the file was found wrong since the start.
    pub failures: u64,
    /// What is wrong with the file as it is now, so that an older list is in force.
    pub error: Option<LoadError>,
}

impl Reloader {
    /// Loads the list for the first time. What a reload would only complain about, or an empty
    /// list, is an error here.
    ///
    /// `manager` is told of each reload that is asked for, and when it is over.
    pub fn start(file: PathBuf, manager: Manager) -> Result<(Self, Allowlist), LoadError> {
        let reading = Reading::take(&file);
        let text = reading.text.clone()?;
        let entries = Entries::parse(&file, &text)?;
        if entries.is_empty() {
            return Err(LoadError::Empty { file });
        }
        let (publisher, allowlist) = channel(entries);
        let state = watch::Sender::new(State {
            file: file.clone(),
            loaded: SystemTime::now(),
            modified: reading.stamp.and_then(Stamp::modified),
            sha256: hex::encode(Sha256::digest(text.as_bytes())),
            reloads: 0,
            failures: 0,
            error: None,
        });
        let reloader = Self { file, publisher, seen: reading.stamp, reading, asked: false, state, manager };
        Ok((reloader, allowlist))
    }

    /// What is in force, as it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
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
        self.manager.reloading();
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
        let asked = mem::take(&mut self.asked);
        if asked || !known {
            self.apply().await;
        }
        if asked {
            self.manager.ready();
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
                self.state.send_modify(|state| {
                    state.loaded = SystemTime::now();
                    state.modified = self.reading.stamp.and_then(Stamp::modified);
                    if let Ok(text) = &self.reading.text {
                        state.sha256 = hex::encode(Sha256::digest(text.as_bytes()));
                    }
                    state.reloads += 1;
                    state.error = None;
                });
                let file = self.file.display();
                info!(%file, before, entries, added, removed, "allowlist reloaded");
                if entries == 0 {
                    warn!(%file, "allowlist is empty: nobody gets in");
                }
            }
            Err(error) => {
                error!(%error, "allowlist not reloaded, the list of {before} entries stays in force");
                self.state.send_modify(|state| {
                    state.failures += 1;
                    state.error = Some(error);
                });
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

    fn modified(self) -> Option<Timestamp> {
        let (seconds, nanos) = self.modified;
        Timestamp::new(seconds, i32::try_from(nanos).ok()?).ok()
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
