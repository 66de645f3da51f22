use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{advance, pause};

/// A clock that stands still until a test advances it, so delays of a busy machine between two lines of a test cost no
/// time.
///
/// It is the clock of the test's runtime, which has to be single-threaded. All timers of servers and clients in that
/// runtime use it; the system's time, [`std::time::Instant`] and other programs do not.
#[derive(Debug)]
pub struct StoppedClock {
    end: mpsc::Sender<()>,
}

impl StoppedClock {
    /// Stops the clock of the current runtime.
    ///
    /// A clock that is only paused jumps to the next timer whenever all tasks wait, even for bytes that the system has
    /// yet to deliver. Tokio prevents the jump while blocking work runs. That work ends after a minute, so a test that
    /// hangs continues and fails.
    #[must_use]
    pub fn stop() -> Self {
        pause();
        let (end, ended) = mpsc::channel();
        spawn_blocking(move || ended.recv_timeout(HANG));
        Self { end }
    }

    /// Advances the clock in small steps until `future` is ready. Runs all runnable tasks before each step.
    pub async fn pass_until<F: Future>(&self, future: F) -> F::Output {
        tokio::select! {
            biased;
            output = future => output,
            () = self.pass(Duration::MAX) => unreachable!("it takes too long"),
        }
    }

    /// Advances the clock by `time` in small steps. Runs all runnable tasks before each step and after the last one.
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

/// Waits until all runnable tasks, and those that they wake, have run.
pub async fn settle() {
    for _ in 0..HOPS {
        yield_now().await;
    }
}

const STEP: Duration = Duration::from_millis(10);
/// The maximum length of a chain of tasks that wake each other.
const HOPS: usize = 16;
/// The real time after which the clock runs again.
const HANG: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test]
    async fn stopped_clock_moves_only_on_request() {
        let clock = StoppedClock::stop();
        let (begin, timer) = (Instant::now(), tokio::spawn(sleep(Duration::from_millis(100))));
        settle().await;
        clock.pass(Duration::from_millis(99)).await;
        assert!(!timer.is_finished());
        clock.pass(Duration::from_millis(2)).await;
        assert!(timer.is_finished());
        assert_eq!(begin.elapsed(), Duration::from_millis(101));
        clock.pass_until(sleep(Duration::from_secs(1))).await;
        assert_eq!(begin.elapsed().as_secs(), 1);
    }
}
