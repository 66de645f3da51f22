//! The status as an HTML page, without scripts and readable on a phone.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::status::Status;
use super::text::SHOWN;

impl Status {
    /// Renders the page as HTML. It reloads itself every [`REFRESH_S`] seconds.
    pub(super) fn page(&self) -> String {
        let title = if self.ready { "ready" } else { "not ready" };
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content=(REFRESH_S);
                title { "trailgate: " (title) }
                style { (PreEscaped(STYLE)) }
                h1 class=(if self.ready { "good" } else { "bad" }) { "trailgate is " (title) }
                @for problem in self.problems() { p class="bad" { (problem) } }
                dl {
                    (field("Domain", &self.upstream_line()))
                    (field("Credentials", &self.credentials_line()))
                    (field("Allowlist", &self.allowlist_line()))
                    dt { "Traffic" }
                    @for rate in self.rate_lines() { dd { (rate) } }
                    dd { (self.load_line()) }
                }
                h2 { "Refused lately" }
                (self.refused())
                footer { "Version " (self.version) ", started " (format!("{:.0}", self.started)) ", now " (format!("{:.0}", self.now)) }
            }
        };
        page.into_string()
    }

    fn refused(&self) -> Markup {
        html! {
            @if self.refused.is_empty() { p { "Nobody." } }
            @for client in self.refused.iter().take(SHOWN) {
                section {
                    strong { (client.address) } " " (client.times(self))
                    // Browsers break lines at hyphens, which would look like part of the command.
                    code { @for word in client.remedy().split(' ') { span { (word) } " " } }
                }
            }
            @if self.refused.len() > SHOWN { p { "And " (self.refused.len() - SHOWN) " more in " a href="status.json" { "status.json" } "." } }
        }
    }
}

fn field(name: &str, value: &str) -> Markup {
    html! { dt { (name) } dd { (value) } }
}

/// The refresh interval of the page in seconds.
const REFRESH_S: u32 = 15;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.45 system-ui,sans-serif;max-width:44rem;margin:1.5rem auto;padding:0 1rem;overflow-wrap:anywhere}\
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}\
.good{color:light-dark(#176b2c,#6fd88a)}.bad{color:light-dark(#a3171b,#ff8f8a)}\
dt{font-weight:600;margin-top:.8rem}dd{margin:0}dd+dd{margin-top:.25rem}\
section{margin:.8rem 0}code{display:block;padding:.4rem .6rem;margin-top:.2rem;border-radius:.3rem;\
font-size:.9rem;background:light-dark(#eee,#2a2a2a)}code span{white-space:nowrap}\
footer{margin-top:2rem;font-size:.85rem;opacity:.75}";

#[cfg(test)]
mod tests {
    use super::super::status::tests::sample;

    #[test]
    fn what_others_wrote_stays_text() {
        let mut status = sample();
        status.checks[1].problem = Some("</p><script>alert(1)</script>".to_owned());
        let page = status.page();
        assert!(page.contains("&lt;script&gt;"), "{page}");
        assert!(!page.contains("<script"), "{page}");
    }

    #[test]
    fn it_names_those_refused_and_what_lets_them_in() {
        let page = sample().page();
        let command = "<span>add</span> <span>198.51.100.4</span> <span>--name</span> <span>NAME</span>";
        assert!(page.contains(command), "{page}");
        assert!(page.contains("trailgate is not ready"), "{page}");
    }
}
