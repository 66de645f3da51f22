use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use fake_domain::{FakeDomain, Options};
use hyper::StatusCode;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use trailgate::allowlist::Entries;

use self::list::{File, allow, command};
use crate::program::Program;

mod list;

const OFFICE: &str = "# Who may pass.\n\n# The office\n[[allow]]\ncidr = \"198.51.100.0/24\"  # all floors\n\
                      name = \"Head office\"\naccess = \"full\"\n\n# Over IPv6\n[[allow]]\ncidr = '2001:db8:100::/48'\n\
                      name = \"Head office\"\n";

#[test]
fn added_entry_is_appended_and_changes_no_other() {
    let file = File::with(OFFICE);
    let said = file.done(&["add", "203.0.113.7", "--name", "The \"Bob\" house", "--until", "2126-12-31T18:00:00Z"]);
    let added = "\n[[allow]]\ncidr = \"203.0.113.7\"\nname = 'The \"Bob\" house'\nexpires = 2126-12-31T18:00:00Z\n";
    assert_eq!(file.text(), format!("{OFFICE}{added}"));
    assert!(
        said.starts_with("added 203.0.113.7 \"The \\\"Bob\\\" house\" (line 14), read, ends 2126-12-31T18:00:00Z (in ")
    );
}

#[test]
fn report_into_a_closed_pipe_is_no_error() {
    let file = File::with(OFFICE);
    for arguments in [&["list"][..], &["list", "--json"], &["check", "198.51.100.4"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = command(arguments).arg("--file").arg(&file.path).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
    }
}

#[test]
fn add_with_duration_sets_the_expiry() {
    let file = File::with("");
    let in_eight_hours = || jiff::Timestamp::now().as_second() + 8 * 3600;
    let before = in_eight_hours();
    let said = file.json(&["add", "203.0.113.7", "--name", "Auditor", "--for", "8h", "--access", "full"]);
    let ends: jiff::Timestamp = said["added"]["expires"].as_str().unwrap().parse().unwrap();
    assert!((before..=in_eight_hours()).contains(&ends.as_second()), "{ends}");
    let expected =
        format!("[[allow]]\ncidr = \"203.0.113.7\"\nname = \"Auditor\"\naccess = \"full\"\nexpires = {ends}\n");
    assert_eq!(file.text(), expected);
}

#[test]
fn existing_block_is_reported_and_replaced_on_request() {
    let file = File::with(OFFICE);
    let add = ["add", "198.51.100.0/24", "--name", "Ground floor"];
    file.fails_with(&add, 1, "FILE:4: 198.51.100.0/24 is already on the list, as \"Head office\": --replace puts");
    let said = file.done(&[&add[..], &["--replace"]].concat());
    assert_eq!(
        said,
        "removed 198.51.100.0/24 \"Head office\" (line 4), full\n\
         added 198.51.100.0/24 \"Ground floor\" (line 4), read\n"
    );
    let expected = "# Who may pass.\n\n# The office\n[[allow]]\ncidr = \"198.51.100.0/24\"\nname = \"Ground floor\"\n\n\
                    # Over IPv6\n[[allow]]\ncidr = '2001:db8:100::/48'\nname = \"Head office\"\n";
    assert_eq!(file.text(), expected);
}

#[test]
fn removed_entry_removes_only_its_own_comments() {
    let file = File::with(
        "# The list's own words\n[[allow]]\ncidr = \"10.0.0.1\"\nname = \"a\"\n\n# About all below\n\n# About b\n\
         [[allow]]\ncidr = \"10.0.0.2\"\n# within b\nname = \"b\" # beside b\n#expires = soon\n\n\n[[allow]]\n\
         cidr = \"10.0.0.3\"\nname = \"c\"\n# About d\n[[allow]]\ncidr = \"10.0.0.4\"\nname = \"d\"\n\n# The end\n",
    );
    file.done(&["remove", "b"]);
    file.done(&["remove", "10.0.0.3/32"]);
    file.done(&["remove", "a"]);
    let expected = "# The list's own words\n# About all below\n\n# About d\n[[allow]]\ncidr = \"10.0.0.4\"\n\
                    name = \"d\"\n\n# The end\n";
    assert_eq!(file.text(), expected);
    let said = file.done(&["remove", "d"]);
    assert_eq!(file.text(), "# The list's own words\n# About all below\n\n# The end\n\nallow = []\n");
    assert!(said.ends_with("the allowlist is empty: every client is rejected\n"), "{said}");
}

#[test]
fn crlf_line_endings_are_kept() {
    let file = File::with(
        "# a\r\n[[allow]]\r\ncidr = \"10.0.0.1\"\r\nname = \"a\"\r\n\r\n\
         [[allow]]\r\ncidr = \"10.0.0.2\"\r\nname = \"b\"",
    );
    file.done(&["add", "10.0.0.3", "--name", "c"]);
    file.done(&["add", "10.0.0.2", "--name", "B", "--replace"]);
    file.done(&["remove", "a"]);
    let expected = "# a\r\n[[allow]]\r\ncidr = \"10.0.0.2\"\r\nname = \"B\"\r\n\r\n\
                    [[allow]]\r\ncidr = \"10.0.0.3\"\r\nname = \"c\"\r\n";
    assert_eq!(file.text(), expected);
}

#[test]
fn inline_array_stays_an_array() {
    let file = File::with("allow = [{ cidr = \"10.0.0.1\", name = \"a\" }]\n");
    file.done(&["add", "10.0.0.2", "--name", "b"]);
    assert_eq!(file.text(), "allow = [{ cidr = \"10.0.0.1\", name = \"a\" }, { cidr = \"10.0.0.2\", name = \"b\" }]\n");
    file.done(&["remove", "a"]);
    file.done(&["add", "10.0.0.2", "--name", "B", "--access", "full", "--replace"]);
    assert_eq!(file.text(), "allow = [{ cidr = \"10.0.0.2\", name = \"B\", access = \"full\" }]\n");
    file.done(&["remove", "B"]);
    assert_eq!(file.text(), "allow = []\n");
    file.done(&["add", "10.0.0.3", "--name", "c"]);
    assert_eq!(file.text(), "[[allow]]\ncidr = \"10.0.0.3\"\nname = \"c\"\n");
}

#[test]
fn inline_array_keeps_comments_with_their_items() {
    let file = File::with(
        "allow = [\n  # About a, not b\n  {cidr = \"10.0.0.1\", name = \"a\"}, # beside a, too\n\n  # About b\n  \
         {cidr = \"10.0.0.2\", name = \"b\"} # beside b\n]\n",
    );
    file.done(&["add", "10.0.0.3", "--name", "c"]);
    let with_c = "allow = [\n  # About a, not b\n  {cidr = \"10.0.0.1\", name = \"a\"}, # beside a, too\n\n  \
                  # About b\n  {cidr = \"10.0.0.2\", name = \"b\"}, # beside b\n  \
                  { cidr = \"10.0.0.3\", name = \"c\" },\n]\n";
    assert_eq!(file.text(), with_c);
    file.done(&["remove", "b"]);
    let without_b = "allow = [\n  # About a, not b\n  {cidr = \"10.0.0.1\", name = \"a\"}, # beside a, too\n\n  \
                     { cidr = \"10.0.0.3\", name = \"c\" },\n]\n";
    assert_eq!(file.text(), without_b);
    file.done(&["remove", "a"]);
    assert_eq!(file.text(), "allow = [\n\n  { cidr = \"10.0.0.3\", name = \"c\" },\n]\n");
}

#[test]
fn invalid_entry_is_not_written() {
    let file = File::with(OFFICE);
    let hint = "has host bits set: write \"203.0.113.0/24\", or \"203.0.113.7\" for that one address";
    file.fails_with(&["add", "203.0.113.7/24", "--name", "a"], 2, hint);
    file.fails_with(&["add", "203.0.113.7", "--name", " "], 2, "name is empty");
    file.fails_with(&["add", "203.0.113.7", "--name", "a\tb"], 2, "control character");
    file.fails_with(&["add", "203.0.113.7"], 2, "--name");
    let past = ["add", "203.0.113.7", "--name", "a", "--until", "2020-01-01T00:00:00Z"];
    file.fails_with(&past, 1, "the grant would have ended at 2020-01-01T00:00:00Z already");
    file.fails_with(&["add", "203.0.113.7", "--name", "a", "--for", "-8h"], 2, "unexpected argument");
    file.fails_with(&["add", "203.0.113.7", "--name", "a", "--for", "8h ago"], 1, "would have ended");
    file.fails_with(&["add", "203.0.113.7", "--name", "a", "--for", "9000 years"], 1, "this lasts for too long");

    let broken = File::with("[[allow]]\ncidr = \"10.0.0.1/8\"\nname = \"a\"\n");
    for verb in [&["list"][..], &["remove", "a"], &["add", "203.0.113.7", "--name", "a"], &["check", "10.0.0.1"]] {
        broken.fails_with(verb, 78, "FILE:2: cidr \"10.0.0.1/8\" has host bits set");
    }
}

#[test]
fn ambiguous_removal_is_rejected() {
    let file = File::with(OFFICE);
    let places =
        "2 entries are named \"Head office\": name the block: 198.51.100.0/24 (line 4), 2001:db8:100::/48 (line 10)";
    file.fails_with(&["remove", "Head office"], 1, places);
    file.fails_with(&["remove", "Unknown"], 1, "no entry is named \"Unknown\"");
    let wider =
        "FILE: 198.51.100.4 has no entry of its own; what lets it in is 198.51.100.0/24 \"Head office\" (line 4)";
    file.fails_with(&["remove", "198.51.100.4"], 1, wider);
    file.fails_with(&["remove", "203.0.113.7"], 1, "FILE: 203.0.113.7 has no entry of its own\n");
    let bits = "\"198.51.100.4/24\" has host bits set: write \"198.51.100.0/24\", or \"198.51.100.4\"";
    file.fails_with(&["remove", "198.51.100.4/24"], 1, bits);
}

#[test]
fn removal_lists_wider_entries_that_still_match() {
    let file = File::with(OFFICE);
    let said = file.done(&["add", "198.51.100.4", "--name", "Auditor"]);
    assert!(said.ends_with("until now 198.51.100.0/24 \"Head office\" (line 4), full decided on it\n"), "{said}");
    let said = file.done(&["remove", "Auditor"]);
    assert!(said.ends_with("still allowed by 198.51.100.0/24 \"Head office\" (line 4), full\n"), "{said}");
    assert_eq!(file.text(), OFFICE);
}

#[test]
fn dry_run_prints_the_diff_and_changes_nothing() {
    let file = File::with(OFFICE);
    let said = file.done(&["remove", "198.51.100.0/24", "--dry-run"]);
    assert!(said.contains("\n-cidr = \"198.51.100.0/24\"  # all floors\n"), "{said}");
    assert!(said.ends_with("nothing is changed: this is a dry run\n"), "{said}");
    assert_eq!(file.text(), OFFICE);
}

#[test]
fn check_exit_code_reports_if_an_address_is_allowed() {
    let file = File::with(OFFICE);
    let said = file.allow(&["check", "198.51.100.4"]);
    assert_eq!(said.code, Some(0));
    assert!(said.stdout.starts_with("198.51.100.4 is allowed by 198.51.100.0/24 \"Head office\" (line 4), full\n"));
    let said = file.allow(&["check", "198.51.101.4"]);
    assert_eq!(said.code, Some(1));
    assert!(said.stdout.starts_with("198.51.101.4 is not allowed\n  Nearest: 198.51.100.0/24 "), "{said:?}");
    let json = file.json(&["check", "198.51.101.4"]);
    assert_eq!((&json["allowed"], &json["entry"]), (&false.into(), &Value::Null));
    assert_eq!((&json["nearest"]["entry"]["line"], &json["nearest"]["common_bits"]), (&4.into(), &23.into()));
    assert_eq!(file.allow(&["check", "nonsense"]).code, Some(2));
}

#[test]
fn list_shows_expired_and_expiring_entries() {
    let soon = jiff::Timestamp::now() + Duration::from_mins(150);
    let text = format!(
        "{OFFICE}[[allow]]\ncidr = \"10.0.0.1\"\nname = \"a\"\nexpires = {soon}\n\
         [[allow]]\ncidr = \"10.0.0.2\"\nname = \"b\"\nexpires = 2020-01-01T01:00:00+01:00\n"
    );
    let file = File::with(&text);
    let said = file.done(&["list"]);
    let head = format!("{}: 4 entries, 1 expired, 1 expiring within a week\n", file.path.display());
    assert!(said.starts_with(&head), "{said}");
    assert!(said.contains(&format!("10.0.0.1           read  ends {soon} (in 2 h)")), "{said}");
    assert!(said.contains("ended 2020-01-01T00:00:00Z ("), "{said}");
    let entries = file.json(&["list"])["entries"].clone();
    let states: Vec<_> = entries.as_array().unwrap().iter().map(|entry| entry["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["active", "active", "ends_soon", "expired"]);
    let first = serde_json::json!({
        "line": 4, "cidr": "198.51.100.0/24", "name": "Head office", "access": "full", "state": "active",
        "expires": null,
    });
    assert_eq!(entries[0], first);
}

#[test]
fn who_shows_each_name_once_with_its_valid_blocks() {
    let gone = "[[allow]]\ncidr = \"10.0.0.2\"\nname = \"Gone\"\nexpires = 2020-01-01T01:00:00Z\n";
    let file = File::with(&format!("{OFFICE}[[allow]]\ncidr = \"10.0.0.1\"\nname = \"Auditor\"\n{gone}"));
    let expected = "Auditor\n  10.0.0.1  read\nHead office\n  198.51.100.0/24  full\n  2001:db8:100::/48  read\n";
    assert_eq!(file.done(&["who"]), expected);
    assert_eq!(file.json(&["who"])["people"][1]["entries"][1]["cidr"], "2001:db8:100::/48");
}

#[test]
fn edit_keeps_owner_group_and_mode() {
    let file = File::with(OFFICE);
    // Only root can change a file's owner.
    let is_root = fs::metadata(&file.path).unwrap().uid() == 0;
    let (uid, gid) = if is_root { (4321, 1234) } else { (users(&file.path).0, users(&file.path).1) };
    chown(&file.path, Some(uid), Some(gid)).unwrap();
    fs::set_permissions(&file.path, Permissions::from_mode(0o640)).unwrap();
    let before = fs::metadata(&file.path).unwrap();
    file.done(&["add", "203.0.113.7", "--name", "Auditor"]);
    let after = fs::metadata(&file.path).unwrap();
    assert_ne!(before.ino(), after.ino(), "it was written in place");
    assert_eq!((users(&file.path), after.mode() & 0o7777), ((uid, gid), 0o640));
}

fn users(file: &Path) -> (u32, u32) {
    let metadata = fs::metadata(file).unwrap();
    (metadata.uid(), metadata.gid())
}

#[test]
fn edit_through_a_symlink_keeps_the_symlink() {
    let (real, folder) = (File::with(OFFICE), tempfile::tempdir().unwrap());
    let link = folder.path().join("allowlist.toml");
    symlink(&real.path, &link).unwrap();
    assert_eq!(allow(&link, &["remove", "2001:db8:100::/48"]).code, Some(0));
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(!real.text().contains("2001:db8:100::"));
}

#[test]
fn twenty_concurrent_adds_lose_no_entry() {
    let file = File::with(OFFICE);
    let mut children = Vec::new();
    for number in 1..=20 {
        let mut command = command(&["add", &format!("203.0.113.{number}"), "--name", "Auditor", "--file"]);
        children.push(command.arg(&file.path).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    }
    for mut child in children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    let entries = Entries::load(&file.path).unwrap();
    let added: BTreeSet<_> = entries.iter().filter(|entry| &*entry.name == "Auditor").map(|entry| entry.cidr).collect();
    assert_eq!((added.len(), entries.len()), (20, 22));
}

#[tokio::test]
async fn running_proxy_follows_each_edit() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut program = Program::start(&domain).await;
    let config = program.file("trailgate.toml");
    let mut edit = async |arguments: &[&str], expected| {
        let said = command(arguments).args(["--config", &config]).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        program.event("allowlist reloaded").await;
        assert_eq!(program.status().await, expected);
    };
    edit(&["add", "203.0.113.7", "--name", "Auditor"], StatusCode::OK).await;
    edit(&["remove", "127.0.0.1"], StatusCode::FORBIDDEN).await;
    edit(&["add", "127.0.0.0/8", "--name", "this machine", "--for", "1h"], StatusCode::OK).await;
}

/// Generates an entry as people write it, without the last part of its address, and the text that may follow it.
fn entry() -> impl Strategy<Value = (String, String)> {
    let spelling = select(vec![
        "[[allow]]\ncidr = \"10.0.0.N\"\nname = \"nN\"\n",
        "[[allow]] # N\nname = 'nN'\n\ncidr = '10.0.0.N/32'\n",
        "  [[ \"allow\" ]]\n  cidr=\"10.0.0.N\" # there\n  # between\n  \"name\" = \"nN\"\n  access = \"full\"\n",
        "[[allow]]\nexpires = 2100-01-01T00:00:00+01:00\ncidr = \"10.0.0.N\"\nname = \"\"\"\\\n  nN\"\"\" # end\n",
    ]);
    let behind = select(vec!["", "\n", "\n\n", "# [[allow]]\n\n", "\n# about the next\n", "\n#alone\n\n"]);
    (spelling, behind).prop_map(|(entry, behind)| (entry.to_owned(), behind.to_owned()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn edit_keeps_all_bytes_of_other_entries(
        written in prop::collection::vec(entry(), 1..6),
        head in select(vec!["", "# head\n", "# head\n\n"]),
        eol in select(vec!["\n", "\r\n"]),
        chosen in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let number = |(number, text): (usize, &String)| text.replace('N', &number.to_string()).replace('\n', eol);
        let entries: Vec<String> = written.iter().map(|(entry, _)| entry).enumerate().map(number).collect();
        let behind = written.iter().map(|(_, behind)| behind.replace('\n', eol));
        let mut text = head.replace('\n', eol);
        text.extend(entries.iter().cloned().zip(behind).flat_map(|(entry, behind)| [entry, behind]));
        if is_cut {
            text.truncate(text.trim_end().len());
        }
        let file = File::with(&text);
        let chosen = chosen.index(entries.len());
        let stay = |edited: &str| {
            let mut rest = edited;
            for (_, entry) in entries.iter().enumerate().filter(|(number, _)| *number != chosen) {
                // The last line's end can be missing.
                let at = rest.find(entry.trim_end()).unwrap_or_else(|| panic!("{entry:?} is not in {edited:?}"));
                rest = &rest[at + entry.trim_end().len()..];
            }
        };

        file.done(&["add", "203.0.113.7", "--name", "Auditor"]);
        prop_assert!(file.text().starts_with(&text));
        file.done(&["add", &format!("10.0.0.{chosen}"), "--name", "Other", "--replace"]);
        stay(&file.text());
        file.done(&["remove", "Other"]);
        stay(&file.text());
        let left = Entries::load(&file.path).unwrap();
        prop_assert_eq!(left.len(), entries.len());
        let removed = format!("10.0.0.{chosen}/32");
        prop_assert!(left.iter().all(|entry| entry.cidr.to_string() != removed));
        prop_assert_eq!(file.text().contains("\r\n"), eol == "\r\n");
    }
}
