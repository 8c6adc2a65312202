//! Why a node has claimed the event log, for its log.

use std::{fmt, time::Duration};

/// Why a node has claimed the event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimCause {
    /// It had no owner.
    NoOwner {
        /// The name of the last owner, if this node has seen it.
        last: Option<String>,
    },
    /// The database named this node as the owner.
    Own,
    /// Its owner has not beaten.
    Silent {
        /// The name of the owner, if it is known.
        name: Option<String>,
        /// For how long, as far as this node has seen it.
        still_for: Duration,
    },
}

impl fmt::Display for ClaimCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOwner { last: None } => f.write_str("no node was active"),
            Self::NoOwner { last: Some(name) } => {
                write!(f, "node {name} was stopped, or has given the event log back")
            }
            Self::Own => f.write_str("the database still named this node as the active one"),
            Self::Silent { name, still_for } => {
                let name = name.as_deref().unwrap_or("that was active");
                write!(f, "node {name} has not reported to the database for {:.1} s", still_for.as_secs_f64())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_names_the_former_owner() {
        let last = |name: &str| ClaimCause::NoOwner { last: Some(name.to_owned()) };
        assert_eq!(last("a").to_string(), "node a was stopped, or has given the event log back");
        let still_for = Duration::from_millis(5040);
        let silent = ClaimCause::Silent { name: Some("a".to_owned()), still_for };
        assert_eq!(silent.to_string(), "node a has not reported to the database for 5.0 s");
    }
}
