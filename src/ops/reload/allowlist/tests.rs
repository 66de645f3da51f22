//! Reloads for every way to change a file.

use std::{
    fs::{File, create_dir, read_link, remove_dir_all, remove_file, rename, write},
    io::{self, Read},
    os::unix::fs::symlink,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;
use tokio::time::timeout;
use tracing::subscriber::{DefaultGuard, set_default};

use super::*;

#[tokio::test(start_paused = true)]
async fn file_written_in_place_is_loaded() {
    follows(plain, |dir| write(dir.join("list"), NEW)).await;
}

#[tokio::test(start_paused = true)]
async fn file_renamed_over_is_loaded() {
    follows(plain, |dir| {
        write(dir.join("new"), NEW)?;
        rename(dir.join("new"), dir.join("list"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn file_deleted_and_created_is_loaded() {
    follows(plain, |dir| {
        remove_file(dir.join("list"))?;
        write(dir.join("list"), NEW)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn file_in_a_swapped_directory_is_loaded() {
    let begin = |dir: &Path| {
        create_dir(dir.join("etc"))?;
        write(dir.join("etc/list"), OLD)?;
        Ok("etc/list")
    };
    follows(begin, |dir| {
        create_dir(dir.join("etc2"))?;
        write(dir.join("etc2/list"), NEW)?;
        rename(dir.join("etc"), dir.join("etc1"))?;
        rename(dir.join("etc2"), dir.join("etc"))
    })
    .await;
    follows(begin, |dir| {
        remove_dir_all(dir.join("etc"))?;
        create_dir(dir.join("etc"))?;
        write(dir.join("etc/list"), NEW)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn symlink_to_another_file_is_loaded() {
    follows(linked, |dir| {
        write(dir.join("new"), NEW)?;
        symlink("new", dir.join("temporary"))?;
        rename(dir.join("temporary"), dir.join("list"))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn symlink_target_written_in_place_is_loaded() {
    follows(linked, |dir| write(dir.join("elsewhere/target"), NEW)).await;
}

#[tokio::test(start_paused = true)]
async fn updated_kubernetes_volume_is_loaded() {
    let begin = |dir: &Path| {
        create_dir(dir.join("..1"))?;
        write(dir.join("..1/list"), OLD)?;
        symlink("..1", dir.join("..data"))?;
        symlink("..data/list", dir.join("list"))?;
        Ok("list")
    };
    follows(begin, |dir| {
        create_dir(dir.join("..2"))?;
        write(dir.join("..2/list"), NEW)?;
        symlink("..2", dir.join("..data_tmp"))?;
        rename(dir.join("..data_tmp"), dir.join("..data"))?;
        remove_dir_all(dir.join("..1"))?;
        assert_eq!(read_link(dir.join("list"))?, Path::new("..data/list"));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn change_with_the_same_stamp_is_loaded() {
    let mut it = Rig::new();
    it.write(NEW);
    it.reloader.file.pretend_same_tick();
    it.polls(2).await;
    assert!(it.grants(NEW_CLIENT));
}

#[tokio::test]
async fn file_is_loaded_only_after_two_equal_polls() {
    let mut it = Rig::new();
    it.polls(1).await;
    for half in ["", "[[allow]]", "[[allow]]\ncidr = '10.0.0.0/8'"] {
        it.write(half);
        it.polls(1).await;
    }
    assert_eq!(it.log(), "");
    it.write(NEW);
    it.polls(2).await;
    assert!(it.grants(NEW_CLIENT));
    assert_eq!(it.log(), " INFO allowlist reloaded file=… before=1 entries=2 added=2 removed=1\n");
}

#[tokio::test]
async fn invalid_file_keeps_the_list_and_is_logged_once() {
    let mut it = Rig::new();
    let bad = NEW.replace("100.0/24", "100.0/33");
    let line = "ERROR allowlist not reloaded, the list of 1 entries stays in effect error=…:5: cidr \"198.51.100.0/33\" has a bad prefix length: write a whole number from 0 to 32 after the slash\n";
    it.write(&bad);
    it.polls(5).await;
    assert_eq!(it.log(), line);
    // The same invalid content is not logged again; other content with the same error is.
    it.write(&bad);
    it.polls(5).await;
    assert_eq!(it.log(), "");
    it.write(&(bad + "# an edit\n"));
    it.polls(5).await;
    assert_eq!(it.log(), line);
    assert!(it.grants(OLD_CLIENT) && !it.grants(NEW_CLIENT));
    it.write(NEW);
    it.polls(2).await;
    assert!(it.grants(NEW_CLIENT) && !it.grants(OLD_CLIENT));
}

#[tokio::test]
async fn emptied_file_keeps_the_list() {
    for (text, reason) in [
        ("", "has no entries: write at least one [[allow]], or allow = [] to reject every client"),
        (
            include_str!("../../../../tests/data/faults/allowlist-one-line.toml"),
            "has no entries: its line ends are lost, so the first # comments out the rest",
        ),
    ] {
        let mut it = Rig::new();
        it.write(text);
        it.polls(2).await;
        assert!(it.grants(OLD_CLIENT));
        assert!(it.log().ends_with(&format!("error=…: {reason}\n")));
        assert!(!it.reloader.state().borrow().is_current());
    }
}

#[tokio::test]
async fn explicitly_empty_list_is_loaded() {
    let mut it = Rig::new();
    it.write("allow = []\n");
    it.polls(2).await;
    assert!(!it.grants(OLD_CLIENT));
    assert_eq!(
        it.log(),
        " INFO allowlist reloaded file=… before=1 entries=0 added=0 removed=1\n WARN the allowlist is empty: every client is rejected file=…\n"
    );
}

#[tokio::test]
async fn fifo_in_place_of_the_file_does_not_end_reloads() {
    let mut it = Rig::new();
    remove_file(it.reloader.file.path()).unwrap();
    mkfifo(it.reloader.file.path(), Mode::S_IRWXU).unwrap();
    it.polls(2).await;
    assert!(it.log().ends_with("error=…: cannot be read: it is not a regular file\n"));
    remove_file(it.reloader.file.path()).unwrap();
    it.write(NEW);
    it.polls(2).await;
    assert!(it.grants(NEW_CLIENT) && !it.grants(OLD_CLIENT));
}

#[tokio::test]
async fn unreadable_file_makes_the_list_stale() {
    let mut it = Rig::new();
    it.polls(1).await;
    assert!(it.reloader.state().borrow().is_current());
    it.reloader.file.pretend_hung();
    it.polls(1).await;
    let state = it.reloader.state();
    assert!(state.borrow().stale().is_some() && !state.borrow().is_current());
}

#[tokio::test]
async fn deleted_file_keeps_the_list_until_recreated() {
    let mut it = Rig::new();
    remove_file(it.reloader.file.path()).unwrap();
    it.polls(5).await;
    assert!(it.grants(OLD_CLIENT));
    assert_eq!(
        it.log(),
        "ERROR allowlist not reloaded, the list of 1 entries stays in effect error=…: cannot be read: No such file or directory (os error 2)\n"
    );
    it.write(NEW);
    it.polls(2).await;
    assert!(it.grants(NEW_CLIENT));
}

#[tokio::test]
async fn hangup_loads_a_stable_file_and_always_logs_it() {
    let mut it = Rig::new();
    assert!(it.reloader.handle_hangup().await);
    assert!(!it.reloader.handle_hangup().await, "one is under way");
    it.polls(1).await;
    assert_eq!(it.log(), " INFO allowlist reloaded file=… before=1 entries=1 added=0 removed=0\n");
    it.write("[[allow]]");
    it.reloader.handle_hangup().await;
    it.polls(1).await;
    assert!(it.log().contains("no cidr"));
    it.polls(3).await;
    assert_eq!(it.log(), "");
    it.reloader.handle_hangup().await;
    it.polls(1).await;
    assert!(it.log().contains("no cidr"));
}

#[tokio::test]
async fn hangup_does_not_load_an_unstable_file() {
    let mut it = Rig::new();
    let half = &NEW[..NEW.len() / 2];
    it.write(half);
    it.reloader.handle_hangup().await;
    it.write(NEW);
    it.polls(1).await;
    assert_eq!(it.log(), "");
    it.polls(1).await;
    assert!(it.grants(NEW_CLIENT));
}

#[tokio::test(start_paused = true)]
async fn hangup_reloads_and_polling_continues() {
    let Rig { dir, reloader, allowlist, .. } = Rig::new();
    let (hangups, items) = mpsc::channel(1);
    let mut changes = allowlist.clone();
    tokio::spawn(reloader.run(items));
    hangups.send(()).await.unwrap();
    timeout(ONE_SECOND, changes.changed()).await.expect("not loaded");
    // Polling continues after the last sender of hangups is dropped.
    drop(hangups);
    write(dir.path().join("list"), NEW).unwrap();
    timeout(ONE_SECOND, changes.changed()).await.expect("not loaded");
}

#[test]
fn start_without_a_usable_list_fails() {
    let refuses = |text: Option<&str>, reason: &str| {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("list");
        if let Some(text) = text {
            write(&file, text).unwrap();
        }
        let error = AllowlistReloader::start(file.clone(), Notifier::default()).unwrap_err().to_string();
        assert_eq!(error.replace(file.to_str().unwrap(), "…"), reason);
    };
    refuses(None, "…: cannot be read: No such file or directory (os error 2)");
    refuses(Some("# none\n"), "…: has no entries: write at least one [[allow]], or allow = [] to reject every client");
    refuses(Some("[[allow]]"), "…:1: this [[allow]] has no cidr: write cidr = \"203.0.113.7/32\"");
}

/// Starts with the file that `begin` writes, and expects `change` to be in effect within a second. Needs a paused clock:
/// it passes between the polls and not while they look, so the second holds however slow the disk is.
async fn follows(begin: impl Fn(&Path) -> io::Result<&'static str>, change: impl Fn(&Path) -> io::Result<()>) {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join(begin(dir.path()).unwrap());
    let (mut reloader, allowlist) = AllowlistReloader::start(file, Notifier::default()).unwrap();
    reloader.file.pretend_old();
    let mut changes = allowlist.clone();
    tokio::spawn(reloader.run(mpsc::channel(1).1));
    change(dir.path()).unwrap();
    timeout(ONE_SECOND, changes.changed()).await.expect("not loaded");
    assert!(allowlist.grant(NEW_CLIENT.into(), SystemTime::now()).is_some());
    assert!(allowlist.grant(OLD_CLIENT.into(), SystemTime::now()).is_none());
}

fn plain(dir: &Path) -> io::Result<&'static str> {
    write(dir.join("list"), OLD)?;
    Ok("list")
}

fn linked(dir: &Path) -> io::Result<&'static str> {
    create_dir(dir.join("elsewhere"))?;
    write(dir.join("elsewhere/target"), OLD)?;
    symlink("elsewhere/target", dir.join("list"))?;
    Ok("list")
}

/// A reloader that is polled by hand, and its log output.
struct Rig {
    dir: TempDir,
    reloader: AllowlistReloader,
    allowlist: Allowlist,
    log: File,
    _guard: DefaultGuard,
}

impl Rig {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join(plain(dir.path()).unwrap());
        let (reloader, allowlist) = AllowlistReloader::start(file, Notifier::default()).unwrap();
        let log = dir.path().join("log");
        // With a single subscriber, `tracing` caches interest in an event at the first thread that meets it, which may
        // be another test's thread without a subscriber. A second subscriber disables the cache.
        let _other = tracing::Dispatch::new(tracing_subscriber::registry());
        let subscriber = tracing_subscriber::fmt()
            .with_writer(Arc::new(File::create(&log).unwrap()))
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        Self { dir, reloader, allowlist, log: File::open(log).unwrap(), _guard: set_default(subscriber) }
    }

    fn write(&self, text: &str) {
        write(self.reloader.file.path(), text).unwrap();
    }

    async fn polls(&mut self, count: usize) {
        for _ in 0..count {
            self.reloader.poll().await;
        }
    }

    fn grants(&self, client: [u8; 4]) -> bool {
        self.allowlist.grant(client.into(), SystemTime::now()).is_some()
    }

    /// Returns the log output since the last call.
    fn log(&self) -> String {
        let mut text = String::new();
        (&self.log).read_to_string(&mut text).unwrap();
        let file = self.reloader.file.path().to_str().unwrap();
        text.replace(file, "…")
    }
}

const OLD: &str = "[[allow]]\ncidr = '192.0.2.0/24'\nname = 'old'\n";
const OLD_CLIENT: [u8; 4] = [192, 0, 2, 1];
const NEW: &str =
    "[[allow]]\ncidr = '203.0.113.0/24'\nname = 'new'\n[[allow]]\ncidr = '198.51.100.0/24'\nname = 'other'\n";
const NEW_CLIENT: [u8; 4] = [203, 0, 113, 1];
const ONE_SECOND: Duration = Duration::from_secs(1);
