//! `trailgate-ingest verify`.

use std::sync::Arc;

use anyhow::Context as _;
use aws_credential_types::provider::ProvideCredentials as _;
use indicatif::ProgressBar;
use jiff::Timestamp;
use trailgate_client::provider;
use trailgate_ingest::load::LoadTarget;
use trailgate_ingest::load::checkpoint::Checkpoint;
use trailgate_ingest::load::days::Days;
use trailgate_ingest::load::progress::Progress;
use trailgate_ingest::load::source::Sources;
use trailgate_ingest::verify::audit_report::{AuditContext, ReportFile};
use trailgate_ingest::verify::keys::PublicKeys;
use trailgate_ingest::verify::report::{Report, Verdict};
use trailgate_ingest::verify::{ComparedDomain, Evidence, Period, key_query, load_missing, verify};

use crate::args::{Connection, VerifyArgs};
use crate::connection::{s3, settings};
use crate::output::{print_note, print_text};

/// Verifies the evidence, prints the report and returns the exit code: an error leaves the question undecided.
pub(super) async fn verify_evidence(args: &VerifyArgs, bar: ProgressBar) -> u8 {
    match run_verification(args, bar).await {
        Ok(report) => report.verdict().exit_code(),
        Err(error) => {
            print_note(&format!("trailgate-ingest: {error:#}"));
            Verdict::Undecided.exit_code()
        }
    }
}

async fn run_verification(args: &VerifyArgs, bar: ProgressBar) -> anyhow::Result<Report> {
    let VerifyArgs { from, to, .. } = *args;
    if from > to {
        anyhow::bail!("--from {from} is after --to {to}; write the first day in --from");
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
        bar.suspend(|| args.print(&before, Some("before_loading")))?;
        let after = verify(&evidence, &compared, &mut Checkpoint::in_memory(), &progress).await.map_err(hint)?;
        (Some(before), after)
    } else {
        (None, verify(&evidence, &compared, &mut done, &progress).await.map_err(hint)?)
    };
    bar.finish_and_clear();
    if let Some(file) = file {
        file.write(&args.audit_context(period), before.as_ref(), &report)?;
    }
    args.print(&report, before.as_ref().map(|_| "after_loading"))?;
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
        let credentials = provider.provide_credentials().await.context(
            "cannot find AWS credentials to list CloudTrail's public keys; name a file of them with --public-keys",
        )?;
        let endpoint = std::env::var("AWS_ENDPOINT_URL_CLOUDTRAIL").ok();
        PublicKeys::fetch(&key_query(sources, period, Timestamp::now()), credentials, endpoint.as_deref()).await
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

    /// Prints a report. `stage` distinguishes the report before the missing events were loaded from that after it.
    fn print(&self, report: &Report, stage: Option<&str>) -> anyhow::Result<()> {
        if self.json {
            return print_text(&report.json_lines(stage));
        }
        let next = if stage == Some("before_loading") {
            format!("loaded {} missing events; the second verification:\n", report.loaded)
        } else {
            String::new()
        };
        print_text(&format!("{report}\n{next}"))
    }

    /// Returns the scope of the checkpoint: what is compared, and by which version.
    fn scope(&self) -> String {
        let Self { path, connection: Connection { endpoint, index_prefix, .. }, from, to, load_missing, .. } = self;
        let (endpoint, version) = (endpoint.trim_end_matches('/'), env!("CARGO_PKG_VERSION"));
        format!("verify {version}\n{path}\n{endpoint}\n{index_prefix}\n{from}\n{to}\n{load_missing}")
    }
}
