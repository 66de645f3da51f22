//! A report as Markdown.

use std::fmt::Write as _;

use super::sections::{Section, Table};
use crate::load::visible::visible;

/// Renders a page. Names of others are text in it, whatever they contain.
pub(super) fn render(title: &str, sections: &[Section]) -> String {
    let mut out = format!("# {}\n", escape(title));
    for Section { heading, paragraphs, table, items } in sections {
        let _ = write!(out, "\n## {}\n\n", escape(heading));
        for paragraph in paragraphs {
            let _ = write!(out, "{}\n\n", escape(paragraph));
        }
        if let Some(Table { head, rows }) = table {
            write_row(&mut out, head);
            let _ = writeln!(out, "{}|", "| --- ".repeat(head.len()));
            for row in rows {
                write_row(&mut out, row);
            }
            out.push('\n');
        }
        for item in items {
            let _ = writeln!(out, "- {}", escape(item));
        }
    }
    out
}

fn write_row(out: &mut String, cells: &[String]) {
    for cell in cells {
        let _ = write!(out, "| {} ", escape(cell));
    }
    out.push_str("|\n");
}

/// Escapes a text so that it has no markup, no link and no line break.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, character) in visible(text).char_indices() {
        let is_markup =
            matches!(character, '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '&' | '~' | '#' | '@');
        // GitHub makes links of addresses that begin so.
        let is_link = character == ':' || character == '.' && text.contains("www");
        let is_lead = at == 0 && matches!(character, '-' | '+' | '=' | '!');
        if is_markup || is_link && text.contains("://") | text.contains("www.") || is_lead {
            out.push('\\');
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_text() {
        for (text, expected) in [
            ("a|b", r"a\|b"),
            ("<script>", r"\<script\>"),
            ("[x](y)", r"\[x\](y)"),
            ("a\n# b", r"a\\u{a}\# b"),
            ("https://evil.test", r"https\://evil.test"),
            ("www.evil.test", r"www\.evil\.test"),
            ("`*_~", r"\`\*\_\~"),
            ("--- ", r"\--- "),
            ("\u{202e}gz", r"\\u{202e}gz"),
            ("2026-01-15", "2026-01-15"),
        ] {
            assert_eq!(escape(text), expected, "{text:?}");
        }
    }

    #[test]
    fn table_has_one_line_for_each_row() {
        let table =
            Table { head: vec!["A".to_owned(), "B".to_owned()], rows: vec![vec!["1|\n".to_owned(), "---".to_owned()]] };
        let section = Section { heading: "H", table: Some(table), ..Section::default() };
        let expected = "# T\n\n## H\n\n| A | B |\n| --- | --- |\n| 1\\|\\\\u{a} | \\--- |\n\n";
        assert_eq!(render("T", &[section]), expected);
    }
}
