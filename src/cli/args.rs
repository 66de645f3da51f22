//! The command line: what can be asked of the program. `main` acts on it.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;
use jiff::{Span, Timestamp};

use crate::policy::allowlist;
use crate::policy::cidr;
use crate::policy::grant::Access;

/// A gate in front of an AWS Elasticsearch or OpenSearch domain: checks the client, signs the request, forwards it.
#[derive(Debug, Parser)]
#[command(version, after_long_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the gate until SIGTERM.
    Run(ConfigArgs),
    /// Read the configuration and the allowlist, say what they hold, and do nothing else.
    Check(ConfigArgs),
    /// Ask the gate that runs how it stands, and who was refused lately; exit with 1 if it is not ready.
    Status(StatusArgs),
    /// Show and change who is let in.
    Allow(Allow),
    /// Go the way of a request step by step, and say what is wrong and what to do; exit with 1 if anything is.
    Doctor(StatusArgs),
    /// Write what is shipped beside the program.
    #[command(subcommand, hide = true)]
    Generate(Generate),
}

/// Which files to read.
#[derive(Args, Debug)]
pub struct ConfigArgs {
    /// The configuration; paths in it are relative to it.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}

/// Which gate to look at, and how to say what was found.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// What to read.
    #[command(flatten)]
    pub files: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Show and change who is let in.
#[derive(Args, Debug)]
pub struct Allow {
    /// The configuration that names the allowlist.
    #[arg(long, value_name = "FILE", default_value = CONFIG, global = true)]
    pub config: PathBuf,
    /// The allowlist itself.
    #[arg(long, value_name = "FILE", conflicts_with = "config", global = true)]
    pub file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do with the allowlist.
    #[command(subcommand)]
    pub verb: AllowVerb,
}

/// What to do with the allowlist.
#[derive(Debug, Subcommand)]
pub enum AllowVerb {
    /// Show all entries: what has expired, and what soon will.
    List,
    /// Let in an address or a block.
    Add(Add),
    /// Take an entry off the list.
    Remove(Remove),
    /// Say whether an address is let in, and which entry decides or is nearest; exit with 1 if it is not.
    Check {
        /// The client's address.
        address: IpAddr,
    },
    /// Show who is let in at this moment, by name.
    Who,
}

/// The entry to add.
#[derive(Args, Debug)]
pub struct Add {
    /// An address, or a block of addresses.
    #[arg(value_parser = cidr::parse)]
    pub cidr: IpNet,
    /// Whose it is, as the access log shows it.
    #[arg(long, value_parser = name)]
    pub name: String,
    /// How much it grants.
    #[arg(long, value_enum, default_value_t)]
    pub access: Access,
    /// How long the grant lasts: "8h", "2 weeks", "1d 12h".
    #[arg(long = "for", value_name = "DURATION", conflicts_with = "until")]
    pub lasts: Option<Span>,
    /// When the grant ends: "2026-12-31T18:00:00Z".
    #[arg(long, value_name = "TIME")]
    pub until: Option<Timestamp>,
    /// If the block is on the list already, put this in the place of its entry.
    #[arg(long)]
    pub replace: bool,
    /// Only show what would change.
    #[arg(long)]
    pub dry_run: bool,
}

/// The entry to remove.
#[derive(Args, Debug)]
pub struct Remove {
    /// The entry's block as it is on the list, or its name if no other entry has it.
    #[arg(value_name = "CIDR|NAME")]
    pub entry: String,
    /// Only show what would change.
    #[arg(long)]
    pub dry_run: bool,
}

/// Write what is shipped beside the program.
#[derive(Debug, Subcommand)]
pub enum Generate {
    /// A man page for each command.
    Man {
        /// Where to: "/usr/share/man/man1".
        folder: PathBuf,
    },
    /// Completions for bash, zsh and fish.
    Completions {
        /// Where to.
        folder: PathBuf,
    },
}

fn name(text: &str) -> Result<String, String> {
    allowlist::name(text).map_err(|mistake| mistake.to_string())
}

const CONFIG: &str = "/etc/trailgate/trailgate.toml";

const EXIT_CODES: &str = "Exit codes: 0 if all is well, 1 if something failed or is not so, 2 for a wrong command \
                          line, 78 for a mistake in the configuration or the allowlist.";
