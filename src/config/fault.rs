//! Errors in the configuration, each with its location.

use std::fmt;

/// Where a value was set. Ordered by line in the file, then by variable.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// A line of a file, or the file as a whole.
    File { name: String, line: Option<usize> },
    /// An environment variable or an option of the command line.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line: Some(line) } => write!(f, "{name}:{line}"),
            Self::File { name, line: None } | Self::Variable(name) => f.write_str(name),
        }
    }
}

/// One fault. Its message never contains the value of a secret or a line of the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fault {
    pub(super) origin: Origin,
    /// The key with its section. Empty if the fault is not about a key, or if the origin names the key.
    pub(super) key: String,
    pub(super) message: String,
    /// Whether the fault is in a file that may be incomplete because it is being replaced.
    pub(super) may_pass: bool,
}

impl Fault {
    pub(super) fn new(origin: Origin, key: &str, message: impl Into<String>) -> Self {
        Self { origin, key: key.to_owned(), message: message.into(), may_pass: false }
    }

    /// Marks the fault as one in a file that may be incomplete because it is being replaced.
    pub(super) fn in_a_file_that_may_change(self) -> Self {
        Self { may_pass: true, ..self }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, key, message, .. } = self;
        if key.is_empty() {
            write!(f, "{origin}: {message}")
        } else {
            write!(f, "{origin}: {key}: {message}")
        }
    }
}

/// A refused configuration: all faults, one per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(Vec<Fault>);

impl ConfigError {
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort();
        Self(faults)
    }

    /// Returns whether all faults are in files that may be incomplete because they are being replaced: certificates,
    /// keys and secrets.
    pub fn may_pass(&self) -> bool {
        self.0.iter().all(|fault| fault.may_pass)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}
