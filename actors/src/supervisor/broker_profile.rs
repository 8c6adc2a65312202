//! What is known of the broker that it does not tell: which versions it speaks, and whether it takes QoS 2. Pure: time is
//! given.
//!
//! So that a broker of old times does not cost a refused login each time, and yet is found to speak MQTT 5 once it does.
//! It holds for one broker, and is forgotten when the settings change or the process ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{
    mqtt_version::{Refusal, Version, VersionPolicy},
    settings::{Protocol, QoS},
};

/// A broker that refused MQTT 5 is asked again after so long, when it is connected anew.
const OLD_FOR: Duration = Duration::from_hours(24);

/// A broker that closed the connection on QoS 2 so many times in a row does not take it.
const BALKS: u32 = 2;

#[derive(Debug, Default)]
enum Known {
    #[default]
    Nothing,
    /// It closed the connection on MQTT 5 and then spoke 3.1.1: it may have been restarting. The second time is believed.
    Suspected,
    Modern,
    Old {
        since: Instant,
    },
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct BrokerProfile {
    known: Known,
    /// How many connections in a row the broker closed on QoS 2.
    balks: u32,
}

impl BrokerProfile {
    /// How the next login is to be tried.
    pub fn approach(&self, protocol: Protocol, now: Instant) -> VersionPolicy {
        let maximum_qos = if self.balks >= BALKS { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let approach = match (protocol, &self.known) {
            (Protocol::Auto, Known::Modern) => VersionPolicy::known(Version::V5),
            (Protocol::Auto, Known::Old { since }) if now.duration_since(*since) < OLD_FOR => {
                VersionPolicy::known(Version::V311)
            }
            _ => VersionPolicy::to(protocol),
        };
        approach.with_maximum_qos(maximum_qos)
    }

    /// The broker accepted a login of this version, after it had refused the other one in this way.
    pub fn accepted(&mut self, version: Version, refused: Option<Refusal>, now: Instant) {
        self.known = match (version, refused, &self.known) {
            (Version::V5, ..) => Known::Modern,
            (Version::V311, Some(Refusal::Closed), Known::Nothing) => Known::Suspected,
            // As it was known to be: since then.
            (Version::V311, None, Known::Old { since }) => Known::Old { since: *since },
            (Version::V311, ..) => Known::Old { since: now },
        };
    }

    /// The broker closed the connection instead of an answer to the login. Once that may be a restart; if it was another
    /// broker's way to refuse the version, the next login finds out.
    pub fn turned_away(&mut self) {
        if !matches!(self.known, Known::Suspected) {
            self.known = Known::Nothing;
        }
    }

    /// A connection or an attempt ended; the broker had closed it on QoS 2, or not. Once that may be an accident.
    pub fn ended(&mut self, closed_on_qos2: bool) {
        if self.balks < BALKS {
            self.balks = if closed_on_qos2 { self.balks + 1 } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Refusal::{Closed, Said};
    use Version::{V5, V311};

    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn what_is_asked_for_is_done_whatever_is_known() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        broker.accepted(V311, Some(Said), now);
        assert_eq!(broker.approach(Protocol::V5, now), VersionPolicy::to(Protocol::V5));
        broker.accepted(V5, None, now);
        assert_eq!(broker.approach(Protocol::V311, now), VersionPolicy::to(Protocol::V311));
    }

    #[tokio::test]
    async fn a_broker_that_said_that_it_is_old_is_asked_again_a_day_later() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        assert_eq!(broker.approach(Protocol::Auto, now), VersionPolicy::to(Protocol::Auto));
        broker.accepted(V311, Some(Said), now);
        for hours in [0, 10, 23] {
            let later = now + HOUR * hours;
            assert_eq!(broker.approach(Protocol::Auto, later), VersionPolicy::known(V311));
            broker.accepted(V311, None, later);
        }
        let later = now + HOUR * 24;
        assert_eq!(broker.approach(Protocol::Auto, later), VersionPolicy::to(Protocol::Auto));
        broker.accepted(V311, Some(Said), later);
        assert_eq!(
            broker.approach(Protocol::Auto, later + HOUR),
            VersionPolicy::known(V311),
            "for another day"
        );
        broker.accepted(V5, Some(Said), later);
        assert_eq!(broker.approach(Protocol::Auto, later), VersionPolicy::known(V5), "it was upgraded");
    }

    #[tokio::test]
    async fn closing_is_believed_the_second_time() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        broker.accepted(V311, Some(Closed), now);
        assert_eq!(
            broker.approach(Protocol::Auto, now),
            VersionPolicy::to(Protocol::Auto),
            "it may have been restarting"
        );
        broker.turned_away();
        broker.accepted(V311, Some(Closed), now);
        assert_eq!(broker.approach(Protocol::Auto, now), VersionPolicy::known(V311));
    }

    #[tokio::test]
    async fn a_broker_that_restarted_in_the_middle_of_a_login_is_modern_again() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        broker.accepted(V311, Some(Closed), now);
        broker.accepted(V5, None, now);
        broker.turned_away();
        assert_eq!(broker.approach(Protocol::Auto, now), VersionPolicy::to(Protocol::Auto));
        broker.accepted(V5, None, now);
        assert_eq!(broker.approach(Protocol::Auto, now), VersionPolicy::known(V5));
    }

    #[tokio::test]
    async fn another_broker_at_the_same_address_is_got_to_know() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        for (known, other) in [(V5, V311), (V311, V5)] {
            broker.accepted(known, None, now);
            broker.turned_away();
            assert_eq!(broker.approach(Protocol::Auto, now), VersionPolicy::to(Protocol::Auto));
            broker.accepted(known, None, now);
            broker.accepted(other, Some(Said), now);
            assert_eq!(broker.approach(Protocol::Auto, now), VersionPolicy::known(other));
        }
    }

    #[tokio::test]
    async fn a_broker_that_closes_on_qos_2_twice_in_a_row_is_not_sent_it_again() {
        let now = Instant::now();
        let mut broker = BrokerProfile::default();
        let maximum_qos = |broker: &BrokerProfile| broker.approach(Protocol::Auto, now).maximum_qos();
        for closed_on_qos2 in [true, false, true] {
            broker.ended(closed_on_qos2);
            assert_eq!(maximum_qos(&broker), QoS::ExactlyOnce, "it may be an accident");
        }
        broker.ended(true);
        assert_eq!(maximum_qos(&broker), QoS::AtLeastOnce);
        broker.ended(false);
        assert_eq!(maximum_qos(&broker), QoS::AtLeastOnce, "it has no occasion to show it now");
    }
}
