//! Errors about the identity file.

use std::{io, path::PathBuf};

use crate::private_file::TooOpen;

/// Why an identity file cannot be used, and how to fix it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// Other users have access to it.
    #[error("the identity file {} {too_open}", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Why, and what helps.
        too_open: TooOpen,
    },
    /// It is not in the format that `age-keygen` writes.
    #[error(
        "the identity file {} is not a valid age-keygen file{}: {what}; replace it with the correct file",
        path.display(), in_line(*line)
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line number, or 0 for the file as a whole.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It exists but cannot be read.
    #[error("the identity file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It cannot be created, renamed or removed.
    #[error("the identity file {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

fn in_line(line: usize) -> String {
    if line == 0 { String::new() } else { format!(" (line {line})") }
}
