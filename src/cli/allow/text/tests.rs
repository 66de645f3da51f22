use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::policy::allowlist;

fn meaning(text: &str) -> Vec<Entry> {
    allowlist::parse(Path::new("allowlist.toml"), text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn removal_of_the_last_entry_writes_an_explicit_empty_list() {
    let text = "# whose\n\n[[allow]]\ncidr = \"192.0.2.2\"\nname = \"a\"\n";
    let without = Text::read(text).unwrap().without(0);
    assert_eq!(without, "# whose\n\nallow = []\n");
    let with = Text::read(&without).unwrap().with(&auditor());
    assert!(with.starts_with("# whose\n\n[[allow]]\ncidr"), "{with}");
    assert_eq!(meaning(&with), [auditor()]);
}

#[test]
fn byte_order_mark_and_crlf_are_kept() {
    let text = include_str!("../../../../tests/data/faults/allowlist-bom-crlf.toml");
    let with = Text::read(text).unwrap().with(&auditor());
    assert!(with.starts_with(text), "{with:?}");
    assert_eq!(meaning(&with).len(), 3);
    let without = Text::read(text).unwrap().without(0);
    assert!(without.starts_with("\u{feff}# who") && without.ends_with("\"full\"\r\n"), "{without:?}");
    assert_eq!(meaning(&without), meaning(text)[1..]);
    let bare = "\u{feff}[[allow]]\r\ncidr = \"192.0.2.2\"\r\nname = \"a\"\r\n";
    let replaced = Text::read(bare).unwrap().with_replaced(0, &auditor());
    assert!(replaced.starts_with("\u{feff}[[allow]]\r\n"), "{replaced:?}");
    assert_eq!(meaning(&replaced), [auditor()]);
    let without = Text::read(bare).unwrap().without(0);
    assert_eq!(without, "\u{feff}allow = []\r\n");
}

fn auditor() -> Entry {
    let role = "arn:aws:iam::123456789012:role/audit/Auditor".parse().unwrap();
    let entry = Entry::new(cidr::parse("192.0.2.1").unwrap(), "a, # \"b\"", Access::Full);
    entry.signed_by(Some(role)).with_access_log(true)
}

/// Builds an array with one item per pair: the text before the item's comma, and the text after it.
fn array(gaps: &[(&str, &str)], has_last_comma: bool, eol: &str) -> (String, Vec<String>) {
    let item = |number: usize| format!("{{ name = \"n, #{number}\",  cidr=\"10.0.0.{number}\" }}");
    let items: Vec<String> = (0..gaps.len()).map(item).collect();
    let mut text = "allow = [".to_owned();
    for (number, (item, (before, behind))) in items.iter().zip(gaps).enumerate() {
        let has_comma = has_last_comma || number + 1 < items.len();
        text += &[item.as_str(), before, if has_comma { "," } else { "" }, behind].concat();
    }
    ((text + "] # end\n").replace('\n', eol), items)
}

proptest! {
    #[test]
    fn edited_array_keeps_other_items_with_their_comments(
        gaps in vec((
            select(vec!["", " ", "\n", " # x, before\n  "]),
            select(vec!["", " ", "\n  ", "  # y, behind\n", "\n\n  # z, above\n  ", "\n\t# z, above\n\t"]),
        ), 1..6),
        has_last_comma in any::<bool>(),
        eol in select(vec!["\n", "\r\n"]),
        chosen in any::<prop::sample::Index>(),
    ) {
        let (text, items) = array(&gaps, has_last_comma, eol);
        let chosen = chosen.index(items.len());
        let entries = meaning(&text);
        let read = Text::read(&text).unwrap();
        let others = |edited: &str| {
            let mut others = items.iter().enumerate().filter(|(number, _)| *number != chosen);
            others.all(|(_, item)| edited.contains(item.as_str()))
        };
        let comments = |text: &str| text.matches(['x', 'y', 'z']).count();

        let with = read.with(&auditor());
        prop_assert_eq!(meaning(&with), [&entries[..], &[auditor()]].concat());
        prop_assert_eq!(comments(&with), comments(&text));

        let mut expected = entries.clone();
        expected[chosen] = auditor();
        let replaced = read.with_replaced(chosen, &auditor());
        prop_assert_eq!(meaning(&replaced), &expected[..]);
        prop_assert_eq!(comments(&replaced), comments(&text));

        expected.remove(chosen);
        let without = read.without(chosen);
        prop_assert_eq!(meaning(&without), expected);
        prop_assert!(others(&without), "{without}");
        // At most the item's own comments are lost: before its comma, after it, and above it.
        prop_assert!(comments(&without) + 3 >= comments(&text), "{without}");
        prop_assert!(without.ends_with(&["] # end", eol].concat()), "{without}");
    }
}
