//! The role that a request is signed with, and the session that names its user to AWS.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use ring::digest::{SHA256, digest};

/// The ARN of an IAM role, such as `arn:aws:iam::123456789012:role/audit/trailgate`; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleArn(Arc<str>);

/// An error: the text is not the ARN of a role.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the ARN of a role: write one like \"arn:aws:iam::123456789012:role/trailgate\"")]
pub struct NotRoleArn(String);

impl RoleArn {
    /// Returns the ARN as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the role's name without its path, as the ARN of a session repeats it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

impl FromStr for RoleArn {
    type Err = NotRoleArn;

    /// Parses `arn:partition:iam::account:role/path/name`. The characters of path and name are those that IAM allows.
    fn from_str(text: &str) -> Result<Self, NotRoleArn> {
        let parts: Vec<&str> = text.splitn(6, ':').collect();
        let is_account = |account: &str| account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_path = |path: &str| path.bytes().all(|byte| byte.is_ascii_graphic());
        let is_name = |name: &str| (1..=64).contains(&name.len()) && name.bytes().all(is_session_byte);
        let is_role = matches!(parts[..], ["arn", partition, "iam", "", account, resource]
        if partition.starts_with("aws") && is_account(account)
            && resource.strip_prefix("role/").is_some_and(|role| {
                let (path, name) = role.rsplit_once('/').unwrap_or(("", role));
                is_path(path) && is_name(name)
            }));
        if is_role { Ok(Self(text.into())) } else { Err(NotRoleArn(text.to_owned())) }
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a session of a role: 2 to 64 of the characters `A-Z a-z 0-9 _ + = , . @ -` (`RoleSessionName` in the AWS
/// STS API Reference).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionName(Arc<str>);

impl SessionName {
    /// Makes the session name of the user `name`, different for different names.
    ///
    /// A name that STS accepts stays as it is. In all others each character that STS does not accept becomes `-`, and the
    /// first 55 characters are followed by `-` and the first 8 hexadecimal digits of the name's SHA-256. So is a name
    /// that already ends like that, because it could be the result for another name.
    #[must_use]
    pub fn of(name: impl Into<Arc<str>>) -> Self {
        let name = name.into();
        let is_valid = (2..=64).contains(&name.len()) && name.bytes().all(is_session_byte);
        if is_valid && !ends_with_digest(&name) {
            return Self(name);
        }
        let fit = |character| if u8::try_from(character).is_ok_and(is_session_byte) { character } else { '-' };
        let mut session: String = name.chars().map(fit).take(55).collect();
        session.push('-');
        session.push_str(&hex::encode(&digest(&SHA256, name.as_bytes()).as_ref()[..4]));
        Self(session.into())
    }

    /// Returns the name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_session_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte)
}

/// Returns whether `name` ends with `-` and 8 lower-case hexadecimal digits.
fn ends_with_digest(name: &str) -> bool {
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name.rsplit_once('-').is_some_and(|(_, digest)| digest.len() == 8 && digest.bytes().all(is_hex))
}

/// The user of a session, as AWS records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionUser {
    /// The session's name, in CloudTrail and in the domain's audit log.
    pub name: SessionName,
    /// The entry's name.
    entry: Arc<str>,
    access: &'static str,
}

impl SessionUser {
    /// Describes the user of the entry `name` with an access level.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, access: &'static str) -> Self {
        let entry = name.into();
        Self { name: SessionName::of(Arc::clone(&entry)), entry, access }
    }

    /// Returns the session's tags. In the values each character that STS does not accept becomes `-`, and a value ends
    /// after 256 characters.
    #[must_use]
    pub fn tags(&self) -> [(&'static str, String); 2] {
        let fit = |character: char| {
            let is_valid = character.is_alphanumeric() || character == ' ' || "_.:/=+-@".contains(character);
            if is_valid { character } else { '-' }
        };
        let value = |text: &str| text.chars().map(fit).take(256).collect();
        [("trailgate:entry", value(&self.entry)), ("trailgate:access", value(self.access))]
    }
}

/// Hashes the name only, for a lookup with each request: users of the same name rarely differ in tags.
impl Hash for SessionUser {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn arn_of_a_role_is_parsed() {
        for text in ["arn:aws:iam::123456789012:role/audit/trailgate", "arn:aws-cn:iam::123456789012:role/a"] {
            assert_eq!(text.parse::<RoleArn>().unwrap().as_str(), text);
        }
        let role: RoleArn = "arn:aws:iam::123456789012:role/audit/Auditor".parse().unwrap();
        assert_eq!(role.name(), "Auditor");
    }

    #[test]
    fn text_that_is_no_role_arn_is_rejected() {
        for text in [
            "",
            "trailgate",
            "arn:aws:iam::123456789012:user/a",
            "arn:aws:iam::1234:role/a",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam::123456789012:role/path/",
            "arn:aws:iam::123456789012:role/a b",
            "arn:aws:iam::123456789012:role/a*",
            "arn:aws:iam:eu-west-1:123456789012:role/a",
            "arn:aws:sts::123456789012:assumed-role/a/b",
        ] {
            assert!(text.parse::<RoleArn>().is_err(), "{text}");
        }
    }

    #[track_caller]
    fn becomes(name: &str, expected: &str) {
        assert_eq!(SessionName::of(name).as_str(), expected);
    }

    #[test]
    fn name_that_sts_accepts_is_unchanged() {
        becomes("jane.doe@example.com", "jane.doe@example.com");
        becomes(&"a".repeat(64), &"a".repeat(64));
    }

    #[test]
    fn name_that_sts_rejects_is_normalised() {
        becomes("Head office", "Head-office-a582f8cb");
        becomes("a", "a-ca978112");
        becomes("Zoë", "Zo--c6a12698");
        becomes(&"a".repeat(65), &format!("{}-635361c4", "a".repeat(55)));
    }

    #[test]
    fn similar_names_have_different_sessions() {
        let names =
            ["Head office", "Head-office", "Head_office", "head office", "Head office ", "Head-office-a582f8cb"];
        let sessions: HashSet<_> = names.into_iter().map(SessionName::of).collect();
        assert_eq!(sessions.len(), names.len(), "{sessions:?}");
    }

    #[test]
    fn tag_values_keep_letters_and_spaces() {
        let tags = SessionUser::new("Zoë, head office", "read").tags();
        assert_eq!(tags[0], ("trailgate:entry", "Zoë- head office".to_owned()));
        assert_eq!(tags[1], ("trailgate:access", "read".to_owned()));
    }
}
