//! `trailgate-ingest load`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use indicatif::ProgressBar;
use jiff::civil::Date;
use tokio::signal::unix::{SignalKind, signal};
use trailgate_ingest::document::DocumentOptions;
use trailgate_ingest::load::Load;
use trailgate_ingest::load::checkpoint::Checkpoint;
use trailgate_ingest::load::days::Days;
use trailgate_ingest::load::failure_file::FailureFile;
use trailgate_ingest::load::progress::Progress;
use trailgate_ingest::load::source::Sources;
use trailgate_ingest::load::tally::{SkippedFiles, Summary};

use crate::args::LoadArgs;
use crate::connection::{s3, settings};
use crate::output::{print_note, print_text};

pub(super) async fn load_files(args: &LoadArgs, bar: ProgressBar) -> anyhow::Result<Summary> {
    let days = Days { from: args.from, to: args.to };
    if let (Some(from), Some(to)) = (args.from, args.to)
        && from > to
    {
        anyhow::bail!("--from {from} is after --to {to}; write the first day in --from");
    }
    let settings = settings(&args.connection)?;
    let sources = Arc::new(Sources::find(&args.paths, async || s3(&settings.region).await).await?);
    if let [path, ..] = sources.paths_without_files() {
        anyhow::bail!("{path}: found no files; check the path");
    }
    let progress = Progress::new(bar);
    if args.dry_run {
        let dry = Load::dry_run(settings.document_options.clone(), days);
        let (mut done, mut failures) = (Checkpoint::in_memory(), FailureFile::disabled());
        let summary = dry.run(&sources, &mut done, &mut failures, &progress, || false).await?;
        print_text(&describe(&summary, true))?;
        return Ok(summary);
    }

    let mut done = Checkpoint::open(&args.done, &args.scope(&settings.document_options))?;
    let mut failures = args.failures.as_deref().map_or_else(|| Ok(FailureFile::disabled()), FailureFile::create)?;
    let domain = args.connection.domain(&settings)?;
    let load = Load::into_domain(Arc::new(domain), &settings, days).await;
    let load = load.map_err(|error| args.connection.with_hint(error))?;
    let interrupted = interrupted()?;
    let is_interrupted = || interrupted.load(Ordering::Relaxed);
    let summary = load.run(&sources, &mut done, &mut failures, &progress, is_interrupted).await?;
    failures.finish()?;
    print_text(&describe(&summary, false))?;
    if interrupted.load(Ordering::Relaxed) {
        // A file of failures is not replaced.
        let kept = args.failures.as_ref().filter(|file| file.exists());
        let change = kept.map_or("", |_| ", but name another file with --failures");
        anyhow::bail!("interrupted; run the same command again to resume (checkpoint {}){change}", args.done.display());
    }
    if summary.failed == 0 {
        done.clear()?;
    }
    Ok(summary)
}

impl LoadArgs {
    /// Returns the scope of the checkpoint: the destination, the days, and what is indexed how.
    fn scope(&self, options: &DocumentOptions) -> String {
        let endpoint = self.connection.endpoint.trim_end_matches('/');
        let day = |day: Option<Date>| day.map_or_else(String::new, |day| day.to_string());
        format!("{endpoint}\n{}\n{}\n{options:?}", day(self.from), day(self.to))
    }
}

/// Returns a flag that the first Ctrl-C or SIGTERM sets; a second one ends the process.
fn interrupted() -> anyhow::Result<Arc<AtomicBool>> {
    let handler = |kind| signal(kind).context("cannot handle signals");
    let (mut interrupt, mut terminate) = (handler(SignalKind::interrupt())?, handler(SignalKind::terminate())?);
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if set.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            print_note("finishing requests in flight; press Ctrl-C again to stop at once");
        }
    });
    Ok(flag)
}

/// Describes the result of a run in lines of text.
fn describe(summary: &Summary, is_dry: bool) -> String {
    let verb = if is_dry { "would be indexed" } else { "indexed" };
    let count = if is_dry { summary.events } else { summary.indexed + summary.degraded };
    let failed = if summary.failed > 0 { format!(", {} failed", summary.failed) } else { String::new() };
    let mut lines = vec![format!("{} events in {} files, {count} {verb}{failed}", summary.events, summary.files)];
    if summary.degraded > 0 {
        lines.push(format!("{} of them degraded; find them with _exists_:@degraded", summary.degraded));
    }
    if summary.other_days > 0 {
        lines.push(format!("{} events skipped: of other days", summary.other_days));
    }
    lines.extend(summary.foreign.iter().map(|(kind, values)| format!("{values} values skipped: {kind}")));
    lines.extend(summary.skipped.iter().map(|(reason, SkippedFiles { files, names })| {
        let more = if *files > names.len() { ", …" } else { "" };
        format!("{files} files skipped: {reason} ({}{more})", names.join(", "))
    }));
    if is_dry {
        lines.extend(summary.by_index.iter().map(|(index, events)| format!("{index}: {events}")));
    }
    lines.extend(summary.failures.iter().map(|failure| format!("failed: {failure}")));
    if summary.failed > summary.failures.len() {
        let more = summary.failed - summary.failures.len();
        lines.push(format!("failed: {more} more; add --failures FILE to keep all"));
    }
    if summary.failed == 0 && !summary.has_found() {
        lines.push("failed: found no CloudTrail events in these paths".to_owned());
    }
    lines.join("\n") + "\n"
}
