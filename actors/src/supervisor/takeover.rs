//! Another client with the same client id, where the broker does not say so. Pure.
//!
//! Under MQTT 5 a broker can tell why it closes a connection, but not each one does (Mosquitto 2.0.11 does not); under 3.1.1
//! none can. It closes the older of two with the same id, and the two throw each other out, each time one comes back.
//! What can be seen of that is a broker that accepts every login and soon closes the connection, time after time. One that
//! restarts refuses logins in between, and a network that fails does not close in good order; but a broker that does not
//! permit something may look the same, which is why this is told as probable and no more.

use std::time::Duration;

use super::STABLE_AFTER;

/// So many connections in a row, closed soon after the login, are no accident.
const IN_A_ROW: u32 = 3;

/// Counts the signs of a twin.
#[derive(Debug, Default)]
pub struct TakeoverDetector(u32);

impl TakeoverDetector {
    /// A connection that had been up for so long ended; the broker had closed it, in good order and without a word, or
    /// not. Answers whether that was probably a twin's doing.
    pub fn ended(&mut self, closed: bool, up: Duration) -> bool {
        let sign = closed && up < STABLE_AFTER;
        self.0 = if sign { self.0.saturating_add(1) } else { 0 };
        self.0 >= IN_A_ROW
    }

    /// Something happened that a twin does not do: a login failed, the settings are new.
    pub fn unlikely(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(4);

    fn closed(twin: &mut TakeoverDetector, up: Duration) -> bool {
        twin.ended(true, up)
    }

    #[test]
    fn the_third_connection_in_a_row_that_is_closed_soon_betrays_it_and_so_does_every_one_after() {
        let mut twin = TakeoverDetector::default();
        let told: Vec<_> = (0..5).map(|_| closed(&mut twin, SOON)).collect();
        assert_eq!(told, [false, false, true, true, true]);
    }

    #[test]
    fn a_good_while_up_or_a_failed_login_in_between_speaks_against_it() {
        let mut twin = TakeoverDetector::default();
        for between in
            [|twin: &mut TakeoverDetector| assert!(!closed(twin, STABLE_AFTER)), TakeoverDetector::unlikely]
        {
            assert!(!closed(&mut twin, SOON) && !closed(&mut twin, SOON));
            between(&mut twin);
            assert!(!closed(&mut twin, SOON) && !closed(&mut twin, SOON));
            twin.unlikely();
        }
    }

    #[test]
    fn other_ends_are_no_sign() {
        let mut twin = TakeoverDetector::default();
        for _ in 0..5 {
            assert!(!closed(&mut twin, SOON) && !closed(&mut twin, SOON));
            assert!(!twin.ended(false, SOON));
        }
    }
}
