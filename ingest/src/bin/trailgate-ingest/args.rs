//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::civil::Date;

/// Load, verify and show CloudTrail events in an Elasticsearch or OpenSearch domain.
#[derive(Parser)]
#[command(version, max_term_width = 80)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Index CloudTrail files: history, events too large for CloudWatch Logs, local trials.
    Load(LoadArgs),
    /// Prove that the domain holds every event of a period as CloudTrail delivered it. Exits with 0 if it is proven, 1 on
    /// differences, 2 if it cannot be decided.
    Verify(VerifyArgs),
    /// Install dashboards, saved searches and the index pattern in the domain's Kibana or OpenSearch Dashboards.
    Dashboards(DashboardsArgs),
    /// Write the dashboards to files that Kibana and OpenSearch Dashboards can import.
    WriteDashboards {
        /// The folder to write to.
        folder: PathBuf,
    },
}

#[derive(Args)]
pub(super) struct Connection {
    /// The domain, or a trailgate in front of it.
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: String,
    /// The region of signatures, if the endpoint does not name it.
    #[arg(long)]
    pub(super) region: Option<String>,
    /// The service of signatures, `es` or `aoss`, if the endpoint does not name it.
    #[arg(long)]
    pub(super) service: Option<String>,
    /// The beginning of the names of indices.
    #[arg(long, default_value = "cwl-")]
    pub(super) index_prefix: String,
    /// The endpoint needs no signature: it is a trailgate or a local server. AWS credentials are not loaded.
    #[arg(long)]
    pub(super) unsigned: bool,
}

#[derive(Args)]
pub(super) struct LoadArgs {
    /// Files, folders as S3 lays them out, `s3://BUCKET/PREFIX`, or `-` for standard input.
    #[arg(required = true, value_name = "PATH")]
    pub(super) paths: Vec<String>,
    #[command(flatten)]
    pub(super) connection: Connection,
    /// The first day of events to index, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(super) from: Option<Date>,
    /// The last day of events to index, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(super) to: Option<Date>,
    /// Print what would be indexed, and send nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// The checkpoint: a file that records which files are done, to resume an interrupted run. Removed at the end.
    #[arg(long, value_name = "FILE", default_value = ".trailgate-ingest.done")]
    pub(super) done: PathBuf,
    /// Write what is not indexed, and why, to a new file, which `load` can read again.
    #[arg(long, value_name = "FILE")]
    pub(super) failures: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// The bucket with log files and digest files, `s3://BUCKET/AWSLogs`, or a copy in a folder.
    #[arg(value_name = "PATH")]
    pub(super) path: String,
    #[command(flatten)]
    pub(super) connection: Connection,
    /// The first day of events, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(super) from: Date,
    /// The last day of events, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(super) to: Date,
    /// CloudTrail's public keys: the output of `aws cloudtrail list-public-keys`. By default they are fetched from
    /// CloudTrail in each region that has digests.
    #[arg(long, value_name = "FILE")]
    pub(super) public_keys: Option<PathBuf>,
    /// Print one JSON object for each day and one with the verdict, instead of a table.
    #[arg(long)]
    pub(super) json: bool,
    /// Load the events of proven files that are missing, and verify again. No document is replaced.
    #[arg(long)]
    pub(super) load_missing: bool,
    /// Write a report that an auditor can file, to a new file whose name ends with `.html` or `.md`.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// The checkpoint: a file that records which days are compared, to resume an interrupted run. Removed at the end.
    #[arg(long, value_name = "FILE", default_value = ".trailgate-ingest.verify")]
    pub(super) done: PathBuf,
}

#[derive(Args)]
pub(super) struct DashboardsArgs {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Replace objects that users changed, too.
    #[arg(long)]
    pub(super) force: bool,
}

impl Command {
    pub(super) fn is_unsigned(&self) -> bool {
        match self {
            Self::Load(args) => args.connection.unsigned,
            Self::Verify(args) => args.connection.unsigned,
            Self::Dashboards(args) => args.connection.unsigned,
            Self::WriteDashboards { .. } => false,
        }
    }
}
