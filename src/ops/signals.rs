//! The signals that the process listens to, and who sends them.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// The end of the process: SIGTERM comes from systemd, SIGINT from a terminal.
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Listens from now on.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Resolves when one of the signals comes.
    pub async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Wishes to reload: SIGHUP comes from `systemctl reload`. Several that come at once are one.
///
/// The handler is in place when this returns, so that no signal from then on ends the process.
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
