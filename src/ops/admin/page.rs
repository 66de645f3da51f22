//! The status as an HTML page: charts without scripts, readable on a phone, light and dark.

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::charts::{latency_chart, meter, request_chart};
use super::status::{Status, span};
use super::text::{ALLOWED, FORWARDS, MIB, SHOWN};

impl Status {
    /// Renders the page as HTML. `is_paused` says whether it does not reload itself.
    pub(super) fn page(&self, is_paused: bool) -> String {
        let title = if self.ready { "ready" } else { "not ready" };
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { "trailgate: " (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        h1 class=(if self.ready { "good" } else { "bad" }) { "trailgate is " (title) }
                        @for problem in self.problems() { p.bad { (problem) } }
                        (self.facts())
                        h2 { "Now" }
                        (self.meters())
                        h2 { "Last hour" }
                        div.charts {
                            (request_chart(&self.history.hour, 60, "1 h ago"))
                            (latency_chart(&self.history.hour, 60, "1 h ago"))
                        }
                        h2 { "Last day" }
                        div.charts {
                            (request_chart(&self.history.day, 96, "1 day ago"))
                            (latency_chart(&self.history.day, 96, "1 day ago"))
                        }
                        (self.ending())
                        h2 { "Recently rejected clients" }
                        (self.rejected())
                    }
                    footer { "Version " (self.version) ", started " (seconds(self.started)) ", now " (seconds(self.now)) ". "
                        @if is_paused { a href="status" { "Refresh" } } @else { a href="status?paused" { "Pause" } }
                    }
                }
            }
        };
        page.into_string()
    }

    fn facts(&self) -> Markup {
        html! {
            dl {
                (field("Domain", &html! { (self.upstream_line()) }))
                (field("Credentials", &html! { (self.credentials_line()) }))
                @if !self.roles.is_empty() {
                    (field("Roles", &html! { @for role in self.role_lines() { div { (role) } } }))
                }
                (field("Allowlist", &html! { (self.allowlist_line()) }))
                @for certificate in &self.certificates {
                    (field("Certificate", &html! { (self.certificate_line(certificate)) }))
                }
                (field("Traffic", &html! { @for rate in self.rate_lines() { div { (rate) } } }))
            }
        }
    }

    fn meters(&self) -> Markup {
        let traffic = &self.traffic;
        let connections = u64::try_from(traffic.connections).unwrap_or_default();
        let limit = traffic.max_connections;
        let (used, memory) = (traffic.buffered_bytes, traffic.buffer_bytes);
        html! {
            (meter("Connections", connections, limit as u64, &format!("{connections} of {limit}")))
            (meter("Body memory", used as u64, memory as u64, &format!("{} of {} MiB", used.div_ceil(MIB), memory / MIB)))
            p { (traffic.in_flight) @if traffic.in_flight == 1 { " request in flight" } @else { " requests in flight" } }
        }
    }

    fn ending(&self) -> Markup {
        html! {
            @if !self.allowlist.ending.is_empty() {
                h2 { "Entries that expire soon" }
                table {
                    thead { tr { th scope="col" { "Name" } th scope="col" { "Block" } th scope="col" { "Expires in" } } }
                    tbody {
                        @for entry in self.allowlist.ending.iter().take(SHOWN) {
                            tr { td { bdi { (entry.name) } } td { (entry.cidr) } td { (span(self.now, entry.expires)) } }
                        }
                    }
                }
                @if let Some(more) = more(self.allowlist.ending.len()) { (more) }
            }
        }
    }

    fn rejected(&self) -> Markup {
        html! {
            @if self.refused.is_empty() { p { "None." } }
            @for client in self.refused.iter().take(SHOWN) {
                div.client {
                    strong { (client.address) } " " (client.times(self))
                    @if client.forwards { p { (FORWARDS) } }
                    @match client.remedy(self) {
                        // Browsers break lines at hyphens, which would look like part of the command.
                        Some(command) => code { @for word in command.split(' ') { span { (word) } " " } }
                        None => p { (ALLOWED) }
                    }
                }
            }
            @if let Some(more) = more(self.refused.len()) { (more) }
        }
    }
}

