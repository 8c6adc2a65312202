//! Text from outside that is printed on a terminal.

use std::{borrow::Cow, fmt::Write as _};

/// Returns the text without anything that a terminal could interpret or hide: control characters, and
/// characters that are invisible or change the direction of text, are written as `\u{…}`. Line feeds are kept.
pub fn escape(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c == '\n' || is_harmless(c)) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if c == '\n' || is_harmless(c) {
            escaped.push(c);
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "{}", c.escape_unicode());
        }
    }
    Cow::Owned(escaped)
}

/// Like [`escape`], for a text that must stay on one line.
pub fn escape_line(text: &str) -> String {
    escape(text).replace('\n', "\\u{a}")
}

/// Returns whether a character is visible, and neither a control character nor one that changes the text
/// direction.
pub fn is_harmless(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_interprets_is_left() {
        assert!(matches!(escape("CN=ä broker\nnext"), Cow::Borrowed(_)));
        let evil = "a\x1b[2J\x07\r\u{9b}31m\u{202e}\u{200b}\0\x7f\nb";
        let escaped = escape(evil);
        assert!(escaped.chars().all(|c| c == '\n' || is_harmless(c)), "{escaped:?}");
        assert!(escaped.starts_with("a\\u{1b}[2J\\u{7}"), "{escaped}");
        assert!(escape_line(evil).ends_with("\\u{7f}\\u{a}b"));
    }
}
