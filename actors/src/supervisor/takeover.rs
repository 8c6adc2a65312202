//! Detects another client with the same client id when the broker does not report it. Performs no I/O.
//!
//! With MQTT 5, a broker can report why it closes a connection, but not every broker does (Mosquitto 2.0.11
//! does not); with 3.1.1, none can. When two clients have the same id, the broker closes the older
//! connection. That client reconnects and displaces the other one, and so on. What can be observed is a
//! broker that accepts every login and soon closes the connection, again and again, while no message is
//! unanswered. (If one is, it may be the reason; see docs/architecture.md, Poison messages.) A broker that
//! restarts refuses logins in between, and a failing network does not close connections cleanly. But a broker
//! that forbids something may look the same, so a takeover is only reported as probable.

use std::time::Duration;

use super::STABLE_AFTER;
use crate::domain::{
    settings::MqttSettings,
    status::{Failure, FailureKind},
};

/// Number of connections in a row that must be closed soon after the login to indicate a takeover.
const MIN_CLOSED_IN_A_ROW: u32 = 3;

/// Counts the connections in a row that were closed soon after the login.
#[derive(Debug, Default)]
pub struct TakeoverDetector(u32);

impl TakeoverDetector {
    /// Records that a connection ended after it was up for `up`, while no message was unanswered. `closed`
    /// states whether the broker closed it cleanly, without a reason. Returns whether another client has
    /// probably taken over the connection.
    pub fn connection_ended(&mut self, closed: bool, up: Duration) -> bool {
        let is_sign = closed && up < STABLE_AFTER;
        self.0 = if is_sign { self.0.saturating_add(1) } else { 0 };
        self.0 >= MIN_CLOSED_IN_A_ROW
    }

    /// Starts counting again, after a failed login or new settings.
    pub fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Returns the failure to report when another client has probably taken over the connection.
pub fn probable_takeover(settings: &MqttSettings) -> Failure {
    let (broker, client_id) = (settings.broker(), &settings.client_id);
    Failure::new(
        FailureKind::TakenOver,
        format!(
            "{broker} accepts each login but closes the connection soon after. There is probably another \
             client with the same client id {client_id:?}; the two displace each other. Give each client its \
             own client_id. If there is no other client, look for the reason in the broker's log."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(4);

    fn close(detector: &mut TakeoverDetector, up: Duration) -> bool {
        detector.connection_ended(true, up)
    }

    #[test]
    fn the_third_connection_in_a_row_that_is_closed_soon_and_every_later_one_indicate_a_takeover() {
        let mut detector = TakeoverDetector::default();
        let detected: Vec<_> = (0..5).map(|_| close(&mut detector, SOON)).collect();
        assert_eq!(detected, [false, false, true, true, true]);
    }

    #[test]
    fn a_stable_connection_or_a_failed_login_in_between_starts_the_count_again() {
        let mut detector = TakeoverDetector::default();
        for between in [
            |detector: &mut TakeoverDetector| assert!(!close(detector, STABLE_AFTER)),
            TakeoverDetector::reset,
        ] {
            assert!(!close(&mut detector, SOON) && !close(&mut detector, SOON));
            between(&mut detector);
            assert!(!close(&mut detector, SOON) && !close(&mut detector, SOON));
            detector.reset();
        }
    }

    #[test]
    fn a_connection_that_ends_in_another_way_does_not_count() {
        let mut detector = TakeoverDetector::default();
        for _ in 0..5 {
            assert!(!close(&mut detector, SOON) && !close(&mut detector, SOON));
            assert!(!detector.connection_ended(false, SOON));
        }
    }
}
