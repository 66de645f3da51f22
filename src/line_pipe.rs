//! Log lines on their way out: written by a thread of its own, so that a full pipe stalls nobody.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A queue of lines in front of a slow writer; cheap to clone.
#[derive(Clone, Debug)]
pub struct LinePipe(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Told when the queue is no longer empty.
    filled: Condvar,
    /// Told when all that was queued is written.
    drained: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: Vec<u8>,
    /// Lines that found the queue full since the writer last looked.
    lost: u64,
    /// Lines that found the queue full, ever.
    lost_ever: u64,
    is_writing: bool,
}

impl LinePipe {
    /// Starts the thread that writes to `out`. Lines that were lost are counted there by a line that `lost` makes.
    pub fn start(out: impl Write + Send + 'static, lost: fn(u64) -> String) -> io::Result<Self> {
        let shared = Arc::<Shared>::default();
        let writer = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_to(out, lost))?;
        Ok(Self(shared))
    }

    /// Queues what `write` appends, or counts it as lost when the queue is full.
    pub fn push(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut queue = self.0.lock();
        if queue.lines.len() >= CAPACITY {
            queue.lost += 1;
            queue.lost_ever += 1;
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

    /// Waits until all that is queued is written, but not for ever.
    pub fn drain(&self, patience: Duration) {
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.lines.is_empty() || queue.lost > 0;
        // Nothing hangs on the outcome: what a stuck pipe did not take by now is lost.
        drop(self.0.drained.wait_timeout_while(self.0.lock(), patience, is_busy));
    }
}

/// One `write` is one line, as `tracing-subscriber` does it.
impl Write for LinePipe {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(|lines| lines.extend_from_slice(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // The queue is whole after every statement that changes it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut out: impl Write, lost: fn(u64) -> String) {
        let mut batch = Vec::new();
        loop {
            let is_empty = |queue: &mut Queue| queue.lines.is_empty() && queue.lost == 0;
            let mut queue = self.filled.wait_while(self.lock(), is_empty).unwrap_or_else(PoisonError::into_inner);
            mem::swap(&mut batch, &mut queue.lines);
            let lost_lines = mem::take(&mut queue.lost);
            queue.is_writing = true;
            drop(queue);

            if lost_lines > 0 {
                batch.extend_from_slice(lost(lost_lines).as_bytes());
            }
            // Nobody could be told of a failure: this is where failures are told.
            let _ = out.write_all(&batch).and_then(|()| out.flush());
            batch.clear();
            batch.shrink_to(KEEP);

            self.lock().is_writing = false;
            self.drained.notify_all();
            // Lets a batch gather, so that a busy gate does not wake this thread for each line.
            thread::sleep(GATHER);
        }
    }
}

/// Bytes queued at the most: some thousands of lines.
const CAPACITY: usize = 1024 * 1024;
/// Bytes of a batch's buffer that are kept for the next.
const KEEP: usize = 64 * 1024;
/// How long lines gather before the next batch is written.
const GATHER: Duration = Duration::from_millis(20);

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

    fn stuck() -> (LinePipe, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let (go, go_receiver) = mpsc::channel();
        let (taken_sender, taken) = mpsc::channel();
        let out = Stuck { go: go_receiver, taken: taken_sender };
        (LinePipe::start(out, |lines| format!("{lines} lost\n")).unwrap(), go, taken)
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
}
