//! The report that an auditor files: HTML without scripts or external resources, or Markdown.

mod html;
mod markdown;
mod sections;

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use self::sections::build_sections;
use super::Period;
use super::report::Report;

/// A report file that does not exist yet.
#[derive(Clone, Debug)]
pub struct ReportFile {
    path: PathBuf,
    format: ReportFormat,
}

#[derive(Clone, Copy, Debug)]
enum ReportFormat {
    Html,
    Markdown,
}

/// The circumstances of a verification.
#[derive(Clone, Debug)]
pub struct AuditContext {
    /// The time of the report.
    pub time: Timestamp,
    /// The place of the files.
    pub path: String,
    /// The domain.
    pub endpoint: String,
    /// Prefix of index names, before the day.
    pub prefix: String,
    /// The source of the public keys.
    pub keys: String,
    /// The period.
    pub period: Period,
}

impl ReportFile {
    /// Parses the name of a file that does not exist: it ends with `.html` or `.md`.
    pub fn parse(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let format = match extension {
            "html" => ReportFormat::Html,
            "md" => ReportFormat::Markdown,
            _ => bail!("--report {}: the name must end with .html or .md", path.display()),
        };
        if path.exists() {
            bail!("--report {}: exists already; name another file", path.display());
        }
        Ok(Self { path: path.to_owned(), format })
    }

    /// Writes the file. `before` is the report before missing events were loaded.
    pub fn write(&self, context: &AuditContext, before: Option<&Report>, report: &Report) -> anyhow::Result<()> {
        let sections = build_sections(context, before, report);
        let text = match self.format {
            ReportFormat::Html => html::render(TITLE, &sections),
            ReportFormat::Markdown => markdown::render(TITLE, &sections),
        };
        let write = || File::create_new(&self.path)?.write_all(text.as_bytes());
        write()
            .map_err(|error| {
                let advice = if error.kind() == ErrorKind::AlreadyExists { "; name another file" } else { "" };
                anyhow::Error::new(error).context(format!("cannot write the report{advice}"))
            })
            .with_context(|| self.path.display().to_string())
    }
}

const TITLE: &str = "Evidence of CloudTrail events";
