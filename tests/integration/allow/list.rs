//! An allowlist, and the program that reads it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::program::program_path;

/// An allowlist in a folder of its own.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    _folder: TempDir,
}

/// The program's exit code and output.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl File {
    pub(crate) fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allowlist.toml");
        fs::write(&path, text).unwrap();
        Self { path, _folder: folder }
    }

    pub(crate) fn text(&self) -> String {
        fs::read_to_string(&self.path).unwrap()
    }

    pub(crate) fn allow(&self, arguments: &[&str]) -> Said {
        allow(&self.path, arguments)
    }

    /// Runs the program, asserts success, and returns its output.
    #[track_caller]
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let said = self.allow(arguments);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
        said.stdout
    }

    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.allow(&[arguments, &["--json"]].concat()).stdout).unwrap()
    }

    /// Asserts that the program fails with this code and message, and leaves the file unchanged.
    #[track_caller]
    pub(crate) fn fails_with(&self, arguments: &[&str], code: i32, words: &str) {
        let before = self.text();
        let said = self.allow(arguments);
        let words = words.replace("FILE", &self.path.display().to_string());
        assert_eq!((said.code, said.stdout.as_str()), (Some(code), ""), "{said:?}");
        assert!(said.stderr.contains(&words), "{}\nhas not {words}", said.stderr);
        assert_eq!(self.text(), before);
        let folder = fs::read_dir(self.path.parent().unwrap()).unwrap();
        assert_eq!(folder.count(), 1, "something is left behind");
    }
}

pub(crate) fn allow(file: &Path, arguments: &[&str]) -> Said {
    let output = command(arguments).arg("--file").arg(file).output().unwrap();
    let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    Said { code: output.status.code(), stdout, stderr }
}

pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(program_path());
    command.arg("allow").args(arguments).env_clear();
    command
}
