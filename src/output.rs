//! The standard output of the commands and of the demo. A reader that closes the pipe early, such as `head`, ends
//! the program quietly; `println!` would panic.

use std::{
    fmt,
    io::{self, ErrorKind, IsTerminal as _, Write as _},
};

use serde::Serialize;
use tokio::sync::Notify;

/// Notified when the demo finds that nobody reads its output any more.
static CLOSED: Notify = Notify::const_new();

/// Standard output cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output")]
pub struct OutputError(#[from] io::Error);

/// Returns whether standard output is a terminal on which the user wants colors (<https://no-color.org>).
pub fn has_color() -> bool {
    is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes a line to standard output.
pub fn line(text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    output.write_fmt(text)?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}

/// Returns whether standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Writes a text that the next one, or a line, replaces. Only for terminals.
pub fn transient(text: fmt::Arguments<'_>) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    // Returns to the start of the line and clears it (ECMA-48, EL).
    output.write_all(b"\r\x1b[K")?;
    output.write_fmt(text)?;
    Ok(output.flush()?)
}

/// Writes a value as JSON to standard output, in one line.
pub fn json(value: &impl Serialize) -> Result<(), OutputError> {
    let text = serde_json::to_string(value).map_err(io::Error::from)?;
    line(format_args!("{text}"))
}

/// Writes text that is complete to standard output.
pub fn bytes(text: &[u8]) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    output.write_all(text)?;
    Ok(output.flush()?)
}

/// Writes a line of the demo. If that fails, [`closed`] returns.
pub fn demo_line(text: fmt::Arguments<'_>) {
    if line(text).is_err() {
        CLOSED.notify_one();
    }
}

/// Waits until a line of the demo cannot be written.
pub async fn closed() {
    CLOSED.notified().await;
}

/// Returns whether a command failed only because the reader of its output closed the pipe.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<OutputError>()
        .is_some_and(|OutputError(cause)| cause.kind() == ErrorKind::BrokenPipe)
}
