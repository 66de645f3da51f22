//! The signals that the process handles, and their senders.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// The signals that stop the process: SIGTERM from systemd, SIGINT from a terminal.
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Installs the signal handlers.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of the signals.
    pub async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Receives reload requests: SIGHUP from `systemctl reload`. Concurrent ones are merged.
///
/// The handler is installed when this returns, so no later SIGHUP ends the process.
pub(crate) fn hangups() -> io::Result<mpsc::Receiver<()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            if matches!(sender.try_send(()), Err(mpsc::error::TrySendError::Closed(()))) {
                break;
            }
        }
    });
    Ok(receiver)
}
