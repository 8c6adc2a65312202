//! Questions on the terminal.

use std::{
    fs::File,
    io::{self, BufRead as _, Read, Write as _},
    os::fd::AsFd as _,
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use secrecy::{SecretString, zeroize::Zeroizing};
use tokio::sync::oneshot;

/// Maximum length of what is typed.
const MAX_BYTES: usize = 4096;

const CTRL_C: u8 = 0x03;
const CTRL_D: u8 = 0x04;
const CTRL_U: u8 = 0x15;

/// Asks a question. Returns the line that the user enters, or `None` at the end of the input.
pub(super) async fn ask(question: &str) -> io::Result<Option<String>> {
    print(question)?;
    on_thread(|| {
        let mut line = String::new();
        let read = io::stdin().lock().take(MAX_BYTES as u64).read_line(&mut line)?;
        Ok((read > 0).then(|| line.trim_end_matches(['\n', '\r']).to_owned()))
    })
    .await
}

/// Like [`ask`], but does not show what is typed. If this is dropped, typed text is shown again.
pub(super) async fn ask_hidden(question: &str) -> io::Result<Option<SecretString>> {
    // Before the question, so that not even the first character is shown.
    let hidden = Hidden::begin()?;
    print(question)?;
    // Without the buffer of the standard input, which is not wiped.
    let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let typed = on_thread(|| read_hidden(input)).await;
    drop(hidden);
    print("\n")?;
    typed
}

/// Reads on a thread, so that the caller can stop waiting. Then, the thread hangs until the process ends.
async fn on_thread<T: Send + 'static>(
    read: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (answer, answered) = oneshot::channel();
    let read = move || drop(answer.send(read()));
    let _detached = thread::Builder::new().name("terminal".to_owned()).spawn(read)?;
    answered.await.unwrap_or_else(|_| Err(io::Error::other("the thread that reads has panicked")))
}

fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// Shows what is typed again when it is dropped. The keys that interrupt a program are read as characters.
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

/// Reads characters up to the end of the line, one at a time: a buffer would keep a copy of the password. Returns
/// `None` if the user interrupts the program or ends the input.
#[expect(clippy::unbuffered_bytes, reason = "a person types slowly, and a buffer would not be wiped")]
fn read_hidden(input: impl Read) -> io::Result<Option<SecretString>> {
    // It does not grow, so that no copy of the password is left behind.
    let mut typed = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    for byte in input.bytes().take(MAX_BYTES) {
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
