//! The checkpoint: the files that are already in the index, kept in a file until all are.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use trailgate_client::HashedBody;

use super::source::Source;

/// The files that are done. Each is recorded at once, so that an interruption loses little.
///
/// A line belongs to one scope: a file done for one domain, index prefix and period is not done for another.
#[derive(Debug)]
pub struct Checkpoint {
    scope: String,
    known: HashSet<String>,
    /// True if the file has lines of other scopes.
    has_others: bool,
    log: Option<(PathBuf, File)>,
}

impl Checkpoint {
    /// Opens or creates `file`, and locks it. `scope` names the destination and the days.
    ///
    /// Rejects a file that is no checkpoint, since the end of a run removes the file.
    pub fn open(file: &Path, scope: &str) -> anyhow::Result<Self> {
        let unusable = || format!("--done {}: cannot read or write the checkpoint", file.display());
        let mut log = lock(file)?;
        let mut text = Vec::new();
        log.read_to_end(&mut text).with_context(unusable)?;
        let text = String::from_utf8(text).ok().filter(|text| text.split_inclusive('\n').all(is_line));
        let Some(mut text) = text else {
            bail!("--done {}: is not a checkpoint; name a file that does not exist yet", file.display());
        };
        // A line that a crash cut short has no end, and is ignored.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            log.set_len(whole as u64).with_context(unusable)?;
        }
        text.truncate(whole);
        let scope = digest(scope);
        let (own, others): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with(&scope));
        let known = own.iter().filter_map(|line| Some(line.split_once(' ')?.1.to_owned())).collect();
        Ok(Self { scope, known, has_others: !others.is_empty(), log: Some((file.to_owned(), log)) })
    }

    /// Creates a checkpoint without a file, which records nothing.
    #[must_use]
    pub fn in_memory() -> Self {
        Self { scope: String::new(), known: HashSet::new(), has_others: false, log: None }
    }

    /// Returns whether this file is done with its present content.
    #[must_use]
    pub fn contains(&self, source: &Source) -> bool {
        source.version().is_some_and(|version| self.known.contains(&version))
    }

    /// Records that a file is done.
    pub fn add(&mut self, source: &Source) -> anyhow::Result<()> {
        source.version().map_or(Ok(()), |version| self.record(&version))
    }

    /// Returns the texts that earlier runs recorded, in no order.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        self.known.iter().map(String::as_str)
    }

    /// Records a text of one line.
    pub(crate) fn record(&mut self, text: &str) -> anyhow::Result<()> {
        let Some((file, log)) = &mut self.log else { return Ok(()) };
        let line = format!("{} {text}\n", self.scope);
        log.write_all(line.as_bytes()).with_context(|| format!("{}: cannot write the checkpoint", file.display()))
    }

    /// Removes the lines of this scope, at the end of a run without failures.
    pub fn clear(self) -> anyhow::Result<()> {
        let Some((file, mut log)) = self.log else { return Ok(()) };
        let mut clear = || -> io::Result<()> {
            if !self.has_others {
                return fs::remove_file(&file);
            }
            let mut text = String::new();
            log.rewind()?;
            log.read_to_string(&mut text)?;
            let others: String = text.split_inclusive('\n').filter(|line| !line.starts_with(&self.scope)).collect();
            log.set_len(0)?;
            log.write_all(others.as_bytes())
        };
        clear().with_context(|| format!("{}: cannot remove the checkpoint", file.display()))
    }
}

/// Opens and locks a file against other processes, until this one ends.
fn lock(file: &Path) -> anyhow::Result<File> {
    let unusable = || format!("--done {}: cannot read or write the checkpoint", file.display());
    loop {
        if fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
            bail!("--done {}: is not a regular file; name a file that does not exist yet", file.display());
        }
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(unusable)?;
        }
        let log = OpenOptions::new().create(true).read(true).append(true).open(file).with_context(unusable)?;
        match log.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "{}: another run uses this checkpoint; wait for it to end, or name another file with --done",
                file.display()
            ),
            Err(TryLockError::Error(error)) => return Err(error).with_context(unusable),
        }
        // A run that ended between these two steps has removed the file.
        match fs::metadata(file) {
            Ok(metadata) if metadata.ino() == log.metadata().with_context(unusable)?.ino() => return Ok(log),
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).with_context(unusable),
            _ => {}
        }
    }
}

/// Returns whether this is a line of a checkpoint: the scope's digits, a space and a text. A crash may have cut it short.
fn is_line(line: &str) -> bool {
    let (digits, rest) = line.split_at_checked(SCOPE_DIGITS).unwrap_or((line, ""));
    let is_whole = if rest.is_empty() { !line.ends_with('\n') } else { rest.starts_with(' ') };
    is_whole && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn digest(scope: &str) -> String {
    HashedBody::from(Bytes::copy_from_slice(scope.as_bytes())).sha256()[..SCOPE_DIGITS].to_owned()
}

const SCOPE_DIGITS: usize = 16;
