//! `trailgate-ingest`: loads CloudTrail files into the index and installs the dashboards, from a command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use clap::{Args, Parser, Subcommand};
use indicatif::ProgressBar;
use jiff::Timestamp;
use jiff::civil::Date;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use trailgate_client::{provider, sdk_config};
use trailgate_ingest::dashboards::definitions::Definitions;
use trailgate_ingest::dashboards::format::ExportFormat;
use trailgate_ingest::dashboards::install::{self, DashboardSet, install_dashboards};
use trailgate_ingest::dashboards::saved;
use trailgate_ingest::dashboards::{self, file};
use trailgate_ingest::document::DocumentOptions;
use trailgate_ingest::domain::Domain;
use trailgate_ingest::load::checkpoint::Checkpoint;
use trailgate_ingest::load::days::Days;
use trailgate_ingest::load::failure_file::FailureFile;
use trailgate_ingest::load::progress::{AboveBar, Progress};
use trailgate_ingest::load::source::Sources;
use trailgate_ingest::load::tally::{SkippedFiles, Summary};
use trailgate_ingest::load::{Load, LoadTarget};
use trailgate_ingest::settings::Settings;
use trailgate_ingest::setup;
use trailgate_ingest::verify::audit_report::{AuditContext, ReportFile};
use trailgate_ingest::verify::keys::PublicKeys;
use trailgate_ingest::verify::report::{Report, Verdict};
use trailgate_ingest::verify::{ComparedDomain, Evidence, Period, digest_regions, load_missing, verify};

/// Load, verify and show CloudTrail events in an Elasticsearch or OpenSearch domain.
#[derive(Parser)]
#[command(version, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
struct Connection {
    /// The domain, or a trailgate in front of it.
    #[arg(long, value_name = "URL")]
    endpoint: String,
    /// The region of signatures, if the endpoint does not name it.
    #[arg(long)]
    region: Option<String>,
    /// The service of signatures, `es` or `aoss`, if the endpoint does not name it.
    #[arg(long)]
    service: Option<String>,
    /// The beginning of the names of indices.
    #[arg(long, default_value = "cwl-")]
    index_prefix: String,
    /// The endpoint needs no signature: it is a trailgate or a local server. AWS credentials are not loaded.
    #[arg(long)]
    unsigned: bool,
}

#[derive(Args)]
struct LoadArgs {
    /// Files, folders as S3 lays them out, `s3://BUCKET/PREFIX`, or `-` for standard input.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<String>,
    #[command(flatten)]
    connection: Connection,
    /// The first day of events to index, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<Date>,
    /// The last day of events to index, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<Date>,
    /// Print what would be indexed, and send nothing.
    #[arg(long)]
    dry_run: bool,
    /// The checkpoint: a file that records which files are done, to resume an interrupted run. Removed at the end.
    #[arg(long, value_name = "FILE", default_value = ".trailgate-ingest.done")]
    done: PathBuf,
    /// Write what is not indexed, and why, to a new file, which `load` can read again.
    #[arg(long, value_name = "FILE")]
    failures: Option<PathBuf>,
}

#[derive(Args)]
struct VerifyArgs {
    /// The bucket with log files and digest files, `s3://BUCKET/AWSLogs`, or a copy in a folder.
    #[arg(value_name = "PATH")]
    path: String,
    #[command(flatten)]
    connection: Connection,
    /// The first day of events, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Date,
    /// The last day of events, in UTC.
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Date,
    /// CloudTrail's public keys: the output of `aws cloudtrail list-public-keys`. By default they are fetched from
    /// CloudTrail in each region that has digests.
    #[arg(long, value_name = "FILE")]
    public_keys: Option<PathBuf>,
    /// Print one JSON object for each day and one with the verdict, instead of a table.
    #[arg(long)]
    json: bool,
    /// Load the events of proven files that are missing, and verify again. No document is replaced.
    #[arg(long)]
    load_missing: bool,
    /// Write a report that an auditor can file, to a new file whose name ends with `.html` or `.md`.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// The checkpoint: a file that records which days are compared, to resume an interrupted run. Removed at the end.
    #[arg(long, value_name = "FILE", default_value = ".trailgate-ingest.verify")]
    done: PathBuf,
}

#[derive(Args)]
struct DashboardsArgs {
    #[command(flatten)]
    connection: Connection,
    /// Replace objects that users changed, too.
    #[arg(long)]
    force: bool,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let bar = ProgressBar::no_length();
    log_above(&bar, command.is_unsigned());
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let ended = runtime.block_on(async {
        match command {
            Command::Verify(args) => return Ok(verify_evidence(&args, bar).await),
            Command::Load(args) => load(&args, bar).await.map(|summary| u8::from(!summary.is_complete())),
            Command::Dashboards(args) => dashboards(args).await.map(|is_changed| if is_changed { CHANGED } else { 0 }),
            Command::WriteDashboards { folder } => write_dashboards(&folder).map(|()| 0),
        }
    });
    // A thread that still reads standard input would be waited for.
    runtime.shutdown_background();
    ended.map_or_else(|error| fail(&error), ExitCode::from)
}

