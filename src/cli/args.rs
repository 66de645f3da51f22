//! The arguments of the command line. Their comments are the help text.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use jiff::{Span, Timestamp};
use trailgate_client::RoleArn;

use crate::policy::allowlist;
use crate::policy::cidr;
use crate::policy::grant::Access;

/// A SigV4-signing reverse proxy in front of an AWS Elasticsearch or OpenSearch domain.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 80, after_long_help = EXIT_CODES)]
pub struct Cli {
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy until SIGTERM.
    Run(ConfigArgs),
    /// Validate the configuration, the allowlist and the certificates, and print a summary.
    Check(ConfigArgs),
    /// Print the status of the running proxy and the clients it rejected recently; exit with 1 if it is not ready.
    Status(StatusArgs),
    /// Show the status live in the terminal; q quits.
    Top(TopArgs),
    /// List and change the entries of the allowlist.
    Allow(Allow),
    /// Test every step from configuration to signed request, and print causes and remedies; exit with 1 if a step fails.
    Doctor(DoctorArgs),
    /// Write man pages and shell completions.
    #[command(subcommand, hide = true)]
    Generate(Generate),
}

/// The configuration file.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// Configuration file; paths in it are relative to it.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}

/// The configuration file, and the format of the output.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// The configuration file.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The configuration file, the role to check, and the format of the output.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// The configuration file.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Check this role only, of those that sign requests.
    #[arg(long, value_name = "ARN")]
    pub role: Option<RoleArn>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// The configuration file, and whether to print one frame.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// The configuration file.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Print one frame and exit, with 1 if the proxy is not ready.
    #[arg(long)]
    pub once: bool,
}

/// List and change the entries of the allowlist.
#[derive(Args, Debug)]
pub struct Allow {
    /// Configuration file that names the allowlist.
    #[arg(long, value_name = "FILE", default_value = CONFIG, global = true)]
    pub config: PathBuf,
    /// Allowlist file, instead of the one that the configuration names.
    #[arg(long, value_name = "FILE", conflicts_with = "config", global = true)]
    pub file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// The command.
    #[command(subcommand)]
    pub verb: AllowVerb,
}

/// The command on the allowlist.
#[derive(Debug, Subcommand)]
pub enum AllowVerb {
    /// List all entries, and count those that have expired or will within a week.
    List,
    /// Add an entry for an address or a block.
    Add(Add),
    /// Remove an entry.
    Remove(Remove),
    /// Print the entry that decides for an address, or the nearest one; exit with 1 if the address is not allowed.
    Check {
        /// Address of a client.
        address: IpAddr,
    },
    /// List the entries in effect now, by name.
    Who,
}

/// The entry to add.
#[derive(Args, Debug)]
pub struct Add {
    /// Address, or block of addresses.
    #[arg(value_parser = cidr::parse)]
    pub cidr: IpNet,
    /// Owner of the block, for the access log.
    #[arg(long, value_parser = name)]
    pub name: String,
    /// Access level.
    #[arg(long, value_enum, default_value_t)]
    pub access: Access,
    /// Duration of the grant: "8h", "2 weeks", "1d 12h".
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
    pub lasts: Option<Span>,
    /// End of the grant: "2026-12-31T18:00:00Z".
    #[arg(long, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// Permit searching the access log in gate-* as well.
    #[arg(long)]
    pub access_log: bool,
    /// Role that signs the entry's requests, instead of that of its access level.
    #[arg(long, value_name = "ARN")]
    pub role: Option<RoleArn>,
    /// Replace the entry of the same block, if there is one.
    #[arg(long)]
    pub replace: bool,
    /// Print the change as a diff, and do not write it.
    #[arg(long)]
    pub dry_run: bool,
}

/// The entry to remove.
#[derive(Args, Debug)]
pub struct Remove {
    /// Block of the entry, or its name if no other entry has the same.
    #[arg(value_name = "CIDR|NAME")]
    pub entry: String,
    /// Print the change as a diff, and do not write it.
    #[arg(long)]
    pub dry_run: bool,
}

/// The files that are shipped with the program.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// Write a man page for each command.
    Man {
        /// Folder to write to: "/usr/share/man/man1".
        folder: PathBuf,
    },
    /// Write completions for bash, zsh and fish.
    Completions {
        /// Folder to write to.
        folder: PathBuf,
    },
}

fn name(text: &str) -> Result<String, String> {
    allowlist::name(text).map_err(|mistake| mistake.to_string())
}

const CONFIG: &str = "/etc/trailgate/trailgate.toml";

const EXIT_CODES: &str = "Exit codes: 0 success; 1 failed, not ready, or not allowed; 2 wrong command line; \
                          78 mistake in the configuration or a file it names.";
