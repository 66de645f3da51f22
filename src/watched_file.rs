//! A polled file that reports changes of its content.
//!
//! The path is polled because inotify, and so the crate `notify`, misses changes behind a symlink and on network mounts,
//! and an operator names only the path.
//!
//! A file system operation can hang: `stat(2)` on a network mount blocks while its server is down. Each one therefore
//! runs in a thread of its own with a time limit, after which polling continues without it.

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

/// A path and the last content that was read there.
#[derive(Debug)]
pub(crate) struct WatchedFile {
    path: PathBuf,
    /// The stamp of the last poll; two polls have to agree before the file is read.
    seen: Option<Stamp>,
    /// The last reading, successful or not.
    reading: Reading,
    /// Set while a requested reload has not happened yet.
    reload_requested: bool,
    /// The last time at which the file was known to hold [`WatchedFile::text`].
    confirmed: Instant,
    /// Permits for file operations, held by those that have not returned.
    reads: Arc<Semaphore>,
    /// The last operation that exceeded its time limit, and the pause after it.
    hung: Option<(time::Instant, Duration)>,
}

/// The content of the file, or the system's error message.
pub(crate) type Text = Result<Arc<String>, String>;

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
            reads: Arc::new(Semaphore::new(HUNG_READS)),
            hung: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn text(&self) -> Text {
        self.reading.text.clone()
    }

    /// Returns the modification time of the file that was read last.
    pub(crate) fn modified(&self) -> Option<Timestamp> {
        let (seconds, nanoseconds) = self.reading.stamp?.modified;
        Timestamp::new(seconds, i32::try_from(nanoseconds).ok()?).ok()
    }

    /// Returns the last time at which the file was known to hold [`WatchedFile::text`]: long ago if file operations
    /// hang, or if the file never stops changing.
    pub(crate) fn confirmed(&self) -> Instant {
        self.confirmed
    }

    /// Polls once, and returns whether [`WatchedFile::text`] is new. The caller polls every [`POLL_INTERVAL`].
    pub(crate) async fn poll(&mut self) -> bool {
        let Some(stamp) = self.read_in_background(Stamp::of).await else { return false };
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

    /// Requests a reload even of an unchanged file. It happens as soon as two polls from now on agree, so that half a
    /// file is not read when a writer signals before it has finished.
    pub(crate) async fn request_reload(&mut self) {
        self.reload_requested = true;
        if let Some(stamp) = self.read_in_background(Stamp::of).await {
            self.seen = stamp;
        }
    }

    async fn read(&mut self) -> bool {
        let Some(reading) = self.read_in_background(Reading::take).await else { return false };
        if reading.is_torn {
            // The file is being written; a later poll reads it.
            return false;
        }
        let is_known = reading.text == self.reading.text;
        self.reading = reading;
        self.confirmed = Instant::now();
        let reload_requested = mem::take(&mut self.reload_requested);
        reload_requested || !is_known
    }

    /// Returns the result of `read` at the path, or `None` if it hangs or a previous one hung recently.
    async fn read_in_background<T: Send + 'static>(&mut self, read: fn(&Path) -> T) -> Option<T> {
        if self.hung.is_some_and(|(since, pause)| since.elapsed() < pause) {
            return None;
        }
        let permit = Arc::clone(&self.reads).try_acquire_owned().ok()?;
        let path = self.path.clone();
        let reading = run_blocking(move || {
            let found = read(&path);
            drop(permit);
            found
        });
        if let Ok(found) = timeout(READ_TIMEOUT, reading).await {
            if self.hung.take().is_some() {
                tracing::info!(file = %self.path.display(), "the file can be read again");
            }
            return Some(found);
        }
        if self.hung.is_none() {
            let file = self.path.display();
            tracing::error!(%file, "reading the file hangs: the content read before stays in effect");
        }
        let pause = self.hung.map_or(READ_TIMEOUT, |(_, pause)| (2 * pause).min(LONGEST_PAUSE));
        self.hung = Some((time::Instant::now(), pause));
        None
    }
}

/// One reading of the file.
#[derive(Debug)]
struct Reading {
    stamp: Option<Stamp>,
    text: Text,
    /// Set if the file changed during the reading.
    is_torn: bool,
    /// Set if the stamp is certain to show a later change.
    is_settled: bool,
}

impl Reading {
    fn take(path: &Path) -> Self {
        let stamp = Stamp::of(path);
        let text = read_regular(path).map(Arc::new).map_err(|error: io::Error| error.to_string());
        let is_torn = stamp != Stamp::of(path);
        // File system clocks have ticks, and two changes within one tick leave the same stamp. Text is therefore
        // settled only if its stamp was old at the reading (as in git). An error never is: it may pass without a change
        // of the stamp.
        let is_settled = text.is_ok() && !is_torn && stamp.is_some_and(Stamp::is_old);
        Self { stamp, text, is_torn, is_settled }
    }

