//! The command line: what can be asked of the program. `main` acts on it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// A gate in front of an AWS Elasticsearch or OpenSearch domain: checks the client, signs the request, forwards it.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gate until SIGTERM.
    Run(Files),
    /// Read the configuration and the allowlist, say what they hold, and do nothing else.
    Check(Files),
}

/// Which files to read.
#[derive(Args, Debug)]
pub struct Files {
    /// The configuration; paths in it are relative to it.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}

const CONFIG: &str = "/etc/trailgate/trailgate.toml";
