//! A reload: the function reads CloudTrail's files of one hour from the trail's bucket and indexes them.
//!
//! It is called with `{"reload":{"prefix":"s3://BUCKET/AWSLogs/ACCOUNT/CloudTrail/","hour":"2026-01-31T14"}}`. The
//! prefix is a folder of regions, as CloudTrail lays it out.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use aws_sdk_s3::Client;
use indicatif::ProgressBar;
use jiff::SignedDuration;
use jiff::civil::DateTime;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::domain::Domain;
use crate::load::Load;
use crate::load::checkpoint::Checkpoint;
use crate::load::days::Days;
use crate::load::failure_file::FailureFile;
use crate::load::progress::Progress;
use crate::load::source::Sources;
use crate::load::source::bucket::Bucket;
use crate::settings::Settings;

/// The hour to load again, and the folder of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadRequest {
    bucket: String,
    folder: String,
    hour: DateTime,
}

/// The counts of a reload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReloadResult {
    /// Files read.
    pub files: usize,
    /// Events in them.
    pub events: usize,
    /// Events in the index, degraded ones included.
    pub indexed: usize,
}

impl ReloadRequest {
    /// Parses the payload of an invocation; returns `None` if it does not request a reload.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<anyhow::Result<Self>> {
        #[derive(Deserialize)]
        struct Event {
            reload: Files,
        }
        #[derive(Deserialize)]
        struct Files {
            prefix: String,
            hour: String,
        }

