//! The one writer of the list: follows its file, and reads it on request.

use std::{convert::Infallible, mem, path::PathBuf, time::SystemTime};

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use tokio::{
    sync::{mpsc, watch},
    time::{self, MissedTickBehavior},
};
use tracing::{error, info, warn};

use super::{Allowlist, Entries, LoadError, Publisher, channel};
use crate::{
    systemd::Manager,
    watched_file::{POLL, WatchedFile, aside},
};

/// Keeps the list in force equal to the file, as far as the file is valid.
#[derive(Debug)]
pub struct Reloader {
    file: WatchedFile,
    publisher: Publisher,
    state: watch::Sender<State>,
    manager: Manager,
    /// A reload was asked for and has not happened yet.
    asked: bool,
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
        let file = WatchedFile::open(file);
        let entries = Entries::read(file.path(), file.text())?;
        if entries.is_empty() {
            return Err(LoadError::Empty { file: file.path().to_owned() });
        }
        let (publisher, allowlist) = channel(entries);
        let state = watch::Sender::new(State {
            file: file.path().to_owned(),
            loaded: SystemTime::now(),
            modified: file.modified(),
            sha256: sha256(&file),
            reloads: 0,
            failures: 0,
            error: None,
        });
        Ok((Self { file, publisher, state, manager, asked: false }, allowlist))
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
        if self.file.poll().await {
            self.apply().await;
        }
    }

    async fn hang_up(&mut self) {
        self.asked = true;
        self.manager.reloading();
        if self.file.ask().await {
            self.apply().await;
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
        if mem::take(&mut self.asked) {
            self.manager.ready();
        }
    }
}

fn sha256(file: &WatchedFile) -> String {
    hex::encode(digest(&SHA256, file.text().unwrap_or_default().as_bytes()))
}

#[cfg(test)]
mod tests;
