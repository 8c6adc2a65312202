//! Detects a proxy or a firewall that cuts idle connections. Performs no I/O.
//!
//! Reverse proxies and NAT routers close a connection over which nothing was sent for a while, often 60 s. If the
//! keep-alive interval is not shorter, every quiet connection ends at the same idle time. Anything else ends
//! connections at various idle times.

use std::time::Duration;

use super::STABLE_AFTER;
use crate::domain::{
    settings::MqttSettings,
    status::{Failure, FailureKind},
};

/// Number of connections in a row that must end after the same idle time.
const MIN_CUTS_IN_A_ROW: u32 = 3;
/// Idle times that differ by less are the same.
const TOLERANCE: Duration = Duration::from_secs(1);
/// A shorter idle time is a pause within traffic.
const MIN_IDLE: Duration = Duration::from_secs(5);

/// Counts the connections in a row that ended after the same idle time.
#[derive(Debug, Default)]
pub struct IdleCuts {
    idle: Duration,
    count: u32,
}

impl IdleCuts {
    /// Records that a connection ended after it was up for `up`, and after the broker had sent nothing for `idle`.
    /// `lost` states whether it was closed without a reason. Returns whether something probably cuts idle
    /// connections.
    ///
    /// A connection that ends soon after the login does not count: another client may have taken it over.
    pub fn connection_ended(&mut self, lost: bool, up: Duration, idle: Duration) -> bool {
        if !lost || up < STABLE_AFTER || idle < MIN_IDLE {
            self.reset();
            return false;
        }
        if self.idle.abs_diff(idle) > TOLERANCE {
            self.count = 0;
        }
        self.idle = idle;
        self.count = self.count.saturating_add(1);
        self.count >= MIN_CUTS_IN_A_ROW
    }

    /// Starts counting again, after new settings or a connection that ended in another way.
    pub fn reset(&mut self) {
        *self = Self::default();
    }
}

/// Returns the failure to report when something probably cuts idle connections after `idle`.
pub fn probable_idle_timeout(settings: &MqttSettings, idle: Duration) -> Failure {
    let (broker, seconds) = (settings.broker(), idle.as_secs_f64().round());
    let shorter = (idle.as_secs() / 2).max(5);
    Failure::new(
        FailureKind::Closed,
        format!(
            "The connection to {broker} is cut whenever nothing was received for {seconds} s. There is probably a \
             proxy, firewall or router with this timeout in between. Set keep_alive_seconds to {shorter} (now {}), or \
             raise its timeout.",
            settings.keep_alive_seconds
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Duration = Duration::from_mins(2);

    fn cut(cuts: &mut IdleCuts, idle_milliseconds: u64) -> bool {
        cuts.connection_ended(true, UP, Duration::from_millis(idle_milliseconds))
    }

    #[test]
    fn the_third_cut_in_a_row_at_the_same_idle_time_and_every_later_one_indicate_a_timeout() {
        let mut cuts = IdleCuts::default();
        let detected: Vec<_> = [60_010, 60_400, 59_900, 60_000].map(|idle| cut(&mut cuts, idle)).into();
        assert_eq!(detected, [false, false, true, true]);
    }

    #[test]
    fn cuts_at_various_idle_times_or_of_another_kind_do_not_count() {
        let mut cuts = IdleCuts::default();
        for idle in [60_000, 12_000, 60_000, 33_000, 60_000, 8_000] {
            assert!(!cut(&mut cuts, idle));
        }
        for _ in 0..5 {
            assert!(!cut(&mut cuts, 60_000) && !cut(&mut cuts, 60_000));
            assert!(!cuts.connection_ended(false, UP, Duration::from_mins(1)), "the broker gave a reason");
            assert!(!cut(&mut cuts, 60_000) && !cut(&mut cuts, 60_000));
            assert!(!cut(&mut cuts, 100), "a pause within traffic");
            assert!(!cut(&mut cuts, 10_000) && !cut(&mut cuts, 10_000));
            let soon = Duration::from_secs(12);
            assert!(!cuts.connection_ended(true, soon, Duration::from_secs(10)), "maybe a takeover");
        }
    }

    #[test]
    fn the_message_names_the_setting_and_a_value_that_helps() {
        let settings = MqttSettings { keep_alive_seconds: 90, ..MqttSettings::defaults("c") };
        let failure = probable_idle_timeout(&settings, Duration::from_millis(59_980));
        assert_eq!(failure.kind, FailureKind::Closed);
        for part in ["nothing was received for 60 s", "keep_alive_seconds to 29 (now 90)"] {
            assert!(failure.message.contains(part), "{}", failure.message);
        }
    }
}