fn field(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// Returns a link to the rest of a list that is cut.
fn more(count: usize) -> Option<Markup> {
    (count > SHOWN)
        .then(|| html! { p { "And " (count - SHOWN) " more in " a href="status.json" { "status.json" } "." } })
}

fn seconds(time: Timestamp) -> String {
    format!("{time:.0}")
}

const STYLE: &str = "\
:root{color-scheme:light dark;--good:light-dark(#176b2c,#6fd88a);--bad:light-dark(#a3171b,#ff8f8a);\
--blue:light-dark(#2f6db5,#6ea8e8);--amber:light-dark(#b06a00,#e5ad4f);--muted:light-dark(#565c64,#a6adb7);\
--line:light-dark(#d0d4d9,#3a3f47)}\
body{font:1rem/1.45 system-ui,sans-serif;margin:0;padding:1.5rem 1rem;background:light-dark(#fff,#16181c);\
color:light-dark(#1c1e21,#e8eaed)}main,footer{max-width:64rem;margin:0 auto;overflow-wrap:anywhere}\
h1{font-size:1.4rem;margin:0 0 .5rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}\
.good{color:var(--good)}.bad{color:var(--bad)}p{margin:.4rem 0}\
dl{margin:1rem 0}dl>div{display:flex;flex-wrap:wrap;gap:0 1rem;margin-bottom:.5rem}\
dt{flex:0 0 8rem;font-weight:600}dd{flex:1 1 16rem;margin:0}\
.meter{display:flex;flex-wrap:wrap;gap:0 1rem;align-items:center}.meter span:first-child{flex:0 0 8rem}\
meter{flex:0 1 20rem;height:1.2rem}\
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr));gap:1rem 2rem}\
figure{margin:0}figcaption{font-size:.9rem}svg{display:block;width:100%;height:auto}\
svg text{font-size:15px;fill:var(--muted)}.grid{stroke:var(--line);stroke-width:1}\
.answered{fill:var(--blue)}.rejected{fill:var(--amber)}.failed{fill:var(--bad)}\
path.p50,path.p99{fill:none;stroke-width:2.5;stroke-linecap:round;stroke-linejoin:round}\
.p50{stroke:var(--blue)}.p99{stroke:var(--amber)}path.p99{stroke-dasharray:1 5}\
.key{display:inline-block;width:.7em;height:.7em;margin-right:.3em}\
.key.rejected,.key.p99{background:var(--amber)}.key.failed{background:var(--bad)}.key.p50{background:var(--blue)}\
table{border-collapse:collapse}th,td{text-align:left;padding:.2rem 1.2rem .2rem 0;border-bottom:1px solid var(--line)}\
.client{margin:.8rem 0}code{display:block;padding:.4rem .6rem;margin-top:.2rem;border-radius:.3rem;\
font-size:.9rem;background:light-dark(#eee,#2a2a2a)}code span{white-space:nowrap}\
a{color:light-dark(#0b57a4,#8ab8f0)}footer{margin-top:2rem;font-size:.85rem;color:var(--muted)}";

#[cfg(test)]
mod tests {
    use super::super::status::tests::sample;

    #[test]
    fn html_in_status_values_is_escaped() {
        let mut status = sample();
        status.checks[1].problem = Some("</p><script>alert(1)</script>".to_owned());
        let page = status.page(false);
        assert!(page.contains("&lt;script&gt;"), "{page}");
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("<bdi>&lt;b&gt;auditors&lt;/b&gt;</bdi>"), "{page}");
    }

    #[test]
    fn status_page_has_the_command_for_rejected_clients() {
        let page = sample().page(false);
        let command = "<span>add</span> <span>198.51.100.4</span> <span>--name</span> <span>NAME</span>";
        assert!(page.contains(command), "{page}");
        assert!(page.contains("trailgate is not ready"), "{page}");
    }
}
