//! `trailgate-ingest`: loads CloudTrail files into a domain, verifies them there, and installs the dashboards.

mod args;
mod connection;
mod dashboards;
mod load;
mod output;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;
use indicatif::ProgressBar;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use trailgate_ingest::load::progress::AboveBar;

use self::args::{Cli, Command};
use self::dashboards::write_dashboards;
use self::load::load_files;
use self::output::print_note;
use self::verify::verify_evidence;

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
            Command::Load(args) => load_files(&args, bar).await.map(|summary| u8::from(!summary.is_complete())),
            Command::Dashboards(args) => {
                dashboards::install(&args).await.map(|is_changed| if is_changed { CHANGED } else { 0 })
            }
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
    print_note(&format!("trailgate-ingest: {error:#}"));
    ExitCode::FAILURE
}

/// The exit code if a shipped object stays changed, so that a scheduled run raises an alarm.
const CHANGED: u8 = 3;
