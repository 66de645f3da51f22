//! The metrics in Prometheus' text formats: `OpenMetrics` 1.0 if the scraper accepts it, otherwise 0.0.4.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use strum::VariantArray as _;
use trailgate_client::{ClientStats, ForbiddenKind, RetryReason, RoleKind, is_valid};

use super::observed_proxy::ObservedProxy;
use crate::ops::log_writer::NonBlockingWriter;
use crate::ops::reload::allowlist::AllowlistState;

/// The input of one scrape: the proxy's counters, and gauges read at that time.
pub(super) struct Sample<'a> {
    pub(super) proxy: &'a ObservedProxy,
    pub(super) state: &'a AllowlistState,
    /// The writer of each log.
    pub(super) logs: &'a [(&'static str, NonBlockingWriter); 2],
    pub(super) started: SystemTime,
    pub(super) now: SystemTime,
}

pub(super) fn text(sample: &Sample<'_>) -> String {
    let mut registry = Registry::with_prefix("trailgate");
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "Running version", version);
    seconds(&mut registry, "start_time", "Unix time of the start", unix(sample.started));
    sample.proxy.metrics.register(&mut registry);
    register_memory(&mut registry, sample);
    register_upstream(&mut registry, sample);
    register_allowlist(&mut registry, sample);
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = text::encode(&mut out, &registry);
    out
}

fn register_memory(registry: &mut Registry, sample: &Sample<'_>) {
    let bytes = |registry: &mut Registry, name: &str, help: &str, value: usize| {
        registry.register_with_unit(name, help, Unit::Bytes, gauge(value));
    };
    bytes(registry, "buffered", "Body memory in use", sample.proxy.budget.taken());
    bytes(registry, "buffer_limit", "Limit of body memory", sample.proxy.budget.limit());
    let (lost, writable) = (Family::<_, Counter>::default(), Family::<_, Gauge>::default());
    for (name, writer) in sample.logs {
        let labels = [("log", *name)];
        lost.get_or_create(&labels).inc_by(writer.lost_lines());
        writable.get_or_create(&labels).set(i64::from(writer.problem().is_none()));
    }
    registry.register("log_lines_dropped", "Log lines lost", lost);
    registry.register("log_writable", "1 while log lines are written, 0 while they are lost", writable);
    registry.register(
        "refused_clients",
        "Recently rejected client addresses",
        gauge(sample.proxy.metrics.rejected_clients.len()),
    );
}

fn register_upstream(registry: &mut Registry, sample: &Sample<'_>) {
    let upstream = &sample.proxy.upstream;
    register_stats(registry, upstream.stats());
    register_roles(registry, sample);
    let answered = upstream.health().last_response().map_or(0.0, |answer| unix(answer.at));
    let help = "Unix time of the domain's last response; 0 before the first";
    seconds(registry, "upstream_last_answer_timestamp", help, answered);
    let offset = f64::from(i32::try_from(upstream.clock().offset()).unwrap_or(i32::MAX));
    seconds(registry, "upstream_clock_offset", "Clock skew: lead of the domain's clock", offset);
    // Missing credentials are 0, long expired, so that one alert condition covers both; those without expiry are
    // infinity.
    let expiry = upstream.credentials().latest().map_or(0.0, |latest| latest.expiry().map_or(f64::INFINITY, unix));
    let help = "Unix time of the credentials' expiry; 0 without credentials";
    seconds(registry, "credentials_expiry_timestamp", help, expiry);
    let is_usable = upstream.credentials().latest().is_some_and(|latest| is_valid(&latest, sample.now));
    registry.register("credentials_valid", "1 while there are unexpired credentials, else 0", flag(is_usable));
}

fn register_stats(registry: &mut Registry, stats: &ClientStats) {
    let open = i64::try_from(stats.open_connections()).unwrap_or(i64::MAX);
    let connections = Gauge::<i64>::default();
    connections.set(open);
    registry.register("upstream_connections", "Open connections to the domain", connections);
    let opened = counter(stats.connections_opened());
    registry.register("upstream_connections_opened", "Connections opened to the domain", opened);
    let reused = counter(stats.connections_reused());
    registry.register("upstream_connections_reused", "Responses over a reused connection to the domain", reused);
    let (retries, forbidden) = (Family::<_, Counter>::default(), Family::<_, Counter>::default());
    for &reason in RetryReason::VARIANTS {
        retries.get_or_create(&[("reason", <&str>::from(reason))]).inc_by(stats.retries(reason));
    }
    registry.register("upstream_retries", "Retries of requests to the domain by reason", retries);
    for &kind in ForbiddenKind::VARIANTS {
        forbidden.get_or_create(&[("kind", <&str>::from(kind))]).inc_by(stats.forbidden(kind));
    }
    registry.register("upstream_forbidden", "Upstream 403 responses by kind", forbidden);
}

