//! The file of what failed, which `load` can read again: events as deliveries of CloudWatch Logs under their ids, and
//! all else as text.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde::Serialize;

use super::classify::FAILURE;
use crate::payload::{LogBatch, LogEvent};

/// The file of failures, or none.
#[derive(Debug)]
pub struct FailureFile(Option<(PathBuf, BufWriter<File>)>);

/// One failure: its place, and why it failed.
#[derive(Clone, Debug, Serialize)]
pub(super) struct FailureRecord<'a> {
    /// The file that it is in.
    pub(super) file: &'a str,
    /// The lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) lines: Option<(u64, u64)>,
    /// The reason why it is not indexed.
    pub(super) reason: &'a str,
    /// The text, if it is no event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<&'a str>,
}

impl FailureFile {
    /// Creates a new file at `path`, and fails if there is one.
    pub fn create(path: &Path) -> anyhow::Result<Self> {
        match OpenOptions::new().write(true).create_new(true).open(path) {
            Ok(file) => Ok(Self(Some((path.to_owned(), BufWriter::new(file))))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                bail!("{}: exists already; load it, remove it, or name another file with --failures", path.display())
            }
            Err(error) => Err(error).with_context(|| format!("{}: cannot write", path.display())),
        }
    }

    /// Discards failures.
    #[must_use]
    pub fn disabled() -> Self {
        Self(None)
    }

    /// Records a value that is no event.
    pub(super) fn add(&mut self, failure: &FailureRecord<'_>) -> anyhow::Result<()> {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(rename = "trailgateFailure")]
            failure: &'a FailureRecord<'a>,
        }

        debug_assert_eq!(FAILURE, "trailgateFailure");
        self.write(&Line { failure })
    }

    /// Records an event.
    pub(super) fn add_event(
        &mut self,
        failure: &FailureRecord<'_>,
        batch: &LogBatch,
        event: &LogEvent,
    ) -> anyhow::Result<()> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Delivery<'a> {
            message_type: &'static str,
            owner: &'a str,
            log_group: &'a str,
            log_stream: &'a str,
            log_events: [Event<'a>; 1],
            #[serde(rename = "failure")]
            failure: &'a FailureRecord<'a>,
        }

        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Event<'a> {
            id: &'a str,
            timestamp: i64,
            message: &'a str,
            #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
            extracted_fields: serde_json::Map<String, serde_json::Value>,
        }

        let fields = event.extracted_fields.iter().map(|(key, value)| (key.clone(), value.clone().into()));
        self.write(&Delivery {
            message_type: "DATA_MESSAGE",
            owner: &batch.owner,
            log_group: &batch.log_group,
            log_stream: &batch.log_stream,
            log_events: [Event {
                id: &event.id,
                timestamp: event.timestamp,
                message: &event.message,
                extracted_fields: fields.collect(),
            }],
            failure,
        })
    }

    /// Closes the file, and removes it if it is empty.
    pub fn finish(mut self) -> anyhow::Result<()> {
        let Some((path, mut file)) = self.0.take() else { return Ok(()) };
        finish(&path, &mut file).with_context(|| format!("{}: cannot write", path.display()))
    }

    fn write(&mut self, line: &impl Serialize) -> anyhow::Result<()> {
        let Some((path, file)) = &mut self.0 else { return Ok(()) };
        let write = |file: &mut BufWriter<File>| -> std::io::Result<()> {
            serde_json::to_writer(&mut *file, line)?;
            file.write_all(b"\n")?;
            // A run that is killed leaves what it knew.
            file.flush()
        };
        write(file).with_context(|| format!("{}: cannot write", path.display()))
    }
}

/// Removes an empty file also if the run fails: the next one would take it for failures.
impl Drop for FailureFile {
    fn drop(&mut self) {
        if let Some((path, file)) = &mut self.0 {
            let _ = finish(path, file);
        }
    }
}

fn finish(path: &Path, file: &mut BufWriter<File>) -> std::io::Result<()> {
    file.flush()?;
    if file.get_ref().metadata()?.len() == 0 { std::fs::remove_file(path) } else { Ok(()) }
}