    /// Reads with a time limit, for the start, when there is no previous content.
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

/// Reads a text file as a whole, within limits of time and size.
pub(crate) fn read_in_time(path: &Path) -> io::Result<String> {
    let path = path.to_owned();
    in_time(move || read_regular(&path))?
}

/// Runs `work` in a thread of its own, with a time limit.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().name("read".to_owned()).spawn(move || {
        // After the time limit there is no receiver.
        let _ = sender.send(work());
    })?;
    receiver.recv_timeout(START_TIMEOUT).map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("reading it took longer than {} s", START_TIMEOUT.as_secs()))
    })
}

/// Reads a regular file. Opening a FIFO or reading a terminal would block.
fn read_regular(path: &Path) -> io::Result<String> {
    // Checked before it is opened, because opening a device can have side effects.
    check_regular(&fs::metadata(path)?)?;
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let metadata = file.metadata()?;
    check_regular(&metadata)?;
    // One allocation: a string that grows is in memory twice.
    let size = metadata.len().min(MAX_BYTES) + 1;
    let mut text = String::with_capacity(usize::try_from(size).unwrap_or_default());
    let bytes = File::take(file, MAX_BYTES + 1).read_to_string(&mut text).map_err(explain_encoding)?;
    if bytes as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_BYTES / 1024 / 1024)));
    }
    Ok(text)
}

/// Says what to do with a file in another encoding: UTF-16, which PowerShell writes, or a certificate in DER.
pub(crate) fn explain_encoding(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::InvalidData {
        return io::Error::other("it is not text in UTF-8: convert it");
    }
    error
}

fn check_regular(metadata: &fs::Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        return Err(io::Error::other("it is a directory"));
    }
    if metadata.is_file() { Ok(()) } else { Err(io::Error::other("it is not a regular file")) }
}

/// The attributes that show, without reading, that the content of a path changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Returns the stamp of the file that the path leads to through symlinks, or `None` if there is none.
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

    /// Returns whether the last change is older than a clock tick. Compares ctime, because mtime can be set to any
    /// value.
    fn is_old(self) -> bool {
        Timestamp::now().as_second() - self.changed.0 > COARSEST_TICK
    }
}

/// Runs `work`, which blocks on a disk or computes for long, in a thread where it delays no request.
pub(crate) async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match task::spawn_blocking(work).await.map_err(JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => resume_unwind(panic),
        // The runtime shuts down, and the caller with it.
        Err(Err(_)) => future::pending().await,
    }
}

/// The polling interval: two polls and a read take well under the second that a change may take.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The time after which an unconfirmed file is reported: file operations hang, or the file never stops changing.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(5);

/// The time limit of one file operation.
const READ_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest pause between two operations that hang.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The number of hung operations at once, each in a thread: those of about an hour.
const HUNG_READS: usize = 64;
/// The time limit of the first reading.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum bytes of a file; an allowlist of 100,000 entries has about 10 MiB.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Seconds of the coarsest file system clock in use, that of FAT.
const COARSEST_TICK: i64 = 2;

#[cfg(test)]
impl WatchedFile {
    /// Marks the file as old, so that only its stamp can show a change.
    pub(crate) fn pretend_old(&mut self) {
        self.reading.is_settled = true;
    }

    /// Simulates a change within the clock tick of the last reading.
    pub(crate) fn pretend_same_tick(&mut self) {
        self.reading.stamp = Stamp::of(&self.path);
    }

    /// Simulates file operations that hang longer than allowed.
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
    fn text_of_an_old_file_is_final() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("list"), "text").unwrap();
        assert!(!Reading::take(&dir.path().join("list")).is_settled, "new");
        assert!(Reading::take(Path::new("/etc/passwd")).is_settled, "old");
        assert!(!Reading::take(Path::new("/usr")).is_settled, "an error");
    }

    #[test]
    fn file_that_is_not_regular_is_rejected() {
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

    // Tokio's paused clock does not advance by itself while a blocking operation runs.
    #[tokio::test(start_paused = true)]
    async fn read_that_hangs_is_abandoned_and_next_ones_pause() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("list"), "text").unwrap();
        let mut file = WatchedFile::open(dir.path().join("list"));
        let confirmed = file.confirmed();
        assert_eq!(tokio::join!(file.read_in_background(hang), advance(READ_TIMEOUT)).0, None);
        assert_eq!(file.read_in_background(Stamp::of).await, None, "it pauses");
        assert_eq!(file.confirmed(), confirmed);
        advance(READ_TIMEOUT).await;
        assert!(file.read_in_background(Stamp::of).await.is_some(), "it goes on");
    }

    #[test]
    fn file_in_another_encoding_is_to_be_converted() {
        let dir = tempfile::tempdir().unwrap();
        // What PowerShell's `>` writes: UTF-16 with a byte order mark.
        fs::write(dir.path().join("list"), b"\xff\xfea\0l\0").unwrap();
        let error = read_in_time(&dir.path().join("list")).unwrap_err();
        assert_eq!(error.to_string(), "it is not text in UTF-8: convert it");
    }

    #[tokio::test]
    async fn reads_that_hang_are_bounded_in_number() {
        let mut file = WatchedFile::open(PathBuf::from("/etc/passwd"));
        let _held = Arc::clone(&file.reads).acquire_many_owned(64).await.unwrap();
        assert!(!file.poll().await);
    }
}
