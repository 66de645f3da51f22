//! A file that is polled, and reports when it holds something else.
//!
//! The path is polled, because a watch on a file or its directory misses what happens behind a symlink, and the path is
//! all that the operator names.
//!
//! A look at a path can hang: a network mount that does not answer stops `stat(2)` for as long as it is away. Each look
//! therefore has a thread of its own and a time limit, after which the next poll goes on without it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use std::{future, mem, thread};

use jiff::Timestamp;
use nix::fcntl::OFlag;
use tokio::sync::Semaphore;
use tokio::task::{self, JoinError};
use tokio::time::{self, timeout};

/// A path and what was read there last.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    /// The stamp of the last look; two looks have to agree before the file is read.
    seen: Option<Stamp>,
    /// The last reading, whether it was good or not.
    reading: Reading,
    /// A reload was requested and has not happened yet.
    reload_requested: bool,
    /// When the file was last known to hold [`WatchedFile::text`].
    confirmed: Instant,
    /// Permits for looks, held by those that have not returned.
    looks: Arc<Semaphore>,
    /// The last look that did not return in time, and the pause after it.
    hung: Option<(time::Instant, Duration)>,
}

/// The file's text, or why it cannot be read, in the system's words.
pub(crate) type Text = Result<Arc<str>, String>;

impl WatchedFile {
    /// Reads the file for the first time.
    pub(crate) fn open(path: PathBuf) -> Self {
        let reading = Reading::take_in_time(&path);
        Self {
            path,
            seen: reading.stamp,
            reading,
            reload_requested: false,
            confirmed: Instant::now(),
            looks: Arc::new(Semaphore::new(HUNG_LOOKS)),
            hung: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn text(&self) -> Text {
        self.reading.text.clone()
    }

    /// When the file was modified that was read last.
    pub(crate) fn modified(&self) -> Option<Timestamp> {
        let (seconds, nanoseconds) = self.reading.stamp?.modified;
        Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()
    }

    /// When the file was last known to hold [`WatchedFile::text`]: long ago if looking at it hangs, or if it never
    /// stops changing.
    pub(crate) fn confirmed(&self) -> Instant {
        self.confirmed
    }

    /// Looks once, and returns whether there is news in [`WatchedFile::text`]. To be called every [`POLL_INTERVAL`].
    pub(crate) async fn poll(&mut self) -> bool {
        let Some(stamp) = self.look(Stamp::of).await else { return false };
        let is_steady = stamp == self.seen;
        self.seen = stamp;
        if !is_steady {
            return false;
        }
        if stamp == self.reading.stamp && self.reading.is_settled && !self.reload_requested {
            self.confirmed = Instant::now();
            return false;
        }
        self.read().await
    }

    /// Requests a reading whether the file has changed or not. It happens as soon as two looks agree from now on: a
    /// writer that signals before it has finished does not get half of its file read.
    pub(crate) async fn request_reload(&mut self) {
        self.reload_requested = true;
        if let Some(stamp) = self.look(Stamp::of).await {
            self.seen = stamp;
        }
    }

    async fn read(&mut self) -> bool {
        let Some(reading) = self.look(Reading::take).await else { return false };
        if reading.is_torn {
            // The file is being written: the polls notice when that has ended.
            return false;
        }
        let is_known = reading.text == self.reading.text;
        self.reading = reading;
        self.confirmed = Instant::now();
        let reload_requested = mem::take(&mut self.reload_requested);
        reload_requested || !is_known
    }

    /// Returns what `look` finds at the path, or nothing if it hangs, or if one before it did a short while ago.
    async fn look<T: Send + 'static>(&mut self, look: fn(&Path) -> T) -> Option<T> {
        if self.hung.is_some_and(|(since, pause)| since.elapsed() < pause) {
            return None;
        }
        let permit = Arc::clone(&self.looks).try_acquire_owned().ok()?;
        let path = self.path.clone();
        let looking = run_blocking(move || {
            let found = look(&path);
            drop(permit);
            found
        });
        if let Ok(found) = timeout(LOOK_TIMEOUT, looking).await {
            if self.hung.take().is_some() {
                tracing::info!(file = %self.path.display(), "the file can be read again");
            }
            return Some(found);
        }
        if self.hung.is_none() {
            let file = self.path.display();
            tracing::error!(%file, "reading the file hangs, what was read before stays in effect");
        }
        let pause = self.hung.map_or(LOOK_TIMEOUT, |(_, pause)| (2 * pause).min(LONGEST_PAUSE));
        self.hung = Some((time::Instant::now(), pause));
        None
    }
}

/// One reading of the file.
#[derive(Debug)]
struct Reading {
    stamp: Option<Stamp>,
    text: Text,
    /// The file changed while it was read.
    is_torn: bool,
    /// A later change is sure to show in the stamp.
    is_settled: bool,
}

impl Reading {
    fn take(path: &Path) -> Self {
        let stamp = Stamp::of(path);
        let text = read_regular(path).map(Arc::from).map_err(|error: io::Error| error.to_string());
        let is_torn = stamp != Stamp::of(path);
        // A file system's clock has ticks, and two changes within one leave the same stamp. So
        // text is final only when its stamp was old at the reading, as git does it; and an error
        // never is, because it may pass without a trace.
        let is_settled = text.is_ok() && !is_torn && stamp.is_some_and(Stamp::is_old);
        Self { stamp, text, is_torn, is_settled }
    }

