//! Finds the event that breaks the connection. No clock, no I/O.
//!
//! A broker may answer an event in a way that MQTT does not allow, or close the connection because of it;
//! mosquitto does so with a message above its size limit. If such an event were resent forever, it would
//! block all others. Therefore, when a link ends with a protocol error, the events that were in flight are
//! sent one at a time on the next links. If this happens repeatedly while the same event is in flight alone,
//! that event is blamed.
//!
//! The connection sends suspects one at a time as well. The outbox does not pass them all at once, so that it
//! can decide for each of them at the time of sending whether it is late.

use crate::domain::ids::Seq;

/// Number of links in a row that must end with a protocol error, each while the same event is in flight
/// alone, before that event is blamed.
const STRIKES: u32 = 5;

/// The detection state.
#[derive(Debug, Default)]
pub struct PoisonDetector {
    /// Number of events that are still sent one at a time.
    one_at_a_time: usize,
    /// The event that was in flight alone when the last such link ended, and the number of such links in a
    /// row.
    suspect: Option<(Seq, u32)>,
}

impl PoisonDetector {
    /// Records that a link ended with a protocol error. `alone` is the event that was in flight alone,
    /// without any other message. Returns the event to blame after `STRIKES` such links in a row.
    pub fn link_ended(&mut self, alone: Option<Seq>, in_flight: usize) -> Option<Seq> {
        self.one_at_a_time = self.one_at_a_time.max(in_flight);
        let alone = alone?;
        let strikes = match self.suspect {
            Some((seq, strikes)) if seq == alone => strikes + 1,
            _ => 1,
        };
        if strikes < STRIKES {
            self.suspect = Some((alone, strikes));
            return None;
        }
        *self = Self::default();
        Some(alone)
    }

    /// Records that the broker has acknowledged an event.
    pub fn acknowledged(&mut self) {
        self.one_at_a_time = self.one_at_a_time.saturating_sub(1);
        self.suspect = None;
    }

    /// Returns how many events may be in flight, which is `limit` unless there are suspects.
    pub fn limit(&self, limit: usize) -> usize {
        if self.one_at_a_time > 0 { 1 } else { limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_that_breaks_every_link_is_found_among_many() {
        let mut detector = PoisonDetector::default();
        assert_eq!(detector.link_ended(None, 10), None);
        assert_eq!(detector.limit(500), 1);
        for _ in 1..=3 {
            detector.acknowledged();
        }
        for _ in 1..STRIKES {
            assert_eq!(detector.link_ended(Some(Seq(4)), 1), None);
        }
        assert_eq!(detector.link_ended(None, 1), None, "it was not in flight alone");
        assert_eq!(detector.link_ended(Some(Seq(4)), 1), Some(Seq(4)));
        assert_eq!(detector.limit(500), 500);
    }

    #[test]
    fn no_event_is_blamed_while_events_are_acknowledged() {
        let mut detector = PoisonDetector::default();
        for seq in 1..100 {
            assert_eq!(detector.link_ended(Some(Seq(seq)), 1), None);
            detector.acknowledged();
        }
        assert_eq!(detector.limit(500), 500);
    }
}