        // Events of CloudWatch Logs and queues are large, and the key is none of theirs.
        if !payload.trim_ascii_start().starts_with(b"{\"reload\"") {
            return None;
        }
        let parse = || {
            let Event { reload: Files { prefix, hour } } = serde_json::from_slice(payload)
                .context("write {\"reload\":{\"prefix\":\"s3://BUCKET/FOLDER/\",\"hour\":\"2026-01-31T14\"}}")?;
            let place = prefix.strip_prefix("s3://").and_then(|place| place.split_once('/'));
            let Some((bucket, folder)) = place.filter(|(bucket, _)| !bucket.is_empty()) else {
                bail!("prefix {prefix:?} is not an S3 location; write s3://BUCKET/AWSLogs/ACCOUNT/CloudTrail/");
            };
            let folder =
                if folder.is_empty() || folder.ends_with('/') { folder.to_owned() } else { format!("{folder}/") };
            let start = format!("{hour}:00:00").parse();
            let hour = start.with_context(|| format!("hour {hour:?} is not an hour in UTC; write 2026-01-31T14"))?;
            Ok(Self { bucket: bucket.to_owned(), folder, hour })
        };
        Some(parse())
    }

    /// Indexes the hour. It fails unless every event of it is in the index by `deadline`; it is idempotent where
    /// documents have the ids of their events.
    pub async fn run(
        &self,
        settings: &Settings,
        domain: Arc<Domain>,
        client: &Client,
        deadline: Instant,
    ) -> anyhow::Result<ReloadResult> {
        let mut paths = Vec::new();
        for region in self.regions(client).await? {
            paths.extend(self.stamps().iter().map(|stamp| self.path(&region, stamp)));
        }
        let sources = Arc::new(Sources::find(&paths, async || client.clone()).await?);
        let load = Load::into_domain(domain, settings, Days::default()).await?;
        let progress = Progress::new(ProgressBar::hidden());
        let is_late = || Instant::now() >= deadline;
        let (mut done, mut failures) = (Checkpoint::in_memory(), FailureFile::disabled());
        let summary = load.run(&sources, &mut done, &mut failures, &progress, is_late).await?;
        if let Some(first) = summary.failures.first() {
            bail!("{} failures; first: {first}", summary.failed);
        }
        let read = summary.files_done;
        if read < sources.list().len() {
            bail!("out of time after {read} of {} files; narrow the prefix to one region", sources.list().len());
        }
        Ok(ReloadResult { files: summary.files, events: summary.events, indexed: summary.indexed + summary.degraded })
    }

    /// Returns the folders below the prefix: CloudTrail has one for each region. A folder of one region has years.
    async fn regions(&self, client: &Client) -> anyhow::Result<Vec<String>> {
        let place = format!("s3://{}/{}", self.bucket, self.folder);
        let bucket = Bucket::locate(client.clone(), &self.bucket, &self.folder).await;
        let found = bucket.list_folders(&self.folder).await.with_context(|| format!("cannot list {place}"))?;
        if found.is_empty() {
            bail!("{place} has no folders; write s3://BUCKET/AWSLogs/ACCOUNT/CloudTrail/");
        }
        let is_year = |folder: &String| {
            let name = folder[self.folder.len()..].trim_end_matches('/');
            name.len() == 4 && name.bytes().all(|byte| byte.is_ascii_digit())
        };
        Ok(if found.iter().all(is_year) { vec![self.folder.clone()] } else { found })
    }

    /// Returns the hours in the names of the files, such as `20260131T14`: CloudTrail names a file by the time of its
    /// delivery, which is up to a quarter of an hour after the event, and at times more.
    fn stamps(&self) -> [DateTime; 2] {
        [self.hour, self.hour.saturating_add(SignedDuration::from_hours(1))]
    }

    fn path(&self, region: &str, stamp: &DateTime) -> String {
        // ACCOUNT_CloudTrail_REGION_20260131T1405Z_RANDOM.json.gz, in the folder of its day.
        let folders: Vec<&str> = region.trim_end_matches('/').rsplit('/').collect();
        let account = folders.get(2).copied().unwrap_or_default();
        let kind = folders.get(1).copied().unwrap_or_default();
        let name = format!("{account}_{kind}_{}_", folders.first().copied().unwrap_or_default());
        format!("s3://{}/{region}{}{name}{}", self.bucket, stamp.strftime("%Y/%m/%d/"), stamp.strftime("%Y%m%dT%H"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "s3://trail/AWSLogs/123456789012/CloudTrail";

    fn parse(prefix: &str, hour: &str) -> anyhow::Result<ReloadRequest> {
        let payload = format!(r#"{{"reload":{{"prefix":"{prefix}","hour":"{hour}"}}}}"#);
        ReloadRequest::parse(payload.as_bytes()).expect("it asks for a reload")
    }

    #[test]
    fn hour_near_midnight_includes_the_next_day() {
        let reload = parse(PREFIX, "2026-01-31T23").unwrap();
        let region = "AWSLogs/123456789012/CloudTrail/eu-west-1/";
        let paths: Vec<_> = reload.stamps().iter().map(|stamp| reload.path(region, stamp)).collect();
        let name = "123456789012_CloudTrail_eu-west-1";
        let folder = format!("s3://trail/{region}");
        assert_eq!(
            paths,
            [format!("{folder}2026/01/31/{name}_20260131T23"), format!("{folder}2026/02/01/{name}_20260201T00"),]
        );
    }

    #[test]
    fn other_payload_is_no_reload_request() {
        for payload in [r#"{"awslogs":{"data":""}}"#, r#"{"Records":[]}"#, "", "nonsense"] {
            assert!(ReloadRequest::parse(payload.as_bytes()).is_none(), "{payload}");
        }
    }

    #[test]
    fn flawed_reload_is_rejected_with_an_example() {
        for (prefix, hour, expected) in [
            ("trail/AWSLogs", "2026-01-31T14", "prefix \"trail/AWSLogs\" is not an S3 location"),
            ("s3:///AWSLogs", "2026-01-31T14", "prefix \"s3:///AWSLogs\" is not an S3 location"),
            (PREFIX, "2026-01-31", "hour \"2026-01-31\" is not an hour in UTC; write 2026-01-31T14"),
        ] {
            let error = parse(prefix, hour).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
        let error = ReloadRequest::parse(br#"{"reload":{}}"#).unwrap().unwrap_err();
        assert!(error.to_string().starts_with("write {\"reload\""), "{error}");
    }
}
