//! `trailgate`: reads its arguments and its configuration, runs, and ends with the right exit code.

use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Parser as _;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::{Builder, Runtime};
use trailgate::cli::allow;
use trailgate::cli::args::{Cli, Command, Files};
use trailgate::cli::doctor;
use trailgate::cli::generate;
use trailgate::config::{Config, ConfigError};
use trailgate::daemon::{self, Logs};
use trailgate::http::tls::CertificateError;
use trailgate::ops::admin;
use trailgate::ops::systemd;
use trailgate::policy::allowlist::LoadError;

/// Takes less time than the platform's, and gives memory back after a burst: docs/performance.md has the figures.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(files) => run(&files),
        Command::Check(files) => check(&files),
        Command::Status(question) => ask(admin::report(&question)),
        Command::Doctor(question) => ask(doctor::run(&question)),
        Command::Generate(generate) => generate::run(&generate).map(|()| ExitCode::SUCCESS),
        Command::Allow(allow) => allow::run(&allow, SystemTime::now()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("trailgate: {error:#}");
            let is_config = error.is::<ConfigError>() || error.is::<LoadError>() || error.is::<CertificateError>();
            if is_config { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn run(files: &Files) -> anyhow::Result<ExitCode> {
    let config = Config::load(&files.config)?;
    let passed = systemd::listeners().context("cannot use the sockets that were passed on")?;
    let logs = Logs::start(&config).context("cannot start the log")?;
    let runtime = runtime()?;
    let result = runtime.block_on(daemon::run(config, passed, &logs));
    // A name look-up or a file that hangs in a thread of the runtime must not hold up the end.
    runtime.shutdown_background();
    logs.finish();
    result.map(|()| ExitCode::SUCCESS)
}

fn ask(question: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let result = runtime.block_on(question);
    // As above.
    runtime.shutdown_background();
    result
}

fn runtime() -> anyhow::Result<Runtime> {
    // One thread is enough to accept, to look after things and to ask: requests have threads of their own.
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

fn check(files: &Files) -> anyhow::Result<ExitCode> {
    let config = Config::load(&files.config)?;
    println!("{}", daemon::describe(&files.config, &config)?);
    for warning in daemon::warnings(&config) {
        eprintln!("trailgate: warning: {warning}");
    }
    Ok(ExitCode::SUCCESS)
}

/// "Something was found in an unconfigured or misconfigured state": sysexits(3).
const EX_CONFIG: u8 = 78;
