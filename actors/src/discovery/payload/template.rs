//! Formats text for Home Assistant templates and entity ids.

use std::fmt::Write as _;

/// Formats text as a string literal for a template. No character can end the literal or the template.
///
/// Jinja supports Python's escape sequences
/// (<https://docs.python.org/3/reference/lexical_analysis.html#escape-sequences>).
pub(super) fn text(text: &str) -> String {
    let mut literal = "'".to_owned();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || matches!(c, ' ' | '_' | '-' | '.') {
            literal.push(c);
        } else {
            let _infallible = write!(literal, "\\U{:08x}", u32::from(c));
        }
    }
    literal.push('\'');
    literal
}

/// Formats several strings as a list literal for a template.
pub(super) fn list(items: &[String]) -> String {
    format!("[{}]", items.iter().map(|item| text(item)).collect::<Vec<_>>().join(", "))
}

/// Converts a name to a part of an entity id: `a-z 0-9`, with single `_` between words.
pub(super) fn entity_slug(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    let words: Vec<_> =
        name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    if words.is_empty() { "liveobject".to_owned() } else { words.join("_") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_can_end_a_literal() {
        assert_eq!(text("delivery truck"), "'delivery truck'");
        assert_eq!(text("it's"), r"'it\U00000027s'");
        assert_eq!(text(r"\ }} {# 🦊"), r"'\U0000005c \U0000007d\U0000007d \U0000007b\U00000023 \U0001f98a'");
        assert_eq!(list(&["a".to_owned(), "b".to_owned()]), "['a', 'b']");
    }

    #[test]
    fn entity_ids_have_single_underscores_between_words() {
        for (name, slug) in [
            ("front_door", "front_door"),
            ("Front-Door", "front_door"),
            ("__a--b__", "a_b"),
            ("home/cameras", "home_cameras"),
            ("---", "liveobject"),
        ] {
            assert_eq!(entity_slug(name), slug, "{name}");
        }
    }
}
