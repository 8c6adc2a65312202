//! The tokens of a script, as far as they matter here: what is a comment, a text or a regular expression, and what may
//! be joined.

use crate::Fault;

/// The words after which a `/` begins a regular expression.
const BEFORE_VALUES: [&str; 14] = [
    "return",
    "typeof",
    "case",
    "in",
    "of",
    "delete",
    "void",
    "throw",
    "new",
    "instanceof",
    "do",
    "else",
    "await",
    "yield",
];
/// The words after whose parentheses a statement follows.
const WITH_CONDITION: [&str; 3] = ["if", "while", "for"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name, a keyword or a number.
    Word,
    /// A text in quotes.
    Text,
    /// A template, or its part up to `${`, or from `}`.
    Template,
    Regex,
    /// One character.
    Sign,
}

/// What is between a token and the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Gap {
    None,
    Space,
    Newline,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    pub line: usize,
    pub gap: Gap,
}

/// An open bracket.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Open {
    Brace,
    Bracket,
    Parenthesis {
        of_condition: bool,
    },
    /// `${` in a template.
    Substitution,
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    at: usize,
    line: usize,
    gap: Gap,
    tokens: Vec<Token<'a>>,
    open: Vec<Open>,
    /// Whether a statement follows the last closed parenthesis.
    was_condition: bool,
}

/// Removes comments and the white space that has no meaning from a script.
///
/// # Errors
///
/// Returns a fault if a text or a comment does not end, if brackets do not match, or if it is not clear whether a `/`
/// begins a regular expression.
pub fn script(file: &str, text: &str) -> Result<String, Fault> {
    Ok(join(&tokens(file, text)?))
}

/// Returns the tokens of a script.
pub(crate) fn tokens<'a>(file: &'a str, text: &'a str) -> Result<Vec<Token<'a>>, Fault> {
    let mut reader = Reader {
        file,
        text,
        at: 0,
        line: 1,
        gap: Gap::None,
        tokens: Vec::new(),
        open: Vec::new(),
        was_condition: false,
    };
    while let Some(next) = reader.rest().chars().next() {
        reader.read(next)?;
    }
    if !reader.open.is_empty() {
        return Err(reader.fault("a bracket is not closed"));
    }
    Ok(reader.tokens)
}

