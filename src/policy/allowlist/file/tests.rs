//! Valid allowlist files, and the messages for invalid ones.

use std::time::{Duration, UNIX_EPOCH};

use super::*;

#[test]
fn entry_with_all_keys_is_parsed() {
    let text =
        "[[allow]]\ncidr = \"203.0.113.7/32\"\nname = \"Concurrency Labs\"\nexpires = 2026-12-31T18:00:00+02:00\n";
    let entry = Entry::new("203.0.113.7/32".parse().unwrap(), "Concurrency Labs".to_owned(), Access::Read)
        .until(Some(UNIX_EPOCH + Duration::from_hours(499_648)));
    assert_eq!(parsed(text).unwrap(), [entry]);
    assert_eq!(parsed("# nothing\n").unwrap(), []);
}

#[test]
fn access_is_read_by_default() {
    let access = |line: &str| {
        let text = format!("[[allow]]\ncidr = \"203.0.113.7\"\nname = 'x'\n{line}\n");
        parsed(&text).map(|entries| entries[0].access)
    };
    assert_eq!(access(""), Ok(Access::Read));
    assert_eq!(access("access = \"read\""), Ok(Access::Read));
    assert_eq!(access("access = \"view\""), Ok(Access::View));
    assert_eq!(access("access = \"full\""), Ok(Access::Full));
    for other in ["", "Full", "write", "full\n"] {
        let error = access(&format!("access = {other:?}")).unwrap_err();
        let expected = format!("a.toml:4: access {other:?} is unknown: write \"view\", \"read\" or \"full\"");
        assert_eq!(error.to_string(), expected);
    }
}

#[test]
fn access_log_is_hidden_unless_the_entry_says_so() {
    let entry = |line: &str| parsed(&format!("[[allow]]\ncidr = \"203.0.113.7\"\nname = 'x'\n{line}\n"));
    assert!(!entry("").unwrap()[0].access_log && !entry("access_log = false").unwrap()[0].access_log);
    assert!(entry("access_log = true").unwrap()[0].access_log);
    assert!(entry("access_log = \"true\"").is_err());
}

#[test]
fn role_that_is_no_arn_is_rejected() {
    let role = |arn: &str| {
        let text = format!("[[allow]]\ncidr = \"203.0.113.7\"\nname = 'x'\nrole = {arn:?}\n");
        parsed(&text).map(|entries| entries[0].role.as_ref().unwrap().to_string())
    };
    let arn = "arn:aws:iam::123456789012:role/audit/Auditor";
    assert_eq!(role(arn).unwrap(), arn);
    let expected = "a.toml:4: role \"Auditor\" is not the ARN of a role: write one like \
                    \"arn:aws:iam::123456789012:role/trailgate\"";
    assert_eq!(role("Auditor").unwrap_err().to_string(), expected);
}