    /// The same with a time limit, for the start, where there is nothing to go on with.
    fn take_in_time(path: &Path) -> Self {
        let path = path.to_owned();
        in_time(move || Self::take(&path)).unwrap_or_else(|error| Self {
            stamp: None,
            text: Err(error.to_string()),
            is_torn: false,
            is_settled: false,
        })
    }
}

/// Reads a text file as a whole, unless reading it could hang or would not end.
pub(crate) fn read_in_time(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    in_time(move || read_regular(&path))?
}

/// Runs `work` in a thread of its own, and returns what it returns if that does not take too long.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("read".to_owned()).spawn(move || {
        // If it comes too late, there is no receiver any more.
        let _ = sender.send(work());
    })?;
    receiver.recv_timeout(START_TIMEOUT).map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("reading it took longer than {} s", START_TIMEOUT.as_secs()))
    })
}

/// Reads a regular file. Opening a FIFO or reading a terminal would wait for someone else.
fn read_regular(path: &Path) -> io::Result<String> {
    // Looked at before it is opened, because opening a device can have effects.
    check_regular(&fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    check_regular(&file.metadata()?)?;
    let mut text = String::new();
    let bytes = File::take(file, MAX_BYTES + 1).read_to_string(&mut text)?;
    if bytes as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_BYTES / 1024 / 1024)));
    }
    Ok(text)
}

fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    if metadata.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
}

/// The attributes that show that a path leads to other content than before, without reading it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Follows symlinks; `None` if the path leads nowhere.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// Goes by the time of change only: the time of modification can be set to anything.
    fn is_old(self) -> bool {
        Timestamp::now().as_second() - self.changed.0 > COARSEST_TICK
    }
}

/// Runs `work`, which waits for a disk or computes for long, where it delays no request.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime is ending, and the caller with it.
        Err(Err(_)) => future::pending().await,
    }
}

/// How often to look: two polls and a read are well within the second that a change may take.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// How long a file may be unconfirmed before that is reported: a look that hangs, or a file that never stops changing.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(5);

/// How long a look may take before it is left alone.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest pause between two looks that hang.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Looks that may hang at once, each in a thread: about an hour of them.
const HUNG_LOOKS: usize = 64;
/// How long the first reading may take.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a file; 100,000 entries of an allowlist are some 10 MiB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Seconds; FAT has the coarsest clock in use.
const COARSEST_TICK: i64 = 2;

#[cfg(test)]
impl WatchedFile {
    /// As if the file were old, so that only its stamp can show a change.
    pub(crate) fn pretend_old(&mut self) {
        self.reading.is_settled = true;
    }

    /// As if the file had changed within the tick of the clock in which it was read.
    pub(crate) fn pretend_same_tick(&mut self) {
        self.reading.stamp = Stamp::of(&self.path);
    }

    /// As if looking at the file had hung for longer than it may.
    pub(crate) fn pretend_hung(&mut self) {
        self.hung = Some((time::Instant::now(), LONGEST_PAUSE));
        self.confirmed = Instant::now().checked_sub(2 * STALE_AFTER).expect("the machine runs for longer than this");
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use tokio::time::advance;

    use super::*;

    #[test]
    fn only_the_text_of_an_old_file_is_final() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("list"), "text").unwrap();
        assert!(!Reading::take(&dir.path().join("list")).is_settled, "new");
        assert!(Reading::take(Path::new("/etc/passwd")).is_settled, "old");
        assert!(!Reading::take(Path::new("/usr")).is_settled, "an error");
    }

    #[test]
    fn file_that_is_not_regular_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let reason = |path: &Path| Reading::take(path).text.unwrap_err();
        assert_eq!(reason(&fifo), "it is not a regular file");
        assert_eq!(reason(Path::new("/dev/zero")), "it is not a regular file");
        assert_eq!(reason(dir.path()), "it is a directory");
    }

    /// Hangs until the file is gone.
    fn hang(path: &Path) {
        while path.exists() {
            thread::sleep(Duration::from_millis(10));
        }
    }

    // Tokio's paused clock does not move by itself while a look runs.
    #[tokio::test(start_paused = true)]
    async fn look_that_hangs_is_left_and_the_next_ones_pause() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("list"), "text").unwrap();
        let mut file = WatchedFile::open(dir.path().join("list"));
        let confirmed = file.confirmed();
        assert_eq!(tokio::join!(file.look(hang), advance(LOOK_TIMEOUT)).0, None);
        assert_eq!(file.look(Stamp::of).await, None, "it pauses");
        assert_eq!(file.confirmed(), confirmed);
        advance(LOOK_TIMEOUT).await;
        assert!(file.look(Stamp::of).await.is_some(), "it goes on");
    }

    #[tokio::test]
    async fn looks_that_hang_are_bounded_in_number() {
        let mut file = WatchedFile::open(PathBuf::from("/etc/passwd"));
        let _held = Arc::clone(&file.looks).acquire_many_owned(64).await.unwrap();
        assert!(!file.poll().await);
    }
}
