//! Names of others in the output for users.

/// Makes characters visible that control a terminal, a line or the direction of text, and cuts what is too long.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, character) in text.chars().enumerate() {
        if at == MAX_LENGTH {
            out.push('…');
            break;
        }
        let is_hidden = matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
        if character.is_control() || is_hidden {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// The longest text that is shown whole: an object key has up to 1,024 bytes.
const MAX_LENGTH: usize = 1_200;
