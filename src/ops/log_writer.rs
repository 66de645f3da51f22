//! Non-blocking log output: a separate thread writes the lines, so a full pipe delays no request.
//!
//! Every lost line is counted: in the log itself once it is writable again, in the metrics, and in an event at the
//! start and end of each outage.

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
    tell: fn(&Loss),
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines dropped because the queue was full, since the thread last swapped the queue.
    lost: u64,
    /// Lines lost since the start.
    lost_ever: u64,
    is_writing: bool,
    /// Lines of the batch that cannot be written at present.
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

    /// Does the same as [`Self::start`], and calls `tell` at the start and the end of each outage.
    pub fn start_reporting(
        out: impl Write + Send + 'static,
        notice: fn(u64) -> String,
        tell: fn(&Loss),
    ) -> io::Result<Self> {
        let (queue, filled, drained) = Default::default();
        let shared = Arc::new(Shared { queue, filled, drained, tell });
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
            self.0.tell_begin(began, FULL);
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

    /// Waits until all queued lines are written, at most for `patience`. Returns the number of lines that the current
    /// outage has cost, if there is one, including the queued ones.
    pub fn drain(&self, patience: Duration) -> Option<u64> {
        let is_busy = |queue: &mut Queue| {
            queue.error.is_none() && (queue.is_writing || !queue.lines.is_empty() || queue.lost > 0)
        };
        let waited = self.0.drained.wait_timeout_while(self.0.lock(), patience, is_busy);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.outage.map(|outage| outage.lost + queue.held + count(&queue.lines))
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

    fn tell_begin(&self, began: bool, reason: &str) {
        if began {
            (self.tell)(&Loss::Begins { reason: reason.to_owned() });
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

            shared.lock().is_writing = false;
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
        self.shared.tell_begin(began, &reason);
        outage.last - outage.since
    }

    /// Ends an outage after [`CALM`] without a loss, so that a slow reader causes one outage instead of hundreds.
    fn note_success(&self) {
        let mut queue = self.shared.lock();
        (queue.error, queue.held) = (None, 0);
        let Some(outage) = queue.outage.filter(|outage| outage.last.elapsed() > CALM) else { return };
        queue.outage = None;
        drop(queue);
        (self.shared.tell)(&Loss::Ends { lost: outage.lost, lasted: outage.last - outage.since });
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
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A blocked pipe: accepts nothing until `go` is signalled, and passes on what it accepts.
    struct Stuck {
        go: mpsc::Receiver<()>,
        taken: mpsc::Sender<String>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.go.recv().map_err(io::Error::other)?;
            self.taken.send(String::from_utf8_lossy(bytes).into_owned()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn stuck() -> (NonBlockingWriter, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let (go, go_receiver) = mpsc::channel();
        let (taken_sender, taken) = mpsc::channel();
        let out = Stuck { go: go_receiver, taken: taken_sender };
        (NonBlockingWriter::start(out, |lines| format!("{lines} lost\n")).unwrap(), go, taken)
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let (mut pipe, go, taken) = stuck();
        pipe.write_all(b"one\n").unwrap();
        go.send(()).unwrap();
        assert_eq!(taken.recv().unwrap(), "one\n");
        pipe.write_all(b"two\n").unwrap();
        go.send(()).unwrap();
        assert_eq!(taken.recv().unwrap(), "two\n");
    }

    #[test]
    fn a_full_pipe_stalls_nobody_and_what_is_lost_is_counted() {
        let (pipe, go, taken) = stuck();
        let line = vec![b'x'; 1000];
        for _ in 0..5000 {
            pipe.push(|lines| lines.extend_from_slice(&line));
        }
        drop((0..3).map(|_| go.send(())).collect::<Vec<_>>());
        let (mut kept, mut lost) = (0, 0);
        while kept + lost < 5000 {
            let batch = taken.recv().unwrap();
            let tail = batch.trim_start_matches('x');
            kept += (batch.len() - tail.len()) / line.len();
            lost += tail.strip_suffix(" lost\n").map_or(0, |count| count.parse().unwrap());
        }
        assert!(lost > 0);
        assert_eq!(kept + lost, 5000);
        assert_eq!(pipe.lost_lines(), lost as u64);
    }

    #[test]
    fn draining_waits_for_what_is_queued_but_not_for_ever() {
        let (mut pipe, go, taken) = stuck();
        pipe.write_all(b"last\n").unwrap();
        pipe.drain(Duration::from_millis(1));
        assert!(taken.try_recv().is_err());
        go.send(()).unwrap();
        pipe.drain(Duration::from_mins(1));
        assert_eq!(taken.try_recv().unwrap(), "last\n");
    }

    /// A disk that accepts a number of bytes, fails as full, and accepts everything once space is freed.
    #[derive(Clone)]
    struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let (room, text) = &mut *self.0.lock().unwrap();
            let taken = bytes.len().min(*room);
            if taken == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            *room -= taken;
            text.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A disk that has room again as soon as it has refused a write.
    struct FullOnce(Disk);

    impl Write for FullOnce {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes).inspect_err(|_| self.0.0.lock().unwrap().0 = usize::MAX)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn until(mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed().as_secs() < 60, "this takes too long");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Asserts that each pushed line is either complete in `text` or counted as lost.
    fn accounted(text: &str, pushed: usize) {
        let kept = text.lines().filter(|line| line.starts_with("line ") && line.ends_with('.')).count();
        let lost = text.lines().filter_map(|line| line.strip_suffix(" lost")?.parse::<usize>().ok()).sum::<usize>();
        assert_eq!(kept + lost, pushed, "{text}");
    }

    #[test]
    fn full_disk_cuts_no_line_and_loses_none_uncounted() {
        let disk = Disk(Arc::new(Mutex::new((33, Vec::new()))));
        let mut pipe = NonBlockingWriter::start(disk.clone(), |lines| format!("{lines} lost\n")).unwrap();
        for number in 0..5 {
            pipe.write_all(format!("line {number}.\n").as_bytes()).unwrap();
        }
        until(|| pipe.problem().is_some());
        assert!(!pipe.is_writable());
        until(|| pipe.lost_lines() > 0);
        pipe.write_all(b"line 5.\n").unwrap();
        until(|| pipe.lost_lines() >= 2);
        disk.0.lock().unwrap().0 = usize::MAX;
        until(|| pipe.is_writable());
        pipe.write_all(b"line 6.\n").unwrap();
        until(|| pipe.problem().is_none());
        let text = String::from_utf8(disk.0.lock().unwrap().1.clone()).unwrap();
        accounted(&text, 7);
        assert!(text.contains("\nl\n2 lost\n"), "a new line is begun: {text}");
        assert!(text.ends_with("line 6.\n"), "{text}");
        assert_eq!(pipe.lost_lines(), 2);
    }

    #[test]
    fn disk_that_is_full_for_a_moment_loses_no_line() {
        let disk = Disk(Arc::new(Mutex::new((10, Vec::new()))));
        let full_once = FullOnce(disk.clone());
        let mut pipe = NonBlockingWriter::start(full_once, |lines| format!("{lines} lost\n")).unwrap();
        pipe.write_all(b"line 0.\nline 1.\n").unwrap();
        pipe.drain(Duration::from_mins(1));
        until(|| pipe.is_writable());
        assert_eq!(disk.0.lock().unwrap().1, b"line 0.\nli\nline 1.\n");
        assert_eq!(pipe.lost_lines(), 0);
    }

    #[test]
    fn lines_that_are_left_at_the_end_are_counted() {
        let disk = Disk(Arc::new(Mutex::new((0, Vec::new()))));
        let mut pipe = NonBlockingWriter::start(disk, |lines| format!("{lines} lost\n")).unwrap();
        pipe.write_all(b"line 0.\n").unwrap();
        until(|| pipe.lost_lines() == 1);
        assert_eq!(pipe.drain(Duration::from_mins(1)), Some(1));
    }
}
