//! `trailgate check`: reads the configuration and all files that it names.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use crate::cli::args::ConfigArgs;
use crate::cli::output::{print_note, print_text};
use crate::config::Config;
use crate::http::listener::Listener;
use crate::http::tls;
use crate::human::count_entries;
use crate::ops::descriptors::{self, Share};
use crate::policy::allowlist::Entries;

/// Prints a summary of the configuration, and its warnings.
pub fn run(args: &ConfigArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(&args.config)?;
    let entries = Entries::load(&config.allowlist)?;
    print_text(&summarize(&args.config, &config, &entries)?)?;
    for warning in find_warnings(&config, &entries) {
        print_note(&format!("warning: {warning}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns warnings about settings that are valid but probably unintended.
fn find_warnings(config: &Config, entries: &Entries) -> Vec<String> {
    let connections = config.connections.connections;
    let limit = descriptors::raise_limit();
    let descriptors =
        limit.and_then(|limit| Share::of(limit, descriptors::AT_START, connections).warning(limit, connections));
    let allowlist = Listener::allowlist_warnings(&config.listeners, entries, SystemTime::now());
    config.warnings.iter().cloned().chain(descriptors).chain(allowlist).collect()
}

/// Returns a summary of a configuration, after reading every file that it names.
fn summarize(file: &Path, config: &Config, entries: &Entries) -> anyhow::Result<String> {
    trailgate_client::load_roots(config.domain.ca_file.as_deref())?;
    for files in config.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        tls::check(files, SystemTime::now())?;
    }
    let expired = entries.expired(SystemTime::now());
    let addresses: Vec<_> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
    let roles: BTreeSet<_> =
        entries.iter().filter_map(|entry| config.roles.defaults.role(entry)).map(|(_, role)| role).collect();
    let signed = match roles.len() {
        0 => String::new(),
        1 => ", signed by 1 role".to_owned(),
        roles => format!(", signed by {roles} roles"),
    };
    Ok(format!(
        "{}: listens on {}, signs for {} in {}, forwards to {}\n{}: {}, {expired} expired{signed}",
        file.display(),
        addresses.join(" and "),
        config.domain.signing.service,
        config.domain.signing.region,
        config.domain.endpoint.authority(),
        config.allowlist.display(),
        count_entries(entries.len()),
    ))
}