/// Logs to stderr, above the bar, without lines about the placeholder credentials of `--unsigned`.
fn log_above(bar: &ProgressBar, is_unsigned: bool) {
    let is_wanted = move |metadata: &Metadata<'_>| {
        let least = if is_unsigned && metadata.target().starts_with("trailgate_client::credentials") {
            Level::WARN
        } else {
            Level::INFO
        };
        *metadata.level() <= least
    };
    let lines = tracing_subscriber::fmt::layer().with_writer(AboveBar(bar.clone())).with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(filter_fn(is_wanted))).init();
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("trailgate-ingest: {error:#}");
    ExitCode::FAILURE
}

async fn load(args: &LoadArgs, bar: ProgressBar) -> anyhow::Result<Summary> {
    let days = Days { from: args.from, to: args.to };
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from > to
    {
        anyhow::bail!("--from {from} is after --to {to}");
    }
    let settings = settings(&args.connection)?;
    let sources = Arc::new(Sources::find(&args.paths, async || s3(&settings.region).await).await?);
    if let [path, ..] = sources.paths_without_files() {
        anyhow::bail!("{path}: there are no files");
    }
    let progress = Progress::new(bar);
    if args.dry_run {
        let dry = Load::dry_run(settings.document_options.clone(), days);
        let (mut done, mut failures) = (Checkpoint::in_memory(), FailureFile::disabled());
        let summary = dry.run(&sources, &mut done, &mut failures, &progress, || false).await?;
        print(&summary, true);
        return Ok(summary);
    }

    let mut done = Checkpoint::open(&args.done, &args.scope())?;
    let mut failures = args.failures.as_deref().map_or_else(|| Ok(FailureFile::disabled()), FailureFile::create)?;
    let domain = args.connection.domain(&settings)?;
    let load = Load::into_domain(Arc::new(domain), &settings, days).await;
    let load = load.map_err(|error| args.connection.with_hint(error))?;
    let interrupted = interrupted();
    let is_interrupted = || interrupted.load(Ordering::Relaxed);
    let summary = load.run(&sources, &mut done, &mut failures, &progress, is_interrupted).await?;
    failures.finish()?;
    print(&summary, false);
    if interrupted.load(Ordering::Relaxed) {
        anyhow::bail!("interrupted; the same command goes on from here ({})", args.done.display());
    }
    if summary.failed == 0 {
        done.clear()?;
    }
    Ok(summary)
}

/// Verifies the evidence, prints the report and returns the exit code: an error leaves the question undecided.
async fn verify_evidence(args: &VerifyArgs, bar: ProgressBar) -> u8 {
    match run_verification(args, bar).await {
        Ok(report) => report.verdict().exit_code(),
        Err(error) => {
            eprintln!("trailgate-ingest: {error:#}");
            Verdict::Undecided.exit_code()
        }
    }
}

async fn run_verification(args: &VerifyArgs, bar: ProgressBar) -> anyhow::Result<Report> {
    let VerifyArgs { from, to, .. } = *args;
    if from > to {
        anyhow::bail!("--from {from} is after --to {to}");
    }
    let file = args.report.as_deref().map(ReportFile::parse).transpose()?;
    let settings = settings(&args.connection)?;
    let days = Days { from: Some(from), to: Some(to) };
    let sources = Sources::find_days(&args.path, days, async || s3(&settings.region).await).await?;
    let sources = Arc::new(sources);
    let period = Period { from, to };
    let keys = args.public_keys(&sources, period, &settings.region).await?;
    let evidence = Evidence { sources, keys, period };
    let domain = Arc::new(args.connection.domain(&settings)?);
    let compared = ComparedDomain { domain, options: settings.document_options.clone() };
    let mut done = Checkpoint::open(&args.done, &args.scope())?;
    let progress = Progress::new(bar.clone());
    let hint = |error| args.connection.with_hint(error);
    let (before, report) = if args.load_missing {
        let target = LoadTarget::for_missing(Arc::clone(&compared.domain), &settings).await.map_err(hint)?;
        let before = load_missing(&evidence, &compared, target, &mut done, &progress).await.map_err(hint)?;
        bar.suspend(|| args.print(&before, Some("before_loading")));
        let after = verify(&evidence, &compared, &mut Checkpoint::in_memory(), &progress).await.map_err(hint)?;
        (Some(before), after)
    } else {
        (None, verify(&evidence, &compared, &mut done, &progress).await.map_err(hint)?)
    };
    bar.finish_and_clear();
    args.print(&report, before.as_ref().map(|_| "after_loading"));
    if let Some(file) = file {
        file.write(&args.audit_context(period), before.as_ref(), &report)?;
    }
    done.clear()?;
    Ok(report)
}

