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

/// Keeps the allowlist in effect equal to its file, as long as the file is valid.
#[derive(Debug)]
pub(crate) struct AllowlistReloader {
    file: WatchedFile,
    publisher: Publisher,
    state: watch::Sender<AllowlistState>,
    notifier: Notifier,
    /// The time of a requested reload that is still pending.
    reload_requested: Option<Instant>,
}

/// The state of the allowlist in effect, and of its file.
#[derive(Clone, Debug)]
pub(crate) struct AllowlistState {
    /// The path of the file.
    pub file: PathBuf,
    /// The time at which the list in effect was loaded.
    pub loaded: SystemTime,
    /// The modification time of the file that it was loaded from.
    pub modified: Option<Timestamp>,
    /// SHA-256 of that file, in hexadecimal.
    pub sha256: String,
    /// The number of lists put into effect since the start.
    pub reloads: u64,
    /// The number of times that the file was found invalid since the start.
    pub failures: u64,
    /// The error in the file's current content, because of which an older list is in effect.
    pub error: Option<LoadError>,
    /// The time at which the file was last compared with the list in effect.
    pub compared: Instant,
}

impl AllowlistState {
    /// Returns the time since the file was last compared with the list in effect, if it is longer than expected:
    /// reading the file hangs, or it never stops changing.
    #[must_use]
    pub(crate) fn stale(&self) -> Option<Duration> {
        Some(self.compared.elapsed()).filter(|age| *age > STALE_AFTER)
    }

    /// Returns whether the list in effect is known to be the file's.
    #[must_use]
    pub(crate) fn is_current(&self) -> bool {
        self.error.is_none() && self.stale().is_none()
    }
}

impl AllowlistReloader {
    /// Loads the list for the first time. An error that a reload only logs is returned here.
    ///
    /// `notifier` reports the start and the end of each requested reload to the service manager.
    pub(crate) fn start(file: PathBuf, notifier: Notifier) -> Result<(Self, Allowlist), LoadError> {
        let file = WatchedFile::open(file);
        let entries = Entries::read(file.path(), file.text(), &Entries::default())?;
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

    /// Subscribes to the state of the allowlist.
    #[must_use]
    pub(crate) fn state(&self) -> watch::Receiver<AllowlistState> {
        self.state.subscribe()
    }

    /// Follows the file until cancelled. Each item of `hangups` reloads it, changed or not, as soon as it is stable.
    pub(crate) async fn run(mut self, mut hangups: mpsc::Receiver<()>) -> Infallible {
        let mut polls = time::interval(POLL_INTERVAL);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = polls.tick() => self.poll().await,
                Some(()) = hangups.recv() => {
                    if self.handle_hangup().await {
                        // A whole period has to pass between the two polls that must agree on the content.
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
            // Subscribers wait for a new list, so this change does not wake them.
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
            let new = Entries::read(&file, text, &old)?;
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
