//! `trailgate`: reads its arguments and its configuration, runs, and ends with the right exit code.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use trailgate::allowlist::LoadError;
use trailgate::config::{Config, ConfigError};
use trailgate::process::{self, Logs};
use trailgate::systemd;

/// A gate in front of an AWS Elasticsearch or OpenSearch domain: checks the client, signs the request, forwards it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gate until SIGTERM.
    Run(Files),
    /// Read the configuration and the allowlist, say what they hold, and do nothing else.
    Check(Files),
    /// Ask the gate that runs how it stands: ready (exit code 0) or not (1), and who was refused lately.
    Status {
        #[command(flatten)]
        files: Files,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Files {
    /// The configuration; paths in it are relative to it.
    #[arg(long, value_name = "FILE", default_value = "/etc/trailgate/trailgate.toml")]
    config: PathBuf,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(files) => run(&files),
        Command::Check(files) => check(&files),
        Command::Status { files, json } => status(&files, json),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("trailgate: {error:#}");
            let is_config = error.is::<ConfigError>() || error.is::<LoadError>();
            if is_config { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn run(files: &Files) -> anyhow::Result<ExitCode> {
    let config = Config::load(&files.config)?;
    let passed = systemd::listeners().context("cannot use the sockets that were passed on")?;
    let logs = Logs::start(&config).context("cannot start the log")?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(process::run(config, passed, &logs));
    // A name look-up or a file that hangs in a thread of the runtime must not hold up the end.
    runtime.shutdown_background();
    logs.finish();
    result.map(|()| ExitCode::SUCCESS)
}

fn check(files: &Files) -> anyhow::Result<ExitCode> {
    println!("{}", process::describe(&files.config, &Config::load(&files.config)?)?);
    Ok(ExitCode::SUCCESS)
}

fn status(files: &Files, json: bool) -> anyhow::Result<ExitCode> {
    let config = Config::load(&files.config)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let status = runtime.block_on(config.admin.status())?;
    if json {
        println!("{}", serde_json::to_string_pretty(&status)?);
    } else {
        println!("{status}");
    }
    Ok(if status.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// "Something was found in an unconfigured or misconfigured state": sysexits(3).
const EX_CONFIG: u8 = 78;
