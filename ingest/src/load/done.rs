//! The files that are in the index already, kept in a file of its own until all are.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::source::Source;

/// Which files are done. Each is written down as it gets done, so that any interruption loses little.
#[derive(Debug)]
pub struct Done {
    known: HashSet<String>,
    log: Option<(PathBuf, File)>,
}

impl Done {
    /// What `file` remembers; a new one is made.
    pub fn open(file: &Path) -> anyhow::Result<Self> {
        let read = || -> io::Result<Self> {
            if let Some(folder) = file.parent() {
                fs::create_dir_all(folder)?;
            }
            let text = match fs::read_to_string(file) {
                Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
                text => text?,
            };
            // A line that was cut short by a crash has no end, and is not believed.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let log = OpenOptions::new().create(true).append(true).open(file)?;
            if whole.len() + 1 < text.len() {
                log.set_len(whole.len() as u64 + u64::from(!whole.is_empty()))?;
            }
            Ok(Self { known: whole.lines().map(str::to_owned).collect(), log: Some((file.to_owned(), log)) })
        };
        read().with_context(|| format!("{}: cannot be read or written", file.display()))
    }

    /// Remembers nothing.
    #[must_use]
    pub fn forgetful() -> Self {
        Self { known: HashSet::new(), log: None }
    }

    /// Whether this file, with just this content, is done.
    #[must_use]
    pub fn contains(&self, source: &Source) -> bool {
        source.version().is_some_and(|version| self.known.contains(&version))
    }

    /// Writes down that a file is done.
    pub fn add(&mut self, source: &Source) -> anyhow::Result<()> {
        let (Some((file, log)), Some(version)) = (&mut self.log, source.version()) else { return Ok(()) };
        writeln!(log, "{version}").with_context(|| format!("{}: cannot be written", file.display()))
    }

    /// Forgets all: the run has come to its end.
    pub fn clear(self) -> anyhow::Result<()> {
        let Some((file, _)) = self.log else { return Ok(()) };
        fs::remove_file(&file).with_context(|| format!("{}: cannot be removed", file.display()))
    }
}
