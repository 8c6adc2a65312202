//! Which MQTT version to try first, and when to try the other one.
//!
//! Some brokers close the connection instead of reporting that they do not support a version. But a broker
//! that is restarting closes connections too. A broker that is known to support a version therefore has to
//! report that it no longer does; a closed connection is not sufficient.

use std::fmt;

use crate::domain::settings::{Protocol, QoS};

/// An MQTT version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = BrokerProtocol))]
pub enum Version {
    /// MQTT 5.
    #[cfg_attr(feature = "openapi", schema(rename = "5"))]
    V5,
    /// MQTT 3.1.1.
    #[cfg_attr(feature = "openapi", schema(rename = "3.1.1"))]
    V311,
}

impl Version {
    /// Returns `5` or `3.1.1`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V5 => "5",
            Self::V311 => "3.1.1",
        }
    }

    /// Returns the other version.
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

/// How a broker refused a login, if the reason may be the MQTT version. Timeouts, wrong passwords and failed
/// TLS handshakes have other reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It reported that it does not support the version.
    Reported,
    /// It closed the connection without answering.
    Closed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reported => "was refused",
            Self::Closed => "was answered by closing the connection",
        })
    }
}

/// The version that a login tries first, and the refusals after which it tries the other one, immediately and
/// once. Also contains the highest QoS to use with MQTT 3.1.1, where the broker cannot report its limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionPolicy {
    first: Version,
    falls_back_on: &'static [Refusal],
    maximum_qos: QoS,
}

impl VersionPolicy {
    /// Returns the policy of the settings for a broker that is not known yet. `auto` tries MQTT 5, and 3.1.1
    /// after any refusal; otherwise only the configured version is tried.
    pub fn of_protocol(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Auto => Self::new(Version::V5, &[Refusal::Reported, Refusal::Closed]),
            Protocol::V5 => Self::new(Version::V5, &[]),
            Protocol::V311 => Self::new(Version::V311, &[]),
        }
    }

    /// Returns the policy for a broker that has recently used this version: the other one is tried only if
    /// the broker reports that it does not support this one.
    pub fn of_known(version: Version) -> Self {
        Self::new(version, &[Refusal::Reported])
    }

    fn new(first: Version, falls_back_on: &'static [Refusal]) -> Self {
        Self { first, falls_back_on, maximum_qos: QoS::ExactlyOnce }
    }

    /// Limits the QoS that is used with MQTT 3.1.1.
    #[must_use]
    pub fn with_maximum_qos(self, maximum_qos: QoS) -> Self {
        Self { maximum_qos, ..self }
    }

    /// Returns the highest QoS to use with MQTT 3.1.1.
    pub fn maximum_qos(self) -> QoS {
        self.maximum_qos
    }

    /// Returns the version to try first.
    pub fn first(self) -> Version {
        self.first
    }

    /// Returns the version to try after `tried` was refused, or `None` if there is none.
    pub fn fallback(self, tried: Version, refusal: Refusal) -> Option<Version> {
        (tried == self.first && self.falls_back_on.contains(&refusal)).then(|| tried.other())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Refusal::{Closed, Reported};
    use Version::{V5, V311};

    #[test]
    fn an_unknown_broker_that_refuses_5_in_any_way_is_tried_with_3_1_1_and_not_again_with_5() {
        let policy = VersionPolicy::of_protocol(Protocol::Auto);
        assert_eq!(policy.first(), V5);
        for refusal in [Reported, Closed] {
            assert_eq!(policy.fallback(V5, refusal), Some(V311));
            assert_eq!(policy.fallback(V311, refusal), None);
        }
    }

    #[test]
    fn a_known_broker_is_tried_with_the_other_version_only_if_it_reports_a_version_refusal() {
        for (version, other) in [(V5, V311), (V311, V5)] {
            let policy = VersionPolicy::of_known(version);
            assert_eq!(policy.first(), version);
            assert_eq!(policy.fallback(version, Reported), Some(other));
            assert_eq!(policy.fallback(version, Closed), None, "it may be restarting");
            assert_eq!(policy.fallback(other, Reported), None);
        }
    }

    #[test]
    fn a_configured_version_is_the_only_one_that_is_tried() {
        for (protocol, version) in [(Protocol::V5, V5), (Protocol::V311, V311)] {
            let policy = VersionPolicy::of_protocol(protocol);
            assert_eq!(policy.first(), version);
            for refusal in [Reported, Closed] {
                assert_eq!(policy.fallback(version, refusal), None);
            }
        }
    }
}