/// Joins tokens with as little white space as possible. Line breaks stay where they may end a statement.
pub(crate) fn join(tokens: &[Token<'_>]) -> String {
    let mut text = String::new();
    let mut before: Option<Token<'_>> = None;
    for token in tokens {
        if let Some(before) = before {
            match token.gap {
                Gap::Newline if !is_open_ended(before.text) && !continues(token.text) => text.push('\n'),
                Gap::Space | Gap::Newline if would_merge(&before, token) => text.push(' '),
                _ => {}
            }
        }
        text.push_str(token.text);
        before = Some(*token);
    }
    text
}

/// Returns whether a statement cannot end after this token.
fn is_open_ended(text: &str) -> bool {
    text.ends_with(['{', '(', '[', ',', ';'])
}

/// Returns whether a line break before this token has no meaning.
fn continues(text: &str) -> bool {
    text.starts_with(['}', ')', ']', ',', ';', '.'])
}

/// Returns whether two tokens would be read differently without white space between them.
fn would_merge(before: &Token<'_>, after: &Token<'_>) -> bool {
    let is_number = before.text.ends_with(|last: char| last.is_ascii_digit());
    match (before.kind, after.kind) {
        (Kind::Word | Kind::Regex, Kind::Word) => true,
        (Kind::Word, Kind::Sign) => is_number && after.text == ".",
        // `<!--` begins a comment in a script that is not a module.
        (Kind::Sign, Kind::Sign) => {
            before.text == after.text || matches!((before.text, after.text), ("/", "*") | ("<", "!"))
        }
        (Kind::Sign, Kind::Regex) => before.text == "/",
        (Kind::Regex, Kind::Sign) => after.text == "/",
        _ => false,
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '$' | '#')
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn fault(&self, message: &str) -> Fault {
        Fault { file: self.file.to_owned(), line: self.line, message: message.to_owned() }
    }

    /// Reads one token, or what is between tokens.
    fn read(&mut self, next: char) -> Result<(), Fault> {
        let rest = self.rest();
        if matches!(next, '\r' | '\u{2028}' | '\u{2029}') {
            return Err(self.fault("this character ends a line; use only line feeds"));
        }
        if next.is_whitespace() {
            self.skip(if next == '\n' { Gap::Newline } else { Gap::Space }, next.len_utf8());
            return Ok(());
        }
        if rest.starts_with("//") {
            let is_end = |c| matches!(c, '\n' | '\r' | '\u{2028}' | '\u{2029}');
            self.skip(Gap::Space, rest.find(is_end).unwrap_or(rest.len()));
            return Ok(());
        }
        if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or_else(|| self.fault("the comment does not end"))? + 2;
            let gap = if rest[..end].contains('\n') { Gap::Newline } else { Gap::Space };
            self.skip(gap, end);
            return Ok(());
        }
        match next {
            '"' | '\'' => self.text(next),
            '`' => self.template(),
            '}' if self.open.last() == Some(&Open::Substitution) => {
                self.open.pop();
                self.template()
            }
            '/' if self.begins_regex()? => self.regex(),
            _ if is_word(next) => {
                let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                self.push(Kind::Word, end);
                Ok(())
            }
            _ => self.sign(next),
        }
    }

    /// Skips what is between tokens.
    fn skip(&mut self, gap: Gap, length: usize) {
        self.gap = self.gap.max(gap);
        self.advance(length);
    }

    fn advance(&mut self, length: usize) {
        self.line += self.rest()[..length].matches('\n').count();
        self.at += length;
    }

    fn push(&mut self, kind: Kind, length: usize) {
        let text = &self.rest()[..length];
        self.tokens.push(Token { kind, text, line: self.line, gap: self.gap });
        self.gap = Gap::None;
        self.advance(length);
    }

    fn text(&mut self, quote: char) -> Result<(), Fault> {
        let end = self.end_of_literal(|c| c == quote).ok_or_else(|| self.fault("the text does not end"))?;
        self.push(Kind::Text, end);
        Ok(())
    }

    /// Returns where a text or regular expression ends: after the character that `is_end` finds, on the same line.
    fn end_of_literal(&self, mut is_end: impl FnMut(char) -> bool) -> Option<usize> {
        let mut is_escaped = false;
        for (at, c) in self.rest().char_indices().skip(1) {
            match c {
                '\n' => return None,
                _ if is_escaped => is_escaped = false,
                '\\' => is_escaped = true,
                _ if is_end(c) => return Some(at + c.len_utf8()),
                _ => {}
            }
        }
        None
    }

    /// Reads a template from its beginning, or from the end of a substitution in it.
    fn template(&mut self) -> Result<(), Fault> {
        let rest = self.rest();
        let mut at = 1;
        while let Some(c) = rest[at..].chars().next() {
            at += c.len_utf8();
            match c {
                '\\' => at += rest[at..].chars().next().map_or(0, char::len_utf8),
                '`' => {
                    self.push(Kind::Template, at);
                    return Ok(());
                }
                '$' if rest[at..].starts_with('{') => {
                    self.open.push(Open::Substitution);
                    self.push(Kind::Template, at + 1);
                    return Ok(());
                }
                _ => {}
            }
        }
        Err(self.fault("the template does not end"))
    }

    fn regex(&mut self) -> Result<(), Fault> {
        let mut in_class = false;
        let end = self.end_of_literal(|c| {
            match c {
                '[' => in_class = true,
                ']' => in_class = false,
                _ => {}
            }
            c == '/' && !in_class
        });
        let end = end.ok_or_else(|| self.fault("the regular expression does not end"))?;
        let flags = &self.rest()[end..];
        let flags = flags.find(|c| !is_word(c)).unwrap_or(flags.len());
        self.push(Kind::Regex, end + flags);
        Ok(())
    }

    /// Returns whether a `/` begins a regular expression: where an operand is expected.
    fn begins_regex(&self) -> Result<bool, Fault> {
        let unclear = "it is not clear whether this `/` begins a regular expression; put it in parentheses";
        let Some(last) = self.tokens.last() else { return Ok(true) };
        let before = self.tokens.len().checked_sub(2).map(|at| self.tokens[at].text);
        Ok(match (last.kind, last.text) {
            (Kind::Word, word) => BEFORE_VALUES.contains(&word) && before != Some("."),
            (Kind::Template, text) => text.ends_with("${"),
            (Kind::Text | Kind::Regex, _) | (Kind::Sign, "]") => false,
            (Kind::Sign, ")") => self.was_condition,
            (Kind::Sign, "}") => return Err(self.fault(unclear)),
            (Kind::Sign, sign @ ("+" | "-")) if before == Some(sign) => return Err(self.fault(unclear)),
            (Kind::Sign, _) => true,
        })
    }

    fn sign(&mut self, sign: char) -> Result<(), Fault> {
        match sign {
            '{' => self.open.push(Open::Brace),
            '[' => self.open.push(Open::Bracket),
            '(' => {
                let mut before = self.tokens.iter().rev().map(|token| token.text);
                let is_keyword = before.next().is_some_and(|last| WITH_CONDITION.contains(&last));
                let of_condition = is_keyword && before.next() != Some(".");
                self.open.push(Open::Parenthesis { of_condition });
            }
            '}' | ']' | ')' => {
                let closed = self.open.pop();
                self.was_condition = closed == Some(Open::Parenthesis { of_condition: true });
                let is_match = match closed {
                    Some(Open::Brace) => sign == '}',
                    Some(Open::Bracket) => sign == ']',
                    Some(Open::Parenthesis { .. }) => sign == ')',
                    Some(Open::Substitution) | None => false,
                };
                if !is_match {
                    return Err(self.fault("this bracket has no opening bracket"));
                }
            }
            _ => {}
        }
        self.push(Kind::Sign, sign.len_utf8());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn short(text: &str) -> String {
        script("a.js", text).unwrap()
    }

    fn fault(text: &str) -> (usize, String) {
        let fault = script("a.js", text).unwrap_err();
        (fault.line, fault.message)
    }

    #[test]
    fn comments_and_needless_white_space_are_removed() {
        let text =
            "// a\n/** b */\nconst x  =  1; // c\n\n\n  function f( a, b ) {\n    return a  +  b;\n  }\n";
        assert_eq!(short(text), "const x=1;function f(a,b){return a+b;}");
    }

    #[test]
    fn texts_templates_and_regular_expressions_are_unchanged() {
        for text in [
            r#""  // a  /* b */  \"  ""#,
            r"'  // a \'  '",
            "`  // a\n\n  ${`  ${b}  /* c */`}  \\`  `",
            r#"x=/  [/"]  \/  \/\/  /u"#,
            r"f(/[*]/,/\/*/)",
        ] {
            assert_eq!(short(text), text);
        }
        assert_eq!(short("`a ${ { b : /* c */ 1 }.b }  d`"), "`a ${{b:1}.b}  d`");
    }

    #[test]
    fn a_line_break_that_may_end_a_statement_stays() {
        assert_eq!(short("let a = 1\nlet b = 2\n;[a]\n.map(f)"), "let a=1\nlet b=2;[a].map(f)");
        assert_eq!(short("return /*\n*/ a"), "return\na");
        assert_eq!(short("return // b\na"), "return\na");
        assert_eq!(short("a\n++\nb"), "a\n++\nb");
        assert_eq!(short("if (a) {\n  b\n}\nc"), "if(a){b}\nc");
    }

    #[test]
    fn tokens_that_would_merge_stay_apart() {
        for (text, expected) in [
            ("a + +b - -c", "a+ +b- -c"),
            ("a + ++b", "a+ ++b"),
            ("1 .toFixed()", "1 .toFixed()"),
            ("typeof a in b", "typeof a in b"),
            ("/a/ in b", "/a/ in b"),
            ("a / /b/.c", "a/ /b/.c"),
            ("async () => {}", "async()=>{}"),
            ("a ? .5 : b ?? !c", "a?.5:b??!c"),
            ("a / b * c", "a/b*c"),
            ("a < !--b", "a< !--b"),
        ] {
            assert_eq!(short(text), expected);
        }
    }

    #[test]
    fn divisions_and_regular_expressions_are_told_apart() {
        for (text, expected) in [
            ("a / b / c // d", "a/b/c"),
            ("(a) / b / 2", "(a)/b/2"),
            ("a[0] / b / 2", "a[0]/b/2"),
            ("if (a) /  b/.test(c)", "if(a)/  b/.test(c)"),
            ("return /  b/", "return/  b/"),
            ("a.return / b / c", "a.return/b/c"),
            ("x => /  b/", "x=>/  b/"),
            ("`${a / b} / `", "`${a/b} / `"),
            ("`${/  b/.c}`", "`${/  b/.c}`"),
            ("a.if(b) / c / d", "a.if(b)/c/d"),
            ("Symbol.for(a) / b /* c */ / d", "Symbol.for(a)/b/d"),
        ] {
            assert_eq!(short(text), expected);
        }
    }

    #[test]
    fn what_is_unclear_or_does_not_end_is_a_fault_with_its_line() {
        for (text, line, message) in [
            ("a\n}", 2, "this bracket has no opening bracket"),
            ("(\n]", 2, "this bracket has no opening bracket"),
            ("f(", 1, "a bracket is not closed"),
            ("a\n'b\n'", 2, "the text does not end"),
            ("\n`a", 2, "the template does not end"),
            ("/* a", 1, "the comment does not end"),
            ("x = /a\n/", 1, "the regular expression does not end"),
            ("{}\n/a/", 2, "it is not clear whether this `/` begins"),
            ("a++ / b", 1, "it is not clear whether this `/` begins"),
            ("a\n// b\rc", 2, "this character ends a line"),
            ("a\u{2028}b", 1, "this character ends a line"),
        ] {
            let (found, reason) = fault(text);
            assert!(found == line && reason.starts_with(message), "{text:?}: {found}: {reason}");
        }
    }
}
