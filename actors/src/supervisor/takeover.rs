//! Detects another client with the same client id when the broker does not report it. Performs no I/O.
//!
//! With MQTT 5, a broker can report why it closes a connection, but not every broker does (Mosquitto 2.0.11
//! does not); with 3.1.1, none can. When two clients have the same id, the broker closes the older
//! connection. That client reconnects and displaces the other one, and so on. What can be observed is a
//! broker that accepts every login and soon closes the connection, again and again, while no message is
//! unanswered. (If one is, it may be the reason; see docs/architecture.md, Poison messages.) A broker that
//! restarts refuses logins in between, and a failing network does not close connections cleanly. But a broker
//! that forbids something may look the same, so a takeover is only reported as probable.
//!
//! If the service may read its own topics, the broker sends it its own last will before it closes the connection. The
//! service acknowledges that on a connection that is being closed, so the end may look like a network failure, or
//! come while a message is unanswered. The last will is the sign then.

use std::time::Duration;

use super::STABLE_AFTER;
use crate::domain::{
    settings::MqttSettings,
    status::{Failure, FailureKind},
};

/// Number of connections in a row that must be closed soon after the login to indicate a takeover.
const MIN_CLOSED_IN_A_ROW: u32 = 3;

/// Whether the end of a connection is a sign of another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It is one, if it comes soon after the login.
    Yes,
    /// It is none.
    No,
    /// A message is a more likely reason.
    Unclear,
}

impl Sign {
    /// Judges an end. `closed` states whether the broker closed the connection cleanly, without a reason;
    /// `unanswered`, whether a message was unanswered; and `after_will`, whether the service's own last will had
    /// arrived just before.
    pub fn of(closed: bool, unanswered: bool, after_will: bool) -> Self {
        match (closed, unanswered) {
            _ if after_will => Self::Yes,
            (true, false) => Self::Yes,
            (true, true) => Self::Unclear,
            (false, _) => Self::No,
        }
    }
}

/// Counts the connections in a row that were closed soon after the login.
#[derive(Debug, Default)]
pub struct TakeoverDetector(u32);

impl TakeoverDetector {
    /// Records that a connection ended after it was up for `up`. Returns whether another client has probably taken
    /// over the connection.
    pub fn connection_ended(&mut self, sign: Sign, up: Duration) -> bool {
        match sign {
            Sign::Yes if up < STABLE_AFTER => self.0 = self.0.saturating_add(1),
            Sign::Yes | Sign::No => self.0 = 0,
            Sign::Unclear => return false,
        }
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
        detector.connection_ended(Sign::Yes, up)
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
            assert!(!detector.connection_ended(Sign::No, SOON));
        }
    }

    #[test]
    fn the_own_last_will_is_a_sign_however_the_connection_ends() {
        for (closed, unanswered) in [(true, false), (true, true), (false, true), (false, false)] {
            assert_eq!(Sign::of(closed, unanswered, true), Sign::Yes);
        }
        assert_eq!(Sign::of(true, false, false), Sign::Yes);
        assert_eq!(Sign::of(false, false, false), Sign::No);
        assert_eq!(Sign::of(false, true, false), Sign::No);
    }

    #[test]
    fn an_end_that_a_message_may_explain_changes_nothing() {
        let mut detector = TakeoverDetector::default();
        let unclear = Sign::of(true, true, false);
        assert!(!close(&mut detector, SOON) && !close(&mut detector, SOON));
        assert!(!detector.connection_ended(unclear, SOON));
        assert!(close(&mut detector, SOON));
        assert!(!detector.connection_ended(unclear, SOON));
    }
}
