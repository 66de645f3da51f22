//! Texts for people.

use std::path::Path;
use std::time::Duration;

/// Formats a duration in the largest unit of which it has at least two: 90 s as `90 s`, 3.5 hours as `4 h`.
pub(crate) fn round_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let units = [(7 * 86_400, "weeks"), (86_400, "days"), (3600, "h"), (60, "min")];
    let fitting = units.iter().find(|(unit, _)| seconds >= 2 * unit);
    fitting.map_or(format!("{seconds} s"), |(unit, name)| format!("{} {name}", (seconds + unit / 2) / unit))
}

/// Returns a number of entries: `1 entry`, `3 entries`.
pub(crate) fn count_entries(count: usize) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// Returns the option of `trailgate allow` that names `allowlist`, with a leading blank; nothing for the default file.
pub(crate) fn file_option(allowlist: &Path) -> String {
    if allowlist == Path::new(DEFAULT_ALLOWLIST) { String::new() } else { format!(" --file {}", allowlist.display()) }
}

/// Joins an error and its sources into one line.
pub(crate) fn join_sources(error: &(dyn std::error::Error + 'static)) -> String {
    anyhow::Chain::new(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// The allowlist that commands read by default, by the configuration that the packages install.
const DEFAULT_ALLOWLIST: &str = "/etc/trailgate/allowlist.toml";
