//! `trailgate`: parses its arguments, runs the command, and returns the right exit code.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Parser as _;
use tikv_jemallocator::Jemalloc;
use tokio::runtime::{Builder, Runtime};
use trailgate::daemon::Logs;
use trailgate::{
    CertificateError, Cli, Command, Config, ConfigArgs, ConfigError, LoadError, allow, check, daemon, doctor, generate,
    status, systemd, top,
};
use trailgate_client::RootsError;

/// Faster than the platform's, and returns memory after a burst: docs/performance.md has the figures.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => block_on(status::run(&args)),
        Command::Top(args) => block_on(top::run(&args)),
        Command::Doctor(args) => block_on(doctor::run(&args)),
        Command::Generate(command) => generate::run(&command).map(|()| ExitCode::SUCCESS),
        Command::Allow(args) => allow::run(&args, SystemTime::now()),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(io::stderr(), "trailgate: {error:#}");
            let is_config = error.is::<ConfigError>()
                || error.is::<LoadError>()
                || error.is::<CertificateError>()
                || error.downcast_ref().is_some_and(RootsError::is_in_file);
            if is_config { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    let passed = systemd::listeners().context("cannot use the sockets that were passed")?;
    let logs = Logs::start(&config.log).context("cannot start the log")?;
    let runtime = runtime()?;
    let result = runtime.block_on(daemon::run(config, passed, &logs));
    // A name lookup or a file that hangs in a thread of the runtime must not delay the end.
    runtime.shutdown_background();
    logs.finish();
    result.map(|()| ExitCode::SUCCESS)
}

fn block_on(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = runtime()?;
    let result = runtime.block_on(command);
    // As above.
    runtime.shutdown_background();
    result
}

fn runtime() -> anyhow::Result<Runtime> {
    // One thread accepts and runs the background tasks; requests have threads of their own.
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

/// "Something was found in an unconfigured or misconfigured state": sysexits(3).
const EX_CONFIG: u8 = 78;
