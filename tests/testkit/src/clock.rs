use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{advance, pause};

/// A clock that stands still until a test moves it: what a busy machine does between two lines of the test costs no time.
///
/// It is that of the test's runtime, which has to be single-threaded, so every timer of the servers and clients in that
/// runtime goes by it. The system's time, [`std::time::Instant`] and other programs do not.
#[derive(Debug)]
pub struct StoppedClock {
    end: mpsc::Sender<()>,
}

impl StoppedClock {
    /// Stops the clock of the current runtime.
    ///
    /// Paused alone, the clock would jump to the next timer whenever all tasks wait, even if they wait for bytes that the
    /// system has yet to deliver. Tokio does not let it jump while blocking work runs. That work ends after a minute, so
    /// that a test that hangs goes on, and fails.
    #[must_use]
    pub fn stop() -> Self {
        pause();
        let (end, ended) = mpsc::channel();
        spawn_blocking(move || ended.recv_timeout(HANG));
        Self { end }
    }

    /// Lets `time` pass, in small steps. All tasks that can run do so before each step and behind the last one.
    pub async fn pass(&self, time: Duration) {
        settle().await;
        let mut left = time;
        while !left.is_zero() {
            let step = left.min(STEP);
            advance(step).await;
            settle().await;
            left -= step;
        }
    }
}

impl Drop for StoppedClock {
    fn drop(&mut self) {
        let is_stopped = self.end.send(()).is_ok();
        assert!(is_stopped || thread::panicking(), "the test waited for a minute: for a timer that was not let pass?");
    }
}

/// Returns after all tasks have run that can, and those that they have woken.
pub async fn settle() {
    for _ in 0..HOPS {
        yield_now().await;
    }
}

const STEP: Duration = Duration::from_millis(10);
/// How many tasks wake each other in a row, at most.
const HOPS: usize = 16;
/// Real time, after which the clock runs again.
const HANG: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test]
    async fn stopped_clock_moves_only_when_told() {
        let clock = StoppedClock::stop();
        let (begin, timer) = (Instant::now(), tokio::spawn(sleep(Duration::from_millis(100))));
        settle().await;
        clock.pass(Duration::from_millis(99)).await;
        assert!(!timer.is_finished());
        clock.pass(Duration::from_millis(2)).await;
        assert!(timer.is_finished());
        assert_eq!(begin.elapsed(), Duration::from_millis(101));
    }
}