#[test]
fn invalid_block_is_rejected_with_the_corrected_one() {
    let cidr = |cidr: &str, expected: &str| {
        let text = format!("\n[[allow]]\nname = 'x'\ncidr = {cidr:?}\n");
        rejects(&text, &format!("a.toml:4: cidr {cidr:?} {expected}"));
    };
    let not_an_address =
        r#"is not an IP address or block: write one like "203.0.113.7", "203.0.113.0/24" or "2001:db8::/32""#;
    cidr("10.0.0.1/8", r#"has host bits set: write "10.0.0.0/8", or "10.0.0.1" for that one address"#);
    cidr("2001:db8::7/64", r#"has host bits set: write "2001:db8::/64", or "2001:db8::7" for that one address"#);
    cidr("::ffff:10.0.0.1/104", r#"has host bits set: write "10.0.0.0/8", or "10.0.0.1" for that one address"#);
    cidr(
        "::ffff:10.0.0.0/95",
        r#"is an IPv4-mapped block of fewer than 96 bits: write the IPv4 block, like "10.0.0.0/32""#,
    );
    cidr("010.0.0.0/8", r#"has leading zeros, which some read as octal: write "10.0.0.0/8""#);
    cidr("10.00.0.1", r#"has leading zeros, which some read as octal: write "10.0.0.1""#);
    for bits in ["33", "256", "99999999999999999999", "+8", "08", "-1", "", " 8", "8/8", "255.0.0.0"] {
        cidr(&format!("10.0.0.0/{bits}"), "has a bad prefix length: write a whole number from 0 to 32 after the slash");
    }
    cidr("::/129", "has a bad prefix length: write a whole number from 0 to 128 after the slash");
    for it in [
        "",
        "/8",
        "10.0.0/8",
        "10..0.0",
        "256.0.0.0/8",
        "localhost",
        " 10.0.0.1",
        "fe80::1%eth0",
        "[::1]",
        "10.0.0.1:80",
        "1\n2",
    ] {
        cidr(it, not_an_address);
    }
}

#[test]
fn duplicate_block_is_rejected_with_the_first_line() {
    let entry = |cidr: &str| format!("[[allow]]\ncidr = '{cidr}'\nname = 'x'\n");
    rejects(
        &(entry("10.0.0.1") + &entry("10.0.0.2") + &entry("10.0.0.1/32")),
        r#"a.toml:8: cidr "10.0.0.1/32" is 10.0.0.1, which line 2 has already: remove one of the two"#,
    );
    rejects(
        &(entry("10.0.0.0/8") + &entry("::ffff:10.0.0.0/104")),
        r#"a.toml:5: cidr "::ffff:10.0.0.0/104" is 10.0.0.0/8, which line 2 has already: remove one of the two"#,
    );
}

#[test]
fn invalid_name_is_rejected() {
    let name = |name: &str, expected: &str| {
        rejects(&format!("[[allow]]\ncidr = '::1'\nname = {name}\n"), &format!("a.toml:3: {expected}"));
    };
    name("''", r#"name is empty: write name = "OWNER""#);
    name("' \u{a0}'", r#"name is empty: write name = "OWNER""#);
    name(r#""a\nb""#, r#"name "a\nb" has a control character: write it in one line of plain text"#);
    name(r#""a\u001b[31m""#, r#"name "a\u{1b}[31m" has a control character: write it in one line of plain text"#);
    name("3", "invalid type: integer `3`, expected a string, in: name = 3");
}

#[test]
fn missing_key_is_rejected_with_the_line_of_its_entry() {
    let good = "[[allow]]\ncidr = '::1'\nname = 'x'\n";
    rejects(
        &format!("{good}[[allow]]\nname = 'x'\n"),
        r#"a.toml:4: this [[allow]] has no cidr: write cidr = "203.0.113.7/32""#,
    );
    rejects(&format!("{good}[[allow]]\ncidr = '::2'"), r#"a.toml:4: this [[allow]] has no name: write name = "OWNER""#);
}

#[test]
fn expiry_that_is_no_instant_is_rejected() {
    let expires = |expires: &str, reason: &str| {
        rejects(
            &format!("[[allow]]\ncidr = '::1'\nname = 'x'\nexpires = {expires}\n"),
            &format!("a.toml:4: expires {expires} {reason}: write it like 2026-12-31T18:00:00Z, without quotes"),
        );
    };
    expires("2026-12-31T18:00:00", "has no offset from UTC");
    expires("2026-12-31", "has no time");
    expires("18:00:00", "has no date");
    expires("2026-12-31T18:00:60Z", "has a second 60");
    expires("\"2026-12-31T18:00:00Z\"", "is not a TOML date and time");
    expires("1798740000", "is not a TOML date and time");
}

#[test]
fn malformed_file_is_rejected_in_one_line() {
    rejects("[[alow]]\n", "a.toml:1: unknown field `alow`, expected `allow`, in: [[alow]]");
    rejects(
        "[[allow]]\nnmae = 'x'\n",
        "a.toml:2: unknown field `nmae`, expected one of `cidr`, `name`, `access`, `expires`, `role`, `access_log`, in: nmae = 'x'",
    );
    rejects(
        "[[allow]]\n\"a\\nb\" = 1\n",
        "a.toml:2: unknown field `a\\nb`, expected one of `cidr`, `name`, `access`, `expires`, `role`, `access_log`, in: \"a\\nb\" = 1",
    );
    rejects("[[allow]]\nname = 'x'\nname = 'y'\n", "a.toml:3: duplicate key, in: name = 'y'");
    rejects("[[allow]]\nname = \"x\n", "a.toml:2: invalid basic string, expected `\"`, in: name = \"x");
    rejects(
        "[[allow]]\nexpires = 2026-02-30T18:00:00Z\n",
        "a.toml:2: invalid date, expected day between 01 and 28, in: expires = 2026-02-30T18:00:00Z",
    );
    rejects("10.0.0.0/8", "a.toml:1: key with no value, expected `=`, in: 10.0.0.0/8");
}

#[test]
fn end_in_the_last_year_is_never_out_of_range() {
    let text = "[[allow]]\ncidr = '::1'\nname = 'x'\nexpires = 9999-12-31T23:59:59Z\n";
    let expires = parsed(text).unwrap()[0].expires;
    assert!(expires > Some(UNIX_EPOCH + Duration::from_hours(24 * 365 * 8_000)), "{expires:?}");
}

#[test]
fn list_is_explicitly_empty_only_by_its_key() {
    let says_so = |text: &str| parse_each(Path::new("a.toml"), text, |_| true).unwrap();
    assert!(says_so("# none\nallow = []\n"));
    assert!(!says_so("# none\n"));
    assert!(!says_so(""));
}

#[test]
fn list_parsed_in_parts_equals_the_whole() {
    let entry = |number: usize| format!("[[allow]]\ncidr = '10.{}.{}.0/24'\nname = 'x'\n", number / 256, number % 256);
    let text: String = "# first\n".to_owned() + &(0..5000).map(entry).collect::<String>();
    assert!(parts(&text).len() > 10);
    assert_eq!(parsed(&text).unwrap().len(), 5000);
    rejects(
        &(text.clone() + "[[allow]]\nnmae = 1\n"),
        "a.toml:15003: unknown field `nmae`, expected one of `cidr`, `name`, `access`, `expires`, `role`, `access_log`, in: nmae = 1",
    );
    let twice = text.clone() + &entry(1);
    rejects(
        &twice,
        "a.toml:15003: cidr \"10.0.1.0/24\" is 10.0.1.0/24, which line 6 has already: remove one of the two",
    );
    // A header within a multi-line string is none.
    let quoted = text.replacen("'x'", "'''\n[[allow]]\n'''", 1);
    assert_eq!(parts(&quoted).len(), 1);
    // Headers cannot continue an array.
    assert_eq!(parts(&("allow = []\n".to_owned() + &text)).len(), 1);
    assert!(parsed(&("allow = []\n".to_owned() + &text)).is_err());
}

fn parsed(text: &str) -> Result<Vec<Entry>, EntryError> {
    parse(Path::new("a.toml"), text)
}

#[track_caller]
fn rejects(text: &str, expected: &str) {
    let error = parse(Path::new("a.toml"), text).unwrap_err().to_string();
    assert_eq!(error, expected);
    assert!(!error.contains(char::is_control), "{error:?}");
}
