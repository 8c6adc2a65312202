//! Which event makes the connection break. Pure.
//!
//! A broker may answer an event in a way that MQTT does not permit, or end the connection over it (mosquitto does so with
//! a message above its size limit). Sent again and again, that one event would hold up all the others for ever. So when a
//! link ends over a protocol error, the events that were in flight go one by one on the next links; the one that is
//! in flight with nothing else, event or not, when that happens again and again is believed to be the cause. The connection
//! sends them alone; handing them over one by one, too, has it decided when each leaves whether it is late.

use crate::domain::ids::Seq;

/// So many links must have ended over a protocol error with the same event alone in flight.
const STRIKES: u32 = 5;

/// What is suspected.
#[derive(Debug, Default)]
pub struct PoisonDetector {
    /// So many more events go one by one.
    one_by_one: usize,
    /// The event that was alone in flight when the last such link ended, and how often in a row.
    suspect: Option<(Seq, u32)>,
}

impl PoisonDetector {
    /// A link ended over a protocol error with so many events in flight; `alone` when there was one, and nothing else
    /// either. Answers the event to blame, once that is clear.
    pub fn link_ended(&mut self, alone: Option<Seq>, in_flight: usize) -> Option<Seq> {
        self.one_by_one = self.one_by_one.max(in_flight);
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

    /// The broker acknowledged an event as it should.
    pub fn answered(&mut self) {
        self.one_by_one = self.one_by_one.saturating_sub(1);
        self.suspect = None;
    }

    /// How many events may be in flight, of `limit`.
    pub fn limit(&self, limit: usize) -> usize {
        if self.one_by_one > 0 { 1 } else { limit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_that_breaks_every_link_is_found_among_many() {
        let mut suspicion = PoisonDetector::default();
        assert_eq!(suspicion.link_ended(None, 10), None);
        assert_eq!(suspicion.limit(500), 1);
        for _ in 1..=3 {
            suspicion.answered();
        }
        for _ in 1..STRIKES {
            assert_eq!(suspicion.link_ended(Some(Seq(4)), 1), None);
        }
        assert_eq!(suspicion.link_ended(None, 1), None, "it was not alone");
        assert_eq!(suspicion.link_ended(Some(Seq(4)), 1), Some(Seq(4)));
        assert_eq!(suspicion.limit(500), 500);
    }

    #[test]
    fn nothing_is_blamed_while_events_get_through() {
        let mut suspicion = PoisonDetector::default();
        for seq in 1..100 {
            assert_eq!(suspicion.link_ended(Some(Seq(seq)), 1), None);
            suspicion.answered();
        }
        assert_eq!(suspicion.limit(500), 500);
    }
}