impl VerifyArgs {
    /// Reads the public keys, or fetches them from CloudTrail.
    async fn public_keys(&self, sources: &Sources, period: Period, region: &str) -> anyhow::Result<PublicKeys> {
        if let Some(file) = &self.public_keys {
            return PublicKeys::read(file);
        }
        let provider = provider(region, None);
        let credentials = provider.provide_credentials().await.context("there are no credentials of AWS")?;
        let endpoint = std::env::var("AWS_ENDPOINT_URL_CLOUDTRAIL").ok();
        PublicKeys::fetch(&digest_regions(sources, period), period, credentials, endpoint.as_deref()).await
    }

    fn audit_context(&self, period: Period) -> AuditContext {
        let keys = self.public_keys.as_ref();
        AuditContext {
            time: Timestamp::now(),
            path: self.path.clone(),
            endpoint: self.connection.endpoint.clone(),
            prefix: self.connection.index_prefix.clone(),
            keys: keys.map_or_else(|| "CloudTrail, ListPublicKeys".to_owned(), |file| file.display().to_string()),
            period,
        }
    }

    /// Prints a report; `stage` tells that before the missing events were loaded from that after it.
    fn print(&self, report: &Report, stage: Option<&str>) {
        if self.json {
            print!("{}", report.json_lines(stage));
            return;
        }
        println!("{report}");
        if stage == Some("before_loading") {
            println!("{} missing events loaded; verified again:", report.loaded);
        }
    }

    /// Returns the scope of the checkpoint: what is compared, and by which version.
    fn scope(&self) -> String {
        let Self { path, connection: Connection { endpoint, index_prefix, .. }, from, to, load_missing, .. } = self;
        let (endpoint, version) = (endpoint.trim_end_matches('/'), env!("CARGO_PKG_VERSION"));
        format!("verify {version}\n{path}\n{endpoint}\n{index_prefix}\n{from}\n{to}\n{load_missing}")
    }
}

impl LoadArgs {
    /// Returns the scope of the checkpoint: the destination and the days.
    fn scope(&self) -> String {
        let Connection { endpoint, index_prefix, .. } = &self.connection;
        let day = |day: Option<Date>| day.map_or_else(String::new, |day| day.to_string());
        format!("{}\n{index_prefix}\n{}\n{}", endpoint.trim_end_matches('/'), day(self.from), day(self.to))
    }
}

impl Command {
    fn is_unsigned(&self) -> bool {
        match self {
            Self::Load(args) => args.connection.unsigned,
            Self::Verify(args) => args.connection.unsigned,
            Self::Dashboards(args) => args.connection.unsigned,
            Self::WriteDashboards { .. } => false,
        }
    }
}

fn write_dashboards(folder: &Path) -> anyhow::Result<()> {
    let (events, access_log) = (event_dashboards(&DocumentOptions::default().prefix)?, access_log_dashboards()?);
    for form in [ExportFormat::Kibana5, ExportFormat::Kibana7] {
        for (set, name) in [(&events, file::file_name(form)), (&access_log, file::access_log_file_name(form))] {
            let path = folder.join(name);
            let objects = saved::build_objects(&set.definitions, &set.pattern, &set.mapping, form);
            std::fs::write(&path, file::file_text(&objects, form)).with_context(|| path.display().to_string())?;
        }
    }
    Ok(())
}

/// Installs the dashboards; returns whether one of them stays because a user changed it.
async fn dashboards(args: DashboardsArgs) -> anyhow::Result<bool> {
    let settings = settings(&args.connection)?;
    let domain = args.connection.domain(&settings)?;
    let mut sets = vec![event_dashboards(&settings.document_options.prefix)?];
    if settings.document_options.access_log {
        sets.push(access_log_dashboards()?);
    }
    let plan = install::InstallPlan { sets, is_forced: args.force };
    let installed = install_dashboards(&domain, &plan, TIMEOUT).await?;
    print!("{installed}");
    Ok(installed.has_changed())
}

fn event_dashboards(prefix: &str) -> anyhow::Result<DashboardSet> {
    let definitions = Definitions::parse(dashboards::SOURCE).context("the dashboards make no sense")?;
    let mapping = setup::index_mapping().context("the template makes no sense")?;
    Ok(DashboardSet { definitions, pattern: format!("{prefix}*"), mapping })
}

