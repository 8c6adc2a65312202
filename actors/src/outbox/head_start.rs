//! The head start of camera states: an event that sets its camera online must not arrive before the camera's
//! status. Home Assistant shows an entity as unavailable until then, and automations ignore what happens to it.
//! The status is late nevertheless if the camera's states have changed so often that they are being paced.

use std::time::Duration;

use tokio::time::Instant;

/// How long events wait, so that the status is published first. The status needs three messages between
/// actors.
const HEAD_START: Duration = Duration::from_millis(50);

/// Minimum time between two head starts, so that a camera that changes constantly does not slow down events.
const AT_MOST_EVERY: Duration = Duration::from_secs(1);

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct HeadStart {
    given_at: Option<Instant>,
}

impl HeadStart {
    /// Gives the camera states a head start from `now` on, unless they had one recently.
    pub fn give(&mut self, now: Instant) {
        if self.given_at.is_none_or(|at| now.saturating_duration_since(at) >= AT_MOST_EVERY) {
            self.given_at = Some(now);
        }
    }

    /// Returns how much longer events must wait, if at all.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        HEAD_START.checked_sub(now.saturating_duration_since(self.given_at?)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_wait_briefly_and_at_most_once_a_second() {
        let (mut head_start, start) = (HeadStart::default(), Instant::now());
        assert_eq!(head_start.remaining(start), None);
        head_start.give(start);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(head_start.remaining(at(10)), Some(Duration::from_millis(40)));
        assert_eq!(head_start.remaining(at(50)), None);
        head_start.give(at(900));
        assert_eq!(head_start.remaining(at(900)), None, "the previous one was too recent");
        head_start.give(at(1000));
        assert_eq!(head_start.remaining(at(1000)), Some(HEAD_START));
    }
}
