//! One frame of `trailgate top`: the status as lines of text.

use crate::ops::admin::{ALLOWED, FORWARDS, Point, Status, span};

/// One line of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub text: String,
    pub tone: Tone,
}

/// The emphasis of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Title,
    Good,
    Bad,
}

/// The characters of charts and bars.
pub(super) struct Symbols {
    /// Heights of a chart, from nothing to full.
    levels: &'static [char],
    full: char,
    empty: char,
}

impl Symbols {
    pub(super) const BLOCKS: Self =
        Self { levels: &[' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'], full: '█', empty: '░' };
    /// The symbols of a terminal without Unicode.
    pub(super) const ASCII: Self = Self { levels: &[' ', '.', ':', '-', '=', '+', '*', '#'], full: '#', empty: '.' };
}

/// Renders a frame that is `width` columns wide. The most important lines come first, so a low terminal shows them.
pub(super) fn render(status: &Status, problem: Option<&str>, symbols: &Symbols, width: usize) -> Vec<Line> {
    let mut lines = Lines { width, lines: Vec::new() };
    let (ready, tone) = if status.ready { ("ready", Tone::Good) } else { ("not ready", Tone::Bad) };
    let up = span(status.started, status.now);
    lines.push(tone, &format!("trailgate {} is {ready}, running for {up}, at {:.0}", status.version, status.now));
    for problem in problem.map(str::to_owned).into_iter().chain(status.problems()) {
        lines.push(Tone::Bad, &format!("  {problem}"));
    }
    lines.field("domain", &status.upstream_line());
    lines.field("credentials", &status.credentials_line());
    for role in status.role_lines() {
        lines.field("role", &role);
    }
    lines.field("allowlist", &status.allowlist_line());
    for certificate in &status.certificates {
        lines.field("certificate", &status.certificate_line(certificate));
    }
    for rate in status.rate_lines() {
        lines.field("traffic", &rate);
    }
    let traffic = &status.traffic;
    lines.field("in flight", &format!("{} requests", traffic.in_flight));
    let connections = usize::try_from(traffic.connections).unwrap_or_default();
    let limit = traffic.max_connections;
    lines.field("connections", &bar(connections, limit, &format!("{connections} of {limit}"), symbols));
    let (used, memory) = (traffic.buffered_bytes, traffic.buffer_bytes);
    let text = format!("{} of {} MiB", used.div_ceil(MIB), memory / MIB);
    lines.field("body memory", &bar(used, memory, &text, symbols));

    lines.push(Tone::Title, "last hour");
    let hour = &status.history.hour;
    #[expect(clippy::cast_precision_loss)] // A count is far below the largest integer that a float represents exactly.
    let mut count = |name: &str, part: fn(&Point) -> u64| {
        let total: u64 = hour.iter().map(part).sum();
        let values: Vec<f64> = hour.iter().map(|point| part(point) as f64).collect();
        lines.field(name, &format!("{} {total}", chart(&values, symbols)));
    };
    count("requests", |point| point.requests);
    count("rejected", |point| point.rejected);
    count("failed", |point| point.failed);
    let mut latency = |name: &str, part: fn(&Point) -> Option<f64>| {
        let latest = hour.iter().rev().find_map(part).map_or("none".to_owned(), |ms| format!("{ms:.0} ms"));
        let values: Vec<f64> = hour.iter().map(|point| part(point).unwrap_or_default()).collect();
        lines.field(name, &format!("{} {latest}", chart(&values, symbols)));
    };
    latency("p50", |point| point.p50_ms);
    latency("p99", |point| point.p99_ms);

    if !status.allowlist.ending.is_empty() {
        lines.push(Tone::Title, "entries that expire soon");
    }
    for entry in status.allowlist.ending.iter().take(SHOWN) {
        lines.push(Tone::Plain, &format!("  {} {} in {}", entry.cidr, entry.name, span(status.now, entry.expires)));
    }
    if !status.refused.is_empty() {
        lines.push(Tone::Title, "recently rejected, and the commands that allow them");
    }
    for client in status.refused.iter().take(SHOWN) {
        let remedy = client.remedy(status).unwrap_or_else(|| format!("{}: {ALLOWED}", client.address));
        lines.push(Tone::Plain, &format!("  {remedy} ({})", client.times(status)));
        if client.forwards {
            lines.push(Tone::Plain, &format!("    {FORWARDS}"));
        }
    }
    lines.lines
}

