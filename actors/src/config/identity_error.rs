//! What can be wrong with the identity file.

use std::{io, path::PathBuf};

/// Why an identity file cannot be used, and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum IdentityFileError {
    /// Other users can read it.
    #[error("the identity file {} can be read by others (mode {mode:03o}): run `chmod 600 {}`", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is not what `age-keygen` writes.
    #[error("the identity file {} is not one that age-keygen writes{}: {what}; put the right file there", path.display(), at(*line))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line; 0 for the file as a whole.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// It is there, but cannot be read.
    #[error("the identity file {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be made, moved or removed.
    #[error("the identity file {} cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl IdentityFileError {
    /// The error with its causes, in one line, for those who are told a text.
    pub(super) fn full(&self) -> String {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => format!("{self}: {source}"),
            Self::TooOpen { .. } | Self::Malformed { .. } => self.to_string(),
        }
    }
}

fn at(line: usize) -> String {
    if line == 0 { String::new() } else { format!(" (line {line})") }
}
