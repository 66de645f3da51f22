//! Reloads the allowlist when its file changes, and on request.

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

use crate::ops::systemd::Notifier;
use crate::policy::allowlist::{Allowlist, Entries, LoadError, Publisher, channel};
use crate::watched_file::{POLL_INTERVAL, STALE_AFTER, WatchedFile, run_blocking};

/// Keeps the list in effect equal to the file, as far as the file is valid.
#[derive(Debug)]
pub(crate) struct AllowlistReloader {
    file: WatchedFile,
    publisher: Publisher,
    state: watch::Sender<AllowlistState>,
    notifier: Notifier,
    /// The time of a requested reload that has not happened yet.
    reload_requested: Option<Instant>,
}

/// The state of the list in effect, and of its file.
#[derive(Clone, Debug)]
pub(crate) struct AllowlistState {
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

impl AllowlistState {
    /// How long the file has not been compared with the list in effect, if that is longer than it should be: reading
    /// it hangs, or it never stops changing.
    #[must_use]
    pub(crate) fn stale(&self) -> Option<Duration> {
        Some(self.compared.elapsed()).filter(|age| *age > STALE_AFTER)
    }

    /// Whether the list in effect is known to be the file's.
    #[must_use]
    pub(crate) fn is_current(&self) -> bool {
        self.error.is_none() && self.stale().is_none()
    }
}

impl AllowlistReloader {
    /// Loads the list for the first time. What a reload only logs is an error here.
    ///
    /// `notifier` tells the service manager of each requested reload, and of its end.
    pub(crate) fn start(file: PathBuf, notifier: Notifier) -> Result<(Self, Allowlist), LoadError> {
        let file = WatchedFile::open(file);
        let entries = Entries::read(file.path(), file.text())?;
        let (publisher, allowlist) = channel(entries);
        let state = watch::Sender::new(AllowlistState {
            file: file.path().to_owned(),
            loaded: SystemTime::now(),
            modified: file.modified(),
            sha256: sha256(&file),
            reloads: 0,
            failures: 0,
            error: None,
            compared: file.confirmed(),
        });
        Ok((Self { file, publisher, state, notifier, reload_requested: None }, allowlist))
    }

    /// What is in force, as it changes.
    #[must_use]
    pub(crate) fn state(&self) -> watch::Receiver<AllowlistState> {
        self.state.subscribe()
    }

    /// Follows the file until cancelled. Each item of `hangups` loads it, changed or not, as soon as it is stable.
    pub(crate) async fn run(mut self, mut hangups: mpsc::Receiver<()>) -> Infallible {
        let mut polls = time::interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = polls.tick() => self.poll().await,
                Some(()) = hangups.recv() => {
                    if self.handle_hangup().await {
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
        if self.reload_requested.is_some_and(|since| since.elapsed() > STALE_AFTER) {
            error!("allowlist not reloaded: its file cannot be read, or does not stop changing");
            self.end_reload();
        }
    }

    /// Requests a reload, and returns whether none was under way.
    async fn handle_hangup(&mut self) -> bool {
        if self.reload_requested.is_some() {
            return false;
        }
        self.reload_requested = Some(Instant::now());
        self.notifier.reloading();
        self.file.request_reload().await;
        true
    }

    fn end_reload(&mut self) {
        if self.reload_requested.take().is_some() {
            self.notifier.ready();
        }
    }

    async fn apply(&mut self) {
        let (file, text) = (self.file.path().to_owned(), self.file.text());
        let old = self.publisher.current();
        let before = old.len();
        let outcome = run_blocking(move || {
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
