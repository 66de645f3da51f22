//! The one writer of the list: follows its file, and reads it on request.

use std::{convert::Infallible, path::PathBuf};

use tokio::{
    sync::mpsc,
    time::{self, MissedTickBehavior},
};
use tracing::{error, info, warn};

use super::{Allowlist, Entries, LoadError, Publisher, channel};
use crate::watched_file::{POLL, WatchedFile, aside};

/// Keeps the list in force equal to the file, as far as the file is valid.
#[derive(Debug)]
pub struct Reloader {
    file: WatchedFile,
    publisher: Publisher,
}

impl Reloader {
    /// Loads the list for the first time. What a reload would only complain about, or an empty
    /// list, is an error here.
    pub fn start(file: PathBuf) -> Result<(Self, Allowlist), LoadError> {
        let file = WatchedFile::open(file);
        let entries = Entries::read(file.path(), file.text())?;
        if entries.is_empty() {
            return Err(LoadError::Empty { file: file.path().to_owned() });
        }
        let (publisher, allowlist) = channel(entries);
        Ok((Self { file, publisher }, allowlist))
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
        if self.file.ask().await {
            self.apply().await;
        }
    }

    async fn apply(&self) {
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
                let file = self.file.path().display();
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

#[cfg(test)]
mod tests;