struct Lines {
    width: usize,
    lines: Vec<Line>,
}

impl Lines {
    /// Adds a line, cut to the width. What could move the cursor or turn the text is replaced.
    fn push(&mut self, tone: Tone, text: &str) {
        let text = text.chars().map(|char| if is_harmless(char) { char } else { '?' });
        self.lines.push(Line { text: text.take(self.width).collect(), tone });
    }

    fn field(&mut self, name: &str, value: &str) {
        self.push(Tone::Plain, &format!("{name:<12} {value}"));
    }
}

fn is_harmless(char: char) -> bool {
    let is_bidi = matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !char.is_control() && !is_bidi
}

/// Draws the last minutes, the latest at the right, each as high as its part of the highest.
fn chart(values: &[f64], symbols: &Symbols) -> String {
    let highest = values.iter().copied().fold(0.0, f64::max);
    let steps = symbols.levels.len() - 1;
    let level = |&value: &f64| {
        // A value above zero is never drawn as nothing.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let level = if value > 0.0 { ((value / highest * steps as f64).round() as usize).max(1) } else { 0 };
        symbols.levels[level.min(steps)]
    };
    let blank = CHART.saturating_sub(values.len());
    let drawn = values[values.len().saturating_sub(CHART)..].iter().map(level);
    std::iter::repeat_n(' ', blank).chain(drawn).collect()
}

/// Draws a value as a bar against its limit.
fn bar(value: usize, limit: usize, text: &str, symbols: &Symbols) -> String {
    let full = (value.min(limit) * BAR).div_ceil(limit.max(1));
    let bar = (0..BAR).map(|at| if at < full { symbols.full } else { symbols.empty });
    format!("{} {text}", bar.collect::<String>())
}

/// The width of a chart: one column a minute of the last hour, as far as 80 columns have room.
const CHART: usize = 56;
const BAR: usize = 30;
const SHOWN: usize = 3;
const MIB: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::admin::sample_status;

    fn text(lines: &[Line]) -> String {
        lines.iter().map(|line| line.text.trim_end()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn frame_of_a_sample_matches_its_snapshot() {
        let lines = render(&sample_status(), Some("no response in time"), &Symbols::BLOCKS, 80);
        assert!(lines.len() <= 24 && lines.iter().all(|line| line.text.chars().count() <= 80));
        insta::assert_snapshot!(text(&lines));
    }

    #[test]
    fn frame_without_unicode_is_ascii() {
        assert!(text(&render(&sample_status(), None, &Symbols::ASCII, 80)).is_ascii());
    }

    #[test]
    fn control_characters_of_a_name_are_escaped() {
        let mut status = sample_status();
        status.allowlist.ending[0].name = "a\u{1b}[2J\u{202e}b".to_owned();
        let frame = text(&render(&status, None, &Symbols::BLOCKS, 80));
        assert!(frame.contains(" a?[2J?b in "), "{frame}");
    }

    #[test]
    fn chart_is_right_aligned_and_shows_small_values() {
        let chart = chart(&[0.0, 1.0, 1000.0], &Symbols::ASCII);
        assert_eq!(chart, format!("{:>CHART$}", " .#"));
    }

    #[test]
    fn bar_is_full_at_its_limit() {
        assert_eq!(bar(5, 5, "5 of 5", &Symbols::ASCII), format!("{} 5 of 5", "#".repeat(BAR)));
        assert_eq!(bar(0, 0, "0 of 0", &Symbols::ASCII), format!("{} 0 of 0", ".".repeat(BAR)));
    }
}