/// Registers the sessions of roles by kind, so that their number does not grow with the allowlist.
fn register_roles(registry: &mut Registry, sample: &Sample<'_>) {
    let (sessions, fetches) = (Family::<_, Gauge>::default(), Family::<_, Counter>::default());
    let live = &sample.proxy.roles.sessions();
    let states = live.states(sample.now);
    let mut counts = vec![("base", sample.proxy.upstream.credentials().counts())];
    for &kind in RoleKind::VARIANTS {
        let name = <&str>::from(kind);
        counts.push((name, live.counts(kind)));
        let of_kind = || states.iter().filter(|state| state.kind == kind);
        let all: usize = of_kind().map(|state| state.sessions).sum();
        let valid: usize = of_kind().map(|state| state.valid).sum();
        for (state, count) in [("valid", valid), ("invalid", all - valid)] {
            sessions.get_or_create(&[("kind", name), ("state", state)]).set(signed(count));
        }
    }
    for (name, counts) in counts {
        for (result, count) in [("success", counts.succeeded()), ("failure", counts.failed())] {
            fetches.get_or_create(&[("kind", name), ("result", result)]).inc_by(count);
        }
    }
    registry.register("role_sessions", "Live sessions of roles by kind of role and state", sessions);
    registry.register("credentials_fetches", "Fetches of credentials by kind of role and result", fetches);
}

fn register_allowlist(registry: &mut Registry, sample: &Sample<'_>) {
    let list = sample.proxy.allowlist.entries();
    let expired = list.expired(sample.now);
    let entries = Family::<_, Gauge>::default();
    for (state, count) in [("in_force", list.len() - expired), ("expired", expired)] {
        entries.get_or_create(&[("state", state)]).set(signed(count));
    }
    registry.register("allowlist_entries", "Allowlist entries by state", entries);
    let total = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        registry.register(name, help, counter(value));
    };
    total(registry, "allowlist_reloads", "Successful reloads of the allowlist", sample.state.reloads);
    total(registry, "allowlist_reload_failures", "Failed reloads of the allowlist", sample.state.failures);
    let is_current = flag(sample.state.is_current());
    registry.register("allowlist_current", "1 while the allowlist in effect is the file's, else 0", is_current);
    let compared = unix(sample.now.checked_sub(sample.state.compared.elapsed()).unwrap_or(UNIX_EPOCH));
    let help = "Unix time of the last comparison of the file with the allowlist in effect";
    seconds(registry, "allowlist_compared_timestamp", help, compared);
    let loaded = unix(sample.state.loaded);
    seconds(registry, "allowlist_loaded_timestamp", "Unix time of the load of the allowlist in effect", loaded);
}

fn seconds(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, AtomicU64>::default();
    gauge.set(value);
    registry.register_with_unit(name, help, Unit::Seconds, gauge);
}

fn counter(value: u64) -> Counter {
    let counter = Counter::default();
    counter.inc_by(value);
    counter
}

fn gauge(value: usize) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(signed(value));
    gauge
}

fn flag(value: bool) -> Gauge {
    gauge(usize::from(value))
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Converts the output of [`text()`] to the older text format: a counter's metadata has the name of its samples, an
/// info is a gauge, and units and the end marker do not exist.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(help) = line.strip_prefix("# HELP ") else {
            if !line.starts_with('#') {
                out.extend([line, "\n"]);
            }
            continue;
        };
        let (name, help) = help.split_once(' ').unwrap_or((help, ""));
        let kind = lines.next_if(|line| line.starts_with("# TYPE ")).and_then(|line| line.rsplit_once(' '));
        let (end, kind) = match kind.map_or("untyped", |(_, kind)| kind) {
            "counter" => ("_total", "counter"),
            "info" => ("_info", "gauge"),
            kind => ("", kind),
        };
        out.extend(["# HELP ", name, end, " ", help, "\n# TYPE ", name, end, " ", kind, "\n"]);
    }
    out
}

/// The content type of [`text()`].
pub(super) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of [`plain()`].
pub(super) const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_format_has_prometheus_names_and_types() {
        let mut registry = Registry::with_prefix("t");
        registry.register("build", "The version", Info::new([("version", "1")]));
        registry.register_with_unit("sent", "Bytes", Unit::Bytes, Counter::<u64>::default());
        registry.register("open", "Connections", gauge(3));
        let mut open_metrics = String::new();
        text::encode(&mut open_metrics, &registry).unwrap();
        assert_eq!(
            plain(&open_metrics),
            "# HELP t_build_info The version.\n# TYPE t_build_info gauge\nt_build_info{version=\"1\"} 1\n\
             # HELP t_sent_bytes_total Bytes.\n# TYPE t_sent_bytes_total counter\nt_sent_bytes_total 0\n\
             # HELP t_open Connections.\n# TYPE t_open gauge\nt_open 3\n"
        );
    }
}
