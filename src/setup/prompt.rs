//! Questions on the terminal.

use std::io::{self, BufRead, Read as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use secrecy::{SecretString, zeroize::Zeroizing};

/// Maximum length of what is typed.
const MAX_BYTES: u64 = 4096;

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;

/// Asks a question. Returns the line that the user enters, or `None` at the end of the input.
pub(super) fn ask(question: &str) -> io::Result<Option<String>> {
    print(question)?;
    let mut line = String::new();
    let read = io::stdin().lock().take(MAX_BYTES).read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
}

/// Like [`ask`], but does not show what is typed.
pub(super) fn ask_hidden(question: &str) -> io::Result<Option<SecretString>> {
    // Before the question, so that not even the first character is shown.
    let hidden = Hidden::begin()?;
    print(question)?;
    let typed = read_hidden(io::stdin().lock());
    drop(hidden);
    print("\n")?;
    typed
}

fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Hides what is typed until it is dropped. The keys that interrupt a program are read as characters, because a signal
/// would leave the terminal without echo.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VMIN] = 1;
        hidden.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // It fails only if the terminal is gone.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Reads characters up to the end of the line. Returns `None` if the user interrupts the program or ends the input.
fn read_hidden(input: impl BufRead) -> io::Result<Option<SecretString>> {
    let mut typed = Zeroizing::new(Vec::new());
    for byte in input.bytes().take(usize::try_from(MAX_BYTES).unwrap_or(usize::MAX)) {
        match byte? {
            b'\r' | b'\n' => {
                let text = std::str::from_utf8(&typed);
                let text = text.map_err(|_| io::Error::other("the password is not valid UTF-8"))?;
                return Ok(Some(text.into()));
            }
            CTRL_C => return Ok(None),
            CTRL_D if typed.is_empty() => return Ok(None),
            CTRL_U => typed.clear(),
            0x08 | 0x7f => {
                // In UTF-8, a character is a first byte and the bytes that continue it.
                while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {}
            }
            byte if byte.is_ascii_control() => {}
            byte => typed.push(byte),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    fn typed(keys: &str) -> Option<String> {
        read_hidden(keys.as_bytes()).unwrap().map(|secret| secret.expose_secret().to_owned())
    }

    #[test]
    fn a_password_can_be_corrected_while_it_is_typed() {
        assert_eq!(typed("secret\n").as_deref(), Some("secret"));
        assert_eq!(typed("secrxä\u{7f}\u{8}et\r").as_deref(), Some("secret"));
        assert_eq!(typed("wrong\u{15}right\n").as_deref(), Some("right"));
        assert_eq!(typed("\u{7f}a\u{1b}\u{4}b\n").as_deref(), Some("ab"));
        assert_eq!(typed("\n").as_deref(), Some(""));
    }

    #[test]
    fn an_interrupted_password_is_not_used() {
        for keys in ["sec\u{3}ret\n", "\u{4}", "no end of the line", ""] {
            assert_eq!(typed(keys), None, "{keys:?}");
        }
    }
}
