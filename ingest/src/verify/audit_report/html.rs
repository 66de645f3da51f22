//! A report as one page of HTML.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::sections::{Section, Table};
use crate::load::visible::visible;

/// Renders a page. Names of others are text in it, whatever they contain.
pub(super) fn render(title: &str, sections: &[Section]) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // A page that is opened from a disk has no header.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    h1 { (title) }
                    @for section in sections { (render_section(section)) }
                }
            }
        }
    };
    page.into_string()
}

fn render_section(section: &Section) -> Markup {
    let Section { heading, paragraphs, table, items } = section;
    html! {
        h2 { (heading) }
        @for paragraph in paragraphs { p { bdi { (visible(paragraph)) } } }
        @if let Some(table) = table { (render_table(heading, table)) }
        @if !items.is_empty() {
            ul { @for item in items { li { bdi { (visible(item)) } } } }
        }
    }
}

fn render_table(name: &str, Table { head, rows }: &Table) -> Markup {
    html! {
        section.wide tabindex="0" aria-label=(name) {
            table {
                thead { tr { @for name in head { th scope="col" { (name) } } } }
                tbody {
                    @for row in rows {
                        tr {
                            @for (column, cell) in row.iter().enumerate() {
                                @if column == 0 { th scope="row" { bdi { (visible(cell)) } } }
                                @else { td { bdi { (visible(cell)) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:1rem/1.5 system-ui,sans-serif;margin:0;padding:2rem 1rem;\
background:light-dark(#fff,#16181c);color:light-dark(#1c1e21,#e8eaed)}\
main{max-width:70rem;margin:0 auto;overflow-wrap:anywhere}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2rem 0 .5rem}\
.wide{overflow-x:auto}\
table{border-collapse:collapse;font-size:.95rem}\
th,td{text-align:left;vertical-align:top;padding:.25rem 1rem .25rem 0;\
border-bottom:1px solid light-dark(#d0d4d9,#3a3f47)}\
tbody th{font-weight:600}\
@media print{body{padding:0}.wide{overflow:visible}}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_text() {
        let hostile = "<script>alert(1)</script>\"'&\u{202e}gz.exe\n<img src=x>".to_owned();
        let table = Table { head: vec!["A".to_owned()], rows: vec![vec![hostile.clone(), hostile.clone()]] };
        let section =
            Section { heading: "H", paragraphs: vec![hostile.clone()], table: Some(table), items: vec![hostile] };
        let page = render("T", &[section]);
        assert!(!page.contains("<script") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
        assert_eq!(page.matches("&lt;script&gt;alert(1)&lt;/script&gt;").count(), 4);
        assert_eq!(page.matches(r"\u{202e}gz.exe\u{a}&lt;img src=x&gt;").count(), 4);
    }
}
