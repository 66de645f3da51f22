//! A month of the tests as evidence for `verify`.

use std::sync::Arc;

use indicatif::ProgressBar;
use jiff::civil::Date;
use trailgate_ingest::load::progress::Progress;
use trailgate_ingest::load::source::Sources;
use trailgate_ingest::verify::keys::PublicKeys;
use trailgate_ingest::verify::{Evidence, Period};
use trailgate_testkit::trail::{TrailBucket, key_list};

pub(crate) const PERIOD: Period = Period { from: Date::constant(2026, 1, 1), to: Date::constant(2026, 1, 31) };

/// Returns the bucket's files as the evidence of a period.
pub(crate) async fn evidence(bucket: &TrailBucket, period: Period) -> Evidence {
    let paths = [bucket.folder().display().to_string()];
    let sources = Sources::find(&paths, async || unreachable!("no path is in S3")).await.unwrap();
    let keys = PublicKeys::parse(&key_list()).unwrap();
    Evidence { sources: Arc::new(sources), keys, period }
}

/// Shows no progress.
pub(crate) fn no_progress() -> Progress {
    Progress::Bar(ProgressBar::hidden())
}
