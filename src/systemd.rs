//! The service manager that started this process: what it is told (`sd_notify(3)`), and the sockets that it passed on
//! (`sd_listen_fds(3)`).

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// systemd, when it waits for news of this process; nobody else is told anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manager {
    listens: bool,
}

impl Manager {
    /// The manager that the environment names.
    #[must_use]
    pub fn of_environment() -> Self {
        Self { listens: std::env::var_os("NOTIFY_SOCKET").is_some() }
    }

    /// The start, or a reload, is over.
    pub fn ready(self) {
        self.tell(&[NotifyState::Ready]);
    }

    /// A reload begins. systemd goes by the time to tell it from an earlier one.
    pub fn reloading(self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "there is no monotonic clock"),
        }
    }

    /// Nobody is let in any more; what is in flight is finished.
    pub fn stopping(self) {
        self.tell(&[NotifyState::Stopping]);
    }

    /// A line for `systemctl status`.
    pub fn status(self, text: &str) {
        self.tell(&[NotifyState::Status(text)]);
    }

    /// The process is not stuck.
    pub fn alive(self) {
        self.tell(&[NotifyState::Watchdog]);
    }

    /// How long the manager lets pass between two signs of life before it restarts the process, if it minds.
    #[must_use]
    pub fn watchdog(self) -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|_| self.listens)
    }

    fn tell(self, states: &[NotifyState<'_>]) {
        if self.listens
            && let Err(error) = sd_notify::notify(states)
        {
            tracing::warn!(%error, "systemd cannot be told: {states:?}");
        }
    }
}

/// The listeners that the manager has opened, by the names of their sockets (`FileDescriptorName=`).
///
/// To be asked once, before there are threads: it removes from the environment what would mislead child processes.
pub fn listeners() -> io::Result<Vec<(String, TcpListener)>> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut passed = ListenFd::from_env();
    let mut names = names.split(':').map(str::to_owned);
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let name = names.next().unwrap_or_default();
        if let Some(listener) = passed.take_tcp_listener(index)? {
            listener.set_nonblocking(true)?;
            listeners.push((name, listener));
        }
    }
    Ok(listeners)
}
