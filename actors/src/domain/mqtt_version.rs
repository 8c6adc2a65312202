//! Which MQTT to try, and when to try the other one. Pure.
//!
//! Not every broker says that it does not know a version: some close the connection on it. But a closed connection may
//! as well be a broker that is just restarting, which is why a broker that is known to speak a version is not taken to
//! have unlearnt it for that alone.

use std::fmt;

use crate::domain::settings::{Protocol, QoS};

/// An MQTT version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

impl Version {
    /// `5` or `3.1.1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        }
    }

    /// The one that is not this.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::V5 => Self::V311,
            Self::V311 => Self::V5,
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a broker turned a login down for what may be its version. Nothing else casts doubt on the version: no timeout, no
/// wrong password, no failed encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It said that it does not speak it.
    Said,
    /// It closed the connection instead of an answer.
    Closed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Said => "was refused",
            Self::Closed => "was answered by closing the connection",
        })
    }
}

/// Which version a login begins with, and which refusals make it try the other one, at once and once; and what is known of
/// a broker that speaks 3.1.1 and cannot tell its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionPolicy {
    first: Version,
    falls_back_on: &'static [Refusal],
    maximum_qos: QoS,
}

impl VersionPolicy {
    /// What the settings ask for, of a broker that is not known. `auto`: MQTT 5, and 3.1.1 when that is refused in whatever
    /// way; else this version and no other.
    pub fn to(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Auto => Self::new(Version::V5, &[Refusal::Said, Refusal::Closed]),
            Protocol::V5 => Self::new(Version::V5, &[]),
            Protocol::V311 => Self::new(Version::V311, &[]),
        }
    }

    /// The broker has spoken this version lately: the other one only when it says that it does not any more.
    pub fn known(version: Version) -> Self {
        Self::new(version, &[Refusal::Said])
    }

    fn new(first: Version, falls_back_on: &'static [Refusal]) -> Self {
        Self { first, falls_back_on, maximum_qos: QoS::ExactlyOnce }
    }

    /// The same, to a broker that takes no higher QoS under 3.1.1.
    #[must_use]
    pub fn with_maximum_qos(self, maximum_qos: QoS) -> Self {
        Self { maximum_qos, ..self }
    }

    /// The highest QoS that the broker is thought to take under 3.1.1.
    pub fn maximum_qos(self) -> QoS {
        self.maximum_qos
    }

    /// What to begin with.
    pub fn first(self) -> Version {
        self.first
    }

    /// What to try next, after this version was refused.
    pub fn after(self, tried: Version, refusal: Refusal) -> Option<Version> {
        (tried == self.first && self.falls_back_on.contains(&refusal)).then(|| tried.other())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Refusal::{Closed, Said};
    use Version::{V5, V311};

    #[test]
    fn an_unknown_broker_that_refuses_5_in_whatever_way_is_asked_for_3_1_1_and_then_never_again_for_5() {
        let approach = VersionPolicy::to(Protocol::Auto);
        assert_eq!(approach.first(), V5);
        for refusal in [Said, Closed] {
            assert_eq!(approach.after(V5, refusal), Some(V311));
            assert_eq!(approach.after(V311, refusal), None);
        }
    }

    #[test]
    fn a_known_broker_has_to_say_that_it_speaks_the_version_no_more() {
        for (version, other) in [(V5, V311), (V311, V5)] {
            let approach = VersionPolicy::known(version);
            assert_eq!(approach.first(), version);
            assert_eq!(approach.after(version, Said), Some(other));
            assert_eq!(approach.after(version, Closed), None, "it may be restarting");
            assert_eq!(approach.after(other, Said), None);
        }
    }

    #[test]
    fn a_version_that_was_asked_for_is_the_only_one() {
        for (protocol, version) in [(Protocol::V5, V5), (Protocol::V311, V311)] {
            let approach = VersionPolicy::to(protocol);
            assert_eq!(approach.first(), version);
            for refusal in [Said, Closed] {
                assert_eq!(approach.after(version, refusal), None);
            }
        }
    }
}
