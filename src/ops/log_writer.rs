//! Non-blocking log output: a separate thread writes the lines, so a full pipe delays no request.
//!
//! Every lost line is counted: in the log itself once it is writable again, in the metrics, and in an event at the
//! start and end of each outage.
//!
//! Written by hand: `tracing_appender::non_blocking` bounds its queue by lines rather than bytes, writes each line by
//! itself, and starts a line after an outage in the middle of the one that was cut.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// A queue of lines in front of a slow writer; cheap to clone.
#[derive(Clone, Debug)]
pub struct NonBlockingWriter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Signalled when the queue stops being empty.
    filled: Condvar,
    /// Signalled when all queued lines are written.
    drained: Condvar,
    report: fn(&Loss),
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines dropped because the queue was full, since the thread last swapped the queue.
    lost: u64,
    /// Lines lost since the start.
    lost_ever: u64,
    is_writing: bool,
    /// Lines of the batch that is being written.
    held: u64,
    /// The error that prevents writing at present.
    error: Option<String>,
    outage: Option<Outage>,
}

/// A period in which lines are lost or cannot be written.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    /// The time of the last lost line or write error.
    last: Instant,
    lost: u64,
}

/// The start or the end of an outage; each is reported once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Lines are lost from now on, unless writing succeeds again very soon.
    Begins {
        /// The cause of the outage.
        reason: String,
    },
    /// Lines are written again.
    Ends {
        /// The number of lost lines.
        lost: u64,
        /// The duration of the outage.
        lasted: Duration,
    },
}

impl NonBlockingWriter {
    /// Starts the thread that writes to `out`. A line built by `notice` reports the number of lost lines there.
    pub fn start(out: impl Write + Send + 'static, notice: fn(u64) -> String) -> io::Result<Self> {
        Self::start_reporting(out, notice, |_| {})
    }

    /// Does the same as [`Self::start`], and calls `report` at the start and the end of each outage.
    pub fn start_reporting(
        out: impl Write + Send + 'static,
        notice: fn(u64) -> String,
        report: fn(&Loss),
    ) -> io::Result<Self> {
        let (queue, filled, drained) = Default::default();
        let shared = Arc::new(Shared { queue, filled, drained, report });
        let writer = Writer { shared: Arc::clone(&shared), out, notice, unsaid: 0, is_cut: false };
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.run())?;
        Ok(Self(shared))
    }

    /// Queues the bytes that `write` appends, or counts a lost line if the queue is full.
    pub fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut queue = self.0.lock();
        if queue.lines.len() >= CAPACITY {
            queue.lost += 1;
            let began = queue.lose(1);
            drop(queue);
            self.0.report_begin(began, FULL);
            return;
        }
        let was_empty = queue.lines.is_empty();
        write(&mut queue.lines);
        if was_empty {
            self.0.filled.notify_one();
        }
    }

    /// Returns the number of lines lost since the start.
    #[must_use]
    pub fn lost_lines(&self) -> u64 {
        self.0.lock().lost_ever
    }

    /// Returns the reason why lines are lost at present, if they are.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let queue = self.0.lock();
        let outage = queue.outage?;
        let reason = queue.error.as_deref().unwrap_or(FULL);
        Some(format!("{reason}; {} lines are lost", outage.lost))
    }

    /// Returns whether a line pushed now is likely to be written. Half of the queue is reserved for the lines of
    /// requests in flight.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let queue = self.0.lock();
        queue.error.is_none() && queue.lines.len() < CAPACITY / 2
    }

    /// Waits until all queued lines are written, at most for `patience`. Returns the number of lines that are lost if the
    /// process exits now: those of the current outage, and those that are still queued.
    pub fn drain(&self, patience: Duration) -> Option<u64> {
        let is_busy = |queue: &mut Queue| {
            queue.error.is_none() && (queue.is_writing || !queue.lines.is_empty() || queue.lost > 0)
        };
        let waited = self.0.drained.wait_timeout_while(self.0.lock(), patience, is_busy);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let unwritten = queue.held + count(&queue.lines);
        match queue.outage {
            Some(outage) => Some(outage.lost + unwritten),
            None => Some(unwritten).filter(|&lines| lines > 0),
        }
    }
}

