//! Style sheets.

use crate::Fault;

/// Removes comments, line breaks and indentation from a style sheet.
///
/// # Errors
///
/// Returns a fault if a comment or a text does not end.
pub fn style(file: &str, text: &str) -> Result<String, Fault> {
    let mut short = String::new();
    let mut rest = text;
    let fault = |rest: &str, message: &str| {
        let line = text[..text.len() - rest.len()].matches('\n').count() + 1;
        Fault { file: file.to_owned(), line, message: message.to_owned() }
    };
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or_else(|| fault(rest, "the comment does not end"))?;
            rest = &rest[end + 2..];
            continue;
        } else if matches!(next, '"' | '\'') {
            end_of_text(rest, next).ok_or_else(|| fault(rest, "the text does not end"))?
        } else {
            next.len_utf8()
        };
        if next.is_whitespace() {
            // A space has no meaning next to these; elsewhere it may separate selectors or values.
            if !short.is_empty() && !short.ends_with([' ', '{', '}', ';', ',']) {
                short.push(' ');
            }
        } else {
            if matches!(next, '{' | '}' | ';' | ',') && short.ends_with(' ') {
                short.pop();
            }
            if next == '}' && short.ends_with(';') {
                short.pop();
            }
            short.push_str(&rest[..length]);
        }
        rest = &rest[length..];
    }
    short.truncate(short.trim_end().len());
    Ok(short)
}

fn end_of_text(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return None,
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if c == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_needless_white_space_are_removed() {
        let text = "/* a */\n:root {\n  --a: #fff; /* b */\n  margin: 0 auto;\n}\n\n\
                    @media (x: y) {\n  a > b, i :c { d: e }\n}\n";
        let short = ":root{--a: #fff;margin: 0 auto}@media (x: y){a > b,i :c{d: e}}";
        assert_eq!(style("a.css", text).unwrap(), short);
    }

    #[test]
    fn texts_are_unchanged() {
        let text = r#"a::after{content: "  /* x */ \" ; }"}"#;
        assert_eq!(style("a.css", text).unwrap(), text);
    }

    #[test]
    fn what_does_not_end_is_a_fault_with_its_line() {
        let fault = style("a.css", "a {}\n/* b").unwrap_err();
        assert_eq!(fault.to_string(), "a.css:2: the comment does not end");
        let fault = style("a.css", "\n\na { content: 'b\n }").unwrap_err();
        assert_eq!(fault.to_string(), "a.css:3: the text does not end");
    }
}
