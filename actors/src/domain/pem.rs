//! Splits PEM text into its blocks, as leniently as people and tools write it, and drops none.
//!
//! The usual decoders skip a block that they do not recognize, such as one that is indented. A bundle would
//! then silently lose an authority.

use std::fmt::{self, Write as _};

use secrecy::zeroize::Zeroizing;

const BEGIN: &str = "-BEGIN ";
const END: &str = "END ";
/// The length of a line of base64 (RFC 7468, section 2).
const LINE: usize = 64;
const MAX_LABEL: usize = 64;

/// One block, from its `BEGIN` line to its `END` line. Wiped when it is dropped, because it may be a key.
pub struct Block {
    /// The position in the text, from 1.
    pub number: usize,
    /// What the block contains according to its `BEGIN` line, such as `CERTIFICATE`.
    pub label: String,
    /// The block in the form that every decoder reads.
    pub text: Zeroizing<String>,
}

impl fmt::Debug for Block {
    /// Omits the text, which may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Block").field("label", &self.label).finish_non_exhaustive()
    }
}

impl Block {
    /// Returns whether the block contains a private key, in whatever format.
    pub fn is_private_key(&self) -> bool {
        self.label.ends_with("PRIVATE KEY")
    }
}

/// Splits the text into blocks. Text outside of blocks is ignored.
///
/// The following variations are accepted: byte order marks, indentation, Windows line endings, `\n` written
/// as two characters, a block in a single line, and a missing dash at either end of the text.
///
/// # Errors
///
/// Names the first block that has no `END` line or that contains anything other than base64. The message
/// never contains the content.
pub fn blocks(text: &str) -> Result<Vec<Block>, String> {
    let mut rest = text;
    let mut blocks = Vec::new();
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let number = blocks.len() + 1;
        let (block, behind) = block(number, after)
            .ok_or_else(|| format!("is damaged: block {number} of {} is incomplete", count(text)))?;
        blocks.push(block);
        rest = behind;
    }
    Ok(blocks)
}

/// Returns the number of blocks that begin in the text.
fn count(text: &str) -> usize {
    text.matches(BEGIN).count()
}

/// Reads one block, whose text begins with its label. Returns `None` if it is damaged.
fn block(number: usize, text: &str) -> Option<(Block, &str)> {
    let (label, body) = text.split_once('-')?;
    // The label is part of messages, so it must not be just any text.
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b' ';
    if label.len() > MAX_LABEL || !label.bytes().all(is_plain) {
        return None;
    }
    // One of the five dashes is already gone. Any further ones belong to the next block.
    let dashes = body.bytes().take(4).take_while(|byte| *byte == b'-').count();
    let (body, end) = body[dashes..].split_once('-')?;
    let behind = end.trim_start_matches('-').strip_prefix(END)?.strip_prefix(label)?;
    let base64 = base64(body)?;
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / LINE + 4 * LINE));
    // Writing to a string does not fail.
    let _ok = writeln!(text, "-----BEGIN {label}-----");
    for line in base64.as_bytes().chunks(LINE) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    let _ok = writeln!(text, "-----END {label}-----");
    Some((Block { number, label: label.to_owned(), text }, behind))
}

/// Removes white space and line endings. Returns `None` if anything other than base64 remains.
fn base64(body: &str) -> Option<Zeroizing<String>> {
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    let mut characters = body.chars();
    while let Some(c) = characters.next() {
        match c {
            // The two characters `\n` or `\r` instead of a line ending.
            '\\' if matches!(characters.next(), Some('n' | 'r')) => {}
            '\u{feff}' => {}
            c if c.is_whitespace() => {}
            c if c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=') => base64.push(c),
            _ => return None,
        }
    }
    Some(base64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PEM: &str = "-----BEGIN X Y-----\nQUJD\nREVG\n-----END X Y-----\n";

    fn read(text: &str) -> Result<Vec<String>, String> {
        let blocks = blocks(text)?;
        assert!(blocks.iter().enumerate().all(|(i, block)| block.number == i + 1 && block.label == "X Y"));
        Ok(blocks.iter().map(|block| block.text.to_string()).collect())
    }

    #[test]
    fn a_block_is_read_however_it_was_pasted() {
        let expected = "-----BEGIN X Y-----\nQUJDREVG\n-----END X Y-----\n";
        for text in [
            PEM.to_owned(),
            format!("\u{feff}{PEM}"),
            PEM.replace('\n', "\r\n"),
            PEM.replace('\n', "\r"),
            PEM.replace('\n', "\\n"),
            PEM.replace('\n', "\\r\\n"),
            PEM.replace('\n', " "),
            PEM.replace('\n', ""),
            PEM.replace('\n', "  \n    \t"),
            format!("\"{}\"", PEM.replace('\n', "\\n")),
            format!("subject=CN = a-b\n{PEM}trailing text"),
            PEM.trim_matches(['-', '\n']).replace("BEGIN", "-BEGIN"),
        ] {
            assert_eq!(read(&text), Ok(vec![expected.to_owned()]), "{text:?}");
            let twice = read(&format!("{text}{text}"));
            assert_eq!(twice.map(|blocks| blocks.len()), Ok(2), "{text:?}");
        }
        assert_eq!(read("no block here"), Ok(vec![]));
    }

    #[test]
    fn a_damaged_block_is_named_and_none_is_dropped() {
        for damaged in [
            "-----BEGIN X Y-----\nQUJD\n",
            "-----BEGIN X Y-----\nQUJD\n-----END X Z-----\n",
            "-----BEGIN X Y-----\nQU*D\n-----END X Y-----\n",
            "-----BEGIN X Y-----\nQU\\D\n-----END X Y-----\n",
            "-----BEGIN X Y",
            "-----BEGIN X\nY-----\nQUJD\n-----END X\nY-----\n",
        ] {
            let error = "is damaged: block 2 of 3 is incomplete".to_owned();
            assert_eq!(read(&format!("{PEM}{damaged}{PEM}")), Err(error), "{damaged}");
        }
    }

    proptest! {
        /// Every block that begins is either returned or part of the error.
        #[test]
        fn reading_any_text_drops_no_block(
            parts in proptest::collection::vec(
                prop_oneof![
                    Just("-----BEGIN A-----"), Just("-----END A-----"), Just("QUJD"), Just("\\n"), Just("-"),
                    Just("\n"), Just(" "), Just("\u{feff}"), Just("é"),
                ],
                0..20,
            ),
        ) {
            let text = parts.concat();
            if let Ok(blocks) = blocks(&text) {
                prop_assert_eq!(blocks.len(), count(&text));
            }
        }
    }
}