/// Each `write` is one line, as `tracing-subscriber` guarantees.
impl Write for NonBlockingWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(|lines| lines.extend_from_slice(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Queue {
    /// Counts lost lines, and returns whether they begin an outage.
    fn lose(&mut self, lines: u64) -> bool {
        self.lost_ever += lines;
        let now = Instant::now();
        let began = self.outage.is_none();
        let outage = self.outage.get_or_insert(Outage { since: now, last: now, lost: 0 });
        outage.lost += lines;
        outage.last = now;
        began
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Safe despite poisoning: the queue is consistent after every statement that changes it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report_begin(&self, began: bool, reason: &str) {
        if began {
            (self.report)(&Loss::Begins { reason: reason.to_owned() });
        }
    }
}

/// The state of the writing thread.
struct Writer<W> {
    shared: Arc<Shared>,
    out: W,
    notice: fn(u64) -> String,
    /// Lost lines that no notice has reported yet.
    unsaid: u64,
    /// True if the last written line is incomplete.
    is_cut: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self) {
        let mut batch = Vec::new();
        loop {
            let is_idle = |queue: &mut Queue| queue.lines.is_empty() && queue.lost == 0 && queue.outage.is_none();
            let shared = Arc::clone(&self.shared);
            let mut queue = shared.filled.wait_while(shared.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut batch, &mut queue.lines);
            let lost = mem::take(&mut queue.lost);
            queue.held = count(&batch);
            queue.is_writing = true;
            drop(queue);

            // Retry before dropping lines: a short error, such as a full disk during log rotation, then costs no line.
            while let Err(error) = self.write(&mut batch) {
                let lines = count(&batch);
                if self.note_error(&error, lines) > HOLD {
                    let mut queue = shared.lock();
                    queue.held = 0;
                    queue.lose(lines);
                    self.unsaid += lines;
                    batch.clear();
                    break;
                }
                thread::sleep(RETRY);
            }
            self.unsaid += lost;
            if batch.is_empty() && self.write(&mut batch).is_ok() {
                self.note_success();
            }
            batch.clear();
            batch.shrink_to(KEEP);

            let mut queue = shared.lock();
            (queue.held, queue.is_writing) = (0, false);
            drop(queue);
            shared.drained.notify_all();
            // Batch the lines, so that a busy proxy does not wake this thread for each one.
            thread::sleep(if shared.lock().outage.is_some() { RETRY } else { GATHER });
        }
    }

    /// Writes the pending notice, then the lines of `batch`. On an error, removes the lines written completely from it.
    fn write(&mut self, batch: &mut Vec<u8>) -> io::Result<()> {
        if self.is_cut {
            // End the incomplete line even if its start no longer exists: the remainder alone would not be a valid
            // line.
            self.out.write_all(b"\n")?;
            self.is_cut = false;
        }
        if self.unsaid > 0 {
            let mut notice = (self.notice)(self.unsaid).into_bytes();
            self.write_lines(&mut notice)?;
            self.unsaid = 0;
        }
        self.write_lines(batch)?;
        self.out.flush()
    }

    fn write_lines(&mut self, lines: &mut Vec<u8>) -> io::Result<()> {
        let mut written = 0;
        while written < lines.len() {
            match self.out.write(&lines[written..]) {
                Ok(0) => return self.cut(lines, written, io::ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.cut(lines, written, error),
            }
        }
        lines.clear();
        Ok(())
    }

    fn cut(&mut self, lines: &mut Vec<u8>, written: usize, error: io::Error) -> io::Result<()> {
        let whole = lines[..written].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        self.is_cut |= written > whole;
        lines.drain(..whole);
        Err(error)
    }

    /// Records that writing fails and `held` lines wait. Returns the duration of the failure.
    fn note_error(&self, error: &io::Error, held: u64) -> Duration {
        let mut queue = self.shared.lock();
        queue.held = held;
        let began = queue.lose(0);
        let reason = error.to_string();
        queue.error = Some(reason.clone());
        let outage = queue.outage.expect("it was noted above");
        drop(queue);
        self.shared.report_begin(began, &reason);
        outage.last - outage.since
    }

    /// Ends an outage after [`CALM`] without a loss, so that a slow reader causes one outage instead of hundreds.
    fn note_success(&self) {
        let mut queue = self.shared.lock();
        (queue.error, queue.held) = (None, 0);
        let Some(outage) = queue.outage.filter(|outage| outage.last.elapsed() > CALM) else { return };
        queue.outage = None;
        drop(queue);
        (self.shared.report)(&Loss::Ends { lost: outage.lost, lasted: outage.last - outage.since });
    }
}

fn count(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}

/// The maximum size of the queue in bytes: several thousand lines.
const CAPACITY: usize = 1024 * 1024;
/// The capacity of a batch's buffer, in bytes, that is kept for the next batch.
const KEEP: usize = 64 * 1024;
/// The time for which lines gather before the next batch is written.
const GATHER: Duration = Duration::from_millis(20);
/// The time for which lines that cannot be written are kept.
const HOLD: Duration = Duration::from_secs(1);
/// The delay before a write is retried.
const RETRY: Duration = Duration::from_millis(50);
/// The time without a loss after which an outage is over.
const CALM: Duration = Duration::from_secs(1);

/// The reason for lost lines when writing does not fail.
const FULL: &str = "its reader is too slow";

#[cfg(test)]
mod tests;
