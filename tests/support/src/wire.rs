//! The order in which events leave their publisher, judged connection by connection.
//!
//! Pure. What a subscriber sees has passed the broker; this has not. In order means: on one connection each event is later
//! than the one before, and none leaves before an earlier one that an earlier connection carried and left without answer.
//! With QoS 2 a broker may hand a message on when it is released: so releases come in the order in which the broker asks.
//! Not for publishers whose broker defers events: those may step back.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::proxy::Piece;

/// An event that left after a later one, or should have left before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overtaken {
    /// The event.
    pub seq: u64,
    /// The later one.
    pub by: u64,
    /// The connection that carried the later one.
    pub connection: usize,
}

/// What one publisher sent to one broker.
#[derive(Debug, Default)]
pub struct Wire {
    /// The newest connection that has carried an event.
    connection: usize,
    /// The newest event on it.
    last: u64,
    /// The newest event of all.
    highest: u64,
    /// On this connection, by packet id, without answer.
    flying: HashMap<u16, u64>,
    /// On this connection, received and not released, in that order.
    unreleased: VecDeque<u64>,
    /// Of earlier connections, without answer, and not sent on this one.
    left: BTreeSet<u64>,
    sent: BTreeMap<u64, Vec<usize>>,
    overtaken: Vec<Overtaken>,
}

impl Wire {
    fn sent(&mut self, connection: usize, packet_id: u16, seq: u64) {
        let carried = self.sent.entry(seq).or_default();
        let is_new = carried.is_empty();
        carried.push(connection);
        if connection < self.connection {
            // What a stalled network still had of a connection that was given up.
            return;
        }
        if connection > self.connection {
            self.connection = connection;
            self.last = 0;
            self.unreleased.clear();
            self.left.extend(self.flying.drain().map(|(_, seq)| seq));
        }
        let mut fault = |seq, by| self.overtaken.push(Overtaken { seq, by, connection });
        if seq <= self.last {
            fault(seq, self.last);
        } else if is_new && seq < self.highest {
            fault(seq, self.highest);
        }
        let later = self.left.split_off(&seq);
        for waiting in std::mem::replace(&mut self.left, later) {
            fault(waiting, seq);
        }
        self.left.remove(&seq);
        self.flying.insert(packet_id, seq);
        self.last = seq;
        self.highest = self.highest.max(seq);
    }

    /// A piece passed; `seq` reads an event's place, if it counts.
    pub fn passed(&mut self, connection: usize, piece: &Piece, seq: impl FnOnce(&[u8]) -> Option<u64>) {
        match piece {
            Piece::Event(publish) => {
                if let Some(seq) = seq(&publish.payload) {
                    self.sent(connection, publish.packet_id, seq);
                }
            }
            Piece::Received(packet_id) => self.received(connection, *packet_id),
            Piece::Released(packet_id) => self.released(connection, *packet_id),
            Piece::Settled(packet_id) => self.settled(connection, *packet_id),
        }
    }

    fn received(&mut self, connection: usize, packet_id: u16) {
        if connection == self.connection {
            self.unreleased.extend(self.flying.get(&packet_id));
        }
    }

    fn released(&mut self, connection: usize, packet_id: u16) {
        let Some(&seq) = self.flying.get(&packet_id) else { return };
        if connection == self.connection
            && let Some(place) = self.unreleased.iter().position(|other| *other == seq)
        {
            let skipped = self.unreleased.drain(..=place).take(place);
            self.overtaken.extend(skipped.map(|waiting| Overtaken { seq: waiting, by: seq, connection }));
        }
    }

    fn settled(&mut self, connection: usize, packet_id: u16) {
        if connection == self.connection {
            self.flying.remove(&packet_id);
        }
    }

    /// How many events left, each counted once.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sent.len()
    }

    /// What left out of order.
    #[must_use]
    pub fn overtaken(&self) -> &[Overtaken] {
        &self.overtaken
    }

    /// The connections that carried it, in their order.
    #[must_use]
    pub fn carried(&self, seq: u64) -> &[usize] {
        self.sent.get(&seq).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On connection 1 the events 1 to 4, of which 1 and 2 were answered.
    fn wire() -> Wire {
        let mut wire = Wire::default();
        (1..=4).for_each(|number| wire.sent(1, number, number.into()));
        (1..=2).for_each(|packet_id| wire.settled(1, packet_id));
        wire
    }

    fn overtaken(wire: &Wire) -> Vec<(u64, u64)> {
        wire.overtaken().iter().map(|case| (case.seq, case.by)).collect()
    }

    #[test]
    fn a_resend_goes_on_at_the_first_unanswered_event() {
        let mut wire = wire();
        (3..=6).for_each(|number| wire.sent(2, number, number.into()));
        assert_eq!(overtaken(&wire), []);
        assert_eq!((wire.carried(3), wire.carried(6)), ([1, 2].as_slice(), [2].as_slice()));
    }

    #[test]
    fn a_resend_may_begin_earlier() {
        let mut wire = wire();
        (1..=6).for_each(|number| wire.sent(2, number, number.into()));
        assert_eq!(overtaken(&wire), []);
    }

    #[test]
    fn a_resend_that_leaves_out_what_was_not_answered_overtakes_it() {
        let mut wire = wire();
        wire.sent(2, 1, 4);
        assert_eq!(overtaken(&wire), [(3, 4)]);
    }

    #[test]
    fn within_a_connection_nothing_steps_back() {
        let mut wire = wire();
        wire.sent(1, 5, 6);
        wire.sent(1, 6, 5);
        assert_eq!(overtaken(&wire), [(5, 6)]);
    }

    #[test]
    fn what_is_new_on_a_new_connection_is_later_than_all_that_were_sent() {
        let mut wire = wire();
        (3..=4).for_each(|packet_id| wire.settled(1, packet_id));
        wire.sent(1, 5, 7);
        wire.settled(1, 5);
        wire.sent(2, 1, 6);
        assert_eq!(overtaken(&wire), [(6, 7)]);
    }

    #[test]
    fn releases_follow_the_order_in_which_the_broker_asks() {
        let mut wire = wire();
        wire.sent(1, 5, 5);
        for packet_id in [4, 3, 5] {
            wire.received(1, packet_id);
        }
        for packet_id in [4, 5, 3] {
            wire.released(1, packet_id);
        }
        assert_eq!(overtaken(&wire), [(3, 5)]);
    }

    #[test]
    fn the_rest_of_a_connection_that_was_given_up_does_not_count() {
        let mut wire = wire();
        wire.sent(2, 1, 3);
        wire.sent(1, 9, 5);
        wire.sent(2, 2, 4);
        wire.sent(2, 3, 5);
        assert_eq!(overtaken(&wire), []);
    }
}
