//! Log lines on their way out: written by a thread of its own, so that a full pipe delays no request.
//!
//! No line is lost without being counted: in the log itself, once it can be written again, in the metrics, and by an
//! event at the begin and the end of each outage.

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
    /// Signalled when the queue is no longer empty.
    filled: Condvar,
    /// Signalled when all that was queued is written.
    drained: Condvar,
    tell: fn(&Loss),
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines that found the queue full since the writer last looked.
    lost: u64,
    /// Lines lost since the start.
    lost_ever: u64,
    is_writing: bool,
    /// Lines of the batch that cannot be written.
    held: u64,
    /// Why nothing can be written at the moment.
    error: Option<String>,
    outage: Option<Outage>,
}

/// A time in which lines are lost, or in which nothing can be written.
#[derive(Clone, Copy, Debug)]
struct Outage {
    since: Instant,
    /// When it was last noticed.
    last: Instant,
    lost: u64,
}

/// The begin or the end of an outage: each is reported once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Lines are lost from now on, unless writing works again very soon.
    Begins {
        /// Why.
        reason: String,
    },
    /// Lines are written again.
    Ends {
        /// Lines that were lost.
        lost: u64,
        /// How long it was.
        lasted: Duration,
    },
}

impl NonBlockingWriter {
    /// Starts the thread that writes to `out`. Lost lines are counted there by a line that `notice` makes.
    pub fn start(out: impl Write + Send + 'static, notice: fn(u64) -> String) -> io::Result<Self> {
        Self::start_reporting(out, notice, |_| {})
    }

    /// The same, and calls `tell` at the begin and the end of each outage.
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

    /// Queues what `write` appends, or counts it as lost when the queue is full.
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

    /// How many lines were lost since the start.
    #[must_use]
    pub fn lost_lines(&self) -> u64 {
        self.0.lock().lost_ever
    }

    /// Why lines are lost at the moment, if they are.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let queue = self.0.lock();
        let outage = queue.outage?;
        let reason = queue.error.as_deref().unwrap_or(FULL);
        Some(format!("{reason}; {} lines are lost", outage.lost))
    }

    /// Whether a line that is pushed now will be written, as far as that can be known: there is room left for those of
    /// requests in flight.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        let queue = self.0.lock();
        queue.error.is_none() && queue.lines.len() < CAPACITY / 2
    }

    /// Waits until all that is queued is written, but not for ever. Returns how many lines the current outage has cost,
    /// if there is one, with those that are still queued.
    pub fn drain(&self, patience: Duration) -> Option<u64> {
        let is_busy = |queue: &mut Queue| {
            queue.error.is_none() && (queue.is_writing || !queue.lines.is_empty() || queue.lost > 0)
        };
        let waited = self.0.drained.wait_timeout_while(self.0.lock(), patience, is_busy);
        let (queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        queue.outage.map(|outage| outage.lost + queue.held + count(&queue.lines))
    }
}

/// One `write` is one line, as `tracing-subscriber` does it.
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
    /// Counts lost lines, and returns whether an outage begins with them.
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
        // The queue is whole after every statement that changes it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_begin(&self, began: bool, reason: &str) {
        if began {
            (self.tell)(&Loss::Begins { reason: reason.to_owned() });
        }
    }
}

/// The thread's side of a pipe.
struct Writer<W> {
    shared: Arc<Shared>,
    out: W,
    notice: fn(u64) -> String,
    /// Lost lines that no notice has counted yet.
    unsaid: u64,
    /// The last line that was written has no end.
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

            // An error that passes within a moment costs no line: a disk that is full while a log is rotated.
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
            // Lets a batch gather, so that a busy proxy does not wake this thread for each line.
            thread::sleep(if shared.lock().outage.is_some() { RETRY } else { GATHER });
        }
    }

    /// Writes what is owed from before, then the lines of `batch`. On an error the whole lines that were written are
    /// taken out of it.
    fn write(&mut self, batch: &mut Vec<u8>) -> io::Result<()> {
        if self.is_cut {
            // A new line, also if what was cut is gone meanwhile: the rest of it would be no line.
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

    /// Notes that writing fails, so that `held` lines have to wait, and returns for how long it has.
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

    /// Ends an outage when nothing was lost for a moment: a reader that is slow is one outage, not hundreds.
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

/// Bytes queued at the most: some thousands of lines.
const CAPACITY: usize = 1024 * 1024;
/// Bytes of a batch's buffer that are kept for the next.
const KEEP: usize = 64 * 1024;
/// How long lines gather before the next batch is written.
const GATHER: Duration = Duration::from_millis(20);
/// How long lines are kept that cannot be written.
const HOLD: Duration = Duration::from_secs(1);
/// How long to wait before writing is tried again.
const RETRY: Duration = Duration::from_millis(50);
/// How long nothing may be lost for an outage to be over.
const CALM: Duration = Duration::from_secs(1);

/// Why lines are lost when writing them does not fail.
const FULL: &str = "its reader is too slow";

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A pipe that takes nothing until it is told to, and passes on what it takes.
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
        pipe.drain(Duration::from_secs(10));
        assert_eq!(taken.try_recv().unwrap(), "last\n");
    }

    /// A disk that takes so many bytes until there is room again, and then all.
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

    fn until(mut is_so: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is_so() {
            assert!(began.elapsed().as_secs() < 20, "this takes too long");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Each line that was pushed is there as a whole, or is counted.
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
        let mut pipe = NonBlockingWriter::start(disk.clone(), |lines| format!("{lines} lost\n")).unwrap();
        pipe.write_all(b"line 0.\nline 1.\n").unwrap();
        until(|| pipe.problem().is_some());
        disk.0.lock().unwrap().0 = usize::MAX;
        pipe.drain(Duration::from_secs(10));
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
        assert_eq!(pipe.drain(Duration::from_secs(10)), Some(1));
    }
}
