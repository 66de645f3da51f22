//! The page of a rejection: no scripts, no external resources, readable on a phone, light and dark.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Contact, Reject, RejectContext, second};

/// Renders the page of `reject`.
pub(super) fn page(reject: &Reject, context: &RejectContext<'_>) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (reject.title()) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (reject.title()) }
                    p { bdi { (sentence(&reject.to_string())) } }
                    p.help { (reject.help()) }
                    dl {
                        @if let Some(contact) = context.contact { (field("Contact", &contact_markup(contact))) }
                        @if let Some(client) = context.client { (field("Your address", &html! { (client) })) }
                        (field("Time", &html! { time { (second(context.time)) } }))
                        (field("Request ID", &html! { code { (context.request_id) } }))
                        (field("Status", &html! { (reject.status().as_u16()) " " code { (reject.outcome().name()) } }))
                    }
                }
            }
        }
    };
    page.into_string()
}

fn field(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn contact_markup(contact: &Contact) -> Markup {
    match contact {
        Contact::Link(url) => html! { a href=(url) rel="noreferrer" { bdi { (url.trim_start_matches("mailto:")) } } },
        Contact::Text(text) => html! { bdi { (text) } },
    }
}

/// Returns `text` as a sentence: with a capital letter, a full stop, and a bounded length.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().into_iter().flat_map(char::to_uppercase);
    let mut sentence: String = first.chain(letters.by_ref().take(MAX_LENGTH)).collect();
    if letters.next().is_some() {
        sentence.push('…');
    } else if !sentence.ends_with('.') {
        sentence.push('.');
    }
    sentence
}

/// The maximum length of a reason on the page. A path can have 64 KiB; the JSON response contains all of it.
const MAX_LENGTH: usize = 600;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1.05rem/1.5 system-ui,sans-serif;margin:0;padding:12vh 1rem 2rem;\
background:light-dark(#fff,#16181c);color:light-dark(#1c1e21,#e8eaed)}\
main{max-width:38rem;margin:0 auto;overflow-wrap:anywhere}\
h1{font-size:1.6rem;line-height:1.2;margin:0 0 1rem}\
p{margin:0 0 .8rem}.help{font-weight:600}\
dl{margin:2rem 0 0;padding-top:1rem;border-top:1px solid light-dark(#d0d4d9,#3a3f47);font-size:.95rem}\
dl div{display:flex;flex-wrap:wrap;gap:0 1rem;margin-bottom:.4rem}\
dt{flex:0 0 8rem;color:light-dark(#565c64,#a6adb7)}dd{flex:1 1 14rem;margin:0}\
code{font-family:ui-monospace,monospace;font-size:.95em}\
a{color:light-dark(#0b57a4,#8ab8f0)}";

/// Allows the style above, by its hash, and nothing else.
pub(super) const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'sha256-BpW38URKj0ajw4zn9a0O3eLZ9WipTC5QV6rmNPPwPT4='; base-uri 'none'; form-action 'none'";

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use base64::Engine as _;
    use base64::prelude::BASE64_STANDARD;
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn render(reject: &Reject, contact: Option<&Contact>) -> String {
        let client = Some("203.0.113.7".parse().unwrap());
        let time = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        page(reject, &RejectContext { wants_html: true, client, time, request_id: "0123456789abcdef", contact })
    }

    #[test]
    fn policy_allows_the_style_by_its_hash() {
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        assert!(CONTENT_SECURITY_POLICY.contains(&format!("'sha256-{hash}'")), "{hash}");
    }

    #[test]
    fn page_has_reason_help_contact_time_and_id() {
        let contact = Contact::parse("mailto:audit@example.com").unwrap();
        let page = render(&Reject::NotListed("203.0.113.7".parse().unwrap()), Some(&contact));
        for text in [
            "<h1>Not on the allowlist</h1>",
            "Your address 203.0.113.7 is not on the allowlist.",
            "Ask the operator to add this address",
            "<a href=\"mailto:audit@example.com\" rel=\"noreferrer\"><bdi>audit@example.com</bdi></a>",
            "<time>2027-01-15T08:00:00Z</time>",
            "<code>0123456789abcdef</code>",
        ] {
            assert!(page.contains(text), "{text}: {page}");
        }
    }

    #[test]
    fn html_in_the_contact_is_escaped() {
        let contact = Contact::parse("<script>alert(1)</script>\u{202e}").unwrap();
        let page = render(&Reject::Internal, Some(&contact));
        assert!(page.contains("<bdi>&lt;script&gt;alert(1)&lt;/script&gt;\u{202e}</bdi>"), "{page}");
    }

    #[test]
    fn long_reason_is_cut() {
        assert_eq!(sentence("a path"), "A path.");
        assert_eq!(sentence(&"x".repeat(2000)).chars().count(), 602);
    }
}
