//! The one writer of the list: follows its file, and reads it on request.

use std::{
    convert::Infallible,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use tokio::{
    sync::{mpsc, watch},
    time::{self, MissedTickBehavior},
};
use tracing::{error, info, warn};

use super::{Allowlist, Entries, LoadError, Publisher, channel};
use crate::ops::systemd::Manager;
use crate::watched_file::{POLL, STALE, WatchedFile, aside};

/// Keeps the list in effect equal to the file, as far as the file is valid.
#[derive(Debug)]
pub struct Reloader {
    file: WatchedFile,
    publisher: Publisher,
    state: watch::Sender<State>,
    manager: Manager,
    /// When the reload was requested that has not happened yet.
    asked: Option<Instant>,
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
    /// What is wrong with the file as it is now, so that an older list is in effect.
    pub error: Option<LoadError>,
    /// When the file was last compared with the list in effect.
    pub compared: Instant,
}

impl State {
    /// How long the file has not been compared with the list in effect, if that is longer than it should be: reading
    /// it hangs, or it never stops changing.
    #[must_use]
    pub fn stale(&self) -> Option<Duration> {
        Some(self.compared.elapsed()).filter(|age| *age > STALE)
    }

    /// Whether the list in effect is known to be the file's.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.error.is_none() && self.stale().is_none()
    }
}

impl Reloader {
    /// Loads the list for the first time. What a reload only logs is an error here.
    ///
    /// `manager` is told of each reload that is requested, and when it is over.
    pub fn start(file: PathBuf, manager: Manager) -> Result<(Self, Allowlist), LoadError> {
        let file = WatchedFile::open(file);
        let entries = Entries::read(file.path(), file.text())?;
        let (publisher, allowlist) = channel(entries);
        let state = watch::Sender::new(State {
            file: file.path().to_owned(),
            loaded: SystemTime::now(),
            modified: file.modified(),
            sha256: sha256(&file),
            reloads: 0,
            failures: 0,
            error: None,
            compared: file.confirmed(),
        });
        Ok((Self { file, publisher, state, manager, asked: None }, allowlist))
    }

    /// What is in force, as it changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Follows the file until cancelled. Each item of `hangups` loads it, changed or not, as soon as it is stable.
    pub async fn run(mut self, mut hangups: mpsc::Receiver<()>) -> Infallible {
        let mut polls = time::interval(POLL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = polls.tick() => self.poll().await,
                Some(()) = hangups.recv() => {
                    if self.hang_up().await {
                        // A whole period lies between the look at the signal and the one that has to agree with it.
                        polls.reset();
                    }
                }
            }
        }
    }

    async fn poll(&mut self) {
        if self.file.poll().await {
            self.apply().await;
        }
        self.state.send_if_modified(|state| {
            state.compared = self.file.confirmed();
            // A receiver that waits for another list need not look at this.
            false
        });
        if self.asked.is_some_and(|since| since.elapsed() > STALE) {
            error!("allowlist not reloaded: its file cannot be read, or does not stop changing");
            self.end_reload();
        }
    }

    /// Requests a reload, and returns whether none was under way.
    async fn hang_up(&mut self) -> bool {
        if self.asked.is_some() {
            return false;
        }
        self.asked = Some(Instant::now());
        self.manager.reloading();
        self.file.ask().await;
        true
    }

    fn end_reload(&mut self) {
        if self.asked.take().is_some() {
            self.manager.ready();
        }
    }

    async fn apply(&mut self) {
        let (file, text) = (self.file.path().to_owned(), self.file.text());
        let old = self.publisher.current();
        let before = old.len();
        let outcome = aside(move || {
            let new = Entries::read(&file, text)?;
            let (added, removed) = (new.missing_from(&old), old.missing_from(&new));
            Ok::<_, LoadError>((new, added, removed))
        });
        match outcome.await {
            Ok((new, added, removed)) => {
                let entries = new.len();
                self.publisher.publish(new);
                self.state.send_modify(|state| {
                    state.loaded = SystemTime::now();
                    state.modified = self.file.modified();
                    state.sha256 = sha256(&self.file);
                    state.reloads += 1;
                    state.error = None;
                });
                let file = self.file.path().display();
                info!(%file, before, entries, added, removed, "allowlist reloaded");
                if entries == 0 {
                    warn!(%file, "the allowlist is empty: every client is rejected");
                }
            }
            Err(error) => {
                error!(%error, "allowlist not reloaded, the list of {before} entries stays in effect");
                self.state.send_modify(|state| {
                    state.failures += 1;
                    state.error = Some(error);
                });
            }
        }
        self.end_reload();
    }
}

fn sha256(file: &WatchedFile) -> String {
    hex::encode(digest(&SHA256, file.text().unwrap_or_default().as_bytes()))
}

#[cfg(test)]
mod tests;
