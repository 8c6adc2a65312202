//! What earlier connections have shown about the broker: which MQTT versions it supports, and whether it
//! supports QoS 2. Pure: the time is an argument.
//!
//! The profile avoids a futile MQTT 5 login on each connection to a broker without MQTT 5. An upgrade of the
//! broker is still noticed. A profile belongs to one broker. It is discarded when the settings change or the
//! process ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{
    mqtt_version::{Refusal, Version, VersionPolicy},
    settings::{Protocol, QoS},
};

/// How long a refusal of MQTT 5 is remembered. The first connection after that tries MQTT 5 again.
const NO_V5_FOR: Duration = Duration::from_hours(24);

/// After closing this many connections in a row on QoS 2, a broker is assumed not to support it.
const MAX_QOS2_CLOSES: u32 = 2;

#[derive(Debug, Default)]
enum Versions {
    #[default]
    Unknown,
    /// It closed the connection on MQTT 5 and then accepted 3.1.1. It may have been restarting, so only the
    /// second time counts.
    PerhapsOnlyV311,
    V5,
    OnlyV311 {
        since: Instant,
    },
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct BrokerProfile {
    versions: Versions,
    /// How many connections in a row the broker closed on QoS 2.
    qos2_closes: u32,
}

impl BrokerProfile {
    /// Returns which versions the next login tries.
    pub fn version_policy(&self, protocol: Protocol, now: Instant) -> VersionPolicy {
        let lacks_qos2 = self.qos2_closes >= MAX_QOS2_CLOSES;
        let maximum_qos = if lacks_qos2 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let policy = match (protocol, &self.versions) {
            (Protocol::Auto, Versions::V5) => VersionPolicy::of_known(Version::V5),
            (Protocol::Auto, Versions::OnlyV311 { since }) if now.duration_since(*since) < NO_V5_FOR => {
                VersionPolicy::of_known(Version::V311)
            }
            _ => VersionPolicy::of_protocol(protocol),
        };
        policy.with_maximum_qos(maximum_qos)
    }

    /// Records that the broker accepted a login with this version, perhaps after refusing the other one.
    pub fn accepted(&mut self, version: Version, refused: Option<Refusal>, now: Instant) {
        self.versions = match (version, refused, &self.versions) {
            (Version::V5, ..) => Versions::V5,
            (Version::V311, Some(Refusal::Closed), Versions::Unknown) => Versions::PerhapsOnlyV311,
            (Version::V311, None, Versions::OnlyV311 { since }) => Versions::OnlyV311 { since: *since },
            (Version::V311, ..) => Versions::OnlyV311 { since: now },
        };
    }

    /// Records that the broker closed the connection instead of answering the login. It may have been
    /// restarting, or it may be another broker that refuses the version; the next login shows which.
    pub fn closed_at_login(&mut self) {
        if !matches!(self.versions, Versions::PerhapsOnlyV311) {
            self.versions = Versions::Unknown;
        }
    }

    /// Records that a connection or an attempt ended, and whether the broker closed it on QoS 2. A single
    /// time may be a coincidence.
    pub fn ended(&mut self, closed_on_qos2: bool) {
        if self.qos2_closes < MAX_QOS2_CLOSES {
            self.qos2_closes = if closed_on_qos2 { self.qos2_closes + 1 } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Refusal::{Closed, Reported};
    use Version::{V5, V311};

    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn a_configured_version_is_used_whatever_is_known_about_the_broker() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        broker.accepted(V311, Some(Reported), now);
        assert_eq!(broker.version_policy(Protocol::V5, now), VersionPolicy::of_protocol(Protocol::V5));
        broker.accepted(V5, None, now);
        assert_eq!(broker.version_policy(Protocol::V311, now), VersionPolicy::of_protocol(Protocol::V311));
    }

    #[tokio::test]
    async fn mqtt_5_is_tried_again_a_day_after_the_broker_refused_it() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        assert_eq!(broker.version_policy(Protocol::Auto, now), VersionPolicy::of_protocol(Protocol::Auto));
        broker.accepted(V311, Some(Reported), now);
        for hours in [0, 10, 23] {
            let later = now + HOUR * hours;
            assert_eq!(broker.version_policy(Protocol::Auto, later), VersionPolicy::of_known(V311));
            broker.accepted(V311, None, later);
        }
        let later = now + HOUR * 24;
        assert_eq!(broker.version_policy(Protocol::Auto, later), VersionPolicy::of_protocol(Protocol::Auto));
        broker.accepted(V311, Some(Reported), later);
        assert_eq!(
            broker.version_policy(Protocol::Auto, later + HOUR),
            VersionPolicy::of_known(V311),
            "for another day"
        );
        broker.accepted(V5, Some(Reported), later);
        assert_eq!(
            broker.version_policy(Protocol::Auto, later),
            VersionPolicy::of_known(V5),
            "it was upgraded"
        );
    }

    #[tokio::test]
    async fn closing_counts_as_a_refusal_the_second_time() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        broker.accepted(V311, Some(Closed), now);
        assert_eq!(
            broker.version_policy(Protocol::Auto, now),
            VersionPolicy::of_protocol(Protocol::Auto),
            "it may have been restarting"
        );
        broker.closed_at_login();
        broker.accepted(V311, Some(Closed), now);
        assert_eq!(broker.version_policy(Protocol::Auto, now), VersionPolicy::of_known(V311));
    }

    #[tokio::test]
    async fn a_broker_that_restarted_during_a_login_is_tried_with_mqtt_5_again() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        broker.accepted(V311, Some(Closed), now);
        broker.accepted(V5, None, now);
        broker.closed_at_login();
        assert_eq!(broker.version_policy(Protocol::Auto, now), VersionPolicy::of_protocol(Protocol::Auto));
        broker.accepted(V5, None, now);
        assert_eq!(broker.version_policy(Protocol::Auto, now), VersionPolicy::of_known(V5));
    }

    #[tokio::test]
    async fn another_broker_at_the_same_address_gets_a_new_profile() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        for (known, other) in [(V5, V311), (V311, V5)] {
            broker.accepted(known, None, now);
            broker.closed_at_login();
            assert_eq!(
                broker.version_policy(Protocol::Auto, now),
                VersionPolicy::of_protocol(Protocol::Auto)
            );
            broker.accepted(known, None, now);
            broker.accepted(other, Some(Reported), now);
            assert_eq!(broker.version_policy(Protocol::Auto, now), VersionPolicy::of_known(other));
        }
    }

    #[tokio::test]
    async fn qos_2_is_not_used_after_the_broker_closed_two_connections_in_a_row_on_it() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        let maximum_qos = |broker: &BrokerProfile| broker.version_policy(Protocol::Auto, now).maximum_qos();
        for closed_on_qos2 in [true, false, true] {
            broker.ended(closed_on_qos2);
            assert_eq!(maximum_qos(&broker), QoS::ExactlyOnce, "it may be a coincidence");
        }
        broker.ended(true);
        assert_eq!(maximum_qos(&broker), QoS::AtLeastOnce);
        broker.ended(false);
        assert_eq!(maximum_qos(&broker), QoS::AtLeastOnce, "it is not sent QoS 2 any more");
    }
}
