//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use jiff::civil::Date;
use trailgate_ingest::load::days::parse_day;

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
    /// Prove that the domain holds every event of a period as CloudTrail delivered it. Exits with 0 if proven, 1 on
    /// differences, 2 if undecided.
    #[command(override_usage = VERIFY_USAGE)]
    Verify(VerifyArgs),
    /// Install dashboards, saved searches and the index pattern in the domain's Kibana or OpenSearch Dashboards. Exits
    /// with 3 if an object stays because a user changed it.
    Dashboards(DashboardsArgs),
    /// Write the dashboards to files that Kibana and OpenSearch Dashboards can import.
    WriteDashboards {
        /// Folder to write to.
        folder: PathBuf,
    },
}

#[derive(Args)]
pub(super) struct Connection {
    /// URL of the domain, or of a trailgate in front of it.
    #[arg(long, value_name = "URL")]
    pub(super) endpoint: String,
    /// Region to sign for, if the endpoint does not name it.
    #[arg(long)]
    pub(super) region: Option<String>,
    /// Service to sign for, `es` or `aoss`, if the endpoint does not name it.
    #[arg(long)]
    pub(super) service: Option<String>,
    /// Prefix of index names, before the day.
    #[arg(long, default_value = "cwl-")]
    pub(super) index_prefix: String,
    /// Load no AWS credentials: the endpoint is a trailgate or a local server and needs no signature.
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
    /// First day of events to index, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(super) from: Option<Date>,
    /// Last day of events to index, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(super) to: Option<Date>,
    /// Print what would be indexed, and send nothing.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Checkpoint: a file that records which files are done, so that an interrupted run resumes. Removed at the end.
    #[arg(long, value_name = "FILE", default_value = ".trailgate-ingest.done")]
    pub(super) done: PathBuf,
    /// Write what is not indexed, with the reasons, to a new file, which `load` can read again.
    #[arg(long, value_name = "FILE")]
    pub(super) failures: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    /// Bucket with log files and digest files, `s3://BUCKET/AWSLogs`, or a folder with a copy of it.
    #[arg(value_name = "PATH")]
    pub(super) path: String,
    #[command(flatten)]
    pub(super) connection: Connection,
    /// First day of events to verify, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(super) from: Date,
    /// Last day of events to verify, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    pub(super) to: Date,
    /// File with CloudTrail's public keys: the output of `aws cloudtrail list-public-keys`. By default fetched from
    /// CloudTrail in each region that has digests.
    #[arg(long, value_name = "FILE")]
    pub(super) public_keys: Option<PathBuf>,
    /// Print JSON instead of a table: an object for each day, and one with the verdict.
    #[arg(long)]
    pub(super) json: bool,
    /// Load the missing events of proven files, then verify again. Replaces no document.
    #[arg(long)]
    pub(super) load_missing: bool,
    /// Write a report for the auditor to a new file whose name ends with `.html` or `.md`.
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Checkpoint: a file that records which days are compared, so that an interrupted run resumes. Removed at the end.
    #[arg(long, value_name = "FILE", default_value = ".trailgate-ingest.verify")]
    pub(super) done: PathBuf,
}

#[derive(Args)]
pub(super) struct DashboardsArgs {
    #[command(flatten)]
    pub(super) connection: Connection,
    /// Replace objects that users changed as well.
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

/// The generated line has more than 80 columns, and clap does not wrap it.
const VERIFY_USAGE: &str = "trailgate-ingest verify [OPTIONS] --endpoint <URL> --from <YYYY-MM-DD>\n       \
                            --to <YYYY-MM-DD> <PATH>";
