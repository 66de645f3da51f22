//! Verifies evidence: the bucket against CloudTrail's signatures, and the index against the bucket.
//!
//! 1. [`keys`] fetches CloudTrail's public keys, and [`digest`] parses a digest file and verifies its signature.
//! 2. [`chain`] verifies the digests of each account and region, and which log files they prove.
//! 3. [`log_file`] reads a log file's events and its hash.
//! 4. [`search`] finds the documents of events, and every document of a day; [`compare`] compares a document with the event.
//! 5. [`run`] does these steps in order, batches of events in parallel, and closes one day after the other. [`state`] is what
//!    it needs to go on in another process.
//! 6. [`report`] counts by day and holds the findings and the verdict; [`audit_report`] writes it for an auditor.
//!
//! Memory is bounded by three of the largest log files, by three batches of events and their documents, by sixteen bytes
//! for each document of two days, and by the names and hashes of the period's files.

pub mod audit_report;
mod chain;
mod compare;
mod digest;
mod files;
pub mod keys;
mod log_file;
pub mod report;
mod run;
mod search;
mod state;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;

use self::files::list_files;
use self::keys::{KeyQuery, PublicKeys};
use self::report::Report;
use self::run::{Comparison, Run};
use self::search::Search;
pub use self::state::RunState;
use crate::document::DocumentOptions;
use crate::domain::Domain;
use crate::load::LoadTarget;
use crate::load::checkpoint::Checkpoint;
use crate::load::days::Days;
use crate::load::progress::Progress;
use crate::load::source::Sources;

/// The first and the last day of a verification, in UTC.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// The first day.
    pub from: Date,
    /// The last day.
    pub to: Date,
}

impl Period {
    fn days(self) -> Days {
        Days { from: Some(self.from), to: Some(self.to) }
    }

    fn contains(self, day: Date) -> bool {
        self.days().contain(day)
    }

    fn start(self) -> Timestamp {
        Offset::UTC.to_timestamp(self.from.at(0, 0, 0, 0)).unwrap_or_default()
    }

    fn end(self) -> Timestamp {
        let end = self.to.tomorrow().and_then(|day| Offset::UTC.to_timestamp(day.at(0, 0, 0, 0)));
        end.unwrap_or_default()
    }
}

/// The files of a period, and the keys that sign digests.
#[derive(Debug)]
pub struct Evidence {
    /// The files.
    pub sources: Arc<Sources>,
    /// CloudTrail's public keys.
    pub keys: PublicKeys,
    /// The period.
    pub period: Period,
}

/// The domain that is compared with the files.
#[derive(Clone, Debug)]
pub struct ComparedDomain {
    /// The domain.
    pub domain: Arc<Domain>,
    /// The options by which documents are built.
    pub options: DocumentOptions,
}

/// Verifies the bucket alone.
pub async fn verify_bucket(evidence: &Evidence, progress: &Progress) -> anyhow::Result<Report> {
    Run::execute(evidence, None, &mut Checkpoint::in_memory(), progress).await
}

/// Verifies the bucket, and then the domain against the files. Days that are compared as a whole are recorded in `done`,
/// and a later run with the same `done` resumes after them.
pub async fn verify(
    evidence: &Evidence,
    domain: &ComparedDomain,
    done: &mut Checkpoint,
    progress: &Progress,
) -> anyhow::Result<Report> {
    Run::execute(evidence, Some(domain.comparison(None)), done, progress).await
}

/// The result of a part of a verification.
#[derive(Debug)]
pub enum Part {
    /// Complete.
    Done(Report),
    /// Not complete: a later part resumes from this state.
    Paused(RunState),
}

/// Verifies as [`verify`] does, in parts: it pauses after a file once `is_late` returns true. Each part reads a file or
/// completes the verification, so that they come to an end.
pub async fn verify_part(
    evidence: &Evidence,
    domain: &ComparedDomain,
    state: Option<RunState>,
    is_late: impl Fn() -> bool,
) -> anyhow::Result<Part> {
    Run::execute_part(evidence, domain.comparison(None), state, &is_late).await
}

/// Verifies as [`verify`] does, and loads into `target` what is missing of the events of proven files. The report says
/// what was missing before.
pub async fn load_missing(
    evidence: &Evidence,
    domain: &ComparedDomain,
    target: LoadTarget,
    done: &mut Checkpoint,
    progress: &Progress,
) -> anyhow::Result<Report> {
    let comparison = domain.comparison(Some(Arc::new(target)));
    let search = Arc::clone(&comparison.search);
    let report = Run::execute(evidence, Some(comparison), done, progress).await?;
    if report.loaded > 0 {
        search.refresh().await?;
    }
    Ok(report)
}

/// Returns the query for the public keys of the period's digests.
#[must_use]
pub fn key_query(sources: &Sources, period: Period, now: Timestamp) -> KeyQuery {
    KeyQuery::new(&list_files(sources, period.days()).digests, period, now)
}

impl ComparedDomain {
    fn comparison(&self, target: Option<Arc<LoadTarget>>) -> Comparison {
        let search = Search::new(Arc::clone(&self.domain), &self.options.prefix);
        Comparison { search: Arc::new(search), options: Arc::new(self.options.clone()), target }
    }
}