fn access_log_dashboards() -> anyhow::Result<DashboardSet> {
    let definitions = Definitions::parse(dashboards::ACCESS_LOG_SOURCE).context("the dashboards make no sense")?;
    let mapping = setup::access_log_mapping().context("the template makes no sense")?;
    Ok(DashboardSet { definitions, pattern: dashboards::ACCESS_LOG_PATTERN.to_owned(), mapping })
}

impl Connection {
    fn domain(&self, settings: &Settings) -> anyhow::Result<Domain> {
        let provider = if self.unsigned {
            SharedCredentialsProvider::new(Credentials::new("unsigned", "unsigned", None, None, "unsigned"))
        } else {
            provider(&settings.region, None)
        };
        Domain::connect(settings, provider)
    }

    /// Adds a hint at `--unsigned` to the error of a domain over plain http.
    fn with_hint(&self, error: anyhow::Error) -> anyhow::Error {
        let is_plain = self.endpoint.starts_with("http://");
        if self.unsigned || !is_plain {
            return error;
        }
        let hint = "if this endpoint needs no signature, as a trailgate or a local server does, add --unsigned";
        anyhow::anyhow!("{error:#}; {hint}")
    }
}

/// Reads the function's settings from flags instead of variables.
fn settings(connection: &Connection) -> anyhow::Result<Settings> {
    let settings = Settings::read(|variable| match variable {
        "ENDPOINT" => Some(connection.endpoint.clone()),
        // A trailgate and a local server name neither, and do not look at what is signed.
        "REGION" => connection.region.clone().or_else(|| connection.unsigned.then(|| "us-east-1".to_owned())),
        "SERVICE" => connection.service.clone().or_else(|| connection.unsigned.then(|| "es".to_owned())),
        "INDEX_PREFIX" => Some(connection.index_prefix.clone()),
        "AWS_REGION" | "ALLOW_PLAINTEXT" | "CA_FILE" | "ENGINE_VERSION" | "TIME_SERIES" | "GZIP" | "ACCESS_LOG" => {
            std::env::var(variable).ok()
        }
        // The same document for a file's record and for a delivery of CloudWatch Logs, and the same as the stack's
        // functions make of them, so that no event is indexed twice.
        "DOCUMENT_ID" => std::env::var(variable).ok().or_else(|| Some("event_id".to_owned())),
        "INDEX_DAY" => std::env::var(variable).ok().or_else(|| Some("event_time".to_owned())),
        _ => None,
    });
    settings.map_err(|error| anyhow::anyhow!("{}", in_flags(&error.to_string())))
}

/// Returns the message with flags in place of the function's variables.
fn in_flags(message: &str) -> String {
    let flags = [
        ("ENDPOINT", "--endpoint"),
        ("REGION", "--region"),
        ("SERVICE", "--service"),
        ("INDEX_PREFIX", "--index-prefix"),
    ];
    flags.iter().fold(message.to_owned(), |message, (variable, flag)| message.replace(variable, flag))
}

async fn s3(region: &str) -> aws_sdk_s3::Client {
    aws_sdk_s3::Client::new(&sdk_config(region).await)
}

/// Returns a flag that the first Ctrl-C sets; a second one ends the process.
fn interrupted() -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if set.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            eprintln!("finishing what is in flight; Ctrl-C again to stop at once");
        }
    });
    flag
}

fn print(summary: &Summary, is_dry: bool) {
    let verb = if is_dry { "would be indexed" } else { "indexed" };
    let count = if is_dry { summary.events } else { summary.indexed + summary.degraded };
    print!("{} events in {} files, {count} {verb}", summary.events, summary.files);
    match summary.failed {
        0 => println!(),
        failed => println!(", {failed} failed"),
    }
    if summary.degraded > 0 {
        println!("{} of the indexed in a degraded form: search for @degraded", summary.degraded);
    }
    if summary.other_days > 0 {
        println!("{} events passed over: of other days", summary.other_days);
    }
    for (kind, values) in &summary.foreign {
        println!("{values} values passed over: {kind}");
    }
    for (reason, SkippedFiles { files, names }) in &summary.skipped {
        let more = if *files > names.len() { ", …" } else { "" };
        println!("{files} files passed over: {reason} ({}{more})", names.join(", "));
    }
    for (index, events) in summary.by_index.iter().filter(|_| is_dry) {
        println!("{index}: {events}");
    }
    for failure in &summary.failures {
        println!("failed: {failure}");
    }
    if summary.failed > summary.failures.len() {
        println!("failed: {} more; --failures FILE keeps all", summary.failed - summary.failures.len());
    }
    if summary.failed == 0 && !summary.has_found() {
        println!("failed: there are no CloudTrail events in what was named");
    }
}

/// The exit code if a shipped object stays changed, so that a scheduled run raises an alarm.
const CHANGED: u8 = 3;

/// The longest time for one request: Kibana needs a second or two for an import.
const TIMEOUT: Duration = Duration::from_mins(1);
