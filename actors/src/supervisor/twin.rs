//! Another client with the same client id, where the broker cannot say so. Pure.
//!
//! Under MQTT 5 the broker tells why it closes a connection. Under 3.1.1 it just closes the older of two with the same
//! id; the two then throw each other out, each time one comes back. What can be seen of that is a broker that accepts
//! every login and soon closes the connection, time after time. One that restarts refuses logins in between; one that
//! fails or does not permit something may look the same, which is why this is told as probable and no more.

use std::time::Duration;

use super::STABLE_AFTER;
use crate::{connection::Version, status::FailureKind};

/// So many connections in a row, closed soon after the login, are no accident.
const IN_A_ROW: u32 = 3;

/// Counts the signs of a twin.
#[derive(Debug, Default)]
pub struct Twin(u32);

impl Twin {
    /// A connection that had been up for so long was lost. Answers whether that was probably a twin's doing.
    pub fn lost(&mut self, version: Version, kind: FailureKind, up: Duration) -> bool {
        let sign = version == Version::V311 && kind == FailureKind::Closed && up < STABLE_AFTER;
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

    fn closed(twin: &mut Twin, up: Duration) -> bool {
        twin.lost(Version::V311, FailureKind::Closed, up)
    }

    #[test]
    fn the_third_connection_in_a_row_that_is_closed_soon_betrays_it_and_so_does_every_one_after() {
        let mut twin = Twin::default();
        let told: Vec<_> = (0..5).map(|_| closed(&mut twin, SOON)).collect();
        assert_eq!(told, [false, false, true, true, true]);
    }

    #[test]
    fn a_good_while_up_or_a_failed_login_in_between_speaks_against_it() {
        let mut twin = Twin::default();
        for between in [|twin: &mut Twin| assert!(!closed(twin, STABLE_AFTER)), Twin::unlikely] {
            assert!(!closed(&mut twin, SOON) && !closed(&mut twin, SOON));
            between(&mut twin);
            assert!(!closed(&mut twin, SOON) && !closed(&mut twin, SOON));
            twin.unlikely();
        }
    }

    #[test]
    fn other_ends_and_brokers_that_could_say_so_are_no_sign() {
        let mut twin = Twin::default();
        for _ in 0..5 {
            assert!(!twin.lost(Version::V5, FailureKind::Closed, SOON));
            assert!(!twin.lost(Version::V311, FailureKind::Stalled, SOON));
        }
    }
}
