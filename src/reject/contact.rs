//! The operator's contact that rejections name.

/// A URL or a text, such as an address for mail or the name of a team.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// A link: `https:`, `http:` or `mailto:`.
    Link(String),
    /// A text.
    Text(String),
}

/// The error for a text that cannot be a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a contact: write a URL or one line of at most 200 characters")]
pub(crate) struct InvalidContact;

impl Contact {
    /// Parses a contact. Only the schemes above become links, so that a page never links to a script.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidContact> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > MAX_LENGTH || text.chars().any(char::is_control) {
            return Err(InvalidContact);
        }
        let is_link = LINKS.iter().any(|scheme| text.starts_with(scheme)) && !text.contains(' ');
        Ok(if is_link { Self::Link(text.to_owned()) } else { Self::Text(text.to_owned()) })
    }

    /// Returns the contact as written.
    pub(super) fn as_str(&self) -> &str {
        let (Self::Link(text) | Self::Text(text)) = self;
        text
    }
}

const LINKS: [&str; 3] = ["https://", "http://", "mailto:"];

const MAX_LENGTH: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contact_is_a_link_only_with_a_known_scheme() {
        for link in ["https://wiki.example/access", "mailto:audit@example.com"] {
            assert_eq!(Contact::parse(link), Ok(Contact::Link(link.to_owned())));
        }
        for text in ["audit team, room 7", "javascript:alert(1)", "https://a.test and more", "<b>me</b>"] {
            assert_eq!(Contact::parse(text), Ok(Contact::Text(text.to_owned())));
        }
    }

    #[test]
    fn contact_of_no_or_several_lines_is_an_error() {
        for text in ["", "  ", "a\nb", &"x".repeat(201)] {
            assert_eq!(Contact::parse(text), Err(InvalidContact), "{text:?}");
        }
    }
}
